//! [SIGNAL] What is to be known of each descriptor by itself. Of very many a helper looks at some.
#![allow(unsafe_code)] // Hands out disjoint parts of slices.

use super::socket_options::{self, Options};
use super::{FdSlot, event, fdinfo, lock, socket};
use crate::arch::helper::{self, Outcome};
use crate::capture::failure::{Failure, fail, unreadable};
use crate::sys::abi::{S_IFCHR, S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK, StatxTime};
use crate::sys::fs;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So many are looked at before the next ones are taken on.
const PART: usize = 256;
/// From so many on a helper is worth its start.
const MANY: usize = 2 * PART;

/// What tells descriptors of different files apart. `beside` ends memory for a helper's stack, if there may be one.
pub fn look_at(fds: &mut [FdSlot], beside: Option<usize>) -> Result<(), Failure> {
    let (start, count) = (fds.as_mut_ptr(), fds.len());
    in_parts(count, beside, &|part| {
        // SAFETY: a part of the slice, which nobody else uses meanwhile.
        let fds = unsafe { core::slice::from_raw_parts_mut(start.add(part.start), part.len()) };
        with_info(&mut |info| fds.iter_mut().try_for_each(|slot| look_at_one(slot, info)))
    })
}

/// What else is to be known, when it is known which descriptors share a description: of the first one only.
///
/// `elsewhere` is for a caller whose descriptors are copies: POSIX locks of so many at the front are told by that directory
/// fdinfo alone.
pub fn look_closer(
    fds: &mut [FdSlot],
    options: &mut [Options],
    elsewhere: Option<(usize, i32)>,
    beside: Option<usize>,
) -> Result<(), Failure> {
    let (start, count) = (fds.as_mut_ptr(), fds.len());
    let (options, room) = (options.as_mut_ptr(), options.len());
    in_parts(count, beside, &|part| {
        with_info(&mut |info| {
            for at in part.clone() {
                // SAFETY: in a part of the slice, which nobody else uses meanwhile.
                let slot = unsafe { &mut *start.add(at) };
                // SAFETY: as above.
                let options = if at < room { Some(unsafe { &mut *options.add(at) }) } else { None };
                let told_by = elsewhere.filter(|(own, _)| at < *own).map_or(info, |(_, info)| info);
                look_closer_at_one(slot, options, told_by);
            }
            Ok(())
        })
    })
}

/// Does `work` for all parts of `0..count`, each of them once; all again where the helper has left one half done.
fn in_parts(
    count: usize,
    beside: Option<usize>,
    work: &dyn Fn(Range<usize>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(stack_top) = beside.filter(|_| count >= MANY) else { return work(0..count) };
    let next = AtomicUsize::new(0);
    let work_on = || loop {
        let from = next.fetch_add(PART, Relaxed);
        if from >= count {
            return Ok(());
        }
        work(from..count.min(from + PART))?;
    };
    let (mut there, mut here) = (Ok(()), Ok(()));
    // SAFETY: the scratch memory sets this stack aside for a helper, of which there is one at a time. The parts are apart,
    // and what is told by them is looked at when the helper has ended.
    match unsafe { helper::beside(stack_top, &mut || there = work_on(), &mut || here = work_on()) } {
        Outcome::Broken => work(0..count),
        Outcome::Done | Outcome::NotStarted => here.and(there),
    }
}

/// Opens the directory of the calling thread's descriptors. A helper's own one tells the same as the program's: POSIX locks
/// belong to the table that both share.
fn with_info(look: &mut dyn FnMut(i32) -> Result<(), Failure>) -> Result<(), Failure> {
    let info = fs::open(b"/proc/thread-self/fdinfo\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0);
    let info = fs::OwnedFd(info.map_err(|errno| unreadable(errno, "/proc/thread-self/fdinfo"))?);
    look(info.0)
}

/// Longer than what tells of an eventfd, or of a file with a few locks.
const SHORT: usize = 1024;

fn look_at_one(slot: &mut FdSlot, info: i32) -> Result<(), Failure> {
    let fd = slot.fd;
    let stat = fs::fstat(fd).map_err(|errno| fail!(errno, "cannot look at descriptor {fd}"))?;
    slot.dev = stat.dev();
    slot.ino = stat.ino;
    slot.mode = stat.mode.into();
    slot.mount = stat.mount();
    (slot.nlink, slot.blksize, slot.rdev) = (stat.nlink, stat.blksize, stat.rdev());
    (slot.size, slot.mtime) = (stat.size, stat.mtime);
    (slot.has_born, slot.born) = stat.born().map_or((false, StatxTime::default()), |born| (true, born));
    slot.flags =
        fs::fcntl(fd, fs::F_GETFL, 0).map_err(|errno| fail!(errno, "cannot read flags of descriptor {fd}"))? as u32;
    slot.cloexec = fs::fcntl(fd, fs::F_GETFD, 0).unwrap_or(0) & 1 != 0;
    const ANONYMOUS: u32 = 0;
    match slot.mode & S_IFMT {
        // O_PATH descriptors have no offset.
        S_IFREG | S_IFDIR => slot.pos = fs::seek_to(fd, 0, 1).unwrap_or(0),
        ANONYMOUS => slot.eventfd = fdinfo(info, fd, &mut [0; SHORT]).ok().and_then(event::eventfd),
        _ => {}
    }
    Ok(())
}

fn look_closer_at_one(slot: &mut FdSlot, options: Option<&mut Options>, info: i32) {
    let (fd, file_type) = (slot.fd, slot.mode & S_IFMT);
    if file_type == S_IFSOCK {
        slot.socket = socket::look(fd);
    }
    if !slot.first {
        return;
    }
    // O_PATH descriptors have neither.
    slot.owner = fs::owner(fd).unwrap_or_default();
    slot.signal = fs::fcntl(fd, fs::F_GETSIG, 0).unwrap_or(0) as u32;
    match (file_type, options) {
        (S_IFREG | S_IFDIR | S_IFCHR, _) => {
            // A long text, or none, is read when it is saved.
            let of_locks = |text| lock::lines(text).next().is_some();
            slot.is_locked = fdinfo(info, fd, &mut [0; SHORT]).map_or(true, of_locks);
        }
        (S_IFSOCK, Some(options)) => socket_options::read(fd, slot.socket, options),
        _ => {}
    }
}
