//! What the kernel and /proc know of the process.

use crate::common::Spec;

cycles! {
    rseq, robust_list, clear_tid,
}

#[test]
fn proc_self() {
    if let Some(job) = Spec::new("proc_self").arg("an argument").arg("").env("TEST_TITLE", "some text").start() {
        job.cycle();
    }
}
