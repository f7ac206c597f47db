//! [SIGNAL] Dispositions and pending signals.
#![allow(unsafe_code)] // A helper on a stack of ours.

use super::Stream;
use super::failure::{Failure, fail, refuse};
use super::scratch::PendingSlot;
use crate::arch::pending;
use crate::format::kind;
use crate::format::signals::{NSIG, SigAction, SigPending};
use crate::sys::abi::{SI_TIMER, Siginfo};
use crate::sys::lines::{field, parse_hex};
use crate::sys::{Errno, Text, fs, process, text::text};
use zerocopy::little_endian::{U32, U64};

/// Notes what is pending for the calling thread and for the process. It is taken and queued again at once, so that the
/// program that goes on finds it as it was. The first `others` of `pending` are those of other threads. Those of `not` are
/// requests to us, or noted already, and left alone. Returns how many entries of `pending` are filled.
pub fn note_pending(pending: &mut [PendingSlot], others: usize, not: u64, buf: &mut [u8]) -> Result<usize, Failure> {
    if process::sigpending() & !not == 0 {
        return Ok(others);
    }
    let free = pending.get_mut(others..).unwrap_or(&mut []);
    let taken = take_private(free, process::gettid(), not, buf)?;
    let taken = taken + take_shared(free.get_mut(taken..).unwrap_or(&mut []), not)?;
    requeue(free.get(..taken).unwrap_or(&[]))?;
    Ok(others + taken)
}

/// Notes signals that are pending for thread `tid`, and for the process, if it is to be looked at too, without taking them,
/// if that can be had. Returns how many, and a set of those of which all are noted: those of `not` are left alone, how often
/// a timer has gone off meanwhile is told only when its signal is taken, and a signal may be pending without a siginfo where
/// the kernel had no memory for one.
pub fn peek(
    free: &mut [PendingSlot],
    tid: u32,
    with_process: bool,
    not: u64,
    helper_stack_top: usize,
) -> Option<(usize, u64)> {
    /// Peeking at many takes quadratic time.
    const MOST: usize = 4096;
    let bit = |info: &Siginfo| 1u64 << (info.signo().wrapping_sub(1) & 63);
    let (mut count, mut seen, mut of_timers) = (0, 0, 0);
    let mut put = |of_process: bool, info: &Siginfo| {
        if bit(info) & not != 0 {
            return;
        }
        seen |= bit(info);
        if info.code() == SI_TIMER {
            of_timers |= bit(info);
        }
        if let Some(slot) = free.get_mut(count) {
            *slot = PendingSlot { tid: if of_process { 0 } else { tid }, info: *info };
        }
        count += 1;
    };
    // SAFETY: the scratch memory sets this stack aside for the helper; all threads stand still.
    unsafe { pending::peek(helper_stack_top, tid, with_process, &mut put) }.ok()?;
    if count > free.len().min(MOST) {
        return None;
    }
    seen &= !of_timers;
    let mut kept = 0;
    for at in 0..count {
        let slot = *free.get(at)?;
        if bit(&slot.info) & seen != 0 {
            *free.get_mut(kept)? = slot;
            kept += 1;
        }
    }
    Some((kept, seen))
}

/// Writes SIGACTIONS and the SIGPENDINGs.
pub fn capture_signals(stream: &mut Stream<'_>, pending: &[PendingSlot]) -> Result<(), Failure> {
    let mut actions = [SigAction::default(); NSIG];
    for (i, place) in actions.iter_mut().enumerate() {
        let Ok(action) = process::sigaction(i as u32 + 1, None) else { continue };
        *place = SigAction {
            handler: U64::new(action.handler.into()),
            flags: U64::new(action.flags.into()),
            restorer: U64::new(action.restorer.into()),
            mask: U64::new(u64::from(action.mask[0]) | (u64::from(action.mask[1]) << 32)),
        };
    }
    stream.record(kind::SIGACTIONS, 0, &actions, &[])?;

    for slot in pending {
        let record =
            SigPending { tid: U32::new(slot.tid), signo: U32::new(slot.info.signo()), siginfo: slot.info.bytes() };
        stream.record(kind::SIGPENDING, 0, &record, &[])?;
    }
    Ok(())
}

/// Signals that are pending for one thread alone.
pub fn private_pending(tid: u32, buf: &mut [u8]) -> Result<u64, Failure> {
    let path: Text<64> = text!("/proc/self/task/{tid}/status\0");
    let status = fs::read_file(path.as_bytes(), buf)
        .map_err(|errno| fail!(errno, "cannot read the status of thread {tid} in /proc/self/task"))?;
    field(status, b"SigPnd")
        .and_then(parse_hex)
        .ok_or_else(|| refuse!(Errno::EIO, "SigPnd is missing in the status of thread {tid}"))
}

fn too_many(room: usize) -> Failure {
    refuse!(Errno(105), "more than {room} signals are pending") // ENOBUFS
}

/// Takes the signals that are pending for the calling thread `tid` alone. The kernel hands out a
/// thread's own signals first, so as long as one is there for a number, that is the one that is taken.
pub fn take_private(free: &mut [PendingSlot], tid: u32, own: u64, buf: &mut [u8]) -> Result<usize, Failure> {
    let room = free.len();
    let mut count = 0;
    loop {
        let set = private_pending(tid, buf)? & !own;
        let Some(info) = (set != 0).then(|| process::take_pending(set)).flatten() else { return Ok(count) };
        *free.get_mut(count).ok_or_else(|| too_many(room))? = PendingSlot { tid, info };
        count += 1;
    }
}

/// Takes the signals that are pending for the process.
fn take_shared(free: &mut [PendingSlot], own: u64) -> Result<usize, Failure> {
    let room = free.len();
    let mut count = 0;
    while let Some(info) = process::take_pending(!own) {
        *free.get_mut(count).ok_or_else(|| too_many(room))? = PendingSlot { tid: 0, info };
        count += 1;
    }
    Ok(count)
}

/// Queues signals again that were taken.
pub fn requeue(taken: &[PendingSlot]) -> Result<(), Failure> {
    let pid = process::getpid();
    for slot in taken {
        process::queue_signal(pid, (slot.tid != 0).then_some(slot.tid), &slot.info)
            .map_err(|errno| fail!(errno, "cannot queue the pending signal {} again", slot.info.signo()))?;
    }
    Ok(())
}
