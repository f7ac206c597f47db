//! [NORMAL] Waiting with a mask, and waiting for signals: a trigger signal is neither blocked nor eaten by it. And waits
//! of which the kernel does not tell when they began, with a note of that.
//!
//! These are points where a thread can be cancelled, so libc's own functions do the waiting.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::guard::shared;
use super::next::call_next;
use super::{Sigset, clock, errno, fail};
use crate::arch::began::Began;
use crate::sys::{Errno, restarted};
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};

/// Waits for signals by `wait`, anew when a trigger signal has turned out to be the program's own meanwhile.
///
/// # Safety
/// `set` points to a set.
unsafe fn wait_for(set: *const Sigset, mut wait: impl FnMut(&Sigset) -> c_int) -> c_int {
    loop {
        let before = shared();
        // SAFETY: by the contract above.
        let reduced = unsafe { Sigset::without_triggers(set) };
        let result = wait(&reduced);
        if result != -1 || errno() != Errno::EINTR || shared() == before {
            return result;
        }
    }
}

/// # Safety
/// As sigwaitinfo(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigwaitinfo(set: *const Sigset, info: *mut c_void) -> c_int {
    let wait = |set: &Sigset| {
        call_next!(
            SIGWAITINFO as fn(*const Sigset, *mut c_void) -> c_int,
            (core::ptr::from_ref(set), info),
            else fail(Errno::ENOSYS)
        )
    };
    // SAFETY: by the contract above.
    unsafe { wait_for(set, wait) }
}

/// # Safety
/// As sigwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigwait(set: *const Sigset, signal: *mut c_int) -> c_int {
    let before = errno();
    let result = loop {
        // SAFETY: by the contract above. No information is asked for.
        match unsafe { sigwaitinfo(set, null_mut()) } {
            -1 if errno() == Errno::EINTR => {}
            -1 => break errno().0,
            found => {
                // SAFETY: by the contract above.
                unsafe { *signal = found };
                break 0;
            }
        }
    };
    fail(before);
    result
}

/// # Safety
/// As sigtimedwait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigtimedwait(set: *const Sigset, info: *mut c_void, timeout: *const c_void) -> c_int {
    let wait = |set: &Sigset| {
        noted(!timeout.is_null(), [core::ptr::from_ref(set) as usize, info as usize], || {
            call_next!(
                SIGTIMEDWAIT as fn(*const Sigset, *mut c_void, *const c_void) -> c_int,
                (core::ptr::from_ref(set), info, timeout),
                else fail(Errno::ENOSYS)
            )
        })
    };
    // SAFETY: by the contract above.
    unsafe { wait_for(set, wait) }
}

/// # Safety
/// As sigtimedwait(2), with 64-bit times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigtimedwait64(set: *const Sigset, info: *mut c_void, timeout: *const c_void) -> c_int {
    let wait = |set: &Sigset| {
        noted(!timeout.is_null(), [core::ptr::from_ref(set) as usize, info as usize], || {
            call_next!(
                SIGTIMEDWAIT64 as fn(*const Sigset, *mut c_void, *const c_void) -> c_int,
                (core::ptr::from_ref(set), info, timeout),
                else fail(Errno::ENOSYS)
            )
        })
    };
    // SAFETY: by the contract above.
    unsafe { wait_for(set, wait) }
}

/// # Safety
/// As sigsuspend(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigsuspend(set: *const Sigset) -> c_int {
    // SAFETY: by the contract above.
    let reduced = unsafe { Sigset::without_triggers(set) };
    call_next!(SIGSUSPEND as fn(*const Sigset) -> c_int, (&raw const reduced), else fail(Errno::ENOSYS))
}

/// # Safety
/// As sigsuspend(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigsuspend(set: *const Sigset) -> c_int {
    // SAFETY: by the contract above.
    unsafe { sigsuspend(set) }
}

/// Old BSD: waits with the first 32 signals as given.
#[unsafe(no_mangle)]
pub extern "C" fn sigpause(mask: c_int) -> c_int {
    let set = Sigset::new(u64::from(mask as u32));
    // SAFETY: a set of our own.
    unsafe { sigsuspend(&raw const set) }
}

/// Both kinds of sigpause: `is_signal` says whether the first argument is one signal to let through (System V).
#[unsafe(no_mangle)]
pub extern "C" fn __sigpause(mask_or_signal: c_int, is_signal: c_int) -> c_int {
    if is_signal == 0 { sigpause(mask_or_signal) } else { __xpg_sigpause(mask_or_signal) }
}

/// System V: waits with the mask as it is but for one signal.
#[unsafe(no_mangle)]
pub extern "C" fn __xpg_sigpause(signal: c_int) -> c_int {
    if !(1..=64).contains(&signal) {
        return fail(Errno::EINVAL);
    }
    let mask = super::masks::exchange(crate::sys::process::SIG_BLOCK, None);
    let set = Sigset::new(mask & !super::guard::bit(signal as u32));
    // SAFETY: a set of our own.
    unsafe { sigsuspend(&raw const set) }
}

/// # Safety
/// As signalfd(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signalfd(fd: c_int, set: *const Sigset, flags: c_int) -> c_int {
    // SAFETY: by the contract above.
    let reduced = unsafe { Sigset::without_triggers(set) };
    call_next!(
        SIGNALFD as fn(c_int, *const Sigset, c_int) -> c_int,
        (fd, &raw const reduced, flags),
        else fail(Errno::ENOSYS)
    )
}

type Pointer = *mut c_void;

/// Calls `wait`, with two of its arguments, and with a note of when it began if it `is_limited`.
///
/// A thread that is cancelled in it leaves the note as it is, which [`Began`] is made for.
#[inline(always)]
pub fn noted<R>(is_limited: bool, call: [usize; 2], wait: impl FnOnce() -> R) -> R {
    if !is_limited {
        return wait();
    }
    let mut note = MaybeUninit::<Began>::uninit();
    let place = note.as_mut_ptr();
    // Before the clock is read: that of an earlier program would be taken for this one's.
    let epoch = restarted::epoch();
    let began = Began::new(place as u32, epoch, call.map(|argument| argument as u32), clock::now());
    // Volatile: a checkpoint reads it behind the compiler's back.
    // SAFETY: our own.
    unsafe { place.write_volatile(began) };
    let result = wait();
    // What is left of it is no note.
    // SAFETY: our own.
    unsafe { place.cast::<u32>().write_volatile(0) };
    result
}

/// `struct timespec` of a length of time, as 32-bit functions take it.
type Limit = [i32; 2];

/// usleep(3), by a nanosleep that asks for the rest.
#[unsafe(no_mangle)]
pub extern "C" fn usleep(microseconds: u32) -> c_int {
    let length: Limit = [(microseconds / 1_000_000) as i32, (microseconds % 1_000_000 * 1000) as i32];
    let mut rest: Limit = [0; 2];
    call_next!(
        NANOSLEEP as fn(*const Limit, *mut Limit) -> c_int,
        (&raw const length, &raw mut rest),
        else fail(Errno::ENOSYS)
    )
}

/// The set that the kernel may have; none if there is none.
///
/// # Safety
/// `set` is null or points to a set.
unsafe fn reduced(set: *const Sigset) -> Option<Sigset> {
    // SAFETY: by the contract above.
    (!set.is_null()).then(|| unsafe { Sigset::without_triggers(set) })
}

/// Functions of libc that are given a mask that the kernel may have, or whose waits are noted by two of their arguments
/// if they have a limit.
macro_rules! waits {
    ($(
        $(#[$doc:meta])*
        $name:ident = $next:ident($($arg:ident: $type:ty),*)
        $(, masked by $mask:ident)?
        $(, noted by $first:ident and $second:ident if $is_limited:expr)?;
    )*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the function of libc of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> c_int {
            $(
                // SAFETY: by the contract above.
                let reduced = unsafe { reduced($mask) };
                let $mask = reduced.as_ref().map_or(null(), core::ptr::from_ref);
            )?
            let wait = || call_next!($next as fn($($type),*) -> c_int, ($($arg),*), else fail(Errno::ENOSYS));
            $(let wait = || noted($is_limited, [$first as usize, $second as usize], wait);)?
            wait()
        }
    )*};
}

type Set = *const Sigset;

waits! {
    /// poll(2)
    poll = POLL(fds: Pointer, count: usize, milliseconds: c_int), noted by fds and count if milliseconds > 0;
    /// poll(2) that knows the size of `fds`
    __poll_chk = POLL_CHK(fds: Pointer, count: usize, milliseconds: c_int, size: usize),
        noted by fds and count if milliseconds > 0;
    /// ppoll(2)
    ppoll = PPOLL(fds: Pointer, count: usize, limit: Pointer, mask: Set), masked by mask;
    /// ppoll(2) with 64-bit times
    __ppoll64 = PPOLL64(fds: Pointer, count: usize, limit: Pointer, mask: Set), masked by mask;
    /// ppoll(2) that knows the size of `fds`
    __ppoll_chk = PPOLL_CHK(fds: Pointer, count: usize, limit: Pointer, mask: Set, size: usize), masked by mask;
    /// pselect(2)
    pselect = PSELECT(count: c_int, read: Pointer, write: Pointer, except: Pointer, limit: Pointer, mask: Set),
        masked by mask;
    /// pselect(2) with 64-bit times
    __pselect64 = PSELECT64(count: c_int, read: Pointer, write: Pointer, except: Pointer, limit: Pointer, mask: Set),
        masked by mask;
    /// epoll_wait(2)
    epoll_wait = EPOLL_WAIT(epoll: c_int, events: Pointer, most: c_int, milliseconds: c_int),
        noted by epoll and events if milliseconds > 0;
    /// epoll_pwait(2)
    epoll_pwait = EPOLL_PWAIT(epoll: c_int, events: Pointer, most: c_int, milliseconds: c_int, mask: Set),
        masked by mask, noted by epoll and events if milliseconds > 0;
    /// epoll_pwait2(2)
    epoll_pwait2 = EPOLL_PWAIT2(epoll: c_int, events: Pointer, most: c_int, limit: Pointer, mask: Set),
        masked by mask, noted by epoll and events if !limit.is_null();
    /// epoll_pwait2(2) with 64-bit times
    __epoll_pwait2_time64 = EPOLL_PWAIT2_64(epoll: c_int, events: Pointer, most: c_int, limit: Pointer, mask: Set),
        masked by mask, noted by epoll and events if !limit.is_null();
    /// semtimedop(2)
    semtimedop = SEMTIMEDOP(set: c_int, ops: Pointer, count: usize, limit: Pointer),
        noted by set and ops if !limit.is_null();
    /// semtimedop(2) with 64-bit times
    __semtimedop64 = SEMTIMEDOP64(set: c_int, ops: Pointer, count: usize, limit: Pointer),
        noted by set and ops if !limit.is_null();
}
