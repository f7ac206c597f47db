//! The test programs themselves: each passes when nothing happens to it, and each can fail.

use crate::common::{Job, NOBODY, Spec, is_root};
use std::path::Path;

/// All programs that include harness.h, by name.
fn names() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).expect("tests/programs").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "c")
            && std::fs::read_to_string(&path).expect("source").contains("\"harness.h\"")
        {
            names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    names
}

fn spec(name: &str) -> Spec {
    match name {
        "memory_fill" => Spec::directory_last(name).arg("8").arg("sparse"),
        "proc_self" => Spec::new(name).arg("an argument"),
        _ => Spec::new(name),
    }
    .without_library()
}

/// What a program waits for in each round, from tests that take checkpoints meanwhile.
fn word(name: &str) -> Option<&'static str> {
    match name {
        "api_block" => Some("sent"),
        "wait_cancel" => Some("cancel"),
        "wait_connect" => Some("accept"),
        "wait_cpu" => Some("burn"),
        _ => None,
    }
}

/// A program that has forked itself away is known by the pid in its ready file.
fn start(name: &str, spec: Spec) -> Option<Job> {
    let mut job = spec.start()?;
    if name == "daemon" {
        let pid = job.read_pid("ready");
        job.follow(pid);
    }
    if let Some(word) = word(name) {
        (1..=3).for_each(|round| job.publish(&format!("{word}.{round}"), ""));
    }
    Some(job)
}

/// Standard input has nothing to read in these runs.
fn needs_pipes(name: &str) -> bool {
    name == "stdio_pipe"
}

#[test]
fn pass_when_nothing_happens() {
    pass(None);
}

#[test]
fn pass_as_nobody() {
    if is_root() {
        pass(Some(NOBODY));
    }
}

fn pass(user: Option<u32>) {
    for name in names() {
        if needs_pipes(&name) {
            continue;
        }
        let mut spec = spec(&name);
        if let Some(uid) = user {
            spec = spec.user(uid);
        }
        let Some(mut job) = start(&name, spec) else { continue };
        job.go("without the library");
        job.go("without the library");
        if name == "daemon" {
            job.go("without the library");
        } else {
            job.end("without the library");
        }
    }
}

#[test]
fn fail_when_the_state_is_spoilt() {
    for name in names() {
        if needs_pipes(&name) {
            continue;
        }
        let Some(mut job) = start(&name, spec(&name).env("TEST_BREAK", "1")) else { continue };
        let round = job.go_without_waiting(true);
        match job.outcome(round) {
            Some(text) => {
                assert!(text.contains("FAIL"), "{name} passes with a spoilt state: {text}")
            }
            None => eprintln!("{name} dies of a spoilt state"),
        }
    }
}
