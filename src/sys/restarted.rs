//! [NORMAL, SIGNAL] What a restart tells the restored library, in memory of the library.
#![allow(unsafe_code)] // The restorer writes it behind the compiler's back.

use crate::format::task::RestartInfo;
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Page-aligned, so that it never lies half in the library's file and half in its zeroed memory,
/// which are two mappings.
#[repr(C, align(4096))]
pub struct OnItsPages<const LEN: usize>(pub UnsafeCell<[u8; LEN]>);

// SAFETY: written by the restorer, while no thread runs, and by `take`, whose caller is alone; what others read, `take`
// leaves as it is.
unsafe impl<const LEN: usize> Sync for OnItsPages<LEN> {}

pub static RESTART_INFO: OnItsPages<{ size_of::<RestartInfo>() }> =
    OnItsPages(UnsafeCell::new([0; size_of::<RestartInfo>()]));

/// Where a restart finds it.
pub fn restart_info_address() -> usize {
    RESTART_INFO.0.get() as usize
}

/// Takes over what a restart left, once.
///
/// # Safety
/// No other thread does so.
pub unsafe fn take_restart_info() -> Option<RestartInfo> {
    // SAFETY: inside the static; exclusive by the contract above.
    let bytes = unsafe { core::ptr::read_volatile(RESTART_INFO.0.get()) };
    let info: RestartInfo = zerocopy::FromBytes::read_from_bytes(&bytes).ok()?;
    if info.valid.get() != 1 {
        return None;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(RESTART_INFO.0.get().cast::<u32>(), 0) };
    Some(info)
}

/// Differs from restart to restart; 0 in a program that was never restarted.
pub fn epoch() -> u32 {
    // SAFETY: inside the static.
    unsafe { core::ptr::read_volatile((restart_info_address() + offset_of!(RestartInfo, epoch)) as *const u32) }
}
