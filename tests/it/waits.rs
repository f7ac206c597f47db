//! System calls that a checkpoint interrupts and that go on afterwards.

use crate::common::Spec;

/// Waits of the leader and of another thread, over the whole cycle.
#[track_caller]
fn cycle(call: &str, restarts: bool) {
    let Some(mut job) = Spec::new("wait_again").arg(call).start() else { return };
    if restarts {
        job.cycle();
        return;
    }
    for _ in 0..5 {
        job.checkpoint();
        job.go("after a checkpoint, without a restart");
    }
    job.end("at the end");
}

#[test]
fn select() {
    cycle("select", true);
}

#[test]
fn pselect() {
    cycle("pselect", true);
}

#[test]
fn ppoll() {
    cycle("ppoll", true);
}

#[test]
fn sleep_until_a_moment() {
    cycle("sleep_until", true);
}

#[test]
fn sem_timedwait() {
    cycle("sem_timedwait", true);
}

/// A moment on the clock of this boot means nothing after a restart elsewhere: only the program that goes on.
#[test]
fn sleep_until_a_monotonic_moment() {
    cycle("sleep_monotonic", false);
}
