//! [NORMAL] The block at the base of each thread's TLS segment, glibc's `tcbhead_t`: it holds the address by which glibc
//! makes system calls (`call *%gs:0x10`).
#![allow(unsafe_code)] // Changes that address.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where `multiple_threads` and `sysinfo` lie in the block.
const MULTIPLE_THREADS: usize = 0x0c;
const SYSINFO: usize = 0x10;

/// glibc keeps a word of its own for this, for threads that it makes by itself, too, but not in all of its versions.
static HAS_MADE_THREADS: AtomicBool = AtomicBool::new(false);

/// Before a thread is made.
pub fn note_thread() {
    HAS_MADE_THREADS.store(true, Relaxed);
}

/// Whether the process has made a thread, be it gone again.
pub fn has_made_threads() -> bool {
    let value: usize;
    // SAFETY: glibc's ABI on i386 keeps the word there in every thread.
    unsafe {
        asm!(
            "mov {}, gs:[{at}]",
            out(reg) value,
            at = const MULTIPLE_THREADS,
            options(nostack, readonly, preserves_flags)
        );
    }
    value != 0 || HAS_MADE_THREADS.load(Relaxed)
}

/// The calling thread's entry for system calls.
pub fn vsyscall() -> usize {
    let value: usize;
    // SAFETY: as above.
    unsafe {
        asm!("mov {}, gs:[{at}]", out(reg) value, at = const SYSINFO, options(nostack, readonly, preserves_flags));
    }
    value
}

/// Changes it, and with it that of all threads that are made from now on. glibc aborts when it makes a thread whose memory,
/// which may be that of an earlier one, has another entry than its maker.
///
/// # Safety
/// What lies at `entry` does what the one of before does, and the process has made no thread.
pub unsafe fn set_vsyscall(entry: usize) {
    // SAFETY: as above, and by the contract.
    unsafe {
        asm!("mov gs:[{at}], {}", in(reg) entry, at = const SYSINFO, options(nostack, preserves_flags));
    }
}
