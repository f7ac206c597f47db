//! [SIGNAL] Pipes and FIFOs, with what is in flight in them.
//!
//! Bytes are copied by tee(2) into a pipe of our own, so that they stay where they are. Where that is not possible
//! (the user's limit for pipe memory is reached), they are taken out and put back: everything that could
//! read or write a pipe with both ends here is stopped.

use super::{DELETED, Path, Saver, Subject, Table};
use crate::capture::failure::{Failure, fail, refuse};
use crate::capture::notices::notice;
use crate::capture::scratch::FdSlot;
use crate::format::files::{data_kind, file_kind};
use crate::format::notice::code;
use crate::sys::abi::S_IFIFO;
use crate::sys::text::{Bytes, text};
use crate::sys::{Errno, Text, fs};

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    if subject.file_type() != S_IFIFO {
        return None;
    }
    if subject.path.as_bytes().first() != Some(&b'/') {
        return Some(if leads_outside(subject.slot, subject.table) { file_kind::STREAM } else { file_kind::PIPE });
    }
    if subject.is_at_its_path() {
        return Some(file_kind::FIFO);
    }
    // Nobody can find its other end again.
    if leads_outside(subject.slot, subject.table) {
        return None;
    }
    let name = subject.path.as_bytes();
    *subject.path = Path::from_bytes(name.strip_suffix(DELETED).unwrap_or(name));
    Some(file_kind::FIFO_DELETED)
}

fn reads(slot: &FdSlot) -> bool {
    slot.flags & fs::O_ACCMODE != fs::O_WRONLY
}

fn writes(slot: &FdSlot) -> bool {
    slot.flags & fs::O_ACCMODE != fs::O_RDONLY
}

/// Whether another process has an end of which this one has none.
fn leads_outside(slot: &FdSlot, table: Table<'_>) -> bool {
    let here = |end: fn(&FdSlot) -> bool| table.of_object(slot.dev, slot.ino).any(end);
    let told = |events| fs::poll_now(slot.fd, 0).is_ok_and(|got| got & events != 0);
    match (here(reads), here(writes)) {
        (true, false) => !told(fs::POLLHUP) && !never_had_writer(slot.fd),
        (false, true) => !told(fs::POLLERR),
        _ => false,
    }
}

/// A FIFO that was only opened to be read is told of no end. To copy nothing succeeds where there is no writer, and is to be
/// tried again where there is one.
fn never_had_writer(fd: i32) -> bool {
    fs::bytes_to_read(fd) == Ok(0) && fs::pipe(fs::O_CLOEXEC).is_ok_and(|(_, write)| fs::tee(fd, write.0, 1) == Ok(0))
}

/// A pipe to another process on a number that a shell pipeline does not use.
pub fn note_stream(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) {
    let fd = subject.slot.fd;
    if fd > 2 {
        notice!(
            saver.notices,
            code::FD_NOT_SAVED,
            fd as u64,
            "fd {fd} ({}) leads to another process; after a restart it is fd {fd} of the restarting command if that has \
             one, else it stands as if its peer had closed",
            Bytes(subject.path.as_bytes())
        );
    }
}

/// `copies` are empty, and stay so.
pub fn save(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    kind: u32,
    copies: &mut [Option<CopyPipe>; 2],
) -> Result<(), Failure> {
    let slot = subject.slot;
    let (fd, file) = (slot.fd, slot.file);
    let readers = || subject.table.of_object(slot.dev, slot.ino).filter(|other| reads(other));
    // Once for all that refer to the same pipe: with the first one that can read, or the first one.
    let first = readers().next().or_else(|| subject.table.of_object(slot.dev, slot.ino).next());
    if first.is_none_or(|first| first.file != file) {
        return Ok(());
    }
    let size =
        fs::fcntl(fd, fs::F_GETPIPE_SZ, 0).map_err(|errno| fail!(errno, "cannot read the size of pipe fd {fd}"))?;
    saver.data(file, data_kind::PIPE_SIZE, size as u64, &[])?;
    if !reads(slot) && (kind == file_kind::STREAM || leads_outside(slot, subject.table)) {
        return Ok(());
    }
    if reads(slot) && kind == file_kind::FIFO && fs::poll_now(fd, 0).is_ok_and(|got| got & fs::POLLHUP != 0) {
        saver.data(file, data_kind::FIFO_HUNG_UP, 0, &[])?;
    }
    let waiting = fs::bytes_to_read(fd).map_err(|errno| fail!(errno, "cannot look into pipe fd {fd}"))?;
    if waiting == 0 {
        return Ok(());
    }
    let path: Text<40> = text!("/proc/thread-self/fd/{fd}\0");
    // Nobody reads it, but who opens a FIFO to read finds what waits.
    let opened = if reads(slot) {
        None
    } else {
        let end = fs::open_exactly(path.as_bytes(), fs::O_RDONLY | fs::O_NONBLOCK | fs::O_CLOEXEC);
        Some(fs::OwnedFd(end.map_err(|errno| fail!(errno, "cannot look into pipe fd {fd}"))?))
    };
    let from = opened.as_ref().map_or(fd, |end| end.0);
    let packets = subject.table.of_object(slot.dev, slot.ino).any(|end| writes(end) && end.flags & fs::O_DIRECT != 0);
    let [copy, probe] = copies;
    match CopyPipe::fill(copy, from, size, waiting) {
        Ok(whole) => match CopyPipe::fill(probe, from, size, waiting) {
            Ok(probe) => write_parts(saver, file, [whole, probe], waiting, packets),
            Err(_) => write_bytes(saver, file, whole, waiting, packets, None),
        },
        // The other end may be in use right now.
        Err(errno) if kind == file_kind::STREAM || kind == file_kind::FIFO && leads_outside(slot, subject.table) => {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "{waiting} bytes that wait in fd {fd} ({}) are not saved: {errno}",
                Bytes(subject.path.as_bytes())
            );
            Ok(())
        }
        Err(_) => {
            let failed = |errno| fail!(errno, "cannot save what waits in pipe fd {fd}");
            let back = fs::open_exactly(path.as_bytes(), fs::O_WRONLY | fs::O_NONBLOCK | fs::O_CLOEXEC);
            let back = fs::OwnedFd(back.map_err(failed)?);
            let direct = if packets { fs::O_DIRECT } else { 0 };
            fs::fcntl(back.0, fs::F_SETFL, (fs::O_NONBLOCK | direct) as usize).map_err(failed)?;
            write_bytes(saver, file, from, waiting, packets, Some(back.0))
        }
    }
}

/// A pipe of our own into which the contents of others are copied, one after the other.
pub struct CopyPipe {
    read: fs::OwnedFd,
    write: fs::OwnedFd,
    size: usize,
}

impl CopyPipe {
    /// Copies what is in `fd` into an empty `copy`, which is made if it is not there. Returns its reading end.
    fn fill(copy: &mut Option<CopyPipe>, fd: i32, size: usize, waiting: usize) -> Result<i32, Errno> {
        let mut filled = match copy.take() {
            Some(empty) => empty,
            None => fs::pipe(fs::O_CLOEXEC | fs::O_NONBLOCK).map(|(read, write)| CopyPipe { read, write, size: 0 })?,
        };
        if filled.size != size {
            // As many buffers as the original has; a small one may do.
            let _ = fs::fcntl(filled.write.0, fs::F_SETPIPE_SZ, size);
            filled.size = size;
        }
        if fs::tee(fd, filled.write.0, i32::MAX as usize)? != waiting {
            return Err(Errno::EAGAIN);
        }
        Ok(copy.insert(filled).read.0)
    }
}

/// Reads `waiting` bytes from the first of two copies into the image, packets as such: reading a byte of one takes all of it
/// away, which is tried with the other copy. Flags of the ends do not tell: they may have changed, and writers may be gone.
/// Of bytes that are none, all that wait are read at once. Only where a single byte waits nothing else tells than `packets`,
/// whether a writer makes packets now.
fn write_parts(
    saver: &mut Saver<'_, '_, '_>,
    file: u32,
    [from, probe]: [i32; 2],
    waiting: usize,
    packets: bool,
) -> Result<(), Failure> {
    let lost = |errno: Errno| fail!(errno, "cannot copy what waits in a pipe");
    let mut done = 0;
    while done < waiting {
        fs::read(probe, &mut [0]).map_err(lost)?;
        let rest = fs::bytes_to_read(probe).map_err(lost)?;
        let packet = waiting - done - rest > 1;
        let n = fs::read(from, saver.buf).map_err(lost)?;
        if n == 0 {
            return Err(lost(Errno::EIO));
        }
        let kind =
            if packet || n == 1 && (waiting > 1 || packets) { data_kind::PIPE_PACKET } else { data_kind::PIPE_BYTES };
        saver.data_in_buf(file, kind, done as u64, n)?;
        done += n;
        let mut behind = rest.saturating_sub(waiting - done);
        while behind > 0 {
            let len = saver.buf.len().min(behind);
            behind -= fs::read(probe, saver.buf.get_mut(..len).unwrap_or(&mut [])).map_err(lost)?;
        }
    }
    Ok(())
}

/// Reads `waiting` bytes from `from` into the image, and puts them into `back` as well.
fn write_bytes(
    saver: &mut Saver<'_, '_, '_>,
    file: u32,
    from: i32,
    waiting: usize,
    packets: bool,
    back: Option<i32>,
) -> Result<(), Failure> {
    let lost = |errno: Errno| fail!(errno, "cannot copy what waits in a pipe");
    if back.is_some() && !packets && waiting > saver.buf.len() {
        return Err(refuse!(Errno::ENOMEM, "a pipe holds {waiting} bytes, which cannot be copied"));
    }
    let mut done = 0;
    while done < waiting {
        let len = saver.buf.len().min(waiting - done);
        let n = fs::read(from, saver.buf.get_mut(..len).unwrap_or(&mut [])).map_err(lost)?;
        if n == 0 {
            return Err(lost(Errno::EIO));
        }
        if let Some(back) = back {
            fs::write_all(back, saver.buf.get(..n).unwrap_or(&[])).map_err(lost)?;
        }
        let kind = if packets { data_kind::PIPE_PACKET } else { data_kind::PIPE_BYTES };
        saver.data_in_buf(file, kind, done as u64, n)?;
        done += n;
    }
    Ok(())
}
