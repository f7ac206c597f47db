//! [SIGNAL] What waits in a socket: peeked, so that it stays where it is.

use super::socket::{POLLIN, datagram_end};
use super::{Saver, Subject};
use crate::capture::failure::{Failure, fail};
use crate::capture::notices::notice;
use crate::format::files::data_kind;
use crate::format::notice::code;
use crate::sys::socket::{self, AF_UNIX, Peeked, SOCK_SEQPACKET, SOL_SOCKET};
use crate::sys::{Errno, fs};

/// More messages than any queue holds: a bound for the loop.
const MAX_MESSAGES: u32 = 1 << 20;

/// Each peek shows what comes after the last one, while `peek_all` runs. The program's own setting is put back.
fn with_moving_peek(
    saver: &mut Saver<'_, '_, '_>,
    fd: i32,
    peek_all: &mut dyn FnMut(&mut Saver<'_, '_, '_>, bool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let before = socket::get_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF).unwrap_or(u32::MAX);
    let moves = socket::set_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF, 0).is_ok();
    let result = peek_all(saver, moves);
    if moves {
        let _ = socket::set_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF, before);
    }
    result
}

fn note_descriptors(saver: &mut Saver<'_, '_, '_>, fd: i32, peeked: &Peeked) {
    if peeked.descriptors {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the descriptors that come with a message that waits in fd {fd} are not saved"
        );
    }
}

/// Messages that wait in a datagram or packet socket, with their bounds and senders.
pub fn save_messages(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    domain: u32,
    kind: u32,
    polled: u16,
) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    if polled & POLLIN == 0 {
        return Ok(());
    }
    // Looking would take the error away from the program.
    if polled & fs::POLLERR != 0 {
        if fs::bytes_to_read(fd).unwrap_or(0) != 0 {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "the messages that wait in fd {fd} behind an error are not saved"
            );
        }
        return Ok(());
    }
    with_moving_peek(saver, fd, &mut |saver, moves| {
        for _ in 0..if moves { MAX_MESSAGES } else { 1 } {
            let peeked = match socket::peek(fd, saver.buf) {
                Ok(peeked) => peeked,
                // The last one; for a packet socket without a connection: never one.
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) if kind == SOCK_SEQPACKET => return Ok(()),
                Err(errno) => return Err(fail!(errno, "cannot save the messages that wait in socket fd {fd}")),
            };
            // The end of the connection looks like a message without bytes.
            if kind == SOCK_SEQPACKET && peeked.len == 0 && polled & super::socket::POLLRDHUP != 0 {
                return Ok(());
            }
            if peeked.cut {
                return Err(fail!(Errno::ENOMEM, "a message that waits in socket fd {fd} is too long"));
            }
            note_descriptors(saver, fd, &peeked);
            if domain != AF_UNIX && subject.table.of_end(datagram_end(&peeked.from)).is_none() {
                notice!(
                    saver.notices,
                    code::STATE_NOT_SAVED,
                    fd as u64,
                    "a datagram of {} bytes from another process, which waits in fd {fd}, is not saved",
                    peeked.len
                );
                continue;
            }
            if peeked.from.len > 2 {
                saver.data(subject.slot.file, data_kind::SOCKET_FROM, 0, peeked.from.as_bytes())?;
            }
            saver.data_in_buf(subject.slot.file, data_kind::SOCKET_BYTES, 0, peeked.len)?;
        }
        Ok(())
    })
}

/// The bytes that wait in a stream.
pub fn save_bytes(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let waiting = fs::bytes_to_read(fd).unwrap_or(0);
    if waiting == 0 {
        return Ok(());
    }
    with_moving_peek(saver, fd, &mut |saver, moves| copy_bytes(saver, subject, waiting, moves))
}

fn copy_bytes(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    waiting: usize,
    moves: bool,
) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let failed = |errno| fail!(errno, "cannot save the {waiting} bytes that wait in socket fd {fd}");
    if !moves && waiting > saver.buf.len() {
        return Err(failed(Errno::ENOMEM));
    }
    let mut done = 0;
    while done < waiting {
        let room = saver.buf.len().min(waiting - done);
        let peeked = socket::peek(fd, saver.buf.get_mut(..room).unwrap_or(&mut [])).map_err(failed)?;
        note_descriptors(saver, fd, &peeked);
        let n = peeked.len;
        if n == 0 || (!moves && n < waiting) {
            return Err(failed(Errno::EIO));
        }
        saver.data_in_buf(subject.slot.file, data_kind::SOCKET_BYTES, done as u64, n)?;
        done += n;
    }
    Ok(())
}
