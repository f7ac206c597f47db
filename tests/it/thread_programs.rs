//! Programs with threads: what each thread was doing, holding and waiting for comes back with it.

use crate::common::{Job, NOBODY, Spec, is_root};

cycles! { thread_blocked, thread_mutexes, thread_main_ended, thread_storm }

#[test]
fn blocked_as_nobody() {
    if is_root() {
        let job: Option<Job> = Spec::new("thread_blocked").user(NOBODY).start();
        job.expect("thread_blocked is never skipped").cycle();
    }
}

/// A hundred checkpoints of threads that never rest, the first seventy without a restart; at the end the totals agree.
#[test]
fn storm_hundred() {
    let mut job = Spec::new("thread_storm").start().expect("thread_storm is never skipped");
    for checkpoint in 1..=70 {
        job.checkpoint();
        if checkpoint % 10 == 0 {
            job.go(&format!("after checkpoint {checkpoint}"));
        }
    }
    job.generations(30);
}
