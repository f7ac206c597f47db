//! [SIGNAL] Locks and leases on files, as /proc/thread-self/fdinfo tells them.

use super::{Saver, Subject, notice};
use crate::capture::failure::Failure;
use crate::format::files::{Lock, data_kind, file_kind, lock};
use crate::format::notice::code;
use crate::sys::fs;
use crate::sys::lines::{Cursor, parse_dec};
use crate::sys::text::Bytes;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32) -> Result<(), Failure> {
    if !subject.slot.is_locked && kind != file_kind::FIFO {
        return Ok(());
    }
    let fd = subject.slot.fd;
    // POSIX locks are told to the program's own thread alone. One in flight has none; the others are told to anybody.
    let buf = core::mem::take(&mut saver.buf);
    let program = subject.table.program;
    let own = subject.table.is_own(subject.slot);
    let told = if own { program.own_fdinfo(fd, buf) } else { program.fdinfo(fd, buf) };
    let text = told.unwrap_or(&[]);
    let mut result = Ok(());
    for line in lines(text) {
        result = result.and_then(|()| save_line(saver, subject, kind, line));
    }
    saver.buf = buf;
    result
}

/// What fdinfo tells of locks and leases, each on a line.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter_map(|line| line.strip_prefix(b"lock:"))
}

fn save_line(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32, line: &[u8]) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    match parse(line) {
        Some(found) if is_reopened(kind) => saver.data(subject.slot.file, data_kind::LOCK, 0, found.as_bytes()),
        _ => {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "a lock or lease on fd {fd} is not saved and not held after a restart ({})",
                Bytes(line.trim_ascii())
            );
            Ok(())
        }
    }
}

/// Whether a restart has the same file again.
fn is_reopened(kind: u32) -> bool {
    matches!(
        kind,
        file_kind::REGULAR
            | file_kind::DELETED
            | file_kind::MEMFD
            | file_kind::DIRECTORY
            | file_kind::DEVICE
            | file_kind::FIFO
    )
}

/// `1: POSIX  ADVISORY  WRITE 4711 08:01:131 0 EOF`. A POSIX lock of this process stands with the description by which
/// it was taken.
fn parse(line: &[u8]) -> Option<Lock> {
    let mut cursor = Cursor(line);
    cursor.until(b':')?;
    let what = match cursor.word() {
        b"FLOCK" => lock::FLOCK,
        b"POSIX" => lock::POSIX,
        b"OFDLCK" => lock::OFD,
        b"LEASE" => lock::LEASE,
        _ => return None,
    };
    match (what, cursor.word()) {
        (lock::LEASE, b"ACTIVE") => {}
        (lock::LEASE, _) => return None, // somebody wants it back
        _ => {}
    }
    let mode = match cursor.word() {
        b"READ" => fs::F_RDLCK,
        b"WRITE" => fs::F_WRLCK,
        _ => return None,
    };
    let (_process, _file) = (cursor.word(), cursor.word());
    let start = parse_dec(cursor.word())?;
    let end = match cursor.word() {
        b"EOF" => lock::TO_THE_END,
        word => parse_dec(word)?,
    };
    Some(Lock { what: U32::new(what), mode: U32::new(mode), start: U64::new(start), end: U64::new(end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> Option<(u32, u32, u64, u64)> {
        parse(line.as_bytes()).map(|lock| (lock.what.get(), lock.mode.get(), lock.start.get(), lock.end.get()))
    }

    #[test]
    fn lines() {
        let end = lock::TO_THE_END;
        assert_eq!(parts("\t1: POSIX  ADVISORY  WRITE 4711 08:01:131 7 99"), Some((lock::POSIX, 1, 7, 99)));
        assert_eq!(parts("\t2: FLOCK  ADVISORY  READ 4711 08:01:131 0 EOF"), Some((lock::FLOCK, 0, 0, end)));
        assert_eq!(parts("\t1: OFDLCK ADVISORY  READ -1 08:01:131 5 EOF"), Some((lock::OFD, 0, 5, end)));
        assert_eq!(parts("\t1: LEASE  ACTIVE    READ 4711 08:01:131 0 EOF"), Some((lock::LEASE, 0, 0, end)));
        assert_eq!(parts("\t1: LEASE  BREAKING  READ 4711 08:01:131 0 EOF"), None);
        assert_eq!(parts("\t1: DELEG  ACTIVE    READ 4711 08:01:131 0 EOF"), None);
        assert_eq!(parts("\t1: POSIX  ADVISORY  WRITE"), None);
    }
}
