//! [NORMAL, SIGNAL] Automatic checkpoints: a POSIX timer of our own that sends the trigger signal.
//!
//! No thread, no SIGALRM, none of the three interval timers: those are the program's. The timer counts
//! CLOCK_MONOTONIC and is set anew at the end of each checkpoint, whatever asked for that: the period is time
//! in which the program runs, and a slow disk never makes one checkpoint follow the other without a pause. The timer
//! belongs to the process, not to its memory, so a restart makes one, after the program's own timers.
#![allow(unsafe_code)] // timer_create(2), pthread_atfork(3).

use super::config::{self, Config};
use super::young_daly;
use crate::sys::abi::OWN_MARK;
use crate::sys::lines::{Lines, parse_dec, parse_hex};
use crate::sys::{Errno, call, fs, nr, process};
use core::sync::atomic::{AtomicU32, Ordering};

/// Milliseconds between checkpoints, 0 for none; for a forked child.
static EVERY: AtomicU32 = AtomicU32::new(0);

/// What a checkpoint is taken to cost before one has been measured.
const COST_AT_FIRST_MS: u64 = 1000;
/// No period is shorter, whatever the formula says.
const SHORTEST_MS: u64 = 1000;

/// How the owner has set the period.
#[derive(Clone, Copy)]
pub struct Period {
    /// Milliseconds of running time from one checkpoint to the next; 0 for none.
    pub every: u32,
    /// `auto`: milliseconds between two failures of the machine; 0 where the period is fixed.
    pub mtbf: u64,
    /// `auto`: how long the program stands still for a checkpoint, in microseconds; 0 until it is known.
    cost: u64,
}

impl Period {
    pub const NONE: Period = Period { every: 0, mtbf: 0, cost: 0 };

    pub fn fixed(seconds: u32) -> Period {
        Period { every: seconds.saturating_mul(1000), ..Period::NONE }
    }

    /// By Young and Daly, from what checkpoints turn out to cost.
    pub fn auto(mtbf_seconds: u64) -> Period {
        let mut period = Period { mtbf: mtbf_seconds.saturating_mul(1000), ..Period::NONE };
        period.choose(COST_AT_FIRST_MS);
        period
    }

    /// As a restart was told: what is known of the cost stays known.
    pub fn set_anew(self, every_ms: u32, mtbf_seconds: u32) -> Period {
        if mtbf_seconds == 0 {
            return Period { every: every_ms, mtbf: 0, ..self };
        }
        let mut period = Period { cost: self.cost, ..Period::auto(mtbf_seconds.into()) };
        if period.cost != 0 {
            period.choose(period.cost.div_ceil(1000));
        }
        period
    }

    fn choose(&mut self, cost_ms: u64) {
        let best = young_daly::best_period(cost_ms, self.mtbf).max(SHORTEST_MS);
        self.every = best.min(u32::MAX.into()) as u32;
    }

    /// Seconds, for the image: rounded up.
    pub fn seconds(&self) -> u32 {
        self.every.div_ceil(1000)
    }

    /// A checkpoint has made the program stand still for so long. One that was slow by chance counts for a quarter.
    pub fn learn(&mut self, pause_ns: u64) {
        if self.mtbf == 0 {
            return;
        }
        let pause = (pause_ns / 1000).max(1);
        self.cost = if self.cost == 0 { pause } else { (3 * self.cost + pause) / 4 };
        self.choose(self.cost.div_ceil(1000));
    }
}

/// Starts the timer in this process: it goes off once.
pub fn start(every_ms: u32, signal: u32) -> Result<(), Errno> {
    const SIGEV_SIGNAL: u32 = 0;
    let mut event = [0u32; 16];
    event[0] = OWN_MARK;
    event[1] = signal;
    event[2] = SIGEV_SIGNAL;
    let mut id = 0i32;
    // SAFETY: `event` has the size of struct sigevent, `id` takes a timer_t.
    unsafe { call!(nr::TIMER_CREATE, process::CLOCK_MONOTONIC, event.as_ptr(), &raw mut id) }?;
    set(id as u32, every_ms)
}

fn set(id: u32, every_ms: u32) -> Result<(), Errno> {
    let setting = [0, 0, every_ms / 1000, every_ms % 1000 * 1_000_000];
    // SAFETY: `setting` is an old itimerspec of two timespecs: no repetition, and when it goes off.
    unsafe { call!(nr::TIMER_SETTIME, id, 0, setting.as_ptr(), 0) }.map(drop)
}

/// Starts it now and in every child that the program forks: one of them may be the program that goes
/// on in the background. In a child that is not, the signal is ignored.
pub fn start_with_children(period: &Period, signal: u32) -> Result<(), Errno> {
    EVERY.store(period.every, Ordering::Relaxed);
    start(period.every, signal)?;
    // SAFETY: the function stays mapped: the library is never unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

unsafe extern "C" fn in_child() {
    let every = EVERY.load(Ordering::Relaxed);
    if let Some(signal) = config::trigger_signal().filter(|_| every != 0) {
        // A child without the timer can still be checkpointed on request.
        let _ = start(every, signal);
    }
}

/// After a checkpoint: the next one is due a whole period from now.
pub fn begin_anew(config: &Config, buf: &mut [u8]) {
    if config.period.every == 0 {
        return;
    }
    EVERY.store(config.period.every, Ordering::Relaxed);
    let set_again = find_own(buf).is_some_and(|id| set(id, config.period.every).is_ok());
    if let Some(signal) = config::trigger_signal().filter(|_| !set_again) {
        // The program may have deleted a timer that it does not know.
        let _ = start(config.period.every, signal);
    }
}

/// The kernel's number of our timer, which differs from restart to restart.
fn find_own(buf: &mut [u8]) -> Option<u32> {
    let fd = fs::OwnedFd(fs::open(b"/proc/self/timers\0", fs::O_RDONLY | fs::O_CLOEXEC, 0).ok()?);
    let mut lines = Lines::new(fd.0, buf);
    let mut id = None;
    while let Some(line) = lines.next_line().ok()? {
        if let Some(number) = line.strip_prefix(b"ID: ") {
            id = parse_dec(number);
        }
        let value = line.strip_prefix(b"signal: ").and_then(|rest| rest.rsplit(|&b| b == b'/').next());
        if value.and_then(parse_hex).is_some_and(|value| value as u32 == OWN_MARK) {
            return id.map(|id| id as u32);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Period;

    #[test]
    fn learns_from_checkpoints() {
        let mut period = Period::auto(3600);
        let first = period.every;
        assert!((84_000..84_300).contains(&first), "{first}"); // sqrt(2 * 1 s * 3600 s)
        period.learn(12_000_000);
        assert!((9_200..9_300).contains(&period.every), "{}", period.every);
        let before = period.every;
        period.learn(1_200_000_000);
        assert!(period.every > before && period.every < first, "{}", period.every);
        let mut fixed = Period::fixed(90);
        fixed.learn(1_200_000_000);
        assert_eq!((fixed.every, fixed.seconds()), (90_000, 90));
        assert_eq!(Period::auto(1).every, 1000);
        let anew = period.set_anew(0, 3600);
        assert_eq!((anew.every, anew.mtbf), (period.every, period.mtbf));
        assert_eq!(period.set_anew(5000, 0).every, 5000);
    }
}
