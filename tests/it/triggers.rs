//! Requests that come together, stop requests at bad moments, the period, the status file.

use crate::common::{
    Job, SIGKILL, SIGUSR1, SIGUSR2, Spec, assert_success, images_in, kill, selfckpt_command, wait_until,
};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A JSON file's value, as text: the fields here are numbers and plain words.
fn field(text: &str, name: &str) -> String {
    let start = text.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len() + 3;
    let rest = &text[start..];
    let end = match rest.strip_prefix('"') {
        Some(quoted) => 2 + quoted.find('"').expect("a closing quote"),
        None => rest.find([',', '}']).expect("an end"),
    };
    rest[..end].trim_matches('"').to_string()
}

fn status(images: &Path, name: &str) -> String {
    fs::read_to_string(images.join(format!("{name}.status.json"))).expect("a status file")
}

/// A command that asks, once its signal is on the way.
fn ask(job: &Job, options: &[&str]) -> Child {
    let mut command = selfckpt_command();
    command.arg("checkpoint").args(options).arg(job.pid().to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("selfckpt checkpoint")
}

fn is_pending(job: &Job, signal: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/status", job.pid())).unwrap_or_default();
    let sets = text.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    sets.map(|set| u64::from_str_radix(set.trim(), 16).expect("a set of signals"))
        .any(|set| set & (1 << (signal - 1)) != 0)
}

/// A signal, a command and another signal while the program is stopped: one image, and the command is answered.
#[test]
fn triggers_at_once_make_one_checkpoint() {
    let mut job =
        Spec::new("heap").env("SELFCKPT_SIGNAL", "RTMIN+1").env("SELFCKPT_EVERY", "1h").start().expect("a start");
    let rtmin1 = libc::SIGRTMIN() + 1;
    job.stop();
    let mut command = ask(&job, &[]);
    assert!(wait_until(|| is_pending(&job, rtmin1).then_some(())).is_some(), "nobody asks");
    // Real-time signals queue up: without more ado each would be a checkpoint of its own.
    for _ in 0..5 {
        assert!(kill(job.pid(), rtmin1));
    }
    assert!(kill(job.pid(), libc::SIGCONT));
    let status = wait_until(|| command.try_wait().expect("wait")).expect("an answer");
    assert!(status.success(), "{status}");
    job.go("after six requests");
    let generations: Vec<u32> = job.list_images().iter().map(|image| image.generation).collect();
    assert_eq!(generations, [1], "{}", job.story());
    job.sigkill();
    job.rewind(1);
    job.restart();
    job.end("after a restart");
}

/// A checkpoint signal and a stop signal at once: one image, and the program stops.
#[test]
fn checkpoint_and_stop_at_once() {
    for (first, second) in [(SIGUSR2, SIGUSR1), (SIGUSR1, SIGUSR2), (SIGUSR2, libc::SIGTERM)] {
        let mut job = Spec::new("heap").env("SELFCKPT_STOP_SIGNAL", "USR1,TERM").start().expect("a start");
        job.stop();
        assert!(kill(job.pid(), first) && kill(job.pid(), second));
        assert!(kill(job.pid(), libc::SIGCONT));
        let status = job.wait_exit();
        assert_eq!(status.code(), Some(85), "{first} {second}: {status}\n{}", job.story());
        assert_eq!(job.list_images().len(), 1, "{}", job.story());
        job.restart();
        job.end("after a restart");
    }
}

/// Waits until an image is being written.
fn wait_for_writing(images: &Path) {
    let written = |entry: fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".ckpt.tmp");
    let found = wait_until(|| fs::read_dir(images).ok()?.flatten().any(written).then_some(()));
    assert!(found.is_some(), "no image is being written");
}

fn large(stop_signal: &str) -> Job {
    let spec = Spec::directory_last("memory_fill").arg("120").arg("dense").env("SELFCKPT_STOP_SIGNAL", stop_signal);
    spec.start().expect("a start")
}

/// A stop request while an image is being written is not lost, and a second and third one do no harm.
#[test]
fn stop_during_a_checkpoint() {
    let mut job = large("USR1,TERM");
    assert!(kill(job.pid(), SIGUSR2));
    wait_for_writing(&job.images);
    assert!(kill(job.pid(), libc::SIGTERM));
    assert!(kill(job.pid(), SIGUSR1) && kill(job.pid(), libc::SIGTERM));
    let status = job.wait_exit();
    assert_eq!(status.code(), Some(85), "{status}\n{}", job.story());
    assert_eq!(field(&self::status(&job.images, "memory_fill"), "state"), "stopped");
    job.restart();
    job.end("after a restart");
}

/// While a large image is written the command hears how far it is.
#[test]
fn progress() {
    use selfckpt::control::status;
    use std::os::linux::net::SocketAddrExt;
    let mut job = large("USR1");
    let token = selfckpt::control::Token::new(0x00ab_cdef ^ std::process::id(), false);
    let address = selfckpt::control::reply_address(token);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&address[..23]).expect("an address");
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&address).expect("a socket");
    let value = libc::sigval { sival_ptr: token.0 as usize as *mut libc::c_void };
    // SAFETY: takes numbers; the pointer is one for the kernel.
    assert_eq!(unsafe { libc::sigqueue(job.pid(), SIGUSR2, value) }, 0);
    let mut before = 0;
    let mut messages = 0;
    loop {
        let mut buf = [0u8; 2048];
        let len = socket.recv(&mut buf).expect("a message");
        let number = |at: usize| u64::from_le_bytes(buf[at..at + 8].try_into().expect("eight bytes"));
        assert!(len >= 56);
        let (status, bytes, expected) = (buf[4], number(16), number(24));
        match u32::from(status) {
            status::PROGRESS | status::WRITER => {}
            status::DONE => break,
            other => panic!("status {other}"),
        }
        if bytes != 0 {
            assert!(bytes > before && bytes <= expected, "{bytes} of {expected} after {before}");
            messages += 1;
        }
        before = bytes;
    }
    assert!(messages >= 3, "{messages} messages for 120 MB");
    job.go("after the checkpoint");
    job.end("at the end");
}

/// The same through `selfckpt run`, which gets the signals: it is not killed either.
#[test]
fn stop_twice_through_run() {
    let temp = crate::common::TempDir::new("stop-twice");
    let images = temp.path().join("images");
    let mut command = selfckpt_command();
    command.args(["run", "--stop-signal", "USR1,TERM", "--stop-code", "77", "--dir"]).arg(&images).arg("--");
    command.arg(crate::common::program("memory_fill")).args(["120", "dense"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("selfckpt run");
    let pid = child.id() as i32;
    let mut ready = [0u8; 6];
    std::io::Read::read_exact(&mut child.stdout.take().expect("a pipe"), &mut ready).expect("READY");
    assert!(kill(pid, SIGUSR1));
    wait_for_writing(&images);
    assert!(kill(pid, libc::SIGTERM) && kill(pid, SIGUSR1));
    let status = wait_until(|| child.try_wait().expect("wait")).expect("an end");
    assert_eq!(status.code(), Some(77), "{status}");
    assert_eq!(images_in(&images).len(), 1);
}

/// What the status file says after a checkpoint, a failed one, one more, and a stop.
#[test]
fn status_file() {
    let mut job = Spec::new("fork_child").env("SELFCKPT_STOP_SIGNAL", "USR1").start().expect("a start");
    let pid = job.pid().to_string();
    let refused = job.selfckpt(&["checkpoint", &pid]);
    assert_eq!(refused.status.code(), Some(125));
    let text = status(&job.images, "fork_child");
    assert_eq!(field(&text, "state"), "running");
    assert_eq!(field(&text, "generation"), "null");
    assert!(field(&text, "last_error").contains("the-child"), "{text}");
    job.go("after a refused checkpoint");

    let image = job.checkpoint();
    let text = status(&job.images, "fork_child");
    assert_eq!(field(&text, "name"), "fork_child");
    assert_eq!(field(&text, "pid"), pid);
    assert_eq!(field(&text, "generation"), image.generation.to_string());
    assert_eq!(field(&text, "image"), "fork_child.000001.ckpt");
    assert_eq!(field(&text, "bytes"), image.size().to_string());
    assert_eq!(field(&text, "last_error"), "null");
    let pause: u64 = field(&text, "pause_ns").parse().expect("a number");
    let total: u64 = field(&text, "total_ns").parse().expect("a number");
    assert!(pause > 0 && total >= pause, "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let taken: u64 = field(&text, "taken").parse().expect("a number");
    assert!((now - 600..=now + 1).contains(&taken), "{text}");

    job.sigkill();
    job.restart();
    job.go("after a restart");
    assert!(kill(job.pid(), SIGUSR1));
    assert_eq!(job.wait_exit().code(), Some(85));
    let text = status(&job.images, "fork_child");
    assert_eq!((field(&text, "state").as_str(), field(&text, "generation").as_str()), ("stopped", "2"), "{text}");
    let names: Vec<_> = fs::read_dir(&job.images).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{names:?}");
}

/// A job that has ended takes its status with it; one that was killed says so.
#[test]
fn status_after_the_end() {
    let temp = crate::common::TempDir::new("status-end");
    let images = temp.path().join("images");
    let run = |options: &[&str], program: &[&str]| {
        let mut command = selfckpt_command();
        command.arg("run").args(options).arg("--dir").arg(&images).arg("--").arg(crate::common::program(program[0]));
        command.args(&program[1..]).stdout(Stdio::piped()).spawn().expect("selfckpt run")
    };
    let newest = |child: &mut Child| {
        let mut line = [0u8; 2];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut line).expect("a line");
        let asked = crate::common::run_selfckpt(&["checkpoint", &child.id().to_string()]);
        assert_success(&asked);
    };
    let mut child = run(&["--name", "killed"], &["counter", "100000", "1000"]);
    newest(&mut child);
    let inner = field(&status(&images, "killed"), "pid").parse().expect("a pid");
    assert!(kill(inner, SIGKILL));
    drop(child.stdout.take());
    let end = child.wait().expect("wait");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&end), Some(SIGKILL));
    let text = status(&images, "killed");
    assert_eq!((field(&text, "state").as_str(), field(&text, "signal").as_str()), ("killed", "9"), "{text}");
    assert_eq!(field(&text, "generation"), "1");

    for (options, left) in [(&["--name", "kept", "--keep-images"][..], 1), (&["--name", "kept"], 0)] {
        let mut child = run(options, &["counter", "60", "5000", "7"]);
        newest(&mut child);
        let mut rest = Vec::new();
        std::io::Read::read_to_end(child.stdout.as_mut().expect("a pipe"), &mut rest).expect("its output");
        assert_eq!(child.wait().expect("wait").code(), Some(7));
        let there = images.join("kept.status.json").exists();
        assert_eq!(usize::from(there), left, "{options:?}");
        if there {
            let text = status(&images, "kept");
            assert_eq!(
                (field(&text, "state").as_str(), field(&text, "exit_status").as_str()),
                ("ended", "7"),
                "{text}"
            );
            fs::remove_file(images.join("kept.000001.ckpt")).expect("remove");
        }
    }
}

/// The period that `auto` chooses is Daly's for the pause that was measured.
#[test]
fn auto_follows_the_cost() {
    let mut job = Spec::new("heap").env("SELFCKPT_EVERY", "auto").env("SELFCKPT_MTBF", "2h").start().expect("a start");
    job.checkpoint();
    let text = status(&job.images, "heap");
    let pause = field(&text, "pause_ns").parse::<f64>().expect("a number") / 1e9;
    let every = field(&text, "every_ms").parse::<f64>().expect("a number") / 1e3;
    let best = (2.0 * pause * 7200.0).sqrt() - pause;
    // The pause counts in whole milliseconds.
    assert!((every / best - 1.0).abs() < 0.1, "every {every} s, best {best} s: {text}");
    job.end("after a checkpoint");

    // Short enough to see it happen, after a restart too.
    let mut job = Spec::new("heap").env("SELFCKPT_EVERY", "auto").env("SELFCKPT_MTBF", "1").start().expect("a start");
    let found = wait_until(|| (job.list_images().last()?.generation >= 2).then_some(()));
    assert!(found.is_some(), "no images by themselves\n{}", job.story());
    job.sigkill();
    let newest = job.list_images().last().map_or(0, |image| image.generation);
    job.restart();
    let found = wait_until(|| (job.list_images().last()?.generation > newest + 1).then_some(()));
    assert!(found.is_some(), "no further images after the restart\n{}", job.story());
    job.end("at the end");
}

/// The period counts from the last checkpoint, whatever has asked for that one.
#[test]
fn period_begins_anew() {
    let mut job = Spec::new("heap").env("SELFCKPT_EVERY", "3").start().expect("a start");
    // More requests than fit into one period: none of the images is the timer's.
    let begin = std::time::Instant::now();
    let mut asked = 0;
    while begin.elapsed().as_secs() < 5 {
        let image = job.checkpoint();
        asked += 1;
        assert_eq!(image.generation, asked, "the timer has taken one\n{}", job.story());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let found = wait_until(|| (job.list_images().last()?.generation > asked).then_some(()));
    assert!(found.is_some(), "the timer takes none any more\n{}", job.story());
    job.end("at the end");
}

/// The timer of the period is not the program's: it is in no image, and each restart makes one anew.
#[test]
fn one_timer_for_the_period() {
    let mut job = Spec::new("heap").env("SELFCKPT_EVERY", "1h").start().expect("a start");
    for generation in 1..=3 {
        let image = job.checkpoint();
        assert!(!job.inspect(&image).contains("timer 0"), "{}", job.inspect(&image));
        job.sigkill();
        job.restart();
        job.go(&format!("after restart {generation}"));
        let timers = fs::read_to_string(format!("/proc/{}/timers", job.program_pid())).expect("timers");
        let count = timers.lines().filter(|line| line.starts_with("ID:")).count();
        assert_eq!(count, 1, "after restart {generation}: {timers}");
    }
    job.end("at the end");
}

/// A program with threads that never rest, to one of which the second signal goes while the first one is served: it stops.
#[test]
fn stop_in_another_thread() {
    let mut job = Spec::new("thread_storm").env("SELFCKPT_STOP_SIGNAL", "USR1").start().expect("never skipped");
    for round in 1..=20 {
        let program = job.program_pid();
        assert!(kill(program, SIGUSR2) && kill(program, SIGUSR1));
        let status = job.wait_exit();
        assert_eq!(status.code(), Some(85), "{status} in round {round}\n{}", job.story());
        job.restart();
        job.go("after a restart");
    }
    job.end("at the end");
}

/// Waits until the program is in this stage.
fn arrive(job: &Job, stage: &str) {
    assert!(
        wait_until(|| job.path(&format!("at.{stage}")).exists().then_some(())).is_some(),
        "{stage}\n{}",
        job.story()
    );
}

fn go_on_from(job: &Job, stage: &str) {
    fs::write(job.path(&format!("on.{stage}")), "").expect("a file");
}

/// Requests in each stage of a program's life, from constructors to destructors: an image each, from which it
/// is restarted, and it ends as it would have.
#[test]
fn triggers_in_each_stage() {
    let returns = ["constructor", "main", "atexit", "destructor"];
    let by_pthread_exit = ["constructor", "main", "key", "atexit", "destructor"];
    for (stages, code) in [(&returns[..], 7), (&by_pthread_exit[..], 0)] {
        let mut spec = Spec::new("trigger_stages");
        if code == 0 {
            spec = spec.arg("pthread_exit");
        }
        let mut job = spec.spawn();
        for stage in stages {
            arrive(&job, stage);
            job.checkpoint_by_signal();
            job.sigkill();
            job.restart();
            job.checkpoint();
            go_on_from(&job, stage);
        }
        assert_eq!(job.wait_exit().code(), Some(code), "{stages:?}\n{}", job.story());
    }
}

/// Requests all the time while it goes from stage to stage and to its end: no signal kills it or makes it hang.
#[test]
fn triggers_on_the_way_out() {
    for round in 0..12 {
        let mut job = Spec::new("trigger_stages").spawn();
        arrive(&job, "constructor");
        for stage in ["main", "atexit", "destructor"] {
            go_on_from(&job, stage);
        }
        let pid = job.pid();
        let over = AtomicBool::new(false);
        let status = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) && kill(pid, SIGUSR2) {
                    std::thread::sleep(Duration::from_micros(100 << (round % 6)));
                }
            });
            go_on_from(&job, "constructor");
            let status = job.wait_exit();
            over.store(true, Relaxed);
            status
        });
        assert_eq!(status.code(), Some(7), "{status}\n{}", job.story());
    }
}

/// Through `selfckpt run` also those that come before the library is there: they are kept until it is.
#[test]
fn triggers_at_the_start_of_run() {
    for round in 0..8 {
        let temp = crate::common::TempDir::new("start-of-run");
        let images = temp.path().join("images");
        for stage in ["constructor", "main", "atexit", "destructor"] {
            fs::write(temp.path().join(format!("on.{stage}")), "").expect("a file");
        }
        let mut command = selfckpt_command();
        command.args(["run", "-q", "--keep-images", "--dir"]).arg(&images).arg("--");
        command.arg(crate::common::program("trigger_stages")).arg(temp.path());
        let mut child = command.spawn().expect("selfckpt run");
        let pid = child.id() as i32;
        let holds = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0");
            let set = u64::from_str_radix(blocked.trim(), 16).expect("a set of signals");
            (set & (1 << (SIGUSR2 - 1)) != 0).then_some(())
        };
        assert!(wait_until(holds).is_some(), "the command does not wait for signals");
        std::thread::sleep(Duration::from_micros(500 * round));
        assert!(kill(pid, SIGUSR2));
        let status = wait_until(|| child.try_wait().expect("wait")).expect("an end");
        assert_eq!(status.code(), Some(7), "{status}");
    }
}

/// A program that is stopped when the request comes, while its image is written, and when it is killed: a restart
/// goes on.
#[test]
fn stopped_around_a_checkpoint() {
    let mut job = large("USR1");
    job.stop();
    assert!(kill(job.pid(), SIGUSR2));
    assert!(wait_until(|| is_pending(&job, SIGUSR2).then_some(())).is_some(), "the request is not kept");
    assert_eq!(job.list_images(), [], "an image of a stopped program");
    assert!(kill(job.pid(), libc::SIGCONT));
    wait_for_writing(&job.images);
    job.stop();
    assert!(kill(job.pid(), libc::SIGCONT));
    assert!(wait_until(|| job.list_images().pop()).is_some(), "{}", job.story());
    job.go("after it was stopped");
    job.checkpoint();
    job.stop();
    job.sigkill();
    job.restart();
    job.go("after a restart of a program that was stopped");
    job.end("at the end");
}
