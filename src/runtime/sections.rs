//! [NORMAL, SIGNAL] What the program says of checkpoints by the C API: memory to leave out, and functions to call
//! around a checkpoint.
//!
//! The functions run on the thread that takes the checkpoint, with the program's signal mask, outside of the
//! checkpoint itself. For a request that comes by signal the handler calls them and asks for the checkpoint from
//! within, as `ckpt_now` does: a restarted thread comes back here, calls what is for a restart, and only then returns
//! to what the signal had interrupted.
#![allow(unsafe_code)] // Calls the program's functions.

use super::requests;
use crate::capture::threads::Frame;
use crate::capture::{excluded, waits};
use crate::interpose::guard;
use crate::sys::abi::Siginfo;
use crate::sys::{Errno, process, restarted};
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// `enum ckpt_event` of include/selfckpt.h.
pub mod event {
    pub const CHECKPOINT: u32 = 0;
    pub const CONTINUE: u32 = 1;
    pub const RESTART: u32 = 2;
}

pub type Function = unsafe extern "C" fn(c_int, *mut c_void);

struct Hook {
    event: AtomicU32,
    arg: AtomicUsize,
    /// 0 until the rest is there.
    function: AtomicUsize,
}

const MAX_HOOKS: usize = 64;
static HOOKS: [Hook; MAX_HOOKS] =
    [const { Hook { event: AtomicU32::new(0), arg: AtomicUsize::new(0), function: AtomicUsize::new(0) } }; MAX_HOOKS];
static HOOK_COUNT: AtomicUsize = AtomicUsize::new(0);
/// The thread whose functions are being called, 0 if none is.
static CALLING: AtomicU32 = AtomicU32::new(0);
/// The thread that has called those before a checkpoint and asks for it by signal.
static ASKING: AtomicU32 = AtomicU32::new(0);

/// Adds a function.
pub fn add_hook(event: u32, function: Function, arg: usize) -> Result<(), Errno> {
    if event > event::RESTART {
        return Err(Errno::EINVAL);
    }
    let index = HOOK_COUNT.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MAX_HOOKS).then_some(n + 1));
    let hook = index.ok().and_then(|index| HOOKS.get(index)).ok_or(Errno(12))?; // ENOMEM
    hook.event.store(event, Ordering::Relaxed);
    hook.arg.store(arg, Ordering::Relaxed);
    hook.function.store(function as usize, Ordering::Release);
    Ok(())
}

/// Whether the program has any.
pub fn has_hooks() -> bool {
    HOOK_COUNT.load(Ordering::Acquire) != 0
}

fn call_hooks(event: u32) {
    for hook in HOOKS.iter().take(HOOK_COUNT.load(Ordering::Acquire)) {
        let function = hook.function.load(Ordering::Acquire);
        if function == 0 || hook.event.load(Ordering::Relaxed) != event {
            continue;
        }
        // SAFETY: `add_hook` stored a function of this type; the argument is the program's own.
        unsafe {
            let function: Function = core::mem::transmute(function);
            function(event as c_int, hook.arg.load(Ordering::Relaxed) as *mut c_void);
        }
    }
}

/// Makes this thread the one that calls the functions; false if another one is.
fn begin_calling() -> bool {
    let me = process::gettid();
    let Err(other) = CALLING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) else { return true };
    if other == me {
        return false;
    }
    // A thread of before a fork or restart is none.
    process::tgkill(process::getpid(), other, 0) == Err(Errno::ESRCH)
        && CALLING.compare_exchange(other, me, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// The last of the functions has returned, in the program that goes on or in a restarted one.
fn end_calling(epoch: u32) {
    let restarted = restarted::epoch() != epoch;
    call_hooks(if restarted { event::RESTART } else { event::CONTINUE });
    CALLING.store(0, Ordering::SeqCst);
    // What came meanwhile.
    requests::raise_missed();
}

/// Takes a checkpoint by `take`, with the functions around it. They are left out where they are being called already:
/// one of them has asked for it.
pub fn call_around<T>(take: impl FnOnce() -> T) -> T {
    if !has_hooks() || !begin_calling() {
        return take();
    }
    let epoch = restarted::epoch();
    call_hooks(event::CHECKPOINT);
    let result = take();
    end_calling(epoch);
    result
}

/// In the handler of a request that came by signal, in `epoch`: calls the functions, and asks for the checkpoint between
/// them. False: there is nothing to call, and the caller serves it.
pub fn serve_around(signal: u32, info: &Siginfo, frame: &Frame, epoch: u32) -> bool {
    if !has_hooks() || ASKING.load(Ordering::Acquire) == process::gettid() {
        return false;
    }
    if !begin_calling() {
        // A command asks again. What came by signal alone is raised when the functions have returned.
        requests::leave_to_other(signal, epoch, || CALLING.load(Ordering::SeqCst) != 0);
        return true;
    }
    let interrupted = waits::Outer::begin(*frame, guard::held() & !guard::shared());
    process::sigprocmask(process::SIG_SETMASK, frame.sigmask());
    call_hooks(event::CHECKPOINT);
    ASKING.store(process::gettid(), Ordering::Release);
    // It is delivered before the call returns. Failure means that too many signals are queued: no checkpoint.
    let _ = process::queue_signal(process::getpid(), Some(process::gettid()), info);
    ASKING.store(0, Ordering::Release);
    end_calling(epoch);
    process::sigprocmask(process::SIG_SETMASK, u64::MAX);
    interrupted.end(restarted::epoch() != epoch);
    true
}

/// Changes what is left out of images, so that no checkpoint sees half of it: one thread at a time, and a
/// thread that blocks even the stop signal is waited for.
fn change_excluded(change: impl FnOnce() -> bool) -> Result<(), Errno> {
    static CHANGING: AtomicU32 = AtomicU32::new(0);
    let old = process::sigprocmask(process::SIG_SETMASK, u64::MAX);
    while CHANGING.swap(1, Ordering::Acquire) != 0 {
        process::yield_cpu();
    }
    let done = change();
    CHANGING.store(0, Ordering::Release);
    process::sigprocmask(process::SIG_SETMASK, old);
    if done { Ok(()) } else { Err(Errno(12)) } // ENOMEM
}

pub fn exclude(start: usize, len: usize) -> Result<(), Errno> {
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    change_excluded(|| excluded::exclude(start, end))
}

pub fn include(start: usize, len: usize) -> Result<(), Errno> {
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    change_excluded(|| excluded::include(start, end))
}
