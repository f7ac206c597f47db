//! [SIGNAL] Pending signals, read by a tracer and left where they are: taken and queued again, they would be overtaken by
//! those that come in between.
#![allow(unsafe_code)] // ptrace(2).

use super::debug_registers::{PTRACE_DETACH, as_tracer, await_stop, ptrace, seize};
use crate::sys::Errno;
use crate::sys::abi::Siginfo;

const PTRACE_PEEKSIGINFO: u32 = 0x4209;

/// `struct ptrace_peeksiginfo_args`.
#[repr(C)]
struct Wanted {
    from: u64,
    flags: u32,
    count: i32,
}

/// Tells `put` of each signal that is pending for thread `tid` alone, and then, with `true`, for the process, if it is to
/// be looked at too.
///
/// # Errors
/// The thread cannot be traced, or the kernel does not tell (before Linux 3.10).
///
/// # Safety
/// As `look_at_threads`.
pub unsafe fn peek(
    stack_top: usize,
    tid: u32,
    with_process: bool,
    put: &mut dyn FnMut(bool, &Siginfo),
) -> Result<(), Errno> {
    let mut work = || {
        seize(tid)?;
        let result = await_stop(tid).and_then(|()| {
            read_queue(tid, false, put)?;
            if with_process { read_queue(tid, true, put) } else { Ok(()) }
        });
        let _ = ptrace(PTRACE_DETACH, tid, 0, 0);
        result
    };
    // SAFETY: by the contract above.
    unsafe { as_tracer(stack_top, &mut work) }
}

fn read_queue(tid: u32, of_process: bool, put: &mut dyn FnMut(bool, &Siginfo)) -> Result<(), Errno> {
    let mut infos = [const { Siginfo::new() }; 32];
    let mut wanted = Wanted { from: 0, flags: of_process.into(), count: infos.len() as i32 };
    loop {
        let found = ptrace(PTRACE_PEEKSIGINFO, tid, &raw const wanted as usize, infos.as_mut_ptr() as usize)?;
        for info in infos.get(..found).unwrap_or(&[]) {
            put(of_process, info);
        }
        wanted.from += found as u64;
        if found < infos.len() {
            return Ok(());
        }
    }
}
