//! [NORMAL] The kernel's CLOCK_MONOTONIC at the cost of the vdso, whatever stands in front of libc's functions for the
//! time, and of the vdso's.
#![allow(unsafe_code)] // A function of the vdso.

use crate::sys::abi::Timespec64;
use crate::sys::{clock_front, process};
use core::ffi::c_int;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

type ClockGettime = unsafe extern "C" fn(u32, *mut Timespec64) -> c_int;

static CLOCK_GETTIME: AtomicUsize = AtomicUsize::new(0);

/// By the constructor. Before Linux 5.3 there is none, and [`now`] asks the kernel.
pub fn resolve() {
    // SAFETY: a string with its NUL. Nothing is loaded: the vdso is there, by this name, or not.
    let vdso = unsafe { libc::dlopen(c"linux-gate.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if !vdso.is_null() {
        // SAFETY: as above.
        let found = unsafe { libc::dlsym(vdso, c"__vdso_clock_gettime64".as_ptr()) };
        CLOCK_GETTIME.store(found as usize, Relaxed);
    }
}

/// The vdso's `clock_gettime64`, for the clocks as the kernel has them; 0 where there is none.
pub fn function() -> usize {
    match clock_front::clock_gettime64() {
        0 => CLOCK_GETTIME.load(Relaxed),
        behind_the_front => behind_the_front,
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now() -> u64 {
    let address = function();
    if address == 0 {
        return process::now();
    }
    // SAFETY: the kernel's function of this type. A restart keeps its address, or makes it lead there.
    let read = unsafe { core::mem::transmute::<usize, ClockGettime>(address) };
    let mut time = Timespec64::default();
    // SAFETY: `time` takes the time.
    if unsafe { read(process::CLOCK_MONOTONIC, &raw mut time) } != 0 {
        return process::now();
    }
    time.nanoseconds()
}
