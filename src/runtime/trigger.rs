//! [SIGNAL] The handler: from a trigger signal to a checkpoint and back.
#![allow(unsafe_code)] // Called by the kernel with raw pointers; moves to another stack.

use super::requests::{self, Waiting};
use super::{checkpoint, config, sections};
use crate::arch::entry;
use crate::capture::threads::Frame;
use crate::capture::{failure::Failure, scratch, waits};
use crate::control::{CALL_MARK, Token};
use crate::interpose::guard::{self, Whose};
use crate::sys::abi::{SI_QUEUE, Siginfo};
use crate::sys::{Errno, process, restarted};
use core::sync::atomic::Ordering;

/// What the signal asked for.
#[derive(Clone, Copy)]
pub struct Request {
    pub signal: u32,
    /// Somebody waits for an answer.
    pub token: Option<Token>,
    /// `ckpt_now` was called: its result goes into eax of the frame.
    pub by_call: bool,
    pub stop: bool,
    pub frame: Frame,
    /// CLOCK_MONOTONIC when the handler was entered, nanoseconds.
    pub started: u64,
    /// Start of the scratch memory.
    scratch: usize,
}

/// Called by `selfckpt_signal_entry` on the stack that the kernel chose, which may be tiny. Returns the handler of the
/// program that is to have the signal in our place, or 0.
pub extern "C" fn selfckpt_on_signal(signal: i32, info: *const Siginfo, ucontext: usize) -> usize {
    // SAFETY: the kernel passes a siginfo to an SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: the kernel's arguments, and this handler has not returned.
    match unsafe { guard::sort(signal as u32, info, ucontext) } {
        Whose::Ours => {}
        Whose::Done => {
            leave_no_trace(ucontext);
            return 0;
        }
        Whose::Program(handler) => return handler as usize,
    }
    // Of a signal that the program uses too, the action has the program's mask.
    process::sigprocmask(process::SIG_SETMASK, u64::MAX);
    serve_signal(signal as u32, info, ucontext);
    if !is_call(info) {
        leave_no_trace(ucontext);
    }
    0
}

/// The system call that the signal has interrupted goes on, whatever has become of the request.
fn leave_no_trace(ucontext: usize) {
    // SAFETY: the kernel passes the ucontext of its frame.
    let frame = unsafe { Frame::new(ucontext) };
    waits::settle_alone(frame, guard::held() & !guard::shared());
}

/// `ckpt_now` was called.
fn is_call(info: &Siginfo) -> bool {
    info.code() == SI_QUEUE && info.value() == CALL_MARK
}

fn serve_signal(signal: u32, info: &Siginfo, ucontext: usize) {
    let epoch = restarted::epoch();
    let by_call = is_call(info);
    let token = if info.code() == SI_QUEUE { Token::from_value(info.value()) } else { None };
    // SAFETY: the kernel passes the ucontext of its frame.
    let frame = unsafe { Frame::new(ucontext) };
    let mut request = Request { signal, token, by_call, stop: false, frame, started: process::now(), scratch: 0 };
    if process::shares_memory_with_parent() {
        // A child of vfork, soon another program: what it noted here would be its parent's.
        if by_call {
            frame.set_eax((-Errno::EOPNOTSUPP.0) as u32);
        }
        return;
    }
    if config::BLOCKED.load(Ordering::Relaxed) != 0 {
        refuse_blocked(&request);
        return;
    }
    if !by_call && sections::serve_around(signal, info, &frame, epoch) {
        return;
    }
    if restarted::epoch() != epoch {
        // It stood here when the image was taken, which has served it.
        return;
    }
    if !config::try_begin() {
        // Another thread is at it. A command asks again until it gets an answer, and so does `ckpt_now`.
        if request.by_call {
            request.frame.set_eax((-Errno::EINPROGRESS.0) as u32);
        } else if request.token.is_none() {
            requests::leave_to_other(request.signal, epoch, config::is_busy);
        }
        return;
    }
    match scratch::map() {
        Ok(start) => {
            request.scratch = start;
            // SAFETY: the mapping is fresh and its stack large; `request` outlives the call.
            unsafe { entry::call_on_stack(scratch::stack_top(start), on_own_stack, &raw mut request as usize) };
            scratch::unmap(start);
        }
        Err(errno) => report_no_memory(&request, errno),
    }
    config::end();
    requests::raise_missed();
}

/// Apart from the handler, whose stack may be small: a failure takes a kilobyte.
#[cold]
#[inline(never)]
fn report_no_memory(request: &Request, errno: Errno) {
    let failure = crate::capture::failure::fail!(errno, "cannot map memory for the checkpoint");
    checkpoint::report_failure(request, &Waiting::new(), &failure);
}

extern "C" fn on_own_stack(request: usize) {
    // SAFETY: `selfckpt_on_signal` passes its own request and waits.
    let request = unsafe { &mut *(request as *mut Request) };
    // SAFETY: the mapping is fresh and this is its only user.
    let mut tables = unsafe { scratch::tables(request.scratch) };
    checkpoint::serve(request, &mut tables);
}

/// Inside `ckpt_block`: a call fails, a request waits for `ckpt_unblock`.
#[inline(never)]
fn refuse_blocked(request: &Request) {
    if request.by_call {
        request.frame.set_eax((-Errno::EBUSY.0) as u32);
        return;
    }
    requests::defer(request.signal);
    if request.token.is_some() {
        let failure: Failure =
            crate::capture::failure::refuse!(Errno::EBUSY, "the program is in a section that it has blocked");
        checkpoint::report_failure(request, &Waiting::new(), &failure);
    }
}

/// Whether the signal is still handled by us.
pub fn is_installed(signal: u32) -> bool {
    process::sigaction(signal, None).is_ok_and(|action| action.handler == entry::signal_entry() as u32)
}
