//! [SIGNAL, NORMAL] The trigger signals: what the program believes of them, and what the kernel has instead.
//!
//! The kernel has our handler for each of them, and no thread blocks them; the program's own settings are kept here
//! (actions) and in each thread's view (masks), and are what it reads back.
//!
//! A program may use such a signal within itself (pthread_kill, timers, raise). Once it has received one of its own,
//! that signal is *shared*: masks that hold it reach the kernel as they are, its action has the flags and the mask
//! that the program gave it, and our handler stands in front of the program's alone, to tell whose a signal is.
#![allow(unsafe_code)] // Reads siginfo and the frame of a handler that is under way.

use crate::arch::{entry, thread_view};
use crate::control::CALL_MARK;
use crate::sys::abi::{
    KernelSigaction, OWN_MARK, SA_ONSTACK, SA_RESTART, SA_RESTORER, SA_SIGINFO, SI_QUEUE, SI_TKILL, Siginfo,
};
use crate::sys::{Errno, ids, process};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

pub const SIG_DFL: u32 = 0;
pub const SIG_IGN: u32 = 1;
pub const SA_RESETHAND: u32 = 0x8000_0000;

/// SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [u32; 5] = [4, 5, 7, 8, 11];

/// An action as the program has set it.
struct Action {
    handler: AtomicU32,
    flags: AtomicU32,
    restorer: AtomicU32,
    mask: AtomicU64,
}

impl Action {
    const fn none() -> Action {
        Action {
            handler: AtomicU32::new(SIG_DFL),
            flags: AtomicU32::new(0),
            restorer: AtomicU32::new(0),
            mask: AtomicU64::new(0),
        }
    }
}

/// The trigger signals, bit n-1 for signal n. None as long as the library is not set up.
static HELD: AtomicU64 = AtomicU64::new(0);
/// Those of them that the program uses itself.
static SHARED: AtomicU64 = AtomicU64::new(0);
/// What the program has set for the trigger signals.
static ACTIONS: [Action; 64] = [const { Action::none() }; 64];
/// Trigger signals that were taken out of the masks of the other signals' actions.
static TAKEN_OUT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

pub fn bit(signal: u32) -> u64 {
    1u64.checked_shl(signal.wrapping_sub(1)).unwrap_or(0)
}

/// Whether this is a trigger signal.
pub fn is_held(signal: u32) -> bool {
    HELD.load(Relaxed) & bit(signal) != 0
}

/// Signals that must not get into a mask of the kernel's.
pub fn unmaskable() -> u64 {
    HELD.load(Relaxed) & !SHARED.load(Relaxed)
}

/// The trigger signals.
pub fn held() -> u64 {
    HELD.load(Relaxed)
}

/// Trigger signals that the program uses itself.
pub fn shared() -> u64 {
    SHARED.load(Relaxed)
}

/// Starts to hold the signals of `set`: what is in force now becomes the program's view.
pub fn hold(set: u64) -> Result<(), Errno> {
    let blocked = process::sigprocmask(process::SIG_BLOCK, 0);
    thread_view::set(blocked & set);
    for signal in (1..=64).filter(|&signal| set & bit(signal) != 0) {
        let before = process::sigaction(signal, Some(&plain_action()))?;
        store(signal, &before);
    }
    HELD.store(set, Relaxed);
    process::sigprocmask(process::SIG_UNBLOCK, set);
    Ok(())
}

/// The action of a trigger signal that the program does not use. On the alternate stack if the program has one: its
/// own stacks may be as small as a coroutine's. SA_RESTART, so that no call ends early that need not.
fn plain_action() -> KernelSigaction {
    KernelSigaction {
        handler: entry::signal_entry() as u32,
        flags: SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER,
        restorer: entry::sigreturn() as u32,
        mask: [u32::MAX; 2],
    }
}

fn slot(signal: u32) -> Option<&'static Action> {
    ACTIONS.get(signal.wrapping_sub(1) as usize)
}

fn store(signal: u32, action: &KernelSigaction) {
    let Some(slot) = slot(signal) else { return };
    slot.flags.store(action.flags, Relaxed);
    slot.restorer.store(action.restorer, Relaxed);
    slot.mask.store(u64::from(action.mask[0]) | (u64::from(action.mask[1]) << 32), Relaxed);
    slot.handler.store(action.handler, Relaxed);
}

/// What the program has set for a trigger signal.
pub fn action(signal: u32) -> KernelSigaction {
    let Some(slot) = slot(signal) else { return KernelSigaction::default() };
    let mask = slot.mask.load(Relaxed);
    KernelSigaction {
        handler: slot.handler.load(Relaxed),
        flags: slot.flags.load(Relaxed),
        restorer: slot.restorer.load(Relaxed),
        mask: [mask as u32, (mask >> 32) as u32],
    }
}

/// The program sets the action of a trigger signal.
pub fn set_action(signal: u32, action: &KernelSigaction) {
    store(signal, action);
    if shared() & bit(signal) != 0 {
        install(signal);
    }
    if FAULTS.iter().any(|&fault| taken_out(fault) & bit(signal) != 0) {
        share_if_kept_out(signal);
    }
}

/// A handler of the program's for a trigger signal, and one for faults that it keeps the signal out of, are a language
/// at work, which relies on the mask that it finds inside a handler (SBCL looks at it, and gives up).
fn share_if_kept_out(signal: u32) {
    if !matches!(action(signal).handler, SIG_DFL | SIG_IGN) {
        share(signal);
    }
}

/// Gives the kernel the action of a trigger signal: ours, with the manners of the program's if it shares the signal.
fn install(signal: u32) {
    let mut own = action(signal);
    let taken_over = shared() & bit(signal) != 0 && own.handler != SIG_DFL && own.handler != SIG_IGN;
    if taken_over {
        own.handler = entry::signal_entry() as u32;
        own.flags = own.flags & !(SA_RESETHAND | SA_RESTORER) | SA_SIGINFO;
        own.restorer = 0;
    } else {
        own = plain_action();
    }
    // The signal exists and the structure is whole: it cannot fail.
    let _ = process::sigaction(signal, Some(&own));
}

/// What was taken out of the mask of a signal's action.
pub fn taken_out(signal: u32) -> u64 {
    TAKEN_OUT.get(signal.wrapping_sub(1) as usize).map_or(0, |set| set.load(Relaxed))
}

pub fn set_taken_out(signal: u32, set: u64) {
    if let Some(place) = TAKEN_OUT.get(signal.wrapping_sub(1) as usize) {
        place.store(set, Relaxed);
    }
    for held in
        (1..=64).filter(|_| FAULTS.contains(&signal)).filter(|&held| set & bit(held) != 0 && shared() & bit(held) == 0)
    {
        share_if_kept_out(held);
    }
}

/// What is to be done with a trigger signal that has arrived.
pub enum Whose {
    /// A request to us.
    Ours,
    /// The program's own; dealt with.
    Done,
    /// The program's own, for this handler of its.
    Program(u32),
}

/// Tells a request from a signal that the program has sent itself, and sees to the latter.
///
/// # Safety
/// The arguments are those of a handler that has not returned.
pub unsafe fn sort(signal: u32, info: &Siginfo, ucontext: usize) -> Whose {
    if !is_held(signal) || !comes_from_the_program(info) {
        return Whose::Ours;
    }
    let handler = action(signal).handler;
    let blocked = thread_view::get() & bit(signal) != 0;
    match handler {
        SIG_DFL if !blocked => Whose::Ours,
        SIG_IGN if !blocked => Whose::Done,
        handler if !blocked && shared() & bit(signal) != 0 => {
            let slot = slot(signal).filter(|slot| slot.flags.load(Relaxed) & SA_RESETHAND != 0);
            if let Some(slot) = slot {
                slot.handler.store(SIG_DFL, Relaxed);
                install(signal);
            }
            Whose::Program(handler)
        }
        _ => {
            share(signal);
            if blocked {
                thread_view::set(thread_view::get() & !bit(signal));
                // SAFETY: by the contract above this is the frame that the thread returns to.
                unsafe { block_in_frame(ucontext, bit(signal)) };
            }
            // Once more, under the new rules. Queueing to oneself fails only when memory is short.
            let _ = process::queue_signal(process::getpid(), Some(process::gettid()), info);
            Whose::Done
        }
    }
}

/// Whether a signal was sent by the program itself, its timers or what else it has asked the kernel for.
fn comes_from_the_program(info: &Siginfo) -> bool {
    const SI_USER: i32 = 0;
    const SI_TIMER: i32 = -2;
    const SI_MESGQ: i32 = -3;
    const SI_ASYNCIO: i32 = -4;
    const SI_SIGIO: i32 = -5;
    match info.code() {
        SI_QUEUE | SI_TIMER if matches!(info.value(), OWN_MARK | CALL_MARK) => false,
        SI_USER | SI_TKILL | SI_QUEUE => info.sender() == process::getpid() || info.sender() == ids::own_pid(),
        SI_TIMER | SI_MESGQ | SI_ASYNCIO | SI_SIGIO => true,
        _ => false,
    }
}

/// From now on the kernel treats the signal as the program wants it.
fn share(signal: u32) {
    if SHARED.fetch_or(bit(signal), Relaxed) & bit(signal) != 0 {
        return;
    }
    install(signal);
    for other in (1..=64).filter(|&other| taken_out(other) & bit(signal) != 0 && !is_held(other)) {
        let Ok(mut action) = process::sigaction(other, None) else { continue };
        let mask = u64::from(action.mask[0]) | (u64::from(action.mask[1]) << 32) | bit(signal);
        action.mask = [mask as u32, (mask >> 32) as u32];
        if process::sigaction(other, Some(&action)).is_ok() {
            set_taken_out(other, taken_out(other) & !bit(signal));
        }
    }
}

/// Blocks signals from the moment on that the handler returns.
///
/// # Safety
/// `ucontext` is the third argument of a handler that has not returned.
unsafe fn block_in_frame(ucontext: usize, set: u64) {
    let at = (ucontext + crate::arch::frame::uc::SIGMASK) as *mut u64;
    // SAFETY: the kernel's frame holds eight bytes of mask there.
    unsafe { at.write_unaligned(at.read_unaligned() | set) };
}
