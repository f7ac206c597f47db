//! [NORMAL] Event objects: made anew with the state that they had.
#![allow(unsafe_code)] // The calls that make them, with structures of their own.

use super::{Files, Subject};
use crate::format::files::{EpollTarget, InotifyWatch, Timerfd, data_kind, file_kind};
use crate::format::image::{FileDataEntry, Image};
use crate::sys::{Errno, call, fs as raw, nr, process};
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use zerocopy::FromBytes;

impl Files {
    pub(super) fn event(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let flags = file.flags.get() & raw::O_NONBLOCK | raw::O_CLOEXEC;
        let state = subject.entry.data.first();
        let made = match (file.kind.get(), state) {
            (file_kind::EVENTFD, Some(state)) => make_eventfd(state, flags),
            (file_kind::TIMERFD, Some(state)) => make_timerfd(subject, state, flags, warn),
            (file_kind::SIGNALFD, Some(state)) => {
                let mask = state.data.offset.get();
                // SAFETY: `mask` is a signal set of 8 bytes.
                unsafe { call!(nr::SIGNALFD4, -1i32, &raw const mask, 8, flags) }
            }
            (file_kind::EPOLL, _) => {
                // SAFETY: takes a number.
                unsafe { call!(nr::EPOLL_CREATE1, raw::O_CLOEXEC) }
            }
            (file_kind::INOTIFY, _) => {
                // SAFETY: takes a number.
                unsafe { call!(nr::INOTIFY_INIT1, raw::O_NONBLOCK | raw::O_CLOEXEC) }
            }
            // SAFETY: takes numbers.
            (file_kind::PIDFD, _) => unsafe { call!(nr::PIDFD_OPEN, process::getpid(), flags & raw::O_NONBLOCK) },
            _ => Err(Errno::EINVAL),
        };
        let low = made.map_err(|errno| {
            format!("fd {}: cannot make {} again: {errno}", subject.fds(), file_kind::name(file.kind.get()))
        })?;
        let low = raw::OwnedFd(low as RawFd);
        let high = self.above(low.0)?;
        // epoll_create1 takes no O_NONBLOCK, though fcntl does.
        let _ = raw::fcntl(high, raw::F_SETFL, (file.flags.get() & raw::O_NONBLOCK) as usize);
        Ok(high)
    }

    /// Tells every inotify what it watches, when nothing is opened and closed any more.
    pub fn watch_again(&self, image: &Image, warn: &mut dyn FnMut(String)) {
        let lowest = |file: u32| image.fds.iter().find(|fd| fd.file.get() == file).map(|fd| fd.fd.get() as RawFd);
        for entry in image.files.iter().filter(|entry| entry.file.kind.get() == file_kind::INOTIFY) {
            let Some(inotify) = lowest(entry.file.id.get()) else { continue };
            let mut watches: Vec<(InotifyWatch, &[u8])> =
                entry.data.iter().filter_map(|item| InotifyWatch::read_from_prefix(&item.bytes).ok()).collect();
            watches.sort_by_key(|(watch, _)| watch.wd.get());
            // What making them leaves in it is read away.
            let flags = entry.file.flags.get() & raw::O_NONBLOCK;
            let _ = raw::fcntl(inotify, raw::F_SETFL, raw::O_NONBLOCK as usize);
            for (watch, path) in watches {
                let path = match watch.file.get() {
                    InotifyWatch::WORKING_DIRECTORY => c".".to_owned(),
                    InotifyWatch::PATH => CString::new(path).unwrap_or_default(),
                    file => CString::new(format!("/proc/self/fd/{}", lowest(file).unwrap_or(-1))).unwrap_or_default(),
                };
                if let Err(errno) = add_watch(inotify, &path, &watch) {
                    warn(format!("inotify fd {inotify} does not watch {path:?} any more: {errno}"));
                }
            }
            let mut events = [0u8; 4096];
            while raw::read(inotify, &mut events).is_ok_and(|n| n != 0) {}
            let _ = raw::fcntl(inotify, raw::F_SETFL, flags as usize);
        }
    }

    /// Tells every epoll what it watches. An epoll knows its targets by file and number: one whose number means
    /// something else by now gets its number for a moment.
    pub(super) fn connect_epolls(&self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        for entry in image.files.iter().filter(|entry| entry.file.kind.get() == file_kind::EPOLL) {
            let epoll = self.fds[entry.file.id.get() as usize];
            let targets: Vec<EpollTarget> =
                entry.data.iter().filter_map(|item| EpollTarget::read_from_bytes(&item.bytes).ok()).collect();
            // While nothing else is watched, one that has fired its only shot can be made to fire again.
            let (fired, others): (Vec<&EpollTarget>, Vec<&EpollTarget>) =
                targets.iter().partition(|target| has_fired(target));
            for target in fired.into_iter().chain(others) {
                let number = target.fd.get() as RawFd;
                let file = self.fds[target.file.get() as usize];
                let in_place = image.fds.binary_search_by_key(&target.fd.get(), |fd| fd.fd.get());
                let now = in_place.ok().map(|at| &image.fds[at]);
                if now.is_some_and(|now| now.file == target.file) {
                    self.watch(epoll, target, number, warn)?;
                    continue;
                }
                if number >= self.floor || self.keep.contains(&number) {
                    warn(format!("an epoll does not watch any more what was fd {number} once"));
                    continue;
                }
                dup_to(file, number, raw::O_CLOEXEC)?;
                self.watch(epoll, target, number, warn)?;
                match now {
                    Some(now) => {
                        let flags = if now.flags.get() & 1 != 0 { raw::O_CLOEXEC } else { 0 };
                        dup_to(self.fds[now.file.get() as usize], number, flags)?;
                    }
                    None => raw::close(number),
                }
            }
        }
        Ok(())
    }

    fn watch(
        &self,
        epoll: RawFd,
        target: &EpollTarget,
        number: RawFd,
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        const ADD: u32 = 1;
        const MOD: u32 = 3;
        let control = |op: u32, events: u32| {
            let data = target.data.get();
            // struct epoll_event is packed: the mask, then the program's 64 bits.
            let event = [events, data as u32, (data >> 32) as u32];
            // SAFETY: `event` is a struct epoll_event.
            unsafe { call!(nr::EPOLL_CTL, epoll, op, number, event.as_ptr()) }
        };
        let events = target.events.get();
        let result = if has_fired(target) {
            let mut got = [0u32; 3];
            control(ADD, events | EPOLLIN | EPOLLOUT).and_then(|_| {
                // SAFETY: `got` takes one event.
                match unsafe { call!(nr::EPOLL_WAIT, epoll, got.as_mut_ptr(), 1, 0) } {
                    Ok(1) => Ok(0),
                    _ => control(MOD, events),
                }
            })
        } else {
            control(ADD, events)
        };
        match result {
            Ok(_) => Ok(()),
            // What stands for something that was not saved may be of a kind that cannot be watched.
            Err(Errno::EPERM) => {
                warn(format!("an epoll cannot watch fd {number} any more"));
                Ok(())
            }
            Err(errno) => Err(format!("an epoll cannot watch fd {number}: {errno}")),
        }
    }
}

/// Numbers are given in turn: those that are not wanted are given back.
fn add_watch(inotify: RawFd, path: &CStr, watch: &InotifyWatch) -> Result<(), Errno> {
    loop {
        // SAFETY: a path with its NUL.
        let wd = unsafe { call!(nr::INOTIFY_ADD_WATCH, inotify, path.as_ptr(), watch.mask.get()) }? as u32;
        if wd == watch.wd.get() {
            return Ok(());
        }
        // SAFETY: takes numbers.
        unsafe { call!(nr::INOTIFY_RM_WATCH, inotify, wd) }?;
        if wd > watch.wd.get() {
            return Err(Errno::EEXIST);
        }
    }
}

const EPOLLIN: u32 = 1;
const EPOLLOUT: u32 = 4;
const EPOLLONESHOT: u32 = 1 << 30;
/// One-shot, edge, wake-up, exclusive: what is left of the mask when the one shot was fired.
const PRIVATE_BITS: u32 = 0xf << 28;

fn has_fired(target: &EpollTarget) -> bool {
    let events = target.events.get();
    events & EPOLLONESHOT != 0 && events & !PRIVATE_BITS == 0
}

fn dup_to(from: RawFd, to: RawFd, flags: u32) -> Result<(), String> {
    // SAFETY: takes numbers; what is replaced is the program's own or free.
    unsafe { call!(nr::DUP3, from, to, flags) }
        .map(drop)
        .map_err(|errno| format!("cannot put fd {to} in place: {errno}"))
}

fn make_eventfd(state: &FileDataEntry, flags: u32) -> Result<usize, Errno> {
    const EFD_SEMAPHORE: u32 = 1;
    let semaphore = if state.bytes == [1] { EFD_SEMAPHORE } else { 0 };
    // SAFETY: takes numbers.
    let fd = unsafe { call!(nr::EVENTFD2, 0, flags | semaphore) }?;
    let count = state.data.offset.get();
    if count != 0 {
        raw::write_all(fd as RawFd, &count.to_le_bytes())?;
    }
    Ok(fd)
}

fn make_timerfd(
    subject: &Subject<'_>,
    state: &FileDataEntry,
    flags: u32,
    warn: &mut dyn FnMut(String),
) -> Result<usize, Errno> {
    const TFD_TIMER_ABSTIME: u32 = 1;
    const CLOCK_REALTIME_ALARM: u32 = 8;
    let timer = Timerfd::read_from_bytes(&state.bytes).map_err(|_| Errno::EINVAL)?;
    let clock = timer.clock.get();
    // SAFETY: takes numbers.
    let fd = unsafe { call!(nr::TIMERFD_CREATE, clock, flags) }?;
    const SECOND: u128 = 1_000_000_000;
    let time = |sec: u64, nsec: u32| u128::from(sec) * SECOND + u128::from(nsec);
    let left = time(timer.left_sec.get(), timer.left_nsec.get());
    let every = time(timer.every_sec.get(), timer.every_nsec.get());
    let ticks = u128::from(timer.ticks.get());
    if left == 0 && ticks == 0 {
        return Ok(fd);
    }
    // A time of day stays that time; what was to come after some time comes after what was left of it.
    let of_day =
        timer.flags.get() & TFD_TIMER_ABSTIME != 0 && matches!(clock, process::CLOCK_REALTIME | CLOCK_REALTIME_ALARM);
    let now = if of_day {
        time(subject.image.header.time.get(), subject.image.header.time_nsec.get())
    } else {
        let now = process::clock(clock);
        time(now.sec as u64, now.nsec as u32)
    };
    // Expirations that nobody has read lie in the past: the kernel counts them again.
    let missed = if every == 0 { now * ticks.min(1) } else { every.saturating_mul(ticks) };
    let first = (now + left).saturating_sub(missed).max(1);
    if every != 0 && now + left < missed {
        warn(format!("fd {}: some of {ticks} expirations of the timer are lost", subject.fds()));
    }
    let seconds = |time: u128| [(time / SECOND) as u64, (time % SECOND) as u64];
    let setting = [seconds(every), seconds(first)];
    let how = if of_day { timer.flags.get() } else { TFD_TIMER_ABSTIME };
    // SAFETY: `setting` is a struct __kernel_itimerspec.
    unsafe { call!(nr::TIMERFD_SETTIME64, fd, how, setting.as_ptr(), 0) }?;
    debug_assert_eq!(state.data.what.get(), data_kind::TIMERFD);
    Ok(fd)
}
