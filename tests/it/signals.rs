//! Signals: dispositions, masks, stacks, what is pending, handlers under way.

use crate::common::{Job, SIGUSR2, Spec, kill, wait_until};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Duration;

cycles! {
    signal_dispositions, signal_mask, signal_altstack, signal_pending, signal_nested, signal_flags,
    small_stack, sigaltstack_small, errno_kept, trigger_hidden, trigger_shared,
}

/// A hundred requests one upon the other: whatever number of them is served, the program does not
/// notice.
#[test]
fn storm() {
    for name in ["errno_kept", "regs", "signal_pending"] {
        let Some(mut job) = Spec::new(name).start() else { continue };
        for _ in 0..100 {
            assert!(kill(job.pid(), SIGUSR2));
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        job.go("after a storm of signals");
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.end("after a restart that followed");
    }
}

/// Queues a signal with a value, for the process or for one of its threads.
fn queue(pid: i32, of_thread: Option<i32>, signal: i32, value: i32) {
    /// Of siginfo_t, as the 64-bit kernel has it.
    const WORDS: usize = 32;
    const CODE: usize = 2;
    const PID: usize = 4;
    const UID: usize = 5;
    const VALUE: usize = 6;
    let mut info = [0i32; WORDS];
    // SAFETY: takes nothing and cannot fail.
    let (own_pid, own_uid) = unsafe { (libc::getpid(), libc::getuid()) };
    for (place, word) in [(0, signal), (CODE, libc::SI_QUEUE), (PID, own_pid), (UID, own_uid as i32), (VALUE, value)] {
        info[place] = word;
    }
    // SAFETY: the kernel reads a siginfo_t from the array.
    let failed = unsafe {
        match of_thread {
            Some(tid) => libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, info.as_ptr()),
            None => libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info.as_ptr()),
        }
    };
    assert_eq!(failed, 0, "signal {signal} cannot be queued");
}

/// Numbers that come after this word in the text.
fn numbers_after(text: &str, word: &str) -> Vec<i32> {
    let rest = text.split(word).nth(1).unwrap_or_else(|| panic!("no {word} in {text}"));
    rest.lines().next().unwrap_or_default().split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Runs `act` while signals with the numbers that follow `sent` are queued to signal_arrives.
fn while_signals_arrive(job: &mut Job, sent: &AtomicI32, act: impl FnOnce(&mut Job)) {
    let (pid, over) = (job.pid(), AtomicBool::new(false));
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let mut tids: Vec<i32> = tasks.map(|task| task.file_name().to_string_lossy().parse().expect("a number")).collect();
    tids.sort_unstable();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let next = sent.load(Relaxed) + 1;
                let threads = tids.iter().map(|&tid| Some(tid));
                for (kind, of_thread) in [None, None].into_iter().chain(threads).enumerate() {
                    queue(pid, of_thread, libc::SIGRTMIN() + 3 + kind as i32, next);
                }
                sent.store(next, Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        act(job);
        over.store(true, Relaxed);
    });
}

/// Signals that come while a checkpoint is taken: none is lost, none comes twice, all are in order. After a restart those
/// are there that had been sent before.
#[track_caller]
fn signals_arrive(manner: &str) {
    let Some(mut job) = Spec::new("signal_arrives").arg(manner).start() else { return };
    let sent = AtomicI32::new(0);
    for _ in 0..3 {
        while_signals_arrive(&mut job, &sent, |job| {
            for _ in 0..3 {
                job.checkpoint();
            }
            // Takes what has come, and one of its own.
            job.go("among signals");
        });
        let result = job.go("after checkpoints among signals");
        assert_eq!(numbers_after(&result, "got"), [sent.load(Relaxed); 6], "{result}");
    }
    let mut before = 0;
    while_signals_arrive(&mut job, &sent, |job| {
        let begun = sent.load(Relaxed);
        assert!(wait_until(|| (sent.load(Relaxed) > begun + 20).then_some(())).is_some());
        before = sent.load(Relaxed);
        job.checkpoint();
    });
    job.sigkill();
    job.restart();
    let result = job.go("after a restart among signals");
    for count in numbers_after(&result, "got") {
        assert!(before <= count && count <= sent.load(Relaxed), "{before} to {}: {result}", sent.load(Relaxed));
    }
    job.end("at the end");
}

#[test]
fn signals_arrive_in_checkpoints() {
    signals_arrive("");
}

#[test]
fn signals_arrive_in_checkpoints_of_a_thread() {
    signals_arrive("itself");
}
