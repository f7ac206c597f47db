//! [SIGNAL] A short-lived process that works for this one and has ended when the work is done.
//!
//! It shares our memory, so that starting it costs no page tables, has descriptors of its own, and sends no signal when it
//! ends, so that the program never learns of it.
#![allow(unsafe_code)] // A child on a stack of ours.

use super::entry;
use crate::sys::Errno;
use crate::sys::process::{self, CLONE_UNTRACED, CLONE_VM, WCLONE};

struct Job<'a> {
    work: &'a mut dyn FnMut(),
    parent: u32,
    done: bool,
}

extern "C" fn work(job: usize) -> i32 {
    const SIGKILL: usize = 9;
    // SAFETY: `run` passes the address of its Job, and waits until the helper has ended.
    let job = unsafe { &mut *(job as *mut Job<'_>) };
    // It must not outlive the program: what it has open would stay open, and as a tracer that waits for the first thread
    // of a killed program it would keep the others from ending, and so wait forever.
    let dies = process::prctl(crate::sys::attributes::PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if dies.is_err() || process::getppid() != job.parent {
        return 1;
    }
    (job.work)();
    job.done = true;
    0
}

/// Runs `work` in a helper, and waits for its end.
///
/// # Errors
/// The helper could not be started, or ended before its work did.
///
/// # Safety
/// The memory below `stack_top` is writable, unused and large enough for `work`.
pub unsafe fn run(stack_top: usize, work: &mut dyn FnMut()) -> Result<(), Errno> {
    let mut job = Job { work, parent: process::getpid(), done: false };
    let address = &raw mut job as usize;
    // SAFETY: the stack is the caller's promise; the job outlives the helper, which is waited for.
    let child = unsafe { entry::clone(CLONE_VM | CLONE_UNTRACED, stack_top, self::work, address) }?;
    process::wait4(child, WCLONE)?;
    // The helper wrote behind the compiler's back.
    if core::hint::black_box(&job).done { Ok(()) } else { Err(Errno::EIO) }
}
