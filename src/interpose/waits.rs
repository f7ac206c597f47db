//! [NORMAL] Waiting with a mask, and waiting for signals: a trigger signal is neither blocked nor eaten by it. And waits
//! whose rest the kernel does not tell when they are interrupted, by others of the same effect for which it does.
//!
//! These are points where a thread can be cancelled, so libc's own functions do the waiting.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::guard::shared;
use super::next::call_next;
use super::{Sigset, errno, fail};
use crate::sys::Errno;
use core::ffi::{c_int, c_void};
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
        call_next!(
            SIGTIMEDWAIT as fn(*const Sigset, *mut c_void, *const c_void) -> c_int,
            (core::ptr::from_ref(set), info, timeout),
            else fail(Errno::ENOSYS)
        )
    };
    // SAFETY: by the contract above.
    unsafe { wait_for(set, wait) }
}

/// # Safety
/// As sigtimedwait(2), with 64-bit times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigtimedwait64(set: *const Sigset, info: *mut c_void, timeout: *const c_void) -> c_int {
    let wait = |set: &Sigset| {
        call_next!(
            SIGTIMEDWAIT64 as fn(*const Sigset, *mut c_void, *const c_void) -> c_int,
            (core::ptr::from_ref(set), info, timeout),
            else fail(Errno::ENOSYS)
        )
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

/// Calls `wait` with the set that the kernel may have; without one if there is none.
///
/// # Safety
/// `set` is null or points to a set.
unsafe fn with_mask(set: *const Sigset, wait: impl FnOnce(*const Sigset) -> c_int) -> c_int {
    if set.is_null() {
        return wait(set);
    }
    // SAFETY: by the contract above.
    let reduced = unsafe { Sigset::without_triggers(set) };
    wait(&raw const reduced)
}

macro_rules! waits_with_mask {
    ($($(#[$doc:meta])* $name:ident = $next:ident($($arg:ident: $type:ty),*; mask $(, $more:ident: $more_type:ty)*);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the function of libc of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type,)* mask: *const Sigset $(, $more: $more_type)*) -> c_int {
            let wait = |mask: *const Sigset| {
                call_next!(
                    $next as fn($($type,)* *const Sigset $(, $more_type)*) -> c_int,
                    ($($arg,)* mask $(, $more)*),
                    else fail(Errno::ENOSYS)
                )
            };
            // SAFETY: by the contract above.
            unsafe { with_mask(mask, wait) }
        }
    )*};
}

type Pointer = *mut c_void;

/// `struct timespec` of a length of time, as 32-bit functions take it.
type Limit = [i32; 2];

/// poll's milliseconds; `None`: no limit, or no wait.
fn limit_of(milliseconds: c_int) -> Option<Limit> {
    (milliseconds > 0).then_some([milliseconds / 1000, milliseconds % 1000 * 1_000_000])
}

/// poll(2); with a limit, by ppoll(2).
///
/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: Pointer, count: usize, milliseconds: c_int) -> c_int {
    match limit_of(milliseconds) {
        Some(mut limit) => call_next!(
            PPOLL as fn(Pointer, usize, *mut Limit, *const Sigset) -> c_int,
            (fds, count, &raw mut limit, null()),
            else fail(Errno::ENOSYS)
        ),
        None => call_next!(
            POLL as fn(Pointer, usize, c_int) -> c_int,
            (fds, count, milliseconds),
            else fail(Errno::ENOSYS)
        ),
    }
}

/// The same that knows the size of `fds`.
///
/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(fds: Pointer, count: usize, milliseconds: c_int, size: usize) -> c_int {
    match limit_of(milliseconds) {
        Some(mut limit) => call_next!(
            PPOLL_CHK as fn(Pointer, usize, *mut Limit, *const Sigset, usize) -> c_int,
            (fds, count, &raw mut limit, null(), size),
            else fail(Errno::ENOSYS)
        ),
        None => call_next!(
            POLL_CHK as fn(Pointer, usize, c_int, usize) -> c_int,
            (fds, count, milliseconds, size),
            else fail(Errno::ENOSYS)
        ),
    }
}

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

waits_with_mask! {
    /// ppoll(2)
    ppoll = PPOLL(fds: Pointer, count: usize, timeout: Pointer; mask);
    /// ppoll(2) with 64-bit times
    __ppoll64 = PPOLL64(fds: Pointer, count: usize, timeout: Pointer; mask);
    /// ppoll(2) that knows the size of `fds`
    __ppoll_chk = PPOLL_CHK(fds: Pointer, count: usize, timeout: Pointer; mask, size: usize);
    /// pselect(2)
    pselect = PSELECT(count: c_int, read: Pointer, write: Pointer, except: Pointer, timeout: Pointer; mask);
    /// pselect(2) with 64-bit times
    __pselect64 = PSELECT64(count: c_int, read: Pointer, write: Pointer, except: Pointer, timeout: Pointer; mask);
    /// epoll_pwait(2)
    epoll_pwait = EPOLL_PWAIT(epoll: c_int, events: Pointer, most: c_int, timeout: c_int; mask);
    /// epoll_pwait2(2), whose times have 64 bits
    epoll_pwait2 = EPOLL_PWAIT2(epoll: c_int, events: Pointer, most: c_int, timeout: Pointer; mask);
}
