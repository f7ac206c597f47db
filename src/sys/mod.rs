//! [SIGNAL, NORMAL] The kernel, spoken to directly: raw system calls, errno, fixed text, the log.
//!
//! `core` only. Nothing here allocates, locks, or touches libc state or TLS, so that everything can
//! be used in the handler of a program that was interrupted anywhere.
#![allow(unsafe_code)] // The calls themselves; each wrapper names what its caller must guarantee.

pub mod abi;
pub mod attributes;
pub mod errno;
pub mod fs;
pub mod ipc;
pub mod lines;
pub mod log;
pub mod nr;
pub mod process;
pub mod pty;
pub mod socket;
pub mod text;

pub use errno::Errno;
pub use text::Text;

use core::arch::global_asm;

// The one place where the kernel is entered from Rust. `asm!` refuses esi as an operand on this
// target, hence a function of its own. int 0x80 rather than the vdso's entry: it needs no TLS.
global_asm!(
    ".pushsection .text.selfckpt_syscall,\"ax\",@progbits",
    ".globl selfckpt_syscall",
    ".hidden selfckpt_syscall",
    ".type selfckpt_syscall, @function",
    "selfckpt_syscall:", // (nr, a1, a2, a3, a4, a5, a6), cdecl
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov eax, [esp + 20]", // four saved registers and the return address lie before nr
    "mov ebx, [esp + 24]",
    "mov ecx, [esp + 28]",
    "mov edx, [esp + 32]",
    "mov esi, [esp + 36]",
    "mov edi, [esp + 40]",
    "mov ebp, [esp + 44]",
    "int 0x80",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    ".size selfckpt_syscall, . - selfckpt_syscall",
    ".popsection",
);

unsafe extern "C" {
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
