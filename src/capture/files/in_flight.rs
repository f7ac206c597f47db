//! [SIGNAL] Descriptors that come with messages which wait in UNIX sockets of the process (SCM_RIGHTS).
//!
//! Peeking at a message gives copies of its descriptors. Closing one of those would drop the process's POSIX locks on the
//! file: it is a helper with descriptors of its own that peeks, and writes the table then. Each copy has a slot behind the
//! program's own ones, and so is saved as any other open file; it only gets no FD.
#![allow(unsafe_code)] // A helper on a stack of ours.

use super::socket::POLLRDHUP;
use super::socket_data::{MAX_MESSAGES, with_moving_peek};
use crate::arch::helper;
use crate::capture::scratch::FdSlot;
use crate::sys::Errno;
use crate::sys::abi::{S_IFMT, S_IFSOCK};
use crate::sys::attributes::{RLIMIT_NOFILE, limit, set_limit};
use crate::sys::fs::{self, POLLIN};
use crate::sys::lines::{field, parse_dec};
use crate::sys::socket::{self, Descriptors};

/// Whether any socket has descriptors in its queue. Before Linux 5.6 the kernel does not tell: then none has.
pub fn are_any(fds: &[FdSlot], info: i32) -> bool {
    fds.iter().any(|slot| holds_some(slot, info))
}

/// `info` is the directory of this process's descriptors.
fn holds_some(slot: &FdSlot, info: i32) -> bool {
    // Looking behind an error would take it away from the program.
    let readable = || fs::poll_now(slot.fd, POLLIN).is_ok_and(|got| got & (POLLIN | fs::POLLERR) == POLLIN);
    if slot.mode & S_IFMT != S_IFSOCK || !readable() {
        return false;
    }
    let mut buf = [0u8; 512];
    let text = super::fdinfo(info, slot.fd, &mut buf).unwrap_or(&[]);
    field(text, b"scm_fds").and_then(parse_dec).is_some_and(|count| count != 0)
}

/// Has a helper do `write`, in which the program's descriptors are open as well.
pub fn beside(stack_top: usize, write: &mut dyn FnMut()) -> Result<(), Errno> {
    // SAFETY: the scratch memory sets this stack aside for a helper, of which there is one at a time.
    unsafe { helper::run(stack_top, write) }
}

/// Adds a slot behind the first `count` of `fds` for each descriptor in flight, also in sockets that are so themselves.
/// Returns how many there are then. What finds no room is missed where its message is saved.
pub fn collect(fds: &mut [FdSlot], count: usize, info: i32, buf: &mut [u8]) -> usize {
    // The helper's own limit.
    let _ = limit(RLIMIT_NOFILE).and_then(|[_, hard]| set_limit(RLIMIT_NOFILE, [hard, hard]));
    let floor = fds.get(..count).and_then(<[_]>::last).map_or(0, |last| last.fd + 1);
    let (mut all, mut at) = (count, 0);
    while at < all {
        let (before, rest) = fds.split_at_mut(at);
        at += 1;
        let Some(slot) = rest.first().copied() else { break };
        // A queue is looked through once, whoever has the socket.
        let known = || before.iter().any(|other| (other.dev, other.ino) == (slot.dev, slot.ino));
        if holds_some(&slot, info) && !known() {
            look_through(slot.fd, buf, &mut |copy| {
                let Ok(fd) = fs::fcntl(copy, fs::F_DUPFD_CLOEXEC, floor as usize) else { return };
                let mut slot = FdSlot { fd: fd as i32, ..FdSlot::default() };
                match fds.get_mut(all) {
                    Some(place) if super::look::look_at(core::slice::from_mut(&mut slot), None).is_ok() => {
                        *place = slot;
                        all += 1;
                    }
                    _ => fs::close(slot.fd),
                }
            });
        }
    }
    all
}

/// Shows each descriptor that comes with a message which waits in `fd`.
fn look_through(fd: i32, buf: &mut [u8], each: &mut dyn FnMut(i32)) {
    let ended = fs::poll_now(fd, POLLRDHUP).is_ok_and(|got| got & POLLRDHUP != 0);
    with_moving_peek(fd, &mut |moves| {
        let mut copies = Descriptors::new();
        for _ in 0..if moves { MAX_MESSAGES } else { 1 } {
            match socket::peek(fd, buf, Some(&mut copies)) {
                Ok(peeked) if ended && peeked.len == 0 && copies.as_slice().is_empty() => break,
                Ok(_) => copies.as_slice().iter().for_each(|&copy| each(copy)),
                Err(_) => break,
            }
        }
    });
}
