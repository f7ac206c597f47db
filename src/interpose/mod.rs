//! [NORMAL] What the library takes from libc by name, without linking to a particular version, and the functions of
//! libc that it stands in front of.
//!
//! Those may be called by any thread, in any handler, and before our constructor: they make raw system calls or
//! call the [next](next) definition, and allocate nothing, but where libc's own would. `src/exports.txt` lists them.
#![allow(unsafe_code)] // Weak symbols of libc.

pub mod actions;
pub mod clock;
pub mod guard;
pub mod ids;
pub mod limits;
pub mod masks;
pub mod next;
pub mod objects;
pub mod raw_call;
pub mod shift;
pub mod tables;
pub mod thread_ids;
pub mod threads;
pub mod waits;
pub mod watches;

use crate::sys::Errno;
use core::arch::global_asm;
use core::ffi::c_int;

/// Sets errno, and gives the -1 that goes with it.
fn fail(errno: Errno) -> c_int {
    // SAFETY: libc returns the address of the calling thread's errno.
    unsafe { *libc::__errno_location() = errno.0 };
    -1
}

/// errno as the last call has left it.
fn errno() -> Errno {
    // SAFETY: as in `fail`.
    Errno(unsafe { *libc::__errno_location() })
}

/// A `sigset_t` of libc, of which the kernel knows the first 64 bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sigset {
    words: [u32; 32],
}

impl Sigset {
    pub const fn new(set: u64) -> Sigset {
        let mut words = [0; 32];
        words[0] = set as u32;
        words[1] = (set >> 32) as u32;
        Sigset { words }
    }

    pub fn get(&self) -> u64 {
        let [low, high, ..] = self.words;
        u64::from(low) | (u64::from(high) << 32)
    }

    /// What the pointer points to, which may be shorter than libc's type: the kernel's.
    ///
    /// # Safety
    /// `set` points to at least 8 bytes.
    unsafe fn read(set: *const Sigset) -> u64 {
        // SAFETY: by the contract above.
        unsafe { set.cast::<u64>().read_unaligned() }
    }

    /// The set that the kernel may have in place of the program's.
    ///
    /// # Safety
    /// As [`Sigset::read`].
    unsafe fn without_triggers(set: *const Sigset) -> Sigset {
        // SAFETY: by the contract above.
        Sigset::new(unsafe { Sigset::read(set) } & !guard::unmaskable())
    }
}

// Weak references: on a libc without them both addresses are zero.
global_asm!(
    ".pushsection .data.rel.ro,\"aw\",@progbits",
    ".weak __rseq_offset",
    ".weak __rseq_size",
    ".balign 4",
    ".globl selfckpt_rseq_symbols",
    ".hidden selfckpt_rseq_symbols",
    "selfckpt_rseq_symbols:",
    ".long __rseq_offset",
    ".long __rseq_size",
    ".popsection",
);

unsafe extern "C" {
    static selfckpt_rseq_symbols: [usize; 2];
}

/// `__rseq_offset` and `__rseq_size` of libc; zeros where it has none.
pub fn rseq_of_libc() -> (isize, u32) {
    // SAFETY: the dynamic linker has filled in both words before any constructor runs.
    let [offset, size] = unsafe { selfckpt_rseq_symbols };
    if offset == 0 || size == 0 {
        return (0, 0);
    }
    // SAFETY: libc declares a ptrdiff_t and an unsigned int under these names.
    unsafe { (*(offset as *const isize), *(size as *const u32)) }
}
