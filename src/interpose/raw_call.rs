//! [NORMAL] syscall(2), as far as ids are concerned: many programs get the id of a thread by it, since libc has had no
//! function for that for long. And waits of which the kernel does not tell when they began.
#![allow(unsafe_code)] // A function that C calls with whatever a system call takes.

use super::fail;
use super::ids::{Event, event_to_kernel, kill, own_tid, tgkill, to_kernel_int, to_program_int};
use super::next;
use super::waits::noted;
use crate::arch::resume::timeout;
use crate::sys::ids::{changed, own_pid};
use crate::sys::{Errno, nr, syscall as enter};
use core::ffi::c_int;

type Call = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize) -> c_int;

/// # Safety
/// As syscall(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: usize,
    a1: usize,
    a2: usize,
    a3: usize,
    a4: usize,
    a5: usize,
    a6: usize,
) -> c_int {
    if changed() {
        // SAFETY: by the contract above.
        if let Some(result) = unsafe { translated(number as u32, [a1, a2, a3, a4, a5, a6]) } {
            return result;
        }
    }
    let args = [a1, a2, a3, a4, a5, a6].map(|arg| arg as u32);
    let limit = timeout(number as u32, args);
    // Of sockets that have limits, libc's function leads to a note of its own.
    let is_limited = limit.is_some_and(|timeout| timeout.is_told_by_start() && !timeout.is_of_socket());
    // SAFETY: libc's function of this name.
    noted(is_limited, [a1, a2], || match unsafe { next::SYSCALL.function::<Call>() } {
        // SAFETY: the caller's arguments.
        Some(function) => unsafe { function(number, a1, a2, a3, a4, a5, a6) },
        None => fail(Errno::ENOSYS),
    })
}

/// A call that carries ids, with those of the kernel; `None` for all others.
///
/// # Safety
/// As syscall(2).
#[cold]
#[inline(never)]
unsafe fn translated(number: u32, mut args: [usize; 6]) -> Option<c_int> {
    const PROCESS: usize = 0;
    const ONE_PROCESS: usize = 1;
    let [first, second, third, ..] = &mut args;
    let map = |id: &mut usize| *id = to_kernel_int(*id as c_int) as usize;
    let event; // Lives until the call has been made.
    match number {
        nr::GETPID => return Some(own_pid() as c_int),
        nr::GETTID => return Some(own_tid()),
        nr::SET_TID_ADDRESS | nr::GETPPID | nr::GETPGRP => {}
        nr::KILL => return Some(kill(*first as c_int, *second as c_int)),
        nr::TGKILL => return Some(tgkill(*first as c_int, *second as c_int, *third as c_int)),
        nr::TKILL
        | nr::RT_SIGQUEUEINFO
        | nr::GETPGID
        | nr::GETSID
        | nr::SCHED_SETPARAM
        | nr::SCHED_GETPARAM
        | nr::SCHED_SETSCHEDULER
        | nr::SCHED_GETSCHEDULER
        | nr::SCHED_RR_GET_INTERVAL
        | nr::SCHED_SETAFFINITY
        | nr::SCHED_GETAFFINITY
        | nr::SCHED_SETATTR
        | nr::SCHED_GETATTR
        | nr::GET_ROBUST_LIST
        | nr::PRLIMIT64
        | nr::PIDFD_OPEN => map(first),
        nr::RT_TGSIGQUEUEINFO | nr::SETPGID => {
            map(first);
            map(second);
        }
        nr::GETPRIORITY | nr::SETPRIORITY if *first == PROCESS => map(second),
        nr::IOPRIO_GET | nr::IOPRIO_SET if *first == ONE_PROCESS => map(second),
        nr::TIMER_CREATE => {
            // SAFETY: by the contract above.
            event = unsafe { event_to_kernel(*second as *const Event) };
            *second = core::ptr::from_ref(event.as_ref()?) as usize;
        }
        _ => return None,
    }
    // SAFETY: by the contract above; ids alone have changed.
    let result = unsafe { enter(number, args) };
    let result = match result {
        Ok(value) => value as c_int,
        Err(errno) => return Some(fail(errno)),
    };
    Some(match number {
        nr::SET_TID_ADDRESS => own_tid(),
        nr::GETPPID | nr::GETPGRP | nr::GETPGID | nr::GETSID => to_program_int(result),
        _ => result,
    })
}
