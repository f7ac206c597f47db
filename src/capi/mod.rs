//! [NORMAL] `ckpt_*` for include/selfckpt.h: converts and delegates.
#![allow(unsafe_code)] // Exports C symbols; sets errno.

use crate::runtime::config::{BLOCKED, GENERATION, READY};
use crate::runtime::{call, config, requests, sections, trigger, writer};
use crate::sys::Errno;
use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

fn fail(errno: Errno) -> c_int {
    // SAFETY: libc returns the address of the calling thread's errno.
    unsafe { *libc::__errno_location() = errno.0 };
    -1
}

/// Takes a checkpoint now: the generation, 0 after a restart from it, or -1 with errno.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_now() -> c_int {
    if READY.load(Ordering::Relaxed) == 0 {
        return fail(Errno::ENOSYS);
    }
    if BLOCKED.load(Ordering::Relaxed) != 0 {
        return fail(Errno::EBUSY);
    }
    let Some(signal) = config::trigger_signal() else { return fail(Errno::EOPNOTSUPP) };
    if !trigger::is_installed(signal) {
        return fail(Errno::EOPNOTSUPP);
    }
    let result = sections::call_around(|| call::checkpoint_now(signal));
    if result < 0 { fail(Errno(-result)) } else { result }
}

/// 1: the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_available() -> c_int {
    READY.load(Ordering::Relaxed) as c_int
}

/// Newest committed generation, 0 if none.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_generation() -> c_int {
    writer::look();
    GENERATION.load(Ordering::Relaxed) as c_int
}

/// Starts a section that must not be cut.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_block() -> c_int {
    BLOCKED.fetch_add(1, Ordering::AcqRel);
    0
}

/// Ends it. A request that came meanwhile is served when the last one ends.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_unblock() -> c_int {
    let depth = BLOCKED.load(Ordering::Acquire);
    if depth == 0 {
        return fail(Errno::EINVAL);
    }
    if BLOCKED.fetch_sub(1, Ordering::SeqCst) == 1 {
        requests::raise_deferred();
    }
    0
}

fn done(result: Result<(), Errno>) -> c_int {
    result.map_or_else(fail, |()| 0)
}

/// Calls `function(event, arg)` from now on, around every checkpoint: `event` says when.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_on(event: c_int, function: Option<sections::Function>, arg: *mut c_void) -> c_int {
    let Some(function) = function else { return fail(Errno::EINVAL) };
    done(sections::add_hook(event as u32, function, arg as usize))
}

/// Memory that need not be saved: its whole pages read as zeros after a restart.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_exclude(addr: *mut c_void, len: usize) -> c_int {
    done(sections::exclude(addr as usize, len))
}

/// Memory that is to be saved again.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_include(addr: *mut c_void, len: usize) -> c_int {
    done(sections::include(addr as usize, len))
}
