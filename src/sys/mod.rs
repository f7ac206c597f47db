//! [SIGNAL, NORMAL] The kernel, spoken to directly: raw system calls, errno, fixed text, the log.
//!
//! `core` only. Nothing here allocates, locks, or touches libc state or TLS, so that everything can
//! be used in the handler of a program that was interrupted anywhere.
#![allow(unsafe_code)] // The calls themselves; each wrapper names what its caller must guarantee.

pub mod abi;
pub mod attributes;
pub mod clock_front;
pub mod errno;
pub mod fs;
pub mod ids;
pub mod ipc;
pub mod lines;
pub mod log;
pub mod mqueue;
pub mod nr;
pub mod process;
pub mod pty;
pub mod restarted;
pub mod socket;
pub mod text;
pub mod watched;

pub use errno::Errno;
pub use text::Text;

use core::arch::global_asm;

// The one place where the kernel is entered from Rust. `asm!` refuses esi as an operand on this
// target, hence a function of its own. By the vdso's entry, whose address the constructor leaves here: it needs no
// TLS, and where int 0x80 is emulated it is more than ten times as fast.
global_asm!(
    ".pushsection .bss.selfckpt_kernel_entry,\"aw\",@nobits",
    ".globl selfckpt_kernel_entry",
    ".hidden selfckpt_kernel_entry",
    ".balign 4",
    "selfckpt_kernel_entry:",
    ".zero 4",
    ".popsection",
    ".pushsection .text.selfckpt_syscall,\"ax\",@progbits",
    ".globl selfckpt_syscall",
    ".hidden selfckpt_syscall",
    ".type selfckpt_syscall, @function",
    "selfckpt_syscall:", // (nr, a1, a2, a3, a4, a5, a6), cdecl
    "pushl %ebp",
    "pushl %edi",
    "pushl %esi",
    "pushl %ebx",
    "call 2f", // where this is
    "2: popl %eax",
    "movl {front_info} + {vsyscall} - 2b(%eax), %ecx",
    "testl %ecx, %ecx", // where the vdso's leads to a front, the one behind it
    "cmovzl selfckpt_kernel_entry - 2b(%eax), %ecx",
    "pushl %ecx",
    "movl 24(%esp), %eax", // the entry, four saved registers and the return address lie before nr
    "movl 28(%esp), %ebx",
    "movl 32(%esp), %ecx",
    "movl 36(%esp), %edx",
    "movl 40(%esp), %esi",
    "movl 44(%esp), %edi",
    "movl 48(%esp), %ebp",
    "cmpl $0, (%esp)",
    "je 3f",
    "call *(%esp)",
    "jmp 4f",
    "3: int $0x80", // before the constructor, or without a vdso
    "4: popl %ebx", // the entry
    "popl %ebx",
    "popl %esi",
    "popl %edi",
    "popl %ebp",
    "ret",
    ".size selfckpt_syscall, . - selfckpt_syscall",
    ".popsection",
    front_info = sym clock_front::FRONT_INFO,
    vsyscall = const core::mem::offset_of!(crate::format::task::FrontInfo, vsyscall),
    options(att_syntax), // the other syntax has no difference of symbols
);

/// Names the vdso's entry into the kernel (AT_SYSINFO), or 0.
///
/// # Safety
/// It is that; no other thread of ours is under way.
pub unsafe fn set_kernel_entry(entry: usize) {
    // SAFETY: by the contract above.
    unsafe { selfckpt_kernel_entry = entry };
}

unsafe extern "C" {
    static mut selfckpt_kernel_entry: usize;
    fn selfckpt_syscall(nr: u32, a1: usize, a2: usize, a3: usize, a4: usize, a5: usize, a6: usize) -> i32;
}

/// Any system call.
///
/// # Safety
/// The caller guarantees that the arguments are what call `nr` demands: pointers valid for what the
/// kernel reads and writes through them, and no effect that breaks memory that Rust relies on.
pub unsafe fn syscall(nr: u32, args: [usize; 6]) -> Result<usize, Errno> {
    let [a1, a2, a3, a4, a5, a6] = args;
    // SAFETY: passed on to the caller.
    let result = unsafe { selfckpt_syscall(nr, a1, a2, a3, a4, a5, a6) };
    Errno::check(result)
}

/// Calls with fewer arguments, filled up with zeros.
macro_rules! call {
    ($nr:expr $(, $arg:expr)* $(,)?) => {{
        let given: &[usize] = &[$($arg as usize),*];
        let mut args = [0usize; 6];
        let mut i = 0;
        while i < given.len() {
            args[i] = given[i];
            i += 1;
        }
        $crate::sys::syscall($nr, args)
    }};
}
pub(crate) use call;
