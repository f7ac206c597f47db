//! The image files: names, modes, how many stay, what the reading commands say of them; and `run`.

use crate::common::{
    Job, LIMIT, SIGKILL, SIGUSR1, Spec, TempDir, assert_refused, assert_success, images_in, kill, program,
    run_selfckpt, selfckpt_command, wait_until,
};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

fn start(name: &str) -> Job {
    Spec::new(name).start().expect("this state is everywhere")
}

fn file_names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory of images");
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn names_and_modes() {
    let mut job = start("tls");
    assert_eq!(fs::metadata(&job.images).expect("the directory").mode() & 0o7777, 0o700);
    let image = job.checkpoint();
    assert_eq!(image.path, job.images.join("tls.000001.ckpt"));
    assert_eq!(fs::metadata(&image.path).expect("the image").mode() & 0o7777, 0o600);
    assert_eq!(file_names(&job.images), ["tls.000001.ckpt", "tls.lock", "tls.status.json"]);
    job.end("after a checkpoint");
}

/// Two generations stay by default; numbers go on across restarts.
#[test]
fn two_generations_stay() {
    let mut job = start("tls");
    for _ in 0..3 {
        job.checkpoint();
    }
    assert_eq!(file_names(&job.images), ["tls.000002.ckpt", "tls.000003.ckpt", "tls.lock", "tls.status.json"]);
    job.sigkill();
    job.restart();
    job.go("after a restart");
    assert_eq!(job.checkpoint().generation, 4);
    assert_eq!(file_names(&job.images), ["tls.000003.ckpt", "tls.000004.ckpt", "tls.lock", "tls.status.json"]);
    job.end("after a checkpoint");
}

#[test]
fn keep_and_name() {
    let mut job = Spec::new("tls").env("SELFCKPT_KEEP", "4").env("SELFCKPT_NAME", "a job").start().expect("a start");
    for _ in 0..5 {
        job.checkpoint();
    }
    let generations: Vec<_> = job.list_images().iter().map(|image| image.generation).collect();
    assert_eq!(generations, [2, 3, 4, 5]);
    assert!(job.images.join("a job.000005.ckpt").exists());
    job.sigkill();
    job.restart();
    job.go("after a restart");
    job.checkpoint();
    assert!(job.images.join("a job.000006.ckpt").exists());
    job.end("after a restart");
}

/// The directory is created, and a relative one means the directory at the start.
#[test]
fn relative_directory() {
    let mut job = Spec::new("cwd_umask").env("SELFCKPT_DIR", "images").in_its_directory().start().expect("a start");
    let image = job.checkpoint();
    assert!(image.path.exists());
    job.go("after a checkpoint");
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

#[test]
fn other_signals() {
    let mut job = Spec::new("tls").env("SELFCKPT_SIGNAL", "SIGRTMIN+3").start().expect("a start");
    job.checkpoint();
    assert!(kill(job.pid(), 34 + 3));
    let found = wait_until(|| (job.list_images().len() == 2).then_some(()));
    assert!(found.is_some(), "no image by SIGRTMIN+3\n{}", job.story());
    job.sigkill();
    job.restart();
    job.go("after a restart");
    job.checkpoint();
    job.end("at the end");
}

/// A stop signal: an image, then the stop code.
#[test]
fn stop_signal() {
    for (code, expected) in [(None, 85), (Some("7"), 7)] {
        let mut spec = Spec::new("heap").env("SELFCKPT_STOP_SIGNAL", "USR1,TERM");
        if let Some(code) = code {
            spec = spec.env("SELFCKPT_STOP_CODE", code);
        }
        let mut job = spec.start().expect("a start");
        assert!(kill(job.pid(), SIGUSR1));
        let status = job.wait_exit();
        assert_eq!(status.code(), Some(expected), "{status}\n{}", job.story());
        assert_eq!(job.list_images().len(), 1);
        job.restart();
        job.end("after a restart");
    }
}

#[test]
fn checkpoint_and_stop() {
    let mut job = start("heap");
    let pid = job.pid().to_string();
    assert_success(&job.selfckpt(&["checkpoint", &pid, "--stop"]));
    let status = job.wait_exit();
    assert_eq!(status.code(), Some(85), "{status}");
    job.restart();
    job.end("after a restart");
}

#[test]
fn periodic() {
    let mut job = Spec::new("heap").env("SELFCKPT_EVERY", "1").start().expect("a start");
    let found = wait_until(|| (job.list_images().last()?.generation >= 3).then_some(()));
    assert!(found.is_some(), "no images by themselves\n{}", job.story());
    job.go("after three periods");
    job.checkpoint(); // none of the periodic ones need have seen the end of the round
    job.sigkill();
    job.restart();
    let newest = job.list_images().last().map_or(0, |image| image.generation);
    job.go("after a restart");
    let found = wait_until(|| (job.list_images().last()?.generation > newest).then_some(()));
    assert!(found.is_some(), "no further images after the restart\n{}", job.story());
    job.end("at the end");
}

/// inspect, verify and list read what was written.
#[test]
fn reading_commands() {
    let mut job = start("signal_pending");
    let image = job.checkpoint();
    job.end("after a checkpoint");
    let path = image.path.to_str().expect("UTF-8");
    for args in
        [&["inspect", path][..], &["inspect", path, "--json"], &["inspect", path, "--records"], &["verify", path]]
    {
        let output = run_selfckpt(args);
        assert_success(&output);
        assert!(!output.stdout.is_empty(), "{args:?} prints nothing");
    }
    let text = String::from_utf8_lossy(&run_selfckpt(&["inspect", path]).stdout).into_owned();
    for word in ["signal_pending", "eip", "[vdso]", "[stack]", "stdout"] {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let dir = job.images.to_str().expect("UTF-8");
    let text = String::from_utf8_lossy(&run_selfckpt(&["list", dir]).stdout).into_owned();
    assert!(text.contains("signal_pending"), "{text}");
}

/// A job by `selfckpt run`, in a process group of its own so that all of it can be killed.
fn run(dir: &Path, options: &[&str], program_and_args: &[&str], stdout: &Path) -> Child {
    let mut command = selfckpt_command();
    command.arg("run").arg("--dir").arg(dir).args(options).arg("--").args(program_and_args);
    command.stdout(File::create(stdout).expect("an output file"));
    command.process_group(0);
    command.spawn().expect("selfckpt run")
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// `run` resumes a job that was killed, to the same output; the images go when the job has ended.
#[test]
fn run_resumes() {
    let temp = TempDir::new("run");
    let (dir, out) = (temp.path().join("images"), temp.path().join("out"));
    let counter = program("counter");
    let job = [counter.to_str().expect("UTF-8"), "150", "10000", "3"];
    let reference = Command::new(&counter).args(["150", "0", "3"]).output().expect("counter");

    let mut child = run(&dir, &["--every", "1"], &job, &out);
    let pid = child.id() as i32;
    let found = wait_until(|| (!images_in(&dir).is_empty() && lines(&out) > 60).then_some(()));
    kill(-pid, SIGKILL);
    let _ = child.wait();
    assert!(found.is_some(), "no image");
    assert!(lines(&out) < 150, "it was too fast to be killed");

    // Other arguments under that name: both are shown.
    let other = run_selfckpt(&[
        "run",
        "--dir",
        dir.to_str().expect("UTF-8"),
        "--",
        counter.to_str().expect("UTF-8"),
        "149",
        "0",
    ]);
    assert_refused(&other, 125, &["149", "150"]);

    let mut child = run(&dir, &["--every", "1"], &job, &temp.path().join("out-2"));
    let status = wait_until(|| child.try_wait().expect("wait")).unwrap_or_else(|| panic!("not ended after {LIMIT:?}"));
    assert_eq!(status.code(), Some(3));
    let text = fs::read(&out).expect("output");
    assert!(text == reference.stdout, "another output:\n{}", String::from_utf8_lossy(&text));
    assert_eq!(images_in(&dir), [], "the images of an ended job stay");
}

#[test]
fn run_from_start_to_end() {
    let temp = TempDir::new("run");
    let dir = temp.path().join("images");
    let counter = program("counter");
    let reference = Command::new(&counter).args(["20", "0"]).output().expect("counter");
    let output = run_selfckpt(&[
        "run",
        "--dir",
        dir.to_str().expect("UTF-8"),
        "--",
        counter.to_str().expect("UTF-8"),
        "20",
        "0",
    ]);
    assert_success(&output);
    assert_eq!(output.stdout, reference.stdout);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run_selfckpt(&[
        "run",
        "--restart-only",
        "--dir",
        dir.to_str().expect("UTF-8"),
        "--",
        counter.to_str().expect("UTF-8"),
    ]);
    assert_refused(&output, 125, &[dir.to_str().expect("UTF-8")]);
}

/// Copies are as good as the images: a restart does not write to what it reads.
#[test]
fn read_only_image() {
    let mut job = start("heap");
    let image = job.checkpoint();
    let copy = image.keep_as(&job.path("copy.000001.ckpt"));
    fs::set_permissions(&copy.path, fs::Permissions::from_mode(0o400)).expect("chmod");
    let before = fs::read(&copy.path).expect("the copy");
    job.sigkill();
    job.restart_from(&copy.path, &[], &[]);
    job.end("after a restart from a copy");
    assert!(before == fs::read(&copy.path).expect("the copy"), "the image was written to");
}
