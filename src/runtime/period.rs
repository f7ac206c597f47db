//! [NORMAL, SIGNAL] Automatic checkpoints: a POSIX timer of our own that sends the trigger signal.
//!
//! No thread, no SIGALRM, none of the three interval timers: those are the program's. The timer
//! counts CLOCK_MONOTONIC while the process lives. It belongs to the process, not to its memory, so a
//! restart starts it anew before it replaces the address space.
#![allow(unsafe_code)] // timer_create(2), pthread_atfork(3).

use super::config;
use crate::capture::timers::OWN_MARK;
use crate::sys::{Errno, call, nr, process};
use core::sync::atomic::{AtomicU32, Ordering};

/// Seconds between checkpoints, 0 for none; for a forked child.
static EVERY: AtomicU32 = AtomicU32::new(0);

/// Starts the timer in this process.
pub fn start(seconds: u32, signal: u32) -> Result<(), Errno> {
    const SIGEV_SIGNAL: u32 = 0;
    let mut event = [0u32; 16];
    event[0] = OWN_MARK;
    event[1] = signal;
    event[2] = SIGEV_SIGNAL;
    let mut id = 0i32;
    // SAFETY: `event` has the size of struct sigevent, `id` takes a timer_t.
    unsafe { call!(nr::TIMER_CREATE, process::CLOCK_MONOTONIC, event.as_ptr(), &raw mut id) }?;
    let setting = [seconds, 0, seconds, 0];
    // SAFETY: `setting` is an old itimerspec of two timespecs.
    unsafe { call!(nr::TIMER_SETTIME, id, 0, setting.as_ptr(), 0) }.map(drop)
}

/// Starts it now and in every child that the program forks: one of them may be the program that goes
/// on in the background. In a child that is not, the signal is ignored.
pub fn start_with_children(seconds: u32, signal: u32) -> Result<(), Errno> {
    EVERY.store(seconds, Ordering::Relaxed);
    start(seconds, signal)?;
    // SAFETY: the function stays mapped: the library is never unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

unsafe extern "C" fn in_child() {
    let seconds = EVERY.load(Ordering::Relaxed);
    if let Some(signal) = config::trigger_signal().filter(|_| seconds != 0) {
        // A child without the timer can still be checkpointed on request.
        let _ = start(seconds, signal);
    }
}
