//! [SIGNAL] What waits in a socket: peeked, so that it stays where it is.

use super::socket::{datagram_end, on_the_way, tcp_info};
use super::{Saver, Subject};
use crate::capture::failure::{Failure, fail};
use crate::capture::notices::notice;
use crate::format::files::data_kind;
use crate::format::notice::code;
use crate::sys::socket::{self, AF_UNIX, Credentials, Descriptors, Peeked, SOCK_SEQPACKET, SOL_SOCKET};
use crate::sys::{Errno, fs, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// More messages than any queue holds: a bound for the loop.
pub(super) const MAX_MESSAGES: u32 = 1 << 20;

/// Each peek shows what comes after the last one, while `peek_all` runs; it is told whether that is so. The program's own
/// setting is put back.
pub(super) fn with_moving_peek<T>(fd: i32, peek_all: &mut dyn FnMut(bool) -> T) -> T {
    let before = socket::get_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF).unwrap_or(u32::MAX);
    let moves = peek_from(fd, 0).is_ok();
    let result = peek_all(moves);
    if moves {
        let _ = peek_from(fd, before);
    }
    result
}

fn peek_from(fd: i32, offset: u32) -> Result<(), Errno> {
    socket::set_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF, offset)
}

/// Peeks into the buffer: also at the descriptors that come with the message, where the table has them.
fn peek(saver: &mut Saver<'_, '_, '_>, fd: i32, room: usize, copies: &mut Descriptors) -> Result<Peeked, Errno> {
    let copies = if saver.in_flight { Some(copies) } else { None };
    socket::peek(fd, saver.buf.get_mut(..room).unwrap_or(&mut []), copies)
}

/// Writes what comes beside the message that follows.
fn save_beside(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    peeked: &Peeked,
    copies: &Descriptors,
) -> Result<(), Failure> {
    let (fd, file, table) = (subject.slot.fd, subject.slot.file, subject.table);
    if let Some(Credentials { pid, uid, gid }) = peeked.credentials.filter(|credentials| credentials.pid != 0) {
        if pid != table.program.pid {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "a message that waits in fd {fd} was sent by process {pid}; after a restart it comes from the program itself"
            );
        }
        saver.data(file, data_kind::SOCKET_CREDENTIALS, 0, [U32::new(uid), U32::new(gid)].as_bytes())?;
    }
    let mut files = [U32::new(0); socket::MAX_DESCRIPTORS];
    let mut known = !peeked.descriptors;
    for (place, &copy) in files.iter_mut().zip(copies.as_slice()) {
        match table.file_of(copy) {
            Some(file) => *place = U32::new(file),
            None => known = false,
        }
    }
    let files = files.get(..copies.as_slice().len()).unwrap_or(&[]);
    if !known {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the descriptors that come with a message that waits in fd {fd} are not saved"
        );
    } else if !files.is_empty() {
        saver.data(file, data_kind::SOCKET_RIGHTS, 0, files.as_bytes())?;
    }
    Ok(())
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
    if polled & fs::POLLIN == 0 {
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
    with_moving_peek(fd, &mut |moves| {
        let mut copies = Descriptors::new();
        for _ in 0..if moves { MAX_MESSAGES } else { 1 } {
            let room = saver.buf.len();
            let peeked = match peek(saver, fd, room, &mut copies) {
                Ok(peeked) => peeked,
                // The last one; for a packet socket without a connection: never one.
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) if kind == SOCK_SEQPACKET => return Ok(()),
                Err(errno) => return Err(fail!(errno, "cannot save the messages that wait in socket fd {fd}")),
            };
            // The end of the connection looks like a message without bytes.
            let ended = kind == SOCK_SEQPACKET && polled & super::socket::POLLRDHUP != 0;
            if ended && peeked.len == 0 && copies.as_slice().is_empty() {
                return Ok(());
            }
            if peeked.cut {
                return Err(fail!(Errno::ENOMEM, "a message that waits in socket fd {fd} is too long"));
            }
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
            save_beside(saver, subject, &peeked, &copies)?;
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
    with_moving_peek(fd, &mut |moves| copy_bytes(saver, subject, waiting, moves))
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
    let mut copies = Descriptors::new();
    let mut done = 0;
    while done < waiting {
        // With room for more the end of what was peeked is not that of the room.
        let room = saver.buf.len().min(waiting - done + 1);
        let mut peeked = peek(saver, fd, room, &mut copies).map_err(failed)?;
        let n = peeked.len;
        if n == 0 || (!moves && n < waiting) {
            return Err(failed(Errno::EIO));
        }
        if !copies.as_slice().is_empty() {
            // A peek ends behind the first message with descriptors: that is the last piece, unless the room was too
            // small. What was sent before is saved by itself, without them.
            peek_from(fd, done as u32).map_err(failed)?;
            let last = saver.buf.get_mut(..n - 1).unwrap_or(&mut []);
            let before = socket::peek_all_but_last_piece(fd, last).map_err(failed)?;
            match before {
                0 if n == room => return Err(failed(Errno::ENOMEM)),
                0 => {}
                _ => {
                    copies = Descriptors::new();
                    peeked = Peeked { len: before, descriptors: false, ..peeked };
                }
            }
            peek_from(fd, (done + peeked.len) as u32).map_err(failed)?;
        }
        save_beside(saver, subject, &peeked, &copies)?;
        saver.data_in_buf(subject.slot.file, data_kind::SOCKET_BYTES, done as u64, peeked.len)?;
        done += peeked.len;
    }
    Ok(())
}

/// The bytes that wait in a TCP socket, and those that its peer `from` could not send yet: all are read, and sent once
/// more. Nobody else reads or writes meanwhile; `check_room` has seen that they fit into the sender's buffer.
pub fn save_all_on_the_way(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, from: i32) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let copy = fs::memfd().map_err(|errno| fail!(errno, "cannot copy what waits in socket fd {fd}"))?;
    let total = read_all(saver, fd, from, copy.0)?;
    // Back first: whatever happens to the image, the program goes on with all of them.
    let mut at = 0;
    while at < total {
        let n = read_copy(saver, fd, copy.0, at)?;
        send_all(saver.buf.get(..n).unwrap_or(&[]), fd, from)?;
        at += n as u64;
    }
    let mut at = 0;
    while at < total {
        let n = read_copy(saver, fd, copy.0, at)?;
        saver.data_in_buf(subject.slot.file, data_kind::SOCKET_BYTES, at, n)?;
        at += n as u64;
    }
    Ok(())
}

/// What is on the way arrives at once when there is room; a lost packet takes its time.
const PATIENCE_MS: u32 = 30_000;

fn lost(errno: Errno, fd: i32) -> Failure {
    fail!(errno, "bytes on the way to socket fd {fd} are lost to the program")
}

/// Reads until nothing is on the way from `from` to `fd` any more.
fn read_all(saver: &mut Saver<'_, '_, '_>, fd: i32, from: i32, copy: i32) -> Result<u64, Failure> {
    let (mut total, mut waited) = (0, 0);
    loop {
        match socket::receive(fd, saver.buf, socket::MSG_DONTWAIT) {
            Ok(n) if n != 0 => {
                total += n as u64;
                fs::write_all(copy, saver.buf.get(..n).unwrap_or(&[])).map_err(|errno| lost(errno, fd))?;
            }
            Err(Errno::EAGAIN) if on_the_way(&tcp_info(from), fd) == 0 => return Ok(total),
            Err(Errno::EAGAIN) if waited < PATIENCE_MS => {
                process::pause_ms(1);
                waited += 1;
            }
            Ok(_) => return Ok(total),
            Err(errno) => return Err(lost(errno, fd)),
        }
    }
}

fn read_copy(saver: &mut Saver<'_, '_, '_>, fd: i32, copy: i32, at: u64) -> Result<usize, Failure> {
    match fs::pread(copy, saver.buf, at) {
        Ok(0) => Err(lost(Errno::EIO, fd)),
        Ok(n) => Ok(n),
        Err(errno) => Err(lost(errno, fd)),
    }
}

fn send_all(mut bytes: &[u8], fd: i32, from: i32) -> Result<(), Failure> {
    let mut waited = 0;
    while !bytes.is_empty() {
        match socket::send(from, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(Errno::EAGAIN) if waited < PATIENCE_MS => {
                process::pause_ms(1);
                waited += 1;
            }
            Err(errno) => return Err(lost(errno, fd)),
        }
    }
    Ok(())
}
