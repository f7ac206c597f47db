//! Programs with children, and children themselves.

use crate::common::{SIGUSR2, Spec, assert_refused, gone, images_in, kill};

/// A live child: no image, and the message names it. The program runs on, and when the child has
/// ended it can be checkpointed.
#[test]
fn live_child_is_named() {
    let Some(mut job) = Spec::new("fork_child").start() else { return };
    let child = job.read_pid("child").to_string();
    let pid = job.pid().to_string();
    let output = job.selfckpt(&["checkpoint", &pid]);
    assert_refused(&output, 125, &[&child, "the-child"]);
    assert_eq!(job.list_images(), [], "an image all the same");
    assert!(kill(job.pid(), SIGUSR2));
    job.go("after a refused checkpoint");
    assert_eq!(job.list_images(), [], "an image all the same");

    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// SELFCKPT_CHILDREN=ignore: the image is taken; the child is not disturbed.
#[test]
fn live_child_is_ignored_on_request() {
    let Some(mut job) = Spec::new("fork_child").env("SELFCKPT_CHILDREN", "ignore").start() else {
        return;
    };
    let child = job.read_pid("child");
    job.checkpoint();
    assert!(!gone(child));
    job.end("after the checkpoint");
}

/// A daemon is checkpointed by its own pid, and restarted under the name that it has then.
#[test]
fn daemon() {
    let Some(mut job) = Spec::new("daemon").start() else { return };
    let pid = job.read_pid("ready");
    assert_ne!(pid, job.pid());
    job.follow(pid);
    let image = job.checkpoint();
    job.go("after a checkpoint");
    job.checkpoint_by_signal();
    job.sigkill();
    job.restart();
    job.go("after a restart");
    let later = job.checkpoint();
    assert!(later.generation > image.generation + 1);
    job.sigkill();
    job.restart_from(&later.path, &[], &[]);
    job.end("after the second restart");
}

/// A program that was started by fork and exec is passive: it survives the checkpoint signal and
/// takes no image by itself; by its pid it can be checkpointed under a name of its own.
#[test]
fn exec_is_passive() {
    let Some(mut job) = Spec::new("exec_passive").start() else { return };
    let child = job.read_pid("child");
    let output = job.selfckpt(&["checkpoint", &job.pid().to_string()]);
    assert_refused(&output, 125, &[&child.to_string()]);
    assert!(kill(child, SIGUSR2));
    let output = job.selfckpt(&["checkpoint", &child.to_string()]);
    crate::common::assert_success(&output);
    let images = images_in(&job.images);
    assert_eq!(images.len(), 1, "{images:?}");
    let name = images[0].path.file_name().and_then(|n| n.to_str()).expect("a name");
    assert!(name.starts_with(&format!("exec_passive-{child}.")), "{name}");
    job.go("after the child's end"); // its exit status is 42: it has lived till then
    assert_eq!(images_in(&job.images).len(), 1, "the signal has made an image");
    job.end("at the end");
}
