//! Signals: dispositions, masks, stacks, what is pending, handlers under way.

use crate::common::{Job, NOBODY, SIGUSR2, Spec, is_root, kill, wait_until};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

/// Runs `act` while signals with the numbers that follow `sent` are queued to signal_arrives, for the process and for
/// each of its threads.
fn while_signals_arrive(job: &mut Job, sent: &AtomicI32, act: impl FnOnce(&mut Job)) {
    let tasks = fs::read_dir(format!("/proc/{}/task", job.pid())).expect("threads").flatten();
    let mut tids: Vec<i32> = tasks.map(|task| task.file_name().to_string_lossy().parse().expect("a number")).collect();
    tids.sort_unstable();
    while_these_arrive(job, &tids, sent, act);
}

fn while_these_arrive(job: &mut Job, tids: &[i32], sent: &AtomicI32, act: impl FnOnce(&mut Job)) {
    let (pid, over) = (job.pid(), AtomicBool::new(false));
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

/// Signals that come from when a restart has begun until the program is back: they are there then, each once, in order,
/// and do not end it. Beside the command and in a namespace they go to the command, which passes them on.
#[test]
fn signals_arrive_in_restarts() {
    for (user, way) in [(None, "same"), (None, "new"), (Some(NOBODY).filter(|_| is_root()), "same")] {
        let spec = Spec::new("signal_arrives");
        let mut job = user.map_or(spec.clone(), |uid| spec.user(uid)).start().expect("never skipped");
        let sent = AtomicI32::new(0);
        for generation in 1..=5 {
            job.checkpoint();
            job.sigkill();
            let images = job.images.clone();
            job.restart_from(&images, &[], &["--pid", way]);
            let begun = Instant::now();
            // Often: what follows takes a few milliseconds.
            while !keeps_signals(job.pid()) {
                assert!(begun.elapsed() < Duration::from_secs(60), "it does not keep signals\n{}", job.story());
                std::thread::sleep(Duration::from_micros(50));
            }
            let when = format!("among signals of restart {generation}, --pid {way}");
            while_these_arrive(&mut job, &[], &sent, |job| drop(job.go(&when)));
            // The command may still be passing them on.
            let got = sent.load(Relaxed);
            let all_came = || {
                let result = job.go(&format!("after restart {generation}, --pid {way}"));
                (numbers_after(&result, "got") == [got, got, 0, 0, 0, 0]).then_some(())
            };
            assert!(wait_until(all_came).is_some(), "{got} are to come\n{}", job.story());
        }
        job.end("at the end");
    }
}

/// Whether a command that restarts signal_arrives has come so far that every signal is blocked. Before it has a child, or
/// becomes the program: while it waits for a signal, that one seems not to be.
fn keeps_signals(pid: i32) -> bool {
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = of_process("status");
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0");
    let blocked = u64::from_str_radix(blocked.trim(), 16).expect("a set of signals");
    // The program blocks this one, too.
    blocked & (1 << (libc::SIGRTMIN() + 3)) != 0 || !of_process(&format!("task/{pid}/children")).is_empty()
}
