//! [NORMAL] Signal masks: the program reads what it has set; the kernel never blocks a trigger signal.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::guard::{bit, unmaskable};
use super::{Sigset, fail};
use crate::arch::thread_view;
use crate::sys::process::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK};
use crate::sys::{Errno, call, nr};
use core::ffi::c_int;
use core::ptr::null_mut;

/// libc's own signals, which it takes out of every mask.
const OF_LIBC: u64 = (1 << 31) | (1 << 32);

/// rt_sigprocmask(2) on the program's view.
///
/// # Safety
/// `old` is null or points to room for 8 bytes.
unsafe fn change(how: u32, set: Option<u64>, old: *mut Sigset) -> Result<(), Errno> {
    let kept = unmaskable();
    let view = thread_view::get();
    let set = set.map(|set| set & !OF_LIBC);
    let for_kernel = set.map(|set| if how == SIG_UNBLOCK { set } else { set & !kept });
    let pointer = for_kernel.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: both pointers are null or good for 8 bytes, as said by the last argument.
    unsafe { call!(nr::RT_SIGPROCMASK, how, pointer, old, 8) }?;
    if let Some(set) = set {
        thread_view::set(match how {
            SIG_BLOCK => view | set & kept,
            SIG_UNBLOCK => view & !set,
            _ => set & kept,
        });
    }
    if !old.is_null() && view != 0 {
        let old = old.cast::<u64>();
        // SAFETY: the kernel has just written there.
        unsafe { old.write_unaligned(old.read_unaligned() | view) };
    }
    Ok(())
}

/// # Safety
/// As pthread_sigmask(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_sigmask(how: c_int, set: *const Sigset, old: *mut Sigset) -> c_int {
    // SAFETY: by the contract above.
    let set = (!set.is_null()).then(|| unsafe { Sigset::read(set) });
    // SAFETY: as above.
    unsafe { change(how as u32, set, old) }.map_or_else(|errno| errno.0, |()| 0)
}

/// # Safety
/// As sigprocmask(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigprocmask(how: c_int, set: *const Sigset, old: *mut Sigset) -> c_int {
    // SAFETY: by the contract above.
    match unsafe { pthread_sigmask(how, set, old) } {
        0 => 0,
        errno => fail(Errno(errno)),
    }
}

/// The thread's mask as the program sees it, after a change.
pub(super) fn exchange(how: u32, set: Option<u64>) -> u64 {
    let mut old = Sigset::new(0);
    // SAFETY: `old` has room. With these arguments it cannot fail.
    let _ = unsafe { change(how, set, &raw mut old) };
    old.get()
}

/// Old BSD: the first 32 signals.
#[unsafe(no_mangle)]
pub extern "C" fn sigblock(mask: c_int) -> c_int {
    exchange(SIG_BLOCK, Some(u64::from(mask as u32))) as c_int
}

/// Old BSD.
#[unsafe(no_mangle)]
pub extern "C" fn sigsetmask(mask: c_int) -> c_int {
    exchange(SIG_SETMASK, Some(u64::from(mask as u32))) as c_int
}

/// Old BSD.
#[unsafe(no_mangle)]
pub extern "C" fn siggetmask() -> c_int {
    exchange(SIG_BLOCK, None) as c_int
}

fn change_one(how: u32, signal: c_int) -> c_int {
    if !(1..=64).contains(&signal) {
        return fail(Errno::EINVAL);
    }
    // SAFETY: nothing is asked for.
    unsafe { change(how, Some(bit(signal as u32)), null_mut()) }.map_or_else(fail, |()| 0)
}

/// System V.
#[unsafe(no_mangle)]
pub extern "C" fn sighold(signal: c_int) -> c_int {
    change_one(SIG_BLOCK, signal)
}

/// System V.
#[unsafe(no_mangle)]
pub extern "C" fn sigrelse(signal: c_int) -> c_int {
    change_one(SIG_UNBLOCK, signal)
}
