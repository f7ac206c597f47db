//! What the kernel and /proc know of the process.

use crate::common::{Spec, is_root};

cycles! {
    rseq, robust_list, clear_tid, attr_process, attr_thread,
}

#[test]
fn proc_self() {
    if let Some(job) = Spec::new("proc_self").arg("an argument").arg("").env("TEST_TITLE", "some text").start() {
        job.cycle();
    }
}

const NOBODY: u32 = 65534;

/// Without any privilege.
#[test]
fn attributes_of_another_user() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    for name in ["attr_process", "attr_thread"] {
        Spec::new(name).user(NOBODY).start().expect("a start").cycle();
    }
}

/// Started again by somebody who may have less: the restart says what, and goes on.
#[test]
fn attributes_that_are_not_allowed() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    let mut job = Spec::new("attr_process").user(NOBODY).start().expect("a start");
    let image = job.checkpoint();
    job.sigkill();
    job.restart_from(&image.path, &["nice", "-n", "12", "prlimit", "--core=1000:1000"], &[]);
    job.go_without_waiting(true);
    job.wait_exit();
    let story = job.story();
    for words in ["RLIMIT_CORE was 12345", "cannot be more than 1000 here", "the nice value "] {
        assert!(story.contains(words), "{words}\n{story}");
    }
}
