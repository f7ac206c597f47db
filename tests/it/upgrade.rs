//! A library is upgraded between checkpoint and restart: the program goes on with the one that it had.

use crate::common::{Job, Spec};
use std::fs;

fn started() -> (Job, std::path::PathBuf) {
    let mut job = Spec::new("mapped_code").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let code = job.path("code");
    (job, code)
}

fn goes_on(mut job: Job, when: &str) {
    job.restart();
    job.go(when);
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a second restart");
}

fn maps(job: &Job) -> String {
    fs::read_to_string(format!("/proc/{}/maps", job.program_pid())).expect("maps")
}

#[test]
fn unchanged_file_is_mapped_again() {
    let (mut job, code) = started();
    job.restart();
    job.go("after a restart");
    let maps = maps(&job);
    assert!(maps.contains(code.to_str().expect("UTF-8")), "{maps}");
    job.end("with the same file");
}

/// As a package manager does it: another file under the name.
#[test]
fn replaced_by_rename() {
    let (job, code) = started();
    let new = job.path("code.new");
    fs::write(&new, vec![b'z'; 50 * 4096]).expect("a new file");
    fs::rename(&new, &code).expect("the new file takes the name");
    goes_on(job, "with a longer file under the name");
}

/// As an installer that does not know better: the same file, partly rewritten.
#[test]
fn rewritten_in_place() {
    let (job, code) = started();
    let mut bytes = fs::read(&code).expect("the file");
    bytes[17 * 4096 + 5] = b'z';
    fs::write(&code, bytes).expect("the file can be written");
    goes_on(job, "with one byte changed");
}

#[test]
fn shorter_file() {
    let (job, code) = started();
    fs::write(&code, b"short").expect("the file can be written");
    goes_on(job, "with a shorter file");
}

#[test]
fn removed_file() {
    let (job, code) = started();
    fs::remove_file(&code).expect("the file can be removed");
    goes_on(job, "without the file");
}
