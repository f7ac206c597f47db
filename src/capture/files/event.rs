//! [SIGNAL] Event objects: eventfd, timerfd, signalfd, epoll, pidfd of the process itself. All that is known of them
//! stands in /proc/thread-self/fdinfo.
#![allow(unsafe_code)] // kcmp(2), timerfd_gettime(2) with structures.

use super::{Saver, Subject, Table};
use crate::capture::failure::{Failure, fail, refuse};
use crate::capture::notices::notice;
use crate::capture::scratch::{Eventfd, FdSlot};
use crate::format::files::{EpollTarget, InotifyWatch, Timerfd, data_kind, file_kind};
use crate::format::notice::code;
use crate::sys::abi::{S_IFDIR, S_IFMT, S_IFREG, Statx, makedev};
use crate::sys::lines::{Cursor, Lines, field, parse_dec, parse_hex};
use crate::sys::text::text;
use crate::sys::watched::{self, IN_DONT_FOLLOW};
use crate::sys::{Errno, Text, call, fs, nr, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// The name of every eventfd.
pub const EVENTFD: &[u8] = b"anon_inode:[eventfd]";

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    match subject.path.as_bytes() {
        EVENTFD => Some(file_kind::EVENTFD),
        b"anon_inode:[timerfd]" => Some(file_kind::TIMERFD),
        b"anon_inode:[signalfd]" => Some(file_kind::SIGNALFD),
        b"anon_inode:[eventpoll]" => Some(file_kind::EPOLL),
        b"anon_inode:inotify" | b"inotify" => Some(file_kind::INOTIFY),
        b"anon_inode:[pidfd]" if is_own_pidfd(subject) => Some(file_kind::PIDFD),
        _ => None,
    }
}

fn is_own_pidfd(subject: &Subject<'_>) -> bool {
    let mut buf = [0u8; 512];
    let program = subject.table.program;
    let pid = program.fdinfo(subject.slot.fd, &mut buf).ok().and_then(|text| field(text, b"Pid")).and_then(parse_dec);
    pid == Some(u64::from(program.pid))
}

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    if kind == file_kind::TIMERFD {
        // Makes the kernel count the expirations that nobody has read.
        let mut unused = [0u64; 4];
        // SAFETY: `unused` takes a struct __kernel_itimerspec.
        let _ = unsafe { call!(nr::TIMERFD_GETTIME64, fd, unused.as_mut_ptr()) };
    }
    if kind == file_kind::EVENTFD {
        return subject.slot.eventfd.as_ref().map_or(Err(unknown(fd)), |found| save_eventfd(saver, fd, file, found));
    }
    let buf = core::mem::take(&mut saver.buf);
    let result = match kind {
        file_kind::EPOLL | file_kind::INOTIFY => save_targets(saver, subject, kind, buf),
        _ => match subject.table.program.fdinfo(fd, buf) {
            Ok(text) => match kind {
                file_kind::TIMERFD => save_timerfd(saver, fd, file, text),
                _ => match field(text, b"sigmask").and_then(parse_hex) {
                    Some(mask) => saver.data(file, data_kind::SIGNALFD, mask, &[]),
                    None => Err(unknown(fd)),
                },
            },
            Err(errno) => Err(unreadable_info(errno, fd)),
        },
    };
    saver.buf = buf;
    result
}

/// What an epoll or inotify watches: a line each, of any number.
fn save_targets(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    kind: u32,
    buf: &mut [u8],
) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let failed = |errno| unreadable_info(errno, fd);
    let path: Text<40> = text!("/proc/thread-self/fdinfo/{fd}\0");
    let info = fs::OwnedFd(fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0).map_err(failed)?);
    let mut lines = Lines::new(info.0, buf);
    let mut at = 0;
    while let Some(line) = lines.next_line().map_err(failed)? {
        at += 1;
        if kind == file_kind::INOTIFY {
            save_watch(saver, subject, line)?;
        } else {
            save_epoll_target(saver, subject, line, at)?;
        }
    }
    if kind == file_kind::INOTIFY && fs::bytes_to_read(fd).is_ok_and(|bytes| bytes != 0) {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "events that wait in inotify fd {fd} are not saved; a restarted program does not see them"
        );
    }
    Ok(())
}

fn unreadable_info(errno: Errno, fd: i32) -> Failure {
    fail!(errno, "cannot read /proc/thread-self/fdinfo/{fd}")
}

fn unknown(fd: i32) -> Failure {
    refuse!(Errno::EIO, "cannot understand /proc/thread-self/fdinfo/{fd}")
}

/// What fdinfo tells of an eventfd; `None` if it is none.
pub fn eventfd(text: &[u8]) -> Option<Eventfd> {
    let number = |name| {
        let mut word = field(text, name)?;
        while let [b' ', rest @ ..] = word {
            word = rest;
        }
        Some(word)
    };
    Some(Eventfd {
        count: number(b"eventfd-count").and_then(parse_hex)?,
        id: number(b"eventfd-id").and_then(parse_dec).unwrap_or(0),
        is_semaphore: number(b"eventfd-semaphore").and_then(parse_dec).map(|semaphore| semaphore != 0),
    })
}

fn save_eventfd(saver: &mut Saver<'_, '_, '_>, fd: i32, file: u32, found: &Eventfd) -> Result<(), Failure> {
    if found.is_semaphore.is_none() {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "this kernel does not tell whether eventfd {fd} is a semaphore; after a restart it is none"
        );
    }
    saver.data(file, data_kind::EVENTFD, found.count, &[found.is_semaphore.unwrap_or(false).into()])
}

fn save_timerfd(saver: &mut Saver<'_, '_, '_>, fd: i32, file: u32, text: &[u8]) -> Result<(), Failure> {
    // `(seconds, nanoseconds)`
    let time = |name| {
        let mut cursor = Cursor(field(text, name)?.strip_prefix(b"(")?);
        let sec = cursor.until(b',').and_then(parse_dec)?;
        cursor.skip_spaces();
        Some((sec, cursor.until(b')').and_then(parse_dec)?))
    };
    let number = |name| field(text, name).and_then(parse_dec);
    let state = || {
        let ((sec, nsec), (every_sec, every_nsec)) = (time(b"it_value")?, time(b"it_interval")?);
        let flags = field(text, b"settime flags").and_then(crate::sys::lines::parse_oct)?;
        Some(Timerfd {
            clock: U32::new(number(b"clockid")? as u32),
            flags: U32::new(flags as u32),
            ticks: U64::new(number(b"ticks")?),
            left_sec: U64::new(sec),
            every_sec: U64::new(every_sec),
            left_nsec: U32::new(nsec as u32),
            every_nsec: U32::new(every_nsec as u32),
        })
    };
    let state = state().ok_or_else(|| unknown(fd))?;
    saver.data(file, data_kind::TIMERFD, 0, state.as_bytes())
}

/// `tfd: 5 events: 19 data: 5 pos:0 ino:61 sdev:e` for each target of an epoll, in line `at` of what is told of it.
fn save_epoll_target(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    line: &[u8],
    at: usize,
) -> Result<(), Failure> {
    let (fd, table) = (subject.slot.fd, subject.table);
    let Some(rest) = line.strip_prefix(b"tfd:") else { return Ok(()) };
    let mut cursor = Cursor(rest);
    let mut target = || {
        let number = parse_dec(cursor.word())? as i32;
        let mut value = |name: &[u8]| {
            // The value may follow its name at once, or after spaces.
            let word = cursor.word().strip_prefix(name)?;
            parse_hex(if word.is_empty() { cursor.word() } else { word })
        };
        let events = value(b"events:")? as u32;
        let data = value(b"data:")?;
        value(b"pos:");
        let (ino, dev) = (value(b"ino:")?, value(b"sdev:")?);
        Some((number, events, data, ino, device(dev)))
    };
    let (number, events, data, ino, dev) = target().ok_or_else(|| unknown(fd))?;
    let Some(found) = find_target(table, fd, number, at, [dev, ino]) else {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "epoll fd {fd} watches a file (once fd {number}) of which this process has no descriptor any more; a \
             restarted one does not"
        );
        return Ok(());
    };
    let target = EpollTarget {
        fd: U32::new(number as u32),
        file: U32::new(found),
        events: U32::new(events),
        reserved: U32::new(0),
        data: U64::new(data),
    };
    saver.data(subject.slot.file, data_kind::EPOLL_TARGET, 0, target.as_bytes())
}

/// A device as the kernel has it inside, and shows it in fdinfo.
fn device(sdev: u64) -> u64 {
    makedev((sdev >> 20) as u32, (sdev & 0xf_ffff) as u32)
}

/// A line of an inotify: `inotify wd:1 ino:2a sdev:800001 mask:fce ...`, all in hexadecimal. The kernel tells no path:
/// what is watched is open as well, or is the working directory, or still has the path that it was given to watch.
fn save_watch(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, line: &[u8]) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let Some(rest) = line.strip_prefix(b"inotify ") else { return Ok(()) };
    let mut cursor = Cursor(rest);
    let mut value = |name: &[u8]| parse_hex(cursor.word().strip_prefix(name)?);
    let mut watch = || Some((value(b"wd:")?, value(b"ino:")?, device(value(b"sdev:")?), value(b"mask:")? as u32));
    let (wd, ino, dev, mask) = watch().ok_or_else(|| unknown(fd))?;
    let is_it = |found: Result<Statx, Errno>| found.is_ok_and(|stat| stat.dev() == dev && stat.ino == ino);
    let open = || subject.table.of_object(dev, ino).find(|slot| matches!(slot.mode & S_IFMT, S_IFREG | S_IFDIR));
    // The kernel does not keep that a link itself is meant.
    let noted = || {
        watched::paths_of(dev, ino).find_map(|path| {
            let flag = if is_it(fs::lstat(path)) { IN_DONT_FOLLOW } else { 0 };
            (flag != 0 || is_it(fs::stat(path))).then_some((path.strip_suffix(b"\0")?, flag))
        })
    };
    let (file, found) = if let Some(slot) = open() {
        (slot.file, None)
    } else if is_it(fs::stat(b".\0")) {
        (InotifyWatch::WORKING_DIRECTORY, None)
    } else {
        (InotifyWatch::PATH, noted())
    };
    let number = u32::try_from(wd).ok().filter(|wd| (1..=InotifyWatch::HIGHEST).contains(wd));
    let Some(number) = number.filter(|_| file != InotifyWatch::PATH || found.is_some()) else {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "watch {wd} of inotify fd {fd} is on inode {ino} of device {}:{}, whose path is not known; a restarted \
             program does not watch it",
            dev >> 32,
            dev as u32
        );
        return Ok(());
    };
    let (path, flag) = found.unwrap_or((&[], 0));
    let watch =
        InotifyWatch { wd: U32::new(number), mask: U32::new(mask | flag), file: U32::new(file), reserved: U32::new(0) };
    let mut bytes: Text<4200> = Text::from_bytes(watch.as_bytes());
    bytes.push(path);
    saver.data(subject.slot.file, data_kind::INOTIFY_WATCH, 0, bytes.as_bytes())
}

/// FILE number of a target. A number may stand for several files, one after the other, of which event objects have no
/// inodes of their own; the kernel knows them in the order of its lines.
fn find_target(table: Table<'_>, epoll: i32, number: i32, at: usize, [dev, ino]: [u64; 2]) -> Option<u32> {
    let nth = if is_one(epoll, number) { 0 } else { before(epoll, number, at).ok()? };
    let is_it = |slot: &&FdSlot| is_target(slot.fd, epoll, number, nth);
    let now = table.by_fd(number).filter(is_it);
    let found = now.or_else(|| table.of_object(dev, ino).filter(|slot| slot.first).find(is_it));
    found.map(|slot| slot.file)
}

/// How many targets with this number are told of in the lines before `at`.
fn before(epoll: i32, number: i32, at: usize) -> Result<u32, Errno> {
    let path: Text<40> = text!("/proc/thread-self/fdinfo/{epoll}\0");
    let info = fs::OwnedFd(fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0)?);
    let mut buf = [0; 512];
    let mut lines = Lines::new(info.0, &mut buf);
    let mut count = 0;
    for _ in 1..at {
        let Some(line) = lines.next_line()? else { break };
        let same = |rest| parse_dec(Cursor(rest).word()) == Some(number as u64);
        count += u32::from(line.strip_prefix(b"tfd:").is_some_and(same));
    }
    Ok(count)
}

/// Whether `fd` is the `nth` file that `epoll` watches under `number`.
fn is_target(fd: i32, epoll: i32, number: i32, nth: u32) -> bool {
    compare_target(fd, epoll, number, nth) == Ok(0)
}

/// Whether `epoll` watches one file under `number`.
fn is_one(epoll: i32, number: i32) -> bool {
    compare_target(epoll, epoll, number, 1).is_err()
}

fn compare_target(fd: i32, epoll: i32, number: i32, nth: u32) -> Result<usize, Errno> {
    const KCMP_EPOLL_TFD: u32 = 7;
    let this = process::gettid();
    let slot = [epoll as u32, number as u32, nth];
    // SAFETY: the kernel reads `slot`, which has the layout of struct kcmp_epoll_slot.
    unsafe { call!(nr::KCMP, this, this, KCMP_EPOLL_TFD, fd, slot.as_ptr()) }
}
