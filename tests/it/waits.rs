//! System calls that a checkpoint interrupts and that go on afterwards.

use crate::common::{
    Image, Job, NOBODY, SIGUSR2, Spec, TempDir, assert_refused, assert_success, kill, wait_until, wait_within,
};
use crate::times::{assert_front, start_with_a_front};
use std::fs::{self, DirEntry};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

/// The functions that are called around a checkpoint are called within the wait.
#[test]
fn waits_with_functions_around_checkpoints() {
    for call in ["poll", "nanosleep", "sleep_until", "select"] {
        let Some(job) = Spec::new("wait_again").arg(call).arg("events").start() else { return };
        job.cycle();
    }
}

/// A request that is refused is not seen by the program either.
#[test]
fn waits_with_refused_checkpoints() {
    for (call, manner, why) in [
        ("poll", "blocked", "blocked"),
        ("nanosleep", "blocked", "blocked"),
        ("poll", "child", "child"),
        ("select", "child", "child"),
    ] {
        let Some(mut job) = Spec::new("wait_again").arg(call).arg(manner).start() else { return };
        let pid = job.pid().to_string();
        for _ in 0..10 {
            assert_refused(&job.selfckpt(&["checkpoint", &pid]), 125, &[why]);
            assert!(kill(job.pid(), SIGUSR2));
        }
        job.go("after refused checkpoints");
        job.end("at the end");
    }
}

/// The kernel goes on by restart_syscall with waits that a stop of the whole program has interrupted.
#[test]
fn waits_of_a_program_that_was_stopped() {
    for call in ["poll_raw", "nanosleep", "sem_timedwait"] {
        let Some(mut job) = Spec::new("wait_again").arg(call).start() else { return };
        let mut seen = 0;
        for restart in [false, false, true, false, true] {
            job.stop();
            assert!(kill(job.pid(), libc::SIGCONT));
            seen += usize::from(waits_in_a_restarted_call(&job));
            job.checkpoint();
            if restart {
                job.sigkill();
                job.restart();
            }
            job.go("after a stop and a checkpoint");
        }
        assert!(seen > 0, "no thread was seen in restart_syscall");
        job.end("at the end");
    }
}

/// Whether a thread is seen in restart_syscall before the waits that it had are over.
fn waits_in_a_restarted_call(job: &Job) -> bool {
    const LONGEST_WAIT: Duration = Duration::from_millis(700);
    let tasks = format!("/proc/{}/task", job.pid());
    let is_restarted = |task: DirEntry| {
        let call = fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
        call.starts_with("0 ").then_some(())
    };
    wait_within(LONGEST_WAIT, || fs::read_dir(&tasks).ok()?.flatten().find_map(is_restarted)).is_some()
}

/// How long the waits of wait_rest take.
const WAIT: Duration = Duration::from_secs(2);
/// Of those that are to be long.
const LONG_WAIT: Duration = Duration::from_secs(6);
/// What a busy machine may add: `waits_begin_once` is the test that a wait is not lengthened.
const SLACK: Duration = Duration::from_secs(15);

/// Goes on after checkpoints in the middle of a wait, and after a restart that comes 3 s later. Where the
/// kernel does not tell when a wait began (`later`), the first checkpoint may lengthen it, up to twice its time;
/// the following ones may not.
#[track_caller]
fn rest(spec: Spec, call: &str, later: bool, restarts: bool) {
    let Some(mut job) = spec.start() else { return };
    let lengthened = if later { WAIT } else { Duration::ZERO };

    let round = job.go_without_waiting(false);
    job.wait_file(&format!("began.{round}"));
    let began = Instant::now();
    let result = job.path(&format!("result.{round}"));
    while !result.exists() && began.elapsed() < WAIT * 4 {
        std::thread::sleep(Duration::from_millis(300));
        job.checkpoint();
    }
    let took = began.elapsed();
    assert_eq!(job.result(round), "PASS\n", "{call} with checkpoints");
    assert!(took < WAIT + lengthened + SLACK, "{call} took {took:?}, with checkpoints");
    if !restarts {
        return job.end("at the end");
    }

    let round = job.go_without_waiting(false);
    job.wait_file(&format!("began.{round}"));
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    job.checkpoint();
    let image_after = began.elapsed();
    job.sigkill();
    std::thread::sleep(Duration::from_secs(3));
    let restarted = Instant::now();
    job.restart();
    assert_eq!(job.result(round), "PASS\n", "{call} after a restart");
    let took = restarted.elapsed();
    assert!(took + image_after + Duration::from_millis(20) > WAIT, "{call} waited only {took:?} after {image_after:?}");
    assert!(took < WAIT + SLACK, "{call} took {took:?} after a restart");

    // A checkpoint of a thread that already waits for the rest, and a restart from it.
    let round = job.go_without_waiting(false);
    job.wait_file(&format!("began.{round}"));
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(300));
        job.checkpoint();
        job.sigkill();
        job.restart();
    }
    let restarted = Instant::now();
    assert_eq!(job.result(round), "PASS\n", "{call} after two restarts");
    assert!(restarted.elapsed() < WAIT + SLACK, "{call} took {:?} after two restarts", restarted.elapsed());
    job.end("at the end");
}

/// Waits in what the words of `call` say.
fn wait_rest(call: &str) -> Spec {
    call.split(' ').fold(Spec::new("wait_rest"), |spec, word| spec.arg(word))
}

/// Several at once: they do little but wait.
#[track_caller]
fn rest_of_each(calls: &[&str], later: bool, restarts: bool) {
    std::thread::scope(|scope| {
        for call in calls {
            scope.spawn(move || rest(wait_rest(call), call, later, restarts));
        }
    });
}

#[test]
fn rest_of_sleeps() {
    rest_of_each(&["nanosleep", "nanosleep_same", "sleep", "usleep", "clock_nanosleep"], false, true);
}

#[test]
fn rest_of_monotonic_moments() {
    rest_of_each(&["sleep_monotonic", "sem_monotonic", "waitv_monotonic"], false, true);
}

#[test]
fn rest_of_system_calls_that_do_not_tell_it() {
    rest_of_each(&["nanosleep32", "poll_raw"], false, true);
    rest_of_each(&["poll_by_hand"], true, true);
}

/// The signal frame is elsewhere than the stack that waits.
#[test]
fn rest_with_alternate_stacks() {
    let exact = [
        "nanosleep altstack",
        "sem_monotonic altstack",
        "poll altstack",
        "futex altstack",
        "poll_raw altstack",
        "recv altstack",
    ];
    rest_of_each(&exact, false, true);
}

#[test]
fn rest_of_polls() {
    rest_of_each(&["poll", "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_pwait2_raw"], false, true);
}

#[test]
fn rest_of_futexes_and_signals() {
    rest_of_each(&["futex", "futex_time64", "sigtimedwait"], false, true);
}

#[test]
fn rest_that_the_kernel_writes_back() {
    rest_of_each(&["select", "ppoll"], false, true);
}

/// Also while the program stands still in a checkpoint, which lasts for as long as the wait here.
#[test]
fn rest_that_passes_in_a_checkpoint() {
    let wait = |call| {
        let Some(mut job) = wait_rest(call).arg("long").arg("slow").start() else { return };
        let round = job.go_without_waiting(false);
        job.wait_file(&format!("began.{round}"));
        let began = Instant::now();
        job.checkpoint();
        assert_eq!(job.result(round), "PASS\n", "{call}");
        let took = began.elapsed();
        // One after the other.
        let both = 2 * LONG_WAIT;
        assert!(took < both - Duration::from_secs(1), "{call} took {took:?}");
        job.sigkill();
    };
    std::thread::scope(|scope| ["select", "ppoll", "poll"].map(|call| drop(scope.spawn(move || wait(call)))));
}

#[test]
fn rest_of_sockets_with_a_limit() {
    rest_of_each(&["recv", "read", "accept"], false, true);
    // After a restart, a full socket has room for a few bytes more.
    rest_of_each(&["send", "write", "sendmsg"], false, false);
}

#[test]
fn rest_of_other_calls_on_sockets_with_a_limit() {
    rest_of_each(&["readv", "recvmsg", "recvmmsg", "accept4"], false, true);
}

/// By calls that libc makes itself, and by a pointer of before they had one.
#[test]
fn rest_of_sockets_behind_libc() {
    rest_of_each(&["getc", "recvfrom_raw", "recv_by_pointer"], false, true);
}

/// glibc aborts where it finds another entry to the kernel in a new thread than in its maker.
#[test]
fn limits_of_sockets_and_new_threads() {
    let Some(job) = Spec::new("limit_and_threads").start() else { return };
    job.cycle();
}

/// Their functions of libc's names stay in its place, where the dynamic linker has not looked them up yet, too.
#[test]
fn limits_of_sockets_and_functions_of_others() {
    let dir = TempDir::new("own_send");
    let (source, library) = (dir.path().join("own.c"), dir.path().join("own.so"));
    fs::write(&source, "long send(int fd, void *at, unsigned long size, int flags) { return 4711; }\n")
        .expect("a file");
    let mut gcc = Command::new("gcc");
    assert_success(&gcc.args(["-m32", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().expect("gcc"));
    let preload = format!("{}:{}", library.display(), crate::common::library().display());
    let Some(mut job) = Spec::new("limit_and_threads").arg("own").env("LD_PRELOAD", preload).start() else { return };
    job.go("without a restart");
    job.end("at the end");
}

#[test]
fn rest_of_sockets_that_get_a_limit_after_threads() {
    rest_of_each(&["recv late", "read late", "recvmsg late", "accept late"], false, true);
    rest_of_each(&["getc late", "recvfrom_raw late"], true, true);
}

#[test]
fn rest_of_calls_with_64_bit_times() {
    rest_of_each(&["clock_nanosleep_time64", "pselect_time64", "ppoll_time64"], false, true);
    rest_of_each(&["sigtimedwait_time64", "io_pgetevents_time64"], false, true);
}

#[test]
fn rest_of_kernel_aio() {
    rest_of_each(&["io_getevents"], false, true);
}

/// What they wait for does not outlive the process.
#[test]
fn rest_of_semaphores() {
    rest_of_each(&["semtimedop", "semtimedop_ipc", "semtimedop_time64"], false, false);
}

/// A thread in each kind of wait, all at the same time.
#[test]
fn kinds() {
    rest(Spec::new("wait_kinds"), "all kinds", true, true);
}

#[test]
fn kinds_as_another_user() {
    rest(Spec::new("wait_kinds").user(NOBODY), "all kinds", true, true);
}

/// The main thread in each kind, which has nobody who could look at it beforehand.
#[test]
fn kinds_of_the_main_thread() {
    let next = AtomicU32::new(0);
    let waits = || {
        while let Some(mut job) = Spec::new("wait_kinds").arg(next.fetch_add(1, Relaxed).to_string()).start() {
            let (round, _) = interrupt(&mut job);
            assert_eq!(job.result(round), "PASS\n", "after a checkpoint");
            assert_eq!(result_after_restart(&mut job), "PASS\n", "after a restart");
            job.sigkill();
        }
    };
    std::thread::scope(|scope| (0..12).for_each(|_| drop(scope.spawn(waits))));
    assert!(next.into_inner() > 40, "there are more kinds");
}

/// Begins a round, whose waits a checkpoint interrupts.
fn interrupt(job: &mut Job) -> (u32, Image) {
    let round = job.go_without_waiting(false);
    job.wait_file(&format!("began.{round}"));
    std::thread::sleep(Duration::from_millis(500));
    (round, job.checkpoint())
}

/// Of a round whose waits go on in a restarted program. Not of the last one: on a busy machine the program might have
/// ended before it is asked.
fn result_after_restart(job: &mut Job) -> String {
    let (round, _) = interrupt(job);
    job.sigkill();
    job.restart();
    job.result(round)
}

/// A wait for requests of kernel AIO goes on; a notice tells that these do not.
#[test]
fn kernel_aio() {
    let Some(mut job) = Spec::new("wait_kinds").arg("timed_io_getevents").start() else { return };
    let (round, image) = interrupt(&mut job);
    let text = job.inspect(&image);
    assert!(text.contains("requests of kernel AIO (io_submit) that are under way"), "{text}");
    assert_eq!(job.result(round), "PASS\n", "after a checkpoint");
    assert_eq!(result_after_restart(&mut job), "PASS\n", "after a restart");
}

/// A context whose memory the program has overwritten is told of at the restart, which goes on.
#[test]
fn spoilt_kernel_aio() {
    let Some(mut job) = Spec::new("aio_contexts").arg("spoilt").start() else { return };
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.go_without_waiting(false);
    job.wait_exit();
    let said = job.story();
    assert!(said.contains(&format!("(errno {})", libc::EINVAL)), "{said}");
    assert!(said.contains("of kernel AIO is not restored: its memory is not what this kernel"), "{said}");
}

/// A child that is waited for is not there after a restart: ECHILD, as the kernel says then.
#[test]
fn wait_for_a_child() {
    let spec = Spec::new("wait_kinds").arg("any_child").env("SELFCKPT_CHILDREN", "ignore");
    let Some(mut job) = spec.start() else { return };
    let (round, _) = interrupt(&mut job);
    assert_eq!(job.result(round), "PASS\n", "after a checkpoint");
    let result = result_after_restart(&mut job);
    assert!(result.contains(&format!("any_child ends with {},", libc::ECHILD)), "{result}");
}

/// Those whose rest is known do not begin anew: a checkpoint late in a long wait would show it.
#[test]
fn waits_begin_once() {
    const LATE: Duration = Duration::from_millis(4500);
    /// Less than what a wait that begins anew adds.
    const SLACK: Duration = Duration::from_secs(3);
    let exact = [
        "nanosleep",
        "sleep",
        "usleep",
        "clock_nanosleep",
        "sleep_monotonic",
        "sem_monotonic",
        "select",
        "ppoll",
        "poll",
        "poll_raw",
        "nanosleep32",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_pwait2_raw",
        "epoll_pwait2_libc64",
        "poll_chk",
        "sigtimedwait",
        "sigtimedwait_libc64",
        "futex",
        "futex_time64",
        "io_getevents",
        "recv",
        "recv late",
        "read late",
        "readv late",
        "recvmsg late",
        "recvmmsg late",
        "accept late",
        "accept4 late",
        "read",
        "readv",
        "recvmsg",
        "recvmmsg",
        "recvfrom_raw",
        "recv_by_pointer",
        "getc",
        "accept",
        "accept4",
    ];
    // What they wait for does not outlive the process.
    let here = [
        "semtimedop",
        "semtimedop_ipc",
        "semtimedop_time64",
        "semtimedop_libc64",
        "send",
        "write",
        "sendmsg",
        "send late",
        "write late",
        "sendmsg late",
    ];
    let wait = |call: &str, rounds: &[bool]| {
        let Some(mut job) = wait_rest(call).arg("long").start() else { return };
        for (index, &restarts) in rounds.iter().enumerate() {
            let round = job.go_without_waiting(index + 1 == rounds.len());
            job.wait_file(&format!("began.{round}"));
            let mut since = Instant::now();
            std::thread::sleep(LATE);
            job.checkpoint();
            let mut limit = LONG_WAIT;
            if restarts {
                limit = limit.saturating_sub(since.elapsed());
                job.sigkill();
                std::thread::sleep(Duration::from_secs(3));
                since = Instant::now();
                job.restart();
            }
            assert_eq!(job.result(round), "PASS\n", "{call}, restarted: {restarts}");
            assert!(since.elapsed() < limit + SLACK, "{call} took {:?}, restarted: {restarts}", since.elapsed());
        }
        assert!(job.wait_exit().success(), "{call}");
    };
    std::thread::scope(|scope| {
        exact.iter().for_each(|call| drop(scope.spawn(|| wait(call, &[false, true]))));
        here.iter().for_each(|call| drop(scope.spawn(|| wait(call, &[false]))));
    });
}

/// Rounds whose waits only end when the test has published this, after one, two checkpoints, and restarts from them.
#[track_caller]
fn waits_until_told(program: &str, what: &str) {
    let Some(mut job) = Spec::new(program).start() else { return };
    for (checkpoints, restarts) in [(1, 0), (2, 0), (1, 1), (2, 2)] {
        let round = job.go_without_waiting(restarts == 2);
        job.wait_file(&format!("began.{round}"));
        for number in 0..checkpoints {
            std::thread::sleep(Duration::from_millis(300));
            job.checkpoint();
            if number < restarts {
                job.sigkill();
                job.restart();
            }
        }
        job.publish(&format!("{what}.{round}"), "");
        assert_eq!(job.result(round), "PASS\n", "{checkpoints} checkpoints, {restarts} restarts");
    }
    assert!(job.wait_exit().success());
}

/// CPU time does not go on while the program is not there, and begins anew with a restart.
#[test]
fn sleeps_of_cpu_time() {
    waits_until_told("wait_cpu", "burn");
}

/// A connection that is being made is waited for again, and begun anew by a restart.
#[test]
fn connections_that_are_being_made() {
    waits_until_told("wait_connect", "accept");
}

/// The unwinder finds its way from a wait that goes on into the program.
#[test]
fn cancelled_in_a_wait_that_goes_on() {
    waits_until_told("wait_cancel", "cancel");
}

/// Also where it passes by what stands in front of the kernel: where a restart has moved the clocks.
#[test]
fn cancelled_in_a_wait_until_a_moved_moment() {
    let Some(mut job) = start_with_a_front(Spec::new("wait_cancel").arg("moment")) else { return };
    assert_front(&mut job);
    for (checkpoints, is_last) in [(0, false), (1, false), (0, true)] {
        let round = job.go_without_waiting(is_last);
        job.wait_file(&format!("began.{round}"));
        for _ in 0..checkpoints {
            job.checkpoint();
        }
        job.publish(&format!("cancel.{round}"), "");
        assert_eq!(job.result(round), "PASS\n", "after {checkpoints} checkpoints");
    }
    assert!(job.wait_exit().success());
}

/// A moment on the clock of a boot, where the restart goes on with another clock.
#[test]
fn moments_without_a_namespace() {
    let wait = |kind: &str| {
        let Some(mut job) = Spec::new("wait_rest").arg(kind).start() else { return };
        let began = Instant::now();
        let (round, image) = interrupt(&mut job);
        let before = began.elapsed();
        job.sigkill();
        std::thread::sleep(Duration::from_secs(3));
        let restarted = Instant::now();
        job.restart_from(&image.path, &[], &["--pid", "new"]);
        assert_eq!(job.result(round), "PASS\n", "{kind}");
        let took = restarted.elapsed();
        assert!(before + took > WAIT && took < WAIT + SLACK, "{kind} took {took:?} after {before:?} and a restart");
        job.end("at the end");
    };
    let kinds = ["sleep_monotonic", "sem_monotonic", "waitv_monotonic"];
    std::thread::scope(|scope| kinds.iter().for_each(|kind| drop(scope.spawn(|| wait(kind)))));
}

/// A signal of the program's own that comes while a checkpoint is taken ends a wait, as ever, here and after a restart.
#[test]
fn interrupted_by_a_signal_of_the_program() {
    let wait = |call: &str, number: &str| {
        let Some(mut job) = Spec::new("wait_interrupted").arg(call).start() else { return };
        for step in 1..=3 {
            let round = job.go_without_waiting(false);
            job.wait_file(&format!("began.{round}"));
            let (program, before) = (job.program_pid(), job.list_images().pop());
            let of_program = |name: &str| fs::read_to_string(format!("/proc/{program}/{name}")).unwrap_or_default();
            let waits = || of_program("syscall").starts_with(number).then_some(());
            assert!(wait_until(waits).is_some(), "it does not wait in {call}\n{}", job.story());
            // Of those that wait for a stopped program, the request comes first, and keeps the other one waiting.
            assert!(kill(program, libc::SIGSTOP));
            assert!(
                wait_until(|| of_program("status").contains("State:\tT").then_some(())).is_some(),
                "it does not stop"
            );
            assert!(SIGUSR2 < libc::SIGTERM && kill(program, SIGUSR2) && kill(program, libc::SIGTERM));
            assert!(kill(program, libc::SIGCONT));
            assert_eq!(job.result(round), "PASS\n", "{call} in step {step}");
            assert!(wait_until(|| (job.list_images().pop() != before).then_some(())).is_some(), "{}", job.story());
            job.sigkill();
            job.rewind(round);
            job.restart();
            assert_eq!(job.result(round), "PASS\n", "{call} in step {step}, after a restart");
            job.rewind(round + 1);
        }
        job.sigkill();
    };
    for (call, number) in [("poll", "168 "), ("nanosleep", "162 "), ("futex", "240 "), ("read", "3 ")] {
        wait(call, number);
    }
}
