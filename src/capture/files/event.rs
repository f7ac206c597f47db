//! [SIGNAL] Event objects: eventfd, timerfd, signalfd, epoll, pidfd of the process itself. All that is known of them
//! stands in /proc/thread-self/fdinfo.
#![allow(unsafe_code)] // kcmp(2), timerfd_gettime(2) with structures.

use super::{Saver, Subject, Table};
use crate::capture::failure::{Failure, fail, refuse};
use crate::capture::notices::notice;
use crate::format::files::{EpollTarget, InotifyWatch, Timerfd, data_kind, file_kind};
use crate::format::notice::code;
use crate::sys::abi::{S_IFDIR, S_IFMT, S_IFREG, makedev};
use crate::sys::lines::{Cursor, field, parse_dec, parse_hex};
use crate::sys::{Errno, Text, call, fs, nr, process, text::text};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    match subject.path.as_bytes() {
        b"anon_inode:[eventfd]" => Some(file_kind::EVENTFD),
        b"anon_inode:[timerfd]" => Some(file_kind::TIMERFD),
        b"anon_inode:[signalfd]" => Some(file_kind::SIGNALFD),
        b"anon_inode:[eventpoll]" => Some(file_kind::EPOLL),
        b"anon_inode:inotify" | b"inotify" if all_watches_are_open(subject) => Some(file_kind::INOTIFY),
        b"anon_inode:[pidfd]" if is_own_pidfd(subject) => Some(file_kind::PIDFD),
        _ => None,
    }
}

fn fdinfo(fd: i32, buf: &mut [u8]) -> Result<&[u8], Errno> {
    let path: Text<40> = text!("/proc/thread-self/fdinfo/{fd}\0");
    fs::read_file(path.as_bytes(), buf)
}

fn is_own_pidfd(subject: &Subject<'_>) -> bool {
    let mut buf = [0u8; 512];
    let pid = fdinfo(subject.slot.fd, &mut buf).ok().and_then(|text| field(text, b"Pid")).and_then(parse_dec);
    pid == Some(u64::from(subject.table.program.pid))
}

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    if kind == file_kind::TIMERFD {
        // Makes the kernel count the expirations that nobody has read.
        let mut unused = [0u64; 4];
        // SAFETY: `unused` takes a struct __kernel_itimerspec.
        let _ = unsafe { call!(nr::TIMERFD_GETTIME64, fd, unused.as_mut_ptr()) };
    }
    let buf = core::mem::take(&mut saver.buf);
    let result = match fdinfo(fd, buf) {
        Ok(text) => match kind {
            file_kind::EVENTFD => save_eventfd(saver, fd, file, text),
            file_kind::TIMERFD => save_timerfd(saver, fd, file, text),
            file_kind::SIGNALFD => match field(text, b"sigmask").and_then(parse_hex) {
                Some(mask) => saver.data(file, data_kind::SIGNALFD, mask, &[]),
                None => Err(unknown(fd)),
            },
            file_kind::INOTIFY => save_inotify(saver, subject, text),
            _ => save_epoll(saver, fd, file, subject.table, text),
        },
        Err(errno) => Err(fail!(errno, "cannot read /proc/thread-self/fdinfo/{fd}")),
    };
    saver.buf = buf;
    result
}

fn unknown(fd: i32) -> Failure {
    refuse!(Errno::EIO, "cannot understand /proc/thread-self/fdinfo/{fd}")
}

fn save_eventfd(saver: &mut Saver<'_, '_, '_>, fd: i32, file: u32, text: &[u8]) -> Result<(), Failure> {
    let number = |name| {
        field(text, name).map(|mut word| {
            while let [b' ', rest @ ..] = word {
                word = rest;
            }
            word
        })
    };
    let count = number(b"eventfd-count").and_then(parse_hex).ok_or_else(|| unknown(fd))?;
    // Kernels before 6.5 do not tell.
    let semaphore = match number(b"eventfd-semaphore").and_then(parse_dec) {
        Some(semaphore) => semaphore != 0,
        None => {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "this kernel does not tell whether eventfd {fd} is a semaphore; after a restart it is none"
            );
            false
        }
    };
    saver.data(file, data_kind::EVENTFD, count, &[u8::from(semaphore)])
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

/// `tfd: 5 events: 19 data: 5 pos:0 ino:61 sdev:e` for each target.
fn save_epoll(saver: &mut Saver<'_, '_, '_>, fd: i32, file: u32, table: Table<'_>, text: &[u8]) -> Result<(), Failure> {
    for line in text.split(|&b| b == b'\n') {
        let Some(rest) = line.strip_prefix(b"tfd:") else { continue };
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
            Some((number, events, data, ino, makedev((dev >> 20) as u32, (dev & 0xf_ffff) as u32)))
        };
        let (number, events, data, ino, dev) = target().ok_or_else(|| unknown(fd))?;
        let Some(found) = find_target(table, fd, number, dev, ino) else {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "epoll fd {fd} watches a file (once fd {number}) of which this process has no descriptor any more; a \
                 restarted one does not"
            );
            continue;
        };
        let target = EpollTarget {
            fd: U32::new(number as u32),
            file: U32::new(found),
            events: U32::new(events),
            reserved: U32::new(0),
            data: U64::new(data),
        };
        saver.data(file, data_kind::EPOLL_TARGET, 0, target.as_bytes())?;
    }
    Ok(())
}

/// A line of an inotify: `inotify wd:1 ino:2a sdev:800001 mask:fce ...`, all in hexadecimal. The kernel tells no path:
/// what is watched must be open as well, or be the working directory.
fn watch_of(line: &[u8], table: Table<'_>) -> Option<InotifyWatch> {
    let mut cursor = Cursor(line.strip_prefix(b"inotify ")?);
    let mut value = |name: &[u8]| parse_hex(cursor.word().strip_prefix(name)?);
    let (wd, ino, dev, mask) = (value(b"wd:")?, value(b"ino:")?, value(b"sdev:")?, value(b"mask:")?);
    let dev = makedev((dev >> 20) as u32, (dev & 0xf_ffff) as u32);
    let open = table.of_object(dev, ino).find(|slot| matches!(slot.mode & S_IFMT, S_IFREG | S_IFDIR));
    let here = || fs::stat(b".\0").is_ok_and(|stat| stat.dev() == dev && stat.ino == ino);
    let file = match open {
        Some(slot) => slot.file,
        None if here() => InotifyWatch::WORKING_DIRECTORY,
        None => return None,
    };
    let wd = u32::try_from(wd).ok().filter(|wd| (1..=InotifyWatch::HIGHEST).contains(wd))?;
    Some(InotifyWatch { wd: U32::new(wd), mask: U32::new(mask as u32), file: U32::new(file), reserved: U32::new(0) })
}

fn watches(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter(|line| line.starts_with(b"inotify "))
}

/// Whether a restart can watch all that the inotify watches.
fn all_watches_are_open(subject: &Subject<'_>) -> bool {
    let mut buf = [0u8; 8192];
    let read = fdinfo(subject.slot.fd, &mut buf);
    read.is_ok_and(|text| text.len() < 8000 && watches(text).all(|line| watch_of(line, subject.table).is_some()))
}

fn save_inotify(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, text: &[u8]) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    for line in watches(text) {
        let watch = watch_of(line, subject.table).ok_or_else(|| unknown(fd))?;
        saver.data(file, data_kind::INOTIFY_WATCH, 0, watch.as_bytes())?;
    }
    if fs::bytes_to_read(fd).is_ok_and(|bytes| bytes != 0) {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "events that wait in inotify fd {fd} are not saved; a restarted program does not see them"
        );
    }
    Ok(())
}

/// The FILE that an epoll watches under a number: what has that number now, or what else is the same file.
fn find_target(table: Table<'_>, epoll: i32, number: i32, dev: u64, ino: u64) -> Option<u32> {
    let now = table.by_fd(number).filter(|slot| is_target(slot.fd, epoll, number, 0));
    if let Some(slot) = now {
        return Some(slot.file);
    }
    // The number may stand for several files, one after the other.
    const SAME_NUMBER: u32 = 4;
    let mut candidates = table.of_object(dev, ino).filter(|slot| slot.first);
    let found = candidates.find(|slot| (0..SAME_NUMBER).any(|nth| is_target(slot.fd, epoll, number, nth)));
    found.map(|slot| slot.file)
}

/// Whether `fd` is the `nth` file that `epoll` watches under `number`.
fn is_target(fd: i32, epoll: i32, number: i32, nth: u32) -> bool {
    const KCMP_EPOLL_TFD: u32 = 7;
    let pid = process::getpid();
    let slot = [epoll as u32, number as u32, nth];
    // SAFETY: the kernel reads `slot`, which has the layout of struct kcmp_epoll_slot.
    let order = unsafe { call!(nr::KCMP, pid, pid, KCMP_EPOLL_TFD, fd, slot.as_ptr()) };
    order == Ok(0)
}
