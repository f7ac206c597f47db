//! [NORMAL] What the library takes from libc by name, without linking to a particular version.
#![allow(unsafe_code)] // Weak symbols of libc.

use core::arch::global_asm;

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
