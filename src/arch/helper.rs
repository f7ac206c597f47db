//! [SIGNAL] A short-lived process that works for this one and has ended when the work is done.
//!
//! It shares our memory, so that starting it costs no page tables, and sends no signal when it ends, so that the program
//! never learns of it.
#![allow(unsafe_code)] // A child on a stack of ours.

use super::entry;
use crate::sys::Errno;
use crate::sys::process::{self, CLONE_FILES, CLONE_UNTRACED, CLONE_VM, WCLONE};

struct Job<'a> {
    work: &'a mut dyn FnMut(),
    parent: u32,
    done: bool,
}

extern "C" fn work(job: usize) -> i32 {
    const SIGKILL: usize = 9;
    // SAFETY: the address of a Job whose owner waits until the helper has ended.
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

/// Starts a helper. `job` must stay where it is until the helper has been waited for.
///
/// # Safety
/// The memory below `stack_top` is writable, unused and large enough for the work.
unsafe fn start(flags: u32, stack_top: usize, job: &mut Job<'_>) -> Result<u32, Errno> {
    let address = core::ptr::from_mut(job) as usize;
    // SAFETY: the stack is the caller's promise.
    unsafe { entry::clone(CLONE_VM | CLONE_UNTRACED | flags, stack_top, work, address) }
}

/// Waits for the helper's end. Whether it has done its work.
fn finish(helper: u32, job: &Job<'_>) -> Result<bool, Errno> {
    process::wait4(helper, WCLONE)?;
    // The helper wrote behind the compiler's back.
    Ok(core::hint::black_box(job).done)
}

/// Runs `work` in a helper that has descriptors of its own, and waits for its end.
///
/// # Errors
/// The helper could not be started, or ended before its work did.
///
/// # Safety
/// The memory below `stack_top` is writable, unused and large enough for `work`.
pub unsafe fn run(stack_top: usize, work: &mut dyn FnMut()) -> Result<(), Errno> {
    let mut job = Job { work, parent: process::getpid(), done: false };
    // SAFETY: by the contract above; the job outlives the helper, which is waited for.
    let helper = unsafe { start(0, stack_top, &mut job) }?;
    if finish(helper, &job)? { Ok(()) } else { Err(Errno::EIO) }
}

/// What became of work that a helper was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// There was no helper.
    NotStarted,
    /// The helper ended before its work did: that is half done.
    Broken,
}

/// Does `here` while a helper with the same descriptors does `work`, if there can be one, and waits for its end.
///
/// # Safety
/// The memory below `stack_top` is writable, unused and large enough for `work`; what either changes is nothing that the
/// other one looks at.
pub unsafe fn beside(stack_top: usize, work: &mut dyn FnMut(), here: &mut dyn FnMut()) -> Outcome {
    let mut job = Job { work, parent: process::getpid(), done: false };
    // SAFETY: by the contract above; the job outlives the helper, which is waited for.
    let helper = unsafe { start(CLONE_FILES, stack_top, &mut job) };
    here();
    match helper.map(|helper| finish(helper, &job)) {
        Ok(Ok(true)) => Outcome::Done,
        Ok(_) => Outcome::Broken,
        Err(_) => Outcome::NotStarted,
    }
}
