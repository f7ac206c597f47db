//! [SIGNAL] Assembly at the edges of the handler: entry, return, stack switch, helper process, and
//! the two instructions that a restart ends with.
#![allow(unsafe_code)] // Hands control to assembly; each function names what it demands.

use super::resume::{self, Resume};
use crate::format::task::RestartInfo;
use core::arch::global_asm;
use core::mem::offset_of;

global_asm!(
    ".pushsection .text.selfckpt_entry,\"ax\",@progbits",
    // Handler of the trigger signals: (signal, siginfo, ucontext), cdecl. The kernel clears DF and
    // TF for a handler, but AC stays as the program had it, and compiled code is not aligned. If the
    // signal was the program's own, its handler takes our place.
    ".globl selfckpt_signal_entry",
    ".hidden selfckpt_signal_entry",
    ".type selfckpt_signal_entry, @function",
    "selfckpt_signal_entry:",
    "pushfd",
    "and dword ptr [esp], 0xfffbbfff", // AC (bit 18) and NT (bit 14)
    "popfd",
    "push dword ptr [esp + 12]",
    "push dword ptr [esp + 12]",
    "push dword ptr [esp + 12]", // 16-byte aligned at the call, as the kernel aligns frames
    "call {on_signal}",
    "add esp, 12",
    "test eax, eax",
    "jnz 2f",
    "ret",
    "2: jmp eax",
    ".size selfckpt_signal_entry, . - selfckpt_signal_entry",
    // Handler of the stop signal, the same way.
    ".globl selfckpt_stop_entry",
    ".hidden selfckpt_stop_entry",
    ".type selfckpt_stop_entry, @function",
    "selfckpt_stop_entry:",
    "pushfd",
    "and dword ptr [esp], 0xfffbbfff", // AC and NT
    "popfd",
    "jmp {on_stop}",
    ".size selfckpt_stop_entry, . - selfckpt_stop_entry",
    // What the handler returns to (SA_RESTORER): esp points behind the return address, as
    // rt_sigreturn expects.
    ".globl selfckpt_sigreturn",
    ".hidden selfckpt_sigreturn",
    ".type selfckpt_sigreturn, @function",
    "selfckpt_sigreturn:",
    "mov eax, {rt_sigreturn}",
    "int 0x80",
    "ud2",
    ".size selfckpt_sigreturn, . - selfckpt_sigreturn",
    // Last step of a restart, entered in the restored library; RUNTIME holds its address. esi is the
    // address of RestartInfo, esp is frame + 4. No stack is used: below the frame there may be none.
    // The main thread has ebx, ecx = the restorer's memory; the others have ebx = 0. All wait until
    // the restorer's memory is gone, so that none runs while another is still being made.
    ".globl selfckpt_leave",
    ".hidden selfckpt_leave",
    ".type selfckpt_leave, @function",
    "selfckpt_leave:",
    "test ebx, ebx",
    "jz 3f",
    "mov eax, {munmap}",
    "int 0x80",
    "mov dword ptr [esi + {gate}], 1",
    "lea ebx, [esi + {gate}]",
    "mov ecx, 1", // FUTEX_WAKE
    "mov edx, 0x7fffffff",
    "mov eax, {futex}",
    "int 0x80",
    "test esp, esp", // a main thread that had ended already ends again
    "jz 6f",
    "2:",
    "mov eax, {rt_sigreturn}",
    "int 0x80",
    "ud2",
    "3:",
    "lock inc dword ptr [esi + {waiting}]",
    "lea ebx, [esi + {waiting}]",
    "mov ecx, 1", // FUTEX_WAKE
    "mov edx, 1",
    "mov eax, {futex}",
    "int 0x80",
    "lea ebx, [esi + {gate}]",
    "4:",
    "cmp dword ptr [ebx], 0",
    "jne 2b",
    "xor ecx, ecx", // FUTEX_WAIT while it is zero, without a timeout
    "xor edx, edx",
    "xor esi, esi",
    "mov eax, {futex}",
    "int 0x80",
    "jmp 4b",
    "6:",
    "xor ebx, ebx",
    "mov eax, {exit}",
    "int 0x80",
    "ud2",
    ".size selfckpt_leave, . - selfckpt_leave",
    // A wait that a checkpoint has interrupted goes on for the time that was left: esp is the address of a
    // `Resume`. A signal that comes here pushes its frame below, and an EINTR of its own reaches the program.
    ".globl selfckpt_resume",
    ".hidden selfckpt_resume",
    ".globl selfckpt_resumed",
    ".hidden selfckpt_resumed",
    ".globl selfckpt_resumed_call",
    ".hidden selfckpt_resumed_call",
    ".type selfckpt_resume, @function",
    "selfckpt_resume:",
    // A thread that is cancelled here unwinds on into the program: stack pointer, instruction and registers come from
    // the `Resume` (DW_CFA_def_cfa_expression, DW_CFA_expression of DW_OP_breg4).
    ".cfi_startproc",
    ".cfi_signal_frame",
    ".cfi_escape 0x0f, 5, 0x74, {return_at}, 0x06, 0x23, 4",
    ".cfi_escape 0x10, 8, 2, 0x74, {ip}",
    ".cfi_escape 0x10, 3, 2, 0x74, {saved}",
    ".cfi_escape 0x10, 1, 2, 0x74, {saved} + 4",
    ".cfi_escape 0x10, 2, 2, 0x74, {saved} + 8",
    ".cfi_escape 0x10, 6, 2, 0x74, {saved} + 12",
    ".cfi_escape 0x10, 7, 2, 0x74, {saved} + 16",
    ".cfi_escape 0x10, 5, 2, 0x74, {saved} + 20",
    "mov eax, {clock_gettime64}",
    "mov ebx, [esp + {clock}]",
    "lea ecx, [esp + {start}]",
    "int 0x80",
    "cmp dword ptr [esp + {how}], {absolute}",
    "jne 3f",
    "mov eax, [esp + {left}]",
    "add eax, [esp + {start}]",
    "mov ecx, [esp + {left} + 4]",
    "add ecx, [esp + {start} + 8]",
    "cmp ecx, 1000000000",
    "jb 2f",
    "sub ecx, 1000000000",
    "inc eax",
    "2:",
    "mov [esp + {time64}], eax",
    "mov [esp + {time64} + 8], ecx",
    "mov [esp + {time32}], eax",
    "mov [esp + {time32} + 4], ecx",
    "3:",
    "cmp dword ptr [esp + {how}], {poll_first}",
    "mov eax, [esp + {resume_nr}]",
    "jne 4f",
    "mov eax, {poll}",
    "4:",
    "mov ebx, [esp + {args}]",
    "mov ecx, [esp + {args} + 4]",
    "mov edx, [esp + {args} + 8]",
    "mov esi, [esp + {args} + 12]",
    "mov edi, [esp + {args} + 16]",
    "mov ebp, [esp + {args} + 20]",
    "int 0x80",
    "selfckpt_resumed:",
    "cmp dword ptr [esp + {how}], {poll_first}",
    "jne 6f",
    "test eax, eax",
    "js 6f",
    "jz 5f",
    "mov eax, [esp + {resume_nr}]",
    "mov ebx, [esp + {saved}]",
    "mov ecx, [esp + {saved} + 4]",
    "mov edx, [esp + {saved} + 8]",
    "mov esi, [esp + {saved} + 12]",
    "mov edi, [esp + {saved} + 16]",
    "mov ebp, [esp + {saved} + 20]",
    "int 0x80",
    "selfckpt_resumed_call:",
    "jmp 6f",
    "5:",
    "mov eax, [esp + {expired}]",
    "6:",
    // The address to go on at moves to just below the program's stack, so that one instruction takes both back.
    "mov ebx, [esp + {return_at}]",
    "mov ecx, [esp + {ip}]",
    "mov [ebx], ecx",
    "mov ebx, [esp + {saved}]",
    "mov ecx, [esp + {saved} + 4]",
    "mov edx, [esp + {saved} + 8]",
    "mov esi, [esp + {saved} + 12]",
    "mov edi, [esp + {saved} + 16]",
    "mov ebp, [esp + {saved} + 20]",
    "mov esp, [esp + {return_at}]",
    "ret",
    ".cfi_endproc",
    ".size selfckpt_resume, . - selfckpt_resume",
    // (top, function, argument): calls function(argument) on the stack that ends at `top`.
    ".globl selfckpt_call_on_stack",
    ".hidden selfckpt_call_on_stack",
    ".type selfckpt_call_on_stack, @function",
    "selfckpt_call_on_stack:",
    "push ebp",
    "mov ebp, esp",
    "mov eax, [ebp + 16]",
    "mov ecx, [ebp + 12]",
    "mov esp, [ebp + 8]",
    "and esp, -16",
    "sub esp, 12",
    "push eax", // 16-byte aligned at the call, as the ABI has it
    "call ecx",
    "mov esp, ebp",
    "pop ebp",
    "ret",
    ".size selfckpt_call_on_stack, . - selfckpt_call_on_stack",
    // (flags, top, function, argument): clone(2); the child runs function(argument) on the stack
    // that ends at `top` and exits with what it returns. The parent gets the child's pid or -errno.
    ".globl selfckpt_clone",
    ".hidden selfckpt_clone",
    ".type selfckpt_clone, @function",
    "selfckpt_clone:",
    "push ebp",
    "mov ebp, esp",
    "push ebx",
    "push esi",
    "push edi",
    "mov ebx, [ebp + 8]",
    "mov ecx, [ebp + 12]",
    "and ecx, -16",
    "mov eax, [ebp + 20]",
    "mov [ecx - 16], eax", // argument, where the child's first push ends
    "mov eax, [ebp + 16]",
    "mov [ecx - 20], eax", // function
    "sub ecx, 20",
    "xor edx, edx",
    "xor esi, esi",
    "xor edi, edi",
    "mov eax, {clone}",
    "int 0x80",
    "test eax, eax",
    "jz 2f",
    "pop edi",
    "pop esi",
    "pop ebx",
    "pop ebp",
    "ret",
    "2:",
    "xor ebp, ebp",
    "pop eax", // function; the argument is on top now
    "call eax",
    "mov ebx, eax",
    "mov eax, {exit}",
    "int 0x80",
    "ud2",
    ".size selfckpt_clone, . - selfckpt_clone",
    ".popsection",
    on_signal = sym crate::runtime::trigger::selfckpt_on_signal,
    on_stop = sym crate::runtime::quiesce::selfckpt_on_stop,
    munmap = const crate::sys::nr::MUNMAP,
    futex = const crate::sys::nr::FUTEX,
    gate = const offset_of!(RestartInfo, gate),
    waiting = const offset_of!(RestartInfo, waiting),
    rt_sigreturn = const crate::sys::nr::RT_SIGRETURN,
    clock_gettime64 = const crate::sys::nr::CLOCK_GETTIME64,
    clock = const offset_of!(Resume, clock),
    start = const offset_of!(Resume, start),
    how = const offset_of!(Resume, how),
    absolute = const resume::how::ABSOLUTE,
    poll_first = const resume::how::POLL,
    poll = const crate::sys::nr::POLL,
    expired = const Resume::EXPIRED,
    left = const offset_of!(Resume, left),
    time64 = const offset_of!(Resume, time64),
    time32 = const offset_of!(Resume, time32),
    resume_nr = const offset_of!(Resume, nr),
    args = const offset_of!(Resume, args),
    return_at = const offset_of!(Resume, return_at),
    ip = const offset_of!(Resume, ip),
    saved = const offset_of!(Resume, saved),
    clone = const crate::sys::nr::CLONE,
    exit = const crate::sys::nr::EXIT,
);

unsafe extern "C" {
    fn selfckpt_signal_entry();
    fn selfckpt_stop_entry();
    fn selfckpt_sigreturn();
    fn selfckpt_leave();
    fn selfckpt_resume();
    fn selfckpt_resumed();
    fn selfckpt_resumed_call();
    fn selfckpt_call_on_stack(top: usize, function: extern "C" fn(usize), argument: usize);
    fn selfckpt_clone(flags: u32, top: usize, function: extern "C" fn(usize) -> i32, argument: usize) -> i32;
}

/// Address of the handler of the trigger signals.
pub fn signal_entry() -> usize {
    selfckpt_signal_entry as *const () as usize
}

/// Address of the handler of the stop signal.
pub fn stop_entry() -> usize {
    selfckpt_stop_entry as *const () as usize
}

/// Address that the handler returns to.
pub fn sigreturn() -> usize {
    selfckpt_sigreturn as *const () as usize
}

/// Address of the last step of a restart.
pub fn leave() -> usize {
    selfckpt_leave as *const () as usize
}

/// Addresses in the code that goes on with a wait: its start, and the instructions behind the call that has
/// the rest for its limit and behind the one that follows a poll.
pub fn resume() -> (usize, usize, usize) {
    let places = [selfckpt_resume as *const (), selfckpt_resumed as *const (), selfckpt_resumed_call as *const ()];
    let [start, behind_call, behind_second] = places.map(|place| place as usize);
    (start, behind_call, behind_second)
}

/// Base of the thread's TLS segment: the first word of it is its own address.
pub fn thread_pointer() -> usize {
    let value: usize;
    // SAFETY: glibc's ABI on i386 keeps the TCB's address at gs:0 in every thread.
    unsafe { core::arch::asm!("mov {}, gs:[0]", out(reg) value, options(nostack, readonly, preserves_flags)) };
    value
}

/// Calls `function` on another stack.
///
/// # Safety
/// `top` is the end of writable memory that is large enough for all that `function` needs.
pub unsafe fn call_on_stack(top: usize, function: extern "C" fn(usize), argument: usize) {
    // SAFETY: by the contract above.
    unsafe { selfckpt_call_on_stack(top, function, argument) }
}

/// Starts a process by clone(2) that runs `function` and ends.
///
/// # Safety
/// `top` is the end of writable memory, large enough, that nothing else uses while the child runs.
/// With CLONE_VM the child shares all memory: what `function` does with it is the caller's affair.
pub unsafe fn clone(
    flags: u32,
    top: usize,
    function: extern "C" fn(usize) -> i32,
    argument: usize,
) -> Result<u32, crate::sys::Errno> {
    // SAFETY: by the contract above.
    let pid = unsafe { selfckpt_clone(flags, top, function, argument) };
    crate::sys::Errno::check(pid).map(|pid| pid as u32)
}
