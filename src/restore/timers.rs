//! [NORMAL] The timers' part of the plan. They are made with the ids that they had when all threads are there,
//! and start just before the program goes on, so that what the restart takes does not count.
#![allow(unsafe_code)] // Tries timer_create(2).

use super::plan::Inputs;
use super::steps::Steps;
use crate::format::image::Image;
use crate::format::signals::SigPending;
use crate::format::timers::{Timer, clock, notify};
use crate::sys::abi::OWN_MARK;
use crate::sys::{Errno, call, nr, process};
use std::collections::HashMap;
use zerocopy::IntoBytes;

/// From the ids that threads had to the variables that hold the new ones.
pub type NewIds = HashMap<u32, u32>;

/// How a timer gets its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerIds {
    /// The kernel takes the one that it is told (Linux 6.15).
    Chosen,
    /// The kernel counts, and this is the next one.
    Counted(u32),
}

const PR_TIMER_CREATE_RESTORE_IDS: u32 = 77;
const OFF: u32 = 0;
const ON: u32 = 1;
const GET: usize = 2;

/// Asks this kernel.
pub fn find_timer_ids() -> Result<TimerIds, Errno> {
    if process::prctl(PR_TIMER_CREATE_RESTORE_IDS, GET, 0, 0, 0).is_ok() {
        return Ok(TimerIds::Chosen);
    }
    let event = silent_event();
    let mut id = 0u32;
    // SAFETY: `event` is a struct sigevent, `id` takes a timer_t.
    unsafe { call!(nr::TIMER_CREATE, process::CLOCK_MONOTONIC, event.as_ptr(), &raw mut id) }?;
    // SAFETY: takes a number.
    unsafe { call!(nr::TIMER_DELETE, id) }?;
    Ok(TimerIds::Counted(id + 1))
}

/// A struct sigevent that notifies nobody.
fn silent_event() -> [u32; 16] {
    let mut event = [0u32; 16];
    event[2] = notify::NONE;
    event
}

/// Signal, code, then of a timer's signal: id, overrun, value.
fn word(pending: &SigPending, index: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| pending.siginfo[4 * index + i]))
}

const SI_TIMER: u32 = -2i32 as u32;

/// Expirations by timer that the program has not seen: their signals are pending. Such a timer is started in its
/// past, so that it sends its signal itself and counts the overruns. Left out are those whose clock has not gone
/// far enough for that, or is none of time.
pub fn count_expirations(image: &Image) -> HashMap<u32, u64> {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    for pending in image.pending.iter().filter(|pending| word(pending, 2) == SI_TIMER) {
        *counts.entry(word(pending, 3)).or_default() += 1 + u64::from(word(pending, 4));
    }
    counts.retain(|id, count| {
        let timer = image.timers.iter().find(|timer| timer.id.get() == *id);
        timer.is_some_and(|timer| {
            let started = process::clock(timer.clock.get());
            let started = i128::from(started.sec) * 1_000_000_000 + i128::from(started.nsec);
            let runs = timer.left_ns.get() != 0 && timer.every_ns.get() != 0;
            runs && clock::cpu_time_of(timer.clock.get()).is_none() && started + first_expiration(timer, *count) > 0
        })
    });
    counts
}

/// When the first of `count` expirations was, in nanoseconds from now.
fn first_expiration(timer: &Timer, count: u64) -> i128 {
    i128::from(timer.left_ns.get()) - i128::from(timer.every_ns.get()) * i128::from(count)
}

/// Whether a pending signal is one that its timer sends again.
pub fn sends_again(inputs: &Inputs<'_>, pending: &SigPending) -> bool {
    word(pending, 2) == SI_TIMER && inputs.expirations.contains_key(&word(pending, 3))
}

/// The thread, other than the main one, whose CPU time a timer counts.
fn counts_thread(image: &Image, timer: &Timer) -> Option<u32> {
    match clock::cpu_time_of(timer.clock.get()) {
        Some((tid, true)) if tid != 0 && tid != image.task.pid.get() => Some(tid),
        _ => None,
    }
}

/// What cannot be done here, one sentence per timer.
pub fn find_lost(image: &Image, ids: TimerIds) -> Vec<String> {
    let of_threads = image.timers.iter().filter_map(|timer| Some((timer.id.get(), counts_thread(image, timer)?)));
    match ids {
        TimerIds::Chosen => Vec::new(),
        TimerIds::Counted(_) => of_threads
            .map(|(id, tid)| {
                format!("timer {id}, which counts the CPU time of thread {tid}, does not run on this kernel any more")
            })
            .collect(),
    }
}

/// Before the first thread is made.
pub fn begin(inputs: &Inputs<'_>, steps: &mut Steps) {
    if inputs.timer_ids == TimerIds::Chosen && !inputs.image.timers.is_empty() {
        steps.explain("cannot choose the ids of timers");
        steps.call(nr::PRCTL, &[PR_TIMER_CREATE_RESTORE_IDS, ON, 0, 0, 0]);
    }
}

/// Timers that count a thread's CPU time, by the thread itself.
pub fn restore_timers_of(inputs: &Inputs<'_>, tid: u32, own_tid: u32, steps: &mut Steps) {
    if inputs.timer_ids != TimerIds::Chosen {
        return;
    }
    for timer in inputs.image.timers.iter().filter(|timer| counts_thread(inputs.image, timer) == Some(tid)) {
        restore_timer(inputs, timer, Some(own_tid), steps);
    }
}

/// All others, and the library's own, when all threads are there.
pub fn restore_timers(inputs: &Inputs<'_>, ids: &NewIds, steps: &mut Steps) -> Result<(), String> {
    let image = inputs.image;
    let mut timers: Vec<&Timer> = image.timers.iter().collect();
    timers.sort_unstable_by_key(|timer| timer.id);
    let mut counted = match inputs.timer_ids {
        TimerIds::Chosen => None,
        TimerIds::Counted(next) => Some(next),
    };
    for timer in timers {
        if let Some(next) = &mut counted {
            skip_ids(next, timer.id.get(), steps)?;
        } else if counts_thread(image, timer).is_some_and(|tid| ids.contains_key(&tid)) {
            continue;
        }
        let notified = ids.get(&timer.tid.get()).copied().filter(|_| timer.notify.get() == notify::THREAD_ID);
        restore_timer(inputs, timer, notified, steps);
    }
    if counted.is_none() && !image.timers.is_empty() {
        steps.call(nr::PRCTL, &[PR_TIMER_CREATE_RESTORE_IDS, OFF, 0, 0, 0]);
    }
    start_period(inputs, steps);
    for (which, itimer) in image.itimers.iter().enumerate() {
        // Also one that does not run: exec(2) leaves running what the restarting process had.
        let words = |us: u64| [(us / 1_000_000) as u32, (us % 1_000_000) as u32];
        let setting = [words(itimer.every_us.get()), words(itimer.left_us.get())];
        let at = steps.bytes(setting.as_bytes());
        steps.explain("cannot set an interval timer");
        steps.call(nr::SETITIMER, &[which as u32, at, 0]);
    }
    Ok(())
}

/// Makes and deletes timers until `wanted` is next.
fn skip_ids(next: &mut u32, wanted: u32, steps: &mut Steps) -> Result<(), String> {
    const MOST: u32 = 20_000;
    let gap = wanted.checked_sub(*next).filter(|gap| *gap <= MOST);
    let gap = gap.ok_or_else(|| format!("this kernel cannot make a timer with id {wanted}: its next one is {next}"))?;
    *next = wanted + 1;
    if gap == 0 {
        return Ok(());
    }
    let (event, id) = (steps.bytes(silent_event().as_bytes()), steps.variable(0));
    steps.explain("cannot make a timer");
    for _ in 0..gap {
        steps.call(nr::TIMER_CREATE, &[process::CLOCK_MONOTONIC, event, id]);
        steps.load(id, 0).call(nr::TIMER_DELETE, &[0]);
    }
    Ok(())
}

/// Makes a timer and starts it; `notified` is the variable with the id of the thread that it notifies.
fn restore_timer(inputs: &Inputs<'_>, timer: &Timer, notified: Option<u32>, steps: &mut Steps) {
    let id = timer.id.get();
    let lost = timer.notify.get() == notify::THREAD_ID && notified.is_none();
    let mut event = silent_event();
    event[0] = timer.value.get();
    event[1] = timer.signo.get();
    // What notified a thread that has ended notifies nobody.
    event[2] = if lost { notify::NONE } else { timer.notify.get() };
    let at = steps.bytes(event.as_bytes());
    if let (Some(tid), notify::THREAD_ID) = (notified, timer.notify.get()) {
        const TID: u32 = 12;
        steps.copy_variable(tid, at + TID);
    }
    let foreign = inputs.timer_ids != TimerIds::Chosen && counts_thread(inputs.image, timer).is_some();
    let clock = match clock::cpu_time_of(timer.clock.get()) {
        Some(_) => clock::own_cpu_time(timer.clock.get()),
        None => timer.clock.get(),
    };
    let wanted = steps.variable(id);
    steps.explain(&format!("cannot make timer {id} again ({}; raise ulimit -i)", clock::name(clock)));
    steps.call(nr::TIMER_CREATE, &[clock, at, wanted]);
    if timer.left_ns.get() == 0 || foreign {
        return;
    }
    let time = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000];
    let every = time(timer.every_ns.get());
    steps.explain(&format!("cannot start timer {id}"));
    if let Some(count) = inputs.expirations.get(&id) {
        const ABSTIME: u32 = 1;
        const VALUE: u32 = 16;
        let setting = steps.bytes([every, [0, 0]].as_bytes());
        steps.call(nr::CLOCK_GETTIME64, &[clock, setting + VALUE]);
        steps.shift(setting + VALUE, first_expiration(timer, *count));
        steps.call(nr::TIMER_SETTIME64, &[id, ABSTIME, setting, 0]);
    } else {
        let setting = steps.bytes([every, time(timer.left_ns.get())].as_bytes());
        steps.call(nr::TIMER_SETTIME64, &[id, 0, setting, 0]);
    }
}

/// The timer of the automatic checkpoints, after the program's: it takes none of their ids.
fn start_period(inputs: &Inputs<'_>, steps: &mut Steps) {
    let Some((every_ms, signal)) = inputs.period else { return };
    let mut event = [0u32; 16];
    event[0] = OWN_MARK;
    event[1] = signal;
    let (event, id) = (steps.bytes(event.as_bytes()), steps.variable(0));
    let setting = [0, 0, u64::from(every_ms) / 1000, u64::from(every_ms) % 1000 * 1_000_000];
    let setting = steps.bytes(setting.as_bytes());
    steps.explain("cannot start the timer of the automatic checkpoints");
    steps.call(nr::TIMER_CREATE, &[process::CLOCK_MONOTONIC, event, id]);
    steps.load(id, 0).call(nr::TIMER_SETTIME64, &[0, 0, setting, 0]);
}
