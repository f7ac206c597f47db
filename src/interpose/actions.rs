//! [NORMAL] Signal actions: for a trigger signal the program sets and reads its own, and the kernel keeps ours; of the
//! masks of other signals' actions the trigger signals are left out.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::guard::{self, SIG_IGN, bit, is_held};
use super::next::call_next;
use super::{Sigset, fail, masks};
use crate::sys::Errno;
use crate::sys::abi::{KernelSigaction, SA_RESTART};
use crate::sys::process::{SIG_BLOCK, SIG_UNBLOCK};
use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `struct sigaction` of libc.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UserAction {
    handler: u32,
    mask: Sigset,
    flags: u32,
    restorer: u32,
}
const _: () = assert!(size_of::<UserAction>() == size_of::<libc::sigaction>());
const _: () = assert!(core::mem::offset_of!(UserAction, flags) == core::mem::offset_of!(libc::sigaction, sa_flags));

const SIG_ERR: u32 = u32::MAX;
const SIG_HOLD: u32 = 2;
const SA_ONESHOT_NOMASK: u32 = 0x8000_0000 | 0x4000_0000;

/// Trigger signals that siginterrupt(3) has been called for.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

fn is_held_int(signal: c_int) -> bool {
    u32::try_from(signal).is_ok_and(is_held)
}

/// # Safety
/// As sigaction(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const UserAction, old: *mut UserAction) -> c_int {
    // SAFETY: by the contract above.
    let new = (!new.is_null()).then(|| unsafe { new.read_unaligned() });
    if is_held_int(signal) {
        let before = exchange(signal as u32, new.as_ref());
        if !old.is_null() {
            // SAFETY: by the contract above.
            unsafe { old.write_unaligned(before) };
        }
        return 0;
    }
    let hidden = guard::unmaskable();
    let taken_out = new.map(|action| action.mask.get() & hidden);
    let given = new.map(|action| UserAction { mask: Sigset::new(action.mask.get() & !hidden), ..action });
    let pointer = given.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let result = call_next!(
        SIGACTION as fn(c_int, *const UserAction, *mut UserAction) -> c_int,
        (signal, pointer, old),
        else fail(Errno::ENOSYS)
    );
    if result == 0 {
        let was_out = guard::taken_out(signal as u32);
        if was_out != 0 && !old.is_null() {
            // SAFETY: libc has just written there.
            unsafe { (*old).mask = Sigset::new((*old).mask.get() | was_out) };
        }
        if let Some(set) = taken_out {
            guard::set_taken_out(signal as u32, set);
        }
    }
    result
}

/// # Safety
/// As sigaction(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigaction(signal: c_int, new: *const UserAction, old: *mut UserAction) -> c_int {
    // SAFETY: by the contract above.
    unsafe { sigaction(signal, new, old) }
}

/// Sets what the program believes of a trigger signal.
fn exchange(signal: u32, new: Option<&UserAction>) -> UserAction {
    let old = guard::action(signal);
    if let Some(new) = new {
        let mask = new.mask.get();
        let mask = [mask as u32, (mask >> 32) as u32];
        guard::set_action(
            signal,
            &KernelSigaction { handler: new.handler, flags: new.flags, restorer: new.restorer, mask },
        );
    }
    let mask = u64::from(old.mask[0]) | (u64::from(old.mask[1]) << 32);
    UserAction { handler: old.handler, mask: Sigset::new(mask), flags: old.flags, restorer: old.restorer }
}

fn exchange_handler(signal: u32, handler: u32, flags: u32, mask: u64) -> u32 {
    let new = UserAction { handler, mask: Sigset::new(mask), flags, restorer: 0 };
    exchange(signal, Some(&new)).handler
}

/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(signal: c_int, handler: u32) -> u32 {
    if is_held_int(signal) && handler != SIG_ERR {
        let signal = signal as u32;
        let flags = if INTERRUPTING.load(Relaxed) & bit(signal) != 0 { 0 } else { SA_RESTART };
        return exchange_handler(signal, handler, flags, bit(signal));
    }
    let old = call_next!(SIGNAL as fn(c_int, u32) -> u32, (signal, handler), else fail(Errno::ENOSYS) as u32);
    forget_taken_out(signal, old != SIG_ERR);
    old
}

/// The signal's action has been replaced by one whose mask is its own signal or nothing.
fn forget_taken_out(signal: c_int, done: bool) {
    if done {
        guard::set_taken_out(signal as u32, 0);
    }
}

/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bsd_signal(number: c_int, handler: u32) -> u32 {
    // SAFETY: by the contract above.
    unsafe { signal(number, handler) }
}

/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssignal(number: c_int, handler: u32) -> u32 {
    // SAFETY: by the contract above.
    unsafe { signal(number, handler) }
}

/// # Safety
/// As sysv_signal(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: u32) -> u32 {
    if is_held_int(signal) && handler != SIG_ERR {
        return exchange_handler(signal as u32, handler, SA_ONESHOT_NOMASK, 0);
    }
    let old = call_next!(SYSV_SIGNAL as fn(c_int, u32) -> u32, (signal, handler), else fail(Errno::ENOSYS) as u32);
    forget_taken_out(signal, old != SIG_ERR);
    old
}

/// # Safety
/// As sysv_signal(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sysv_signal(signal: c_int, handler: u32) -> u32 {
    // SAFETY: by the contract above.
    unsafe { sysv_signal(signal, handler) }
}

/// # Safety
/// As sigset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset(signal: c_int, handler: u32) -> u32 {
    if !is_held_int(signal) || handler == SIG_ERR {
        let old = call_next!(SIGSET as fn(c_int, u32) -> u32, (signal, handler), else fail(Errno::ENOSYS) as u32);
        forget_taken_out(signal, old != SIG_ERR && handler != SIG_HOLD);
        return old;
    }
    let number = signal as u32;
    if handler == SIG_HOLD {
        let blocked = masks::exchange(SIG_BLOCK, Some(bit(number))) & bit(number) != 0;
        return if blocked { SIG_HOLD } else { guard::action(number).handler };
    }
    let old = exchange_handler(number, handler, 0, 0);
    let blocked = masks::exchange(SIG_UNBLOCK, Some(bit(number))) & bit(number) != 0;
    if blocked { SIG_HOLD } else { old }
}

/// System V.
#[unsafe(no_mangle)]
pub extern "C" fn sigignore(signal: c_int) -> c_int {
    if is_held_int(signal) {
        exchange_handler(signal as u32, SIG_IGN, 0, 0);
        return 0;
    }
    let result = call_next!(SIGIGNORE as fn(c_int) -> c_int, (signal), else fail(Errno::ENOSYS));
    forget_taken_out(signal, result == 0);
    result
}

/// BSD.
#[unsafe(no_mangle)]
pub extern "C" fn siginterrupt(signal: c_int, interrupts: c_int) -> c_int {
    if !is_held_int(signal) {
        return call_next!(SIGINTERRUPT as fn(c_int, c_int) -> c_int, (signal, interrupts), else fail(Errno::ENOSYS));
    }
    let number = signal as u32;
    let mut action = guard::action(number);
    if interrupts != 0 {
        INTERRUPTING.fetch_or(bit(number), Relaxed);
        action.flags &= !SA_RESTART;
    } else {
        INTERRUPTING.fetch_and(!bit(number), Relaxed);
        action.flags |= SA_RESTART;
    }
    guard::set_action(number, &action);
    0
}

#[cfg(test)]
mod tests {
    use super::super::errno;
    use super::super::guard::SIG_DFL;
    use super::*;

    /// Before the library is set up, everything is libc's.
    #[test]
    fn nothing_is_held_without_a_constructor() {
        let mut old = UserAction { handler: 7, mask: Sigset::new(0), flags: 0, restorer: 0 };
        // SAFETY: one structure to be filled in.
        assert_eq!(unsafe { sigaction(libc::SIGUSR2, core::ptr::null(), &raw mut old) }, 0);
        assert_eq!(old.handler, SIG_DFL);
        // SAFETY: refused before anything is set.
        assert_eq!(unsafe { sigaction(0, core::ptr::null(), &raw mut old) }, -1);
        assert_eq!(errno(), Errno::EINVAL);
    }
}
