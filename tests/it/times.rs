//! Clocks, and sleeps that a checkpoint interrupts.

use crate::common::Spec;

cycles! {
    vdso_time,
}

/// No wait ends with EINTR or early in the process that goes on after a checkpoint.
#[test]
fn no_eintr() {
    let Some(mut job) = Spec::new("no_eintr").start() else { return };
    for _ in 0..40 {
        job.checkpoint();
    }
    job.end("after forty checkpoints");
}
