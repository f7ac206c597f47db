//! Programs with threads: what each thread was doing, holding and waiting for comes back with it.

use crate::common::{
    Job, NOBODY, OnDrop, Random, SIGKILL, SIGUSR2, Spec, assert_refused, assert_success, is_root, kill, writer_of,
};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

cycles! {
    old_pthread_kill, thread_aio, thread_blocked, thread_ends, thread_main_ended, thread_many, thread_mutexes, thread_own_state, thread_raw,
    thread_storm, thread_sync, thread_watch,
}

#[test]
fn blocked_as_nobody() {
    if is_root() {
        let job: Option<Job> = Spec::new("thread_blocked").user(NOBODY).start();
        job.expect("thread_blocked is never skipped").cycle();
    }
}

/// What goes by thread ids: signals to a thread, cancellation, mutexes whose owner the kernel knows.
#[test]
fn by_ids() {
    for (name, argument) in [("thread_ends", "tids"), ("thread_mutexes", "pi"), ("thread_blocked", "tids")] {
        Spec::new(name).arg(argument).start().expect("never skipped").generations(3);
    }
    // The same with ids that libc translates; not for mutexes that the kernel knows of.
    for (name, argument) in [("thread_ends", "tids"), ("thread_blocked", "tids")] {
        let mut job = Spec::new(name).arg(argument).start().expect("never skipped");
        for generation in 1..=3 {
            job.checkpoint();
            job.sigkill();
            let images = job.images.clone();
            job.restart_from(&images, &[], &["--pid", "new"]);
            job.go(&format!("after restart {generation} with new ids"));
        }
        job.end("at the end");
    }
}

/// What new ids cannot do is told to those whom it concerns.
#[test]
fn mutexes_that_need_their_ids() {
    for (name, told) in [("thread_mutexes", true), ("thread_sync", false)] {
        let mut job = Spec::new(name).start().expect("never skipped");
        job.checkpoint();
        job.sigkill();
        let images = job.images.clone();
        job.restart_from(&images, &[], &["--pid", "new"]);
        job.go("after a restart with new ids");
        // The program's own: it is in place by then.
        let said = std::fs::read_to_string(job.path("stderr")).expect("stderr");
        assert_eq!(said.contains("the program uses robust mutexes, whose owners the kernel"), told, "{name}: {said}");
        job.sigkill();
        job.rewind(1);
        job.restart_from(&images, &[], &["--pid", "same"]);
        job.end("after a restart with the same ids");
        let again = std::fs::read_to_string(job.path("stderr")).expect("stderr");
        assert!(!again.contains("mutexes"), "{name}: {again}");
    }
}

/// A hundred checkpoints of threads that never rest, the first seventy without a restart; at the end the totals agree.
#[test]
fn storm_hundred() {
    let mut job = Spec::new("thread_storm").start().expect("thread_storm is never skipped");
    take_checkpoints(&mut job, 70, 10);
    job.generations(30);
}

/// One after the other, with a round after every few.
fn take_checkpoints(job: &mut Job, count: usize, in_a_round: usize) {
    for checkpoint in 1..=count {
        job.checkpoint();
        if checkpoint % in_a_round == 0 {
            job.go(&format!("after checkpoint {checkpoint}"));
        }
    }
}

/// The same of threads in what goes by their ids; as another user, whose program comes back in a namespace, too.
#[test]
fn churn() {
    for user in [None, Some(NOBODY).filter(|_| is_root())] {
        let spec = Spec::new("thread_churn");
        let mut job = user.map_or(spec.clone(), |uid| spec.user(uid)).start().expect("never skipped");
        take_checkpoints(&mut job, 10, 5);
        job.generations(3);
    }
}

/// Requests from three senders at once, and somebody who kills the process that writes, now and then. A request fails with
/// words or has its image; the newest image is always whole.
#[test]
fn storm_with_killed_writers() {
    let mut job = Spec::new("thread_storm").start().expect("thread_storm is never skipped");
    let pid = job.pid();
    let (over, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for sender in ["first", "second"] {
            let (mut random, over) = (Random::new(sender), &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert!(kill(pid, SIGUSR2));
                    std::thread::sleep(Duration::from_micros(random.below(100_000)));
                }
            });
        }
        scope.spawn(|| {
            let mut random = Random::new("killer");
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(random.below(4_000)));
                if let Some(writer) = writer_of(pid).filter(|_| random.below(2) == 0) {
                    killed.fetch_add(u32::from(kill(writer, SIGKILL)), Ordering::Relaxed);
                }
            }
        });
        let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
        for request in 1..=10 {
            let answer = job.selfckpt(&["checkpoint", &pid.to_string()]);
            if !answer.status.success() {
                assert_refused(&answer, 125, &["the process that wrote the image was killed"]);
            }
            if request % 5 == 0 {
                job.go(&format!("after request {request}"));
            }
        }
    });
    assert!(killed.into_inner() > 0);
    if let Some(newest) = job.list_images().last() {
        assert_success(&job.selfckpt(&["verify", newest.path.to_str().expect("UTF-8")]));
    }
    job.generations(3);
}

/// SIGKILL at any moment of a checkpoint ends the program: nothing of ours holds on to its threads.
#[test]
fn killed_in_a_checkpoint() {
    let mut random = Random::new("killed_in_a_checkpoint");
    for _ in 0..25 {
        let mut job = Spec::new("thread_ckpt_now").start().expect("thread_ckpt_now is never skipped");
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        job.sigkill();
    }
}

/// What a checkpoint of many idle threads costs grows with their number, not with its square.
#[test]
fn many_threads_in_proportion() {
    let pause = |threads: &str| {
        let mut job = Spec::new("thread_many").arg(threads).start().expect("thread_many is never skipped");
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            job.checkpoint();
            best = best.min(job.pause_ns("thread_many"));
        }
        job.end("after the checkpoints");
        best
    };
    let (few, many) = (pause("200"), pause("1600"));
    assert!(many < 20.0 * few, "1600 threads: {many} ns, 200 threads: {few} ns");
}
