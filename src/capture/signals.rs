//! [SIGNAL] Dispositions and pending signals.

use super::Stream;
use super::failure::{Failure, refuse};
use super::scratch::PendingSlot;
use crate::format::kind;
use crate::format::signals::{NSIG, SigAction, SigPending};
use crate::sys::lines::{field, parse_hex};
use crate::sys::{Errno, fs, process};
use zerocopy::little_endian::{U32, U64};

/// Writes SIGACTIONS and the SIGPENDINGs. Pending signals are taken and queued again at once, so
/// that the program that goes on finds them as they were. Those of `own` are requests to us and
/// left alone.
pub fn capture_signals(
    stream: &mut Stream<'_>,
    pending: &mut [PendingSlot],
    own: u64,
    buf: &mut [u8],
) -> Result<(), Failure> {
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

    let count = take_pending(pending, own, buf)?;
    let taken = pending.get(..count).unwrap_or(&[]);
    let tid = process::gettid();
    requeue(taken, tid)?;
    for slot in taken {
        let record = SigPending {
            tid: U32::new(if slot.private { tid } else { 0 }),
            signo: U32::new(slot.info.signo()),
            siginfo: slot.info.bytes(),
        };
        stream.record(kind::SIGPENDING, 0, &record, &[])?;
    }
    Ok(())
}

/// Signals that are pending for this thread alone.
fn private_pending(buf: &mut [u8]) -> Result<u64, Failure> {
    let status = fs::read_file(b"/proc/thread-self/status\0", buf)
        .map_err(|errno| super::failure::fail!(errno, "cannot read /proc/thread-self/status"))?;
    field(status, b"SigPnd")
        .and_then(parse_hex)
        .ok_or_else(|| refuse!(Errno::EIO, "SigPnd is missing in /proc/thread-self/status"))
}

fn take_pending(pending: &mut [PendingSlot], own: u64, buf: &mut [u8]) -> Result<usize, Failure> {
    let mut count = 0;
    let room = pending.len();
    let mut keep = |private: bool, info| match pending.get_mut(count) {
        Some(slot) => {
            *slot = PendingSlot { private, info };
            count += 1;
            true
        }
        None => false,
    };
    if process::sigpending() & !own != 0 {
        // The kernel hands out a thread's own signals first, so as long as one is there for a
        // number, that is the one that is taken.
        loop {
            let set = private_pending(buf)? & !own;
            match (set != 0).then(|| process::take_pending(set)).flatten() {
                Some(info) if keep(true, info) => {}
                Some(_) => return Err(refuse!(Errno(105), "more than {room} signals are pending")),
                None => break,
            }
        }
        while let Some(info) = process::take_pending(!own) {
            if !keep(false, info) {
                return Err(refuse!(Errno(105), "more than {room} signals are pending"));
            }
        }
    }
    Ok(count)
}

fn requeue(taken: &[PendingSlot], tid: u32) -> Result<(), Failure> {
    let pid = process::getpid();
    for slot in taken {
        process::queue_signal(pid, slot.private.then_some(tid), &slot.info).map_err(|errno| {
            super::failure::fail!(errno, "cannot queue the pending signal {} again", slot.info.signo())
        })?;
    }
    Ok(())
}
