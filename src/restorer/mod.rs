//! [RESTORER] Carries out a plan: the only code alive while the address space is replaced.
//!
//! `restore` computes everything beforehand: a flat array of [`Step`]s with all addresses known. This
//! code walks the array. It is written by hand, because compiled Rust calls memset, panics and jump
//! tables that are no longer mapped here. It refers to nothing outside itself (a test reads the
//! object and says so), needs no relocation, and is copied to a page that is free in the old and in
//! the new address space.
#![allow(unsafe_code)] // Assembly, and the jump into it.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

/// One thing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Step {
    /// One of [`kind`].
    pub kind: u32,
    /// System call number.
    pub nr: u32,
    pub args: [u32; 6],
    /// What the call must return, for [`kind::EXPECT`].
    pub expect: u32,
    /// Message for when it fails: address in the restorer's memory, and length.
    pub message: u32,
    pub message_len: u32,
    /// Address that the call's result is stored at; 0 for nowhere.
    pub store: u32,
    /// Address of the value that an argument takes just before the call, 0 for none, and the number of
    /// the argument.
    pub load: u32,
    pub load_arg: u32,
}
const _: () = assert!(size_of::<Step>() == 56);

pub mod kind {
    /// A system call that must not fail. After a clone the child, too, goes on with the step behind
    /// the one whose address lies on top of its stack.
    pub const CALL: u32 = 0;
    /// A system call whose result does not matter.
    pub const TRY: u32 = 1;
    /// A system call that must return `expect`.
    pub const EXPECT: u32 = 2;
    /// pread64 that goes on until all of it is there.
    pub const READ: u32 = 3;
    /// Copies `args[2]` bytes from `args[0]` to `args[1]`.
    pub const COPY: u32 = 4;
    /// The end of a thread's list: jumps to `args[4]` with ebx, ecx, esi = the first three arguments,
    /// esp = `args[3]` and eflags = `args[5]`.
    pub const LEAVE: u32 = 5;
    /// Waits until the word at `args[0]` is `args[1]`; whoever changes it wakes its futex.
    pub const WAIT: u32 = 6;
    /// Adds `args[1]` (lower) and `args[2]` (upper half) seconds and `args[3]` nanoseconds to the struct
    /// __kernel_timespec at `args[0]`.
    pub const SHIFT: u32 = 7;
    /// A system call whose failure is told, and does no harm.
    pub const TELL: u32 = 8;
}

global_asm!(
    ".pushsection .text.selfckpt_restorer,\"ax\",@progbits",
    ".globl selfckpt_restorer",
    ".hidden selfckpt_restorer",
    ".globl selfckpt_restorer_end",
    ".hidden selfckpt_restorer_end",
    "selfckpt_restorer:", // eax: first step; esp: end of a stack of its own
    "push eax",           // [esp] is the current step from here on
    "mov ecx, [eax + {kind}]",
    "cmp ecx, {copy}",
    "je 40f",
    "cmp ecx, {leave}",
    "je 60f",
    "cmp ecx, {wait}",
    "je 50f",
    "cmp ecx, {shift}",
    "je 80f",
    "mov ecx, [eax + {load}]",
    "test ecx, ecx",
    "jz 10f",
    "mov ecx, [ecx]",
    "mov edx, [eax + {load_arg}]",
    "mov [eax + edx * 4 + {args}], ecx",
    // A system call.
    "10:",
    "mov ebx, [eax + {args}]",
    "mov ecx, [eax + {args} + 4]",
    "mov edx, [eax + {args} + 8]",
    "mov esi, [eax + {args} + 12]",
    "mov edi, [eax + {args} + 16]",
    "mov ebp, [eax + {args} + 20]",
    "mov eax, [eax + {nr}]",
    "int 0x80",
    "mov edx, [esp]",
    "mov ecx, [edx + {kind}]",
    "mov ebx, [edx + {store}]",
    "test ebx, ebx",
    "jz 11f",
    "mov [ebx], eax",
    "11:",
    "cmp ecx, {try}",
    "je 20f",
    "cmp eax, 0xfffff001", // -4095: errors lie above
    "jae 70f",
    "cmp ecx, {read}",
    "je 30f",
    "cmp ecx, {expect}",
    "jne 20f",
    "cmp eax, [edx + {expected}]",
    "jne 69f",
    // Next step.
    "20:",
    "pop eax",
    "add eax, {size}",
    "jmp selfckpt_restorer",
    // pread64 brought eax bytes: go on behind them until the count is zero.
    "30:",
    "test eax, eax",
    "jz 69f", // the file ends here
    "add [edx + {args} + 4], eax",
    "add [edx + {args} + 12], eax",
    "adc dword ptr [edx + {args} + 16], 0",
    "sub [edx + {args} + 8], eax",
    "jz 20b",
    "mov eax, edx",
    "jmp 10b",
    // Copy.
    "40:",
    "mov esi, [eax + {args}]",
    "mov edi, [eax + {args} + 4]",
    "mov ecx, [eax + {args} + 8]",
    "cld",
    "rep movsb",
    "jmp 20b",
    // Wait for a word.
    "50:",
    "mov ebx, [eax + {args}]",
    "mov edx, [ebx]",
    "cmp edx, [eax + {args} + 4]",
    "je 20b",
    "xor ecx, ecx", // FUTEX_WAIT while it is what was read, without a timeout
    "xor esi, esi",
    "mov eax, {futex}",
    "int 0x80",
    "mov eax, [esp]",
    "jmp 50b",
    // Add to a time; nanoseconds stay below a second.
    "80:",
    "mov ebx, [eax + {args}]",
    "mov ecx, [eax + {args} + 4]",
    "mov edx, [eax + {args} + 8]",
    "add [ebx], ecx",
    "adc [ebx + 4], edx",
    "mov ecx, [eax + {args} + 12]",
    "add ecx, [ebx + 8]",
    "cmp ecx, 1000000000",
    "jb 81f",
    "sub ecx, 1000000000",
    "add dword ptr [ebx], 1",
    "adc dword ptr [ebx + 4], 0",
    "81:",
    "mov [ebx + 8], ecx",
    "jmp 20b",
    // The end. Nothing of the restorer is used after the jump.
    "60:",
    "push dword ptr [eax + {args} + 20]",
    "popfd", // what rt_sigreturn leaves alone: ID, NT
    "mov edx, [eax + {args} + 16]",
    "mov esp, [eax + {args} + 12]",
    "mov esi, [eax + {args} + 8]",
    "mov ecx, [eax + {args} + 4]",
    "mov ebx, [eax + {args}]",
    "jmp edx",
    // A wrong result that is not an error: call it EIO.
    "69:",
    "mov eax, -5",
    // Failed: the step's message, the errno in three digits, a newline; exit 125.
    "70:",
    "neg eax",
    "mov edi, eax",
    "mov edx, [esp]",
    "mov ecx, [edx + {message}]",
    "mov edx, [edx + {message_len}]",
    "mov ebx, 2",
    "mov eax, {write}",
    "int 0x80",
    "push 0x0a202020", // "   \n"
    "mov eax, edi",
    "mov ecx, 10",
    "xor edx, edx",
    "div ecx",
    "add dl, 48",
    "mov [esp + 2], dl",
    "xor edx, edx",
    "div ecx",
    "add dl, 48",
    "mov [esp + 1], dl",
    "add al, 48",
    "mov [esp], al",
    "mov ebx, 2",
    "mov ecx, esp",
    "mov edx, 4",
    "mov eax, {write}",
    "int 0x80",
    "pop ecx",
    "mov eax, [esp]",
    "cmp dword ptr [eax + {kind}], {tell}",
    "je 20b",
    "mov ebx, 125",
    "mov eax, {exit_group}",
    "int 0x80",
    "ud2",
    "selfckpt_restorer_end:",
    ".popsection",
    kind = const offset_of!(Step, kind),
    nr = const offset_of!(Step, nr),
    args = const offset_of!(Step, args),
    expected = const offset_of!(Step, expect),
    message = const offset_of!(Step, message),
    message_len = const offset_of!(Step, message_len),
    store = const offset_of!(Step, store),
    load = const offset_of!(Step, load),
    load_arg = const offset_of!(Step, load_arg),
    wait = const kind::WAIT,
    shift = const kind::SHIFT,
    tell = const kind::TELL,
    futex = const crate::sys::nr::FUTEX,
    size = const size_of::<Step>(),
    copy = const kind::COPY,
    leave = const kind::LEAVE,
    try = const kind::TRY,
    read = const kind::READ,
    expect = const kind::EXPECT,
    write = const crate::sys::nr::WRITE,
    exit_group = const crate::sys::nr::EXIT_GROUP,
);

unsafe extern "C" {
    static selfckpt_restorer: u8;
    static selfckpt_restorer_end: u8;
}

/// The restorer's code, to be copied to where it will run.
pub fn code() -> &'static [u8] {
    let start = &raw const selfckpt_restorer;
    let end = &raw const selfckpt_restorer_end;
    // SAFETY: both symbols bound one piece of read-only code in this library.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// Runs a plan. Does not return.
///
/// # Safety
/// `entry` is the address of a copy of [`code`], `first_step` of the plan, `stack_top` the end of
/// writable memory; all lie in memory that the plan itself does not replace. All signals are
/// blocked. This is the point of no return.
pub unsafe fn run(entry: usize, first_step: usize, stack_top: usize) -> ! {
    // SAFETY: by the contract above.
    unsafe {
        asm!(
            "mov esp, {top}",
            "jmp {entry}",
            top = in(reg) stack_top,
            entry = in(reg) entry,
            in("eax") first_step,
            options(noreturn),
        )
    }
}
