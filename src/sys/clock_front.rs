//! [SIGNAL, NORMAL] The clocks of a restarted program that would have gone back, on a machine that was booted later, where
//! no time namespace keeps them: a front adds to what the kernel shows.
#![allow(unsafe_code)] // The restorer writes it behind the compiler's back.

use super::restarted::OnItsPages;
use crate::format::task::{FrontInfo, Shift};
use core::cell::UnsafeCell;
use core::mem::offset_of;

pub static FRONT_INFO: OnItsPages<{ size_of::<FrontInfo>() }> =
    OnItsPages(UnsafeCell::new([0; size_of::<FrontInfo>()]));

/// The clocks that are moved with CLOCK_MONOTONIC (it, _RAW, _COARSE) and with CLOCK_BOOTTIME (it, _ALARM), a bit each: as
/// time namespaces do it.
pub const WITH_MONOTONIC: u32 = 1 << 1 | 1 << 4 | 1 << 6;
pub const WITH_BOOTTIME: u32 = 1 << 7 | 1 << 9;

/// Where a restart finds it.
pub fn info_address() -> usize {
    FRONT_INFO.0.get() as usize
}

fn word(at: usize) -> u32 {
    // SAFETY: inside the static, whose parts are words.
    unsafe { core::ptr::read_volatile((info_address() + at) as *const u32) }
}

/// Whether a restart has led the program's vdso to the front.
pub fn is_in_use() -> bool {
    word(offset_of!(FrontInfo, epoch)) != 0
}

/// The vdso's function, of the kernel's clocks, where the program's leads to the front; else 0.
pub fn clock_gettime64() -> usize {
    word(offset_of!(FrontInfo, clock_gettime64)) as usize
}

/// Whether it is a clock that a restart may move.
pub fn may_move(clock: u32) -> bool {
    is_among(clock, WITH_MONOTONIC | WITH_BOOTTIME)
}

fn is_among(clock: u32, clocks: u32) -> bool {
    clock < 32 && clocks >> clock & 1 != 0
}

/// Nanoseconds that the program's clock shows more than the kernel's.
pub fn offset_of(clock: u32) -> i64 {
    let shift = if is_among(clock, WITH_MONOTONIC) {
        offset_of!(FrontInfo, monotonic)
    } else if is_among(clock, WITH_BOOTTIME) {
        offset_of!(FrontInfo, boottime)
    } else {
        return 0;
    };
    let sec = shift + offset_of!(Shift, sec);
    let sec = u64::from(word(sec)) | u64::from(word(sec + 4)) << 32;
    sec as i64 * 1_000_000_000 + i64::from(word(shift + offset_of!(Shift, nsec)))
}
