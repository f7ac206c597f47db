//! [SIGNAL, NORMAL] One word pair of each thread: the signals that the program has blocked in it and the kernel
//! has not. And the first instructions of a thread that begins with some.
//!
//! The memory is static TLS, which a preloaded library always gets. A forked child has its parent's; a new thread
//! starts with zeros, unless it is started through [`thread_entry`].
#![allow(unsafe_code)] // Thread-local memory by assembly: the attribute for it is not stable.

use core::arch::global_asm;

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 8",
    ".globl selfckpt_view_word",
    ".hidden selfckpt_view_word",
    ".type selfckpt_view_word, @object",
    ".size selfckpt_view_word, 8",
    "selfckpt_view_word:",
    ".zero 8",
    ".popsection",
    ".pushsection .text.selfckpt_view,\"ax\",@progbits",
    // Address of this thread's word, in eax.
    ".globl selfckpt_view",
    ".hidden selfckpt_view",
    ".type selfckpt_view, @function",
    "selfckpt_view:",
    "call 1f",
    "1: popl %eax",
    "addl $_GLOBAL_OFFSET_TABLE_ + (. - 1b), %eax",
    "movl selfckpt_view_word@gotntpoff(%eax), %eax",
    "addl %gs:0, %eax",
    "ret",
    ".size selfckpt_view, . - selfckpt_view",
    // Start routine of a thread: (record). Asks what the program wanted to run, and goes there without a trace on
    // the stack.
    ".globl selfckpt_thread_entry",
    ".hidden selfckpt_thread_entry",
    ".type selfckpt_thread_entry, @function",
    "selfckpt_thread_entry:",
    "subl $8, %esp",
    "pushl 12(%esp)", // 16-byte aligned at the call
    "call {begin_thread}",
    "addl $12, %esp",
    "movl %edx, 4(%esp)",
    "jmp *%eax",
    ".size selfckpt_thread_entry, . - selfckpt_thread_entry",
    ".popsection",
    begin_thread = sym crate::interpose::threads::selfckpt_begin_thread,
    options(att_syntax),
);

unsafe extern "C" {
    fn selfckpt_view() -> *mut u64;
    fn selfckpt_thread_entry(record: *mut core::ffi::c_void) -> *mut core::ffi::c_void;
}

/// Signals that the program has blocked in this thread and the kernel has not; bit n-1 for signal n.
pub fn get() -> u64 {
    // SAFETY: the address of eight bytes that are this thread's alone.
    unsafe { *selfckpt_view() }
}

pub fn set(view: u64) {
    // SAFETY: as in `get`.
    unsafe { *selfckpt_view() = view };
}

/// What a thread is started with that does not begin with an empty set.
pub fn thread_entry() -> unsafe extern "C" fn(*mut core::ffi::c_void) -> *mut core::ffi::c_void {
    selfckpt_thread_entry
}
