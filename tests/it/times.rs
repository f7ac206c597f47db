//! Clocks and timers.

use crate::common::{Image, Job, NOBODY, Random, SIGUSR2, Spec, assert_refused, is_root, kill, skipped};
use crate::other_kernel::reads_clock;
use std::time::{Duration, Instant};

cycles! {
    alarm_blocked, timers_itimer, timers_posix, timers_overrun, timers_thread,
}

/// The time from the checkpoint to the restart does not count, by whatever clock a timer goes.
#[test]
fn timers_stand_still_without_the_program() {
    const AWAY: Duration = Duration::from_secs(3);
    for (name, timers) in [("timers_itimer", 1), ("timers_posix", 7)] {
        let begun = Instant::now();
        let Some(mut job) = Spec::new(name).start() else { return };
        job.checkpoint();
        job.sigkill();
        std::thread::sleep(AWAY);
        job.restart();
        let result = job.go("after a late restart");
        let longest = (begun.elapsed() - AWAY).as_secs_f64() + 0.01;
        let gone_by: Vec<f64> = result
            .lines()
            .filter_map(|line| line.strip_prefix("gone by: "))
            .map(|time| time.parse().expect("seconds"))
            .collect();
        assert_eq!(gone_by.len(), timers, "{result}");
        assert!(gone_by.iter().all(|&time| time < longest), "{longest} s at most: {result}");
        job.end("at the end");
    }
}

/// It reads clocks all the time, also within the vdso: by the command, which keeps the namespace of the clocks.
#[test]
fn vdso_time() {
    let Some(mut job) = Spec::new("vdso_time").start() else { return };
    job.checkpoint();
    job.go("after a checkpoint");
    job.generations(6);
}

#[test]
fn vdso_time_as_another_user() {
    let Some(job) = Spec::new("vdso_time").user(NOBODY).start() else { return };
    job.generations(3);
}

/// Where its clocks are those of a machine that has been up for longer than this one, and they go on from there.
const UP_FOR_LONG: [&str; 6] = ["unshare", "--time", "--monotonic", "30000000", "--boottime", "40000000"];

/// On a machine that was booted later, CLOCK_MONOTONIC goes on.
#[test]
fn clocks_go_on() {
    if !is_root() {
        return skipped("only root starts a program in a time namespace");
    }
    let Some(job) = Spec::new("clocks_go_on").prefix(&UP_FOR_LONG).start() else { return };
    job.cycle();
}

/// Nor does it jump where this machine has been up for longer; what it adds is in the image.
#[test]
fn clocks_go_on_from_a_young_machine() {
    if !is_root() {
        return skipped("only root starts a program in a time namespace");
    }
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let back = format!("-{}", uptime as u64 - 60);
    let young = ["unshare", "--time", "--monotonic", &back, "--boottime", &back];
    let Some(mut job) = Spec::new("clocks_go_on").prefix(&young).start() else { return };
    for _ in 0..2 {
        let image = job.checkpoint();
        let shown = job.selfckpt(&["inspect", image.path.to_str().unwrap()]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("of a time namespace"), "{shown:?}");
        job.sigkill();
        job.restart();
        job.go("after a restart");
    }
    job.end("at the end");
}

/// The same without privileges, in the namespace for the user that the ids take.
#[test]
fn clocks_go_on_as_another_user() {
    let Some(mut job) = Spec::new("clocks_go_on").user(NOBODY).start() else { return };
    job.checkpoint();
    job.sigkill();
    // Longer than the program takes for a jump.
    std::thread::sleep(std::time::Duration::from_millis(5200));
    job.restart();
    job.go("after a late restart");
    job.end("at the end");
}

/// A timer that stands still while its signal waits is no timer that goes off too often for a checkpoint.
#[test]
fn a_blocked_alarm_costs_no_notice() {
    let Some(mut job) = Spec::new("alarm_blocked").start() else { return };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(!text.contains("goes off so often"), "{text}");
    job.end("after a checkpoint");
}

/// In turn outside of a time namespace, where a front keeps the clocks, and in one.
#[test]
fn clocks_go_on_by_a_front() {
    if !is_root() {
        return skipped("only root starts a program in a time namespace");
    }
    let Some(mut job) = Spec::new("clock_front").prefix(&UP_FOR_LONG).start() else { return };
    let mut image = job.checkpoint_that(|image| !reads_clock(image));
    for (generation, options) in [OUTSIDE, OUTSIDE, &[], OUTSIDE, &[], &[], OUTSIDE, OUTSIDE].into_iter().enumerate() {
        job.sigkill();
        job.restart_from(&image.path, &[], options);
        job.go(&format!("after restart {generation}"));
        image = job.checkpoint();
        let text = job.inspect(&image);
        let by_front = text.contains("by a front that adds to the kernel's: +29999");
        let by_namespace = text.contains("of a time namespace");
        let is_outside = options == OUTSIDE;
        assert_eq!((by_front, by_namespace), (is_outside, !is_outside), "generation {generation}: {text}");
    }
    // Nothing is added where this machine shows more.
    job.sigkill();
    job.restart_from(&image.path, &UP_FOR_LONG, OUTSIDE);
    job.go("on a machine that has been up for longer");
    let image = job.checkpoint();
    assert!(!job.inspect(&image).contains("a front"), "{}", job.inspect(&image));
    assert!(!job.story().contains("goes back"), "{}", job.story());
    job.end("at the end");
}

/// A restart outside of a time namespace, where clocks would go back: by a front they do not.
pub const OUTSIDE: &[&str] = &["--pid", "new"];

/// A program after such a restart.
pub fn start_with_a_front(program: Spec) -> Option<Job> {
    if !is_root() {
        skipped("only root starts a program in a time namespace");
        return None;
    }
    let mut job = program.prefix(&UP_FOR_LONG).start()?;
    let image = job.checkpoint_that(|image| !reads_clock(image));
    job.sigkill();
    job.restart_from(&image.path, &[], OUTSIDE);
    Some(job)
}

/// Takes a checkpoint, whose image must tell it.
#[track_caller]
pub fn assert_front(job: &mut Job) -> Image {
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("by a front that adds to the kernel's: +29999"), "{text}");
    image
}

/// The vdso and the kernel show the same, and time goes on by either.
#[test]
fn vdso_time_by_a_front() {
    let Some(mut job) = start_with_a_front(Spec::new("vdso_time").arg("moved")) else { return };
    for generation in 0..6 {
        job.go(&format!("in generation {generation}"));
        let image = assert_front(&mut job);
        job.sigkill();
        job.restart_from(&image.path, &[], OUTSIDE);
    }
    job.end("at the end");
}

/// Moments of such clocks come when they are there, whichever call waits for them.
#[test]
fn moments_by_a_front() {
    let Some(mut job) = start_with_a_front(Spec::new("clock_moments")) else { return };
    job.go("after the restart that puts a front there");
    for generation in 0..2 {
        let image = assert_front(&mut job);
        job.sigkill();
        job.restart_from(&image.path, &[], OUTSIDE);
        job.go(&format!("after restart {generation}"));
    }
    job.end("at the end");
}

/// Checkpoints in a row and on top of each other, and restarts if wanted, at random moments of a program that does
/// nothing but what they might disturb.
fn walk(user: Option<u32>, restarts: bool) {
    let mut spec = Spec::new("random_walk");
    if let Some(uid) = user {
        spec = spec.user(uid);
    }
    let Some(job) = spec.start() else { return };
    walk_on(job, restarts.then_some(&[]));
}

/// With these options for its restarts.
fn walk_on(mut job: Job, restarts: Option<&[&str]>) {
    let mut random = Random::new("random_walk");
    for step in 1..=18 {
        for _ in 0..random.below(4) {
            kill(job.pid(), SIGUSR2);
            std::thread::sleep(std::time::Duration::from_millis(random.below(15)));
        }
        job.checkpoint();
        if let Some(options) = restarts.filter(|_| random.below(2) == 0) {
            job.sigkill();
            let images = job.images.clone();
            job.restart_from(&images, &[], options);
        }
        job.go(&format!("in step {step} of a random walk"));
    }
    job.end("at the end of a random walk");
}

#[test]
fn random_walk() {
    walk(None, false);
}

#[test]
fn random_walk_with_restarts() {
    walk(None, true);
}

#[test]
fn random_walk_by_a_front() {
    let Some(mut job) = start_with_a_front(Spec::new("random_walk")) else { return };
    assert_front(&mut job);
    walk_on(job, Some(OUTSIDE));
}

#[test]
fn random_walk_as_another_user() {
    walk(Some(NOBODY), false);
}

#[test]
fn random_walk_with_restarts_as_another_user() {
    walk(Some(NOBODY), true);
}

/// An image of the moment when the vdso reads a namespace's clock, and a restart outside of one: refused.
#[test]
fn clock_read_in_a_namespace() {
    if !is_root() {
        return skipped("only root starts a program in a time namespace");
    }
    let Some(mut job) = Spec::new("vdso_time").prefix(&UP_FOR_LONG).start() else { return };
    let image = job.checkpoint_that(reads_clock);
    job.sigkill();
    let outside = job.selfckpt(&["restart".as_ref(), "--pid".as_ref(), "new".as_ref(), image.path.as_os_str()]);
    assert_refused(&outside, 125, &["was reading the clock", "no time namespace", "another generation"]);
    job.restart();
    job.end("in a namespace again");
}
