//! [SIGNAL] POSIX message queues. What waits in one cannot be peeked: it is taken out and put back, if no other process
//! has the queue and nobody is to be notified of the message that comes first.

use super::{DELETED, Path, Saver, Subject};
use crate::capture::failure::{Failure, fail};
use crate::capture::notices::notice;
use crate::capture::scratch::FdSlot;
use crate::format::files::{Queue, data_kind, file_kind, queue_flag};
use crate::format::notice::code;
use crate::sys::abi::S_IFREG;
use crate::sys::lines::{Cursor, parse_dec};
use crate::sys::mqueue::{self, Attributes};
use crate::sys::text::{Bytes, text};
use crate::sys::{Errno, Text, fs, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    let name = *subject.path;
    let name = name.as_bytes();
    // Its path is a slash and its name: asking is for those alone that may be one.
    if subject.file_type() != S_IFREG || name.iter().filter(|&&byte| byte == b'/').count() != 1 {
        return None;
    }
    mqueue::attributes(subject.slot.fd).ok()?;
    // A name may end in the same words; only one that has been removed has no link.
    if subject.slot.nlink == 0 {
        *subject.path = Path::from_bytes(name.strip_suffix(DELETED).unwrap_or(name));
    }
    Some(file_kind::QUEUE)
}

/// Once for each queue, with its first FILE.
pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    let mut others = subject.table.of_object(subject.slot.dev, subject.slot.ino);
    if others.next().is_none_or(|first| first.file != file) {
        return Ok(());
    }
    let attributes = mqueue::attributes(fd).map_err(|errno| failed(fd, errno))?;
    let deleted = subject.slot.nlink == 0;
    let why_not = why_not(saver, subject, attributes);
    if let Some(why) = why_not {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the messages that wait in the POSIX message queue {} (fd {fd}) are not saved: {why}; after a restart it \
             holds what it holds then",
            Bytes(subject.path.as_bytes())
        );
    }
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let state = Queue {
        max_messages: U32::new(attributes.max_messages),
        message_size: U32::new(attributes.message_size),
        flags: U32::new(flag(deleted, queue_flag::DELETED) | flag(why_not.is_some(), queue_flag::NOT_SAVED)),
    };
    saver.data(file, data_kind::QUEUE, 0, state.as_bytes())?;
    if why_not.is_some() || attributes.messages == 0 {
        return Ok(());
    }
    save_messages(saver, subject, attributes)
}

fn failed(fd: i32, errno: Errno) -> Failure {
    fail!(errno, "cannot save the POSIX message queue fd {fd}")
}

fn reads(slot: &FdSlot) -> bool {
    slot.flags & fs::O_ACCMODE != fs::O_WRONLY
}

fn writes(slot: &FdSlot) -> bool {
    slot.flags & fs::O_ACCMODE != fs::O_RDONLY
}

/// Descriptors to take messages out by and to put them back.
fn ends(subject: &Subject<'_>) -> (Option<i32>, Option<i32>) {
    let mut all = subject.table.of_object(subject.slot.dev, subject.slot.ino);
    let reader = all.clone().find(|slot| reads(slot)).map(|slot| slot.fd);
    (reader, all.find(|slot| writes(slot)).map(|slot| slot.fd))
}

/// Why the messages of a queue cannot be saved. A descriptor of our own may not be opened for it: closing that would
/// end a notification of the program's.
fn why_not(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, attributes: Attributes) -> Option<&'static str> {
    let fd = subject.slot.fd;
    let (reader, writer) = ends(subject);
    let told = reader.and_then(notified);
    if told == Some(subject.table.program.pid) {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the notification of messages in the POSIX message queue {} (fd {fd}, mq_notify) is not restored",
            Bytes(subject.path.as_bytes())
        );
    }
    if is_open_elsewhere(saver, subject) {
        return Some("another process has it, too");
    }
    if attributes.messages == 0 {
        return None;
    }
    if told.is_some() {
        return Some("the notification of the next one would be sent");
    }
    if reader.is_none() {
        return Some("it is not open for reading");
    }
    if writer.is_none() {
        return Some("it is not open for writing");
    }
    (attributes.message_size as usize > saver.buf.len()).then_some("they may be too long")
}

/// The process that is to be told of a message: reading the queue's file gives
/// `QSIZE:n NOTIFY:n SIGNO:n NOTIFY_PID:n`.
fn notified(reader: i32) -> Option<u32> {
    const FIELD: &[u8] = b"NOTIFY_PID:";
    let mut buf = [0u8; 128];
    let n = fs::pread(reader, &mut buf, 0).unwrap_or(0);
    let mut cursor = Cursor(buf.get(..n).unwrap_or(&[]));
    loop {
        match cursor.word() {
            [] => return None,
            word => {
                if let Some(pid) = word.strip_prefix(FIELD).and_then(parse_dec) {
                    return (pid != 0).then_some(pid as u32);
                }
            }
        }
    }
}

/// Whether any other process that this one may look at has a descriptor of the queue.
fn is_open_elsewhere(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> bool {
    let Ok(proc_dir) = fs::open(b"/proc\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0) else { return false };
    let proc_dir = fs::OwnedFd(proc_dir);
    // Its helper, if there is one, has what the program has.
    let own = [subject.table.program.pid, process::getpid()];
    let buf = core::mem::take(&mut saver.buf);
    let (pids, fds) = buf.split_at_mut(buf.len() / 2);
    let mut found = false;
    let listed: Result<(), Errno> = fs::for_each_name(proc_dir.0, pids, |name| {
        match parse_dec(name) {
            Some(pid) if !found && !own.contains(&(pid as u32)) => found = has_queue(pid as u32, fds, subject),
            _ => {}
        }
        Ok(())
    });
    saver.buf = buf;
    found && listed.is_ok()
}

fn has_queue(pid: u32, buf: &mut [u8], subject: &Subject<'_>) -> bool {
    let path: Text<40> = text!("/proc/{pid}/fd\0");
    let Ok(dir) = fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0) else { return false };
    let dir = fs::OwnedFd(dir);
    let mut found = false;
    let listed: Result<(), Errno> = fs::for_each_name(dir.0, buf, |name| {
        let mut link = [0u8; 300];
        let mut number = Text::<16>::from_bytes(name);
        let Some(number) = number.as_path() else { return Ok(()) };
        let target = fs::readlink(dir.0, number, &mut link).unwrap_or(&[]);
        if target.starts_with(subject.path.as_bytes()) {
            let same = |stat: crate::sys::abi::Statx| (stat.dev(), stat.ino) == (subject.slot.dev, subject.slot.ino);
            found |= fs::statx(dir.0, number, 0).is_ok_and(same);
        }
        Ok(())
    });
    found && listed.is_ok()
}

fn save_messages(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, attributes: Attributes) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    let (Some(reader), Some(writer)) = ends(subject) else { return Ok(()) };
    let lost = |errno| fail!(errno, "messages of the POSIX message queue fd {fd} are lost to the program");
    let copy = fs::memfd().map_err(|errno| failed(fd, errno))?;
    let mut taken = Ok(0);
    for _ in 0..attributes.messages {
        taken = match (taken, take_one(saver, reader, writer, copy.0)) {
            (Ok(n), Ok(())) => Ok(n + 1),
            (_, Err(errno)) => Err(errno),
            (Err(errno), _) => Err(errno),
        };
        if taken.is_err() {
            break;
        }
    }
    // Back first, whatever happened: the program goes on with all of them.
    let mut at = 0;
    while let Some((priority, len)) = read_copy(saver, copy.0, &mut at) {
        mqueue::send(writer, saver.buf.get(..len).unwrap_or(&[]), priority).map_err(lost)?;
    }
    taken.map_err(|errno| failed(fd, errno))?;
    let mut at = 0;
    while let Some((priority, len)) = read_copy(saver, copy.0, &mut at) {
        saver.data_in_buf(file, data_kind::QUEUE_MESSAGE, priority.into(), len)?;
    }
    Ok(())
}

/// In the copy each message has its priority and its length before it.
fn take_one(saver: &mut Saver<'_, '_, '_>, reader: i32, writer: i32, copy: i32) -> Result<(), Errno> {
    let (len, priority) = mqueue::receive(reader, saver.buf)?;
    let bytes = saver.buf.get(..len).unwrap_or(&[]);
    let head = [U32::new(priority), U32::new(len as u32)];
    let copied = fs::write_all(copy, head.as_bytes()).and_then(|()| fs::write_all(copy, bytes));
    // Out of its order rather than lost.
    copied.or_else(|errno| mqueue::send(writer, bytes, priority).and(Err(errno)))
}

/// The message at `at` into the buffer: priority and length.
fn read_copy(saver: &mut Saver<'_, '_, '_>, copy: i32, at: &mut u64) -> Option<(u32, usize)> {
    let mut head = [0u8; 8];
    if fs::pread(copy, &mut head, *at) != Ok(8) {
        return None;
    }
    let (priority, len) = (crate::arch::frame::u32_at(&head, 0), crate::arch::frame::u32_at(&head, 4) as usize);
    let n = fs::pread(copy, saver.buf.get_mut(..len)?, *at + 8).ok()?;
    *at += 8 + len as u64;
    (n == len).then_some((priority, len))
}
