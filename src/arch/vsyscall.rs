//! [SIGNAL, NORMAL] In front of the kernel's entry that libc's functions call (`call *%gs:0x10`, the word `sysinfo` of a
//! thread's control block):
//! * notes when a wait on a socket begins, in the way of [`Began`], in programs that limit such waits, from then on
//!   ([`lead`]);
//! * gives the kernel times of its own clocks, where a restart has [moved](clock_front) the program's.
//!
//! All other programs never come here.
#![allow(unsafe_code)] // Stands between libc and the kernel, and changes the word that leads there.

use super::began::{Began, MAGIC};
use super::control_block;
use super::resume::timeout;
use crate::format::task::{FrontInfo, RestartInfo};
use crate::interpose::shift::WITH_TIMES;
use crate::sys::process::CLOCK_MONOTONIC;
use crate::sys::{clock_front, nr, restarted};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Calls that are known: more than i386 has.
const CALLS: usize = 512;

/// What the code below works with.
#[repr(C)]
struct Front {
    /// The entry that it stands in front of, and the vdso's clock_gettime64(2). A restart may have told [others](FrontInfo).
    vsyscall: AtomicUsize,
    clock_gettime64: AtomicUsize,
    /// What is done with a call, by number.
    duty: [AtomicU8; CALLS],
}

/// Values of [`Front::duty`], but 0.
mod duty {
    /// Where it has limits, when it began is noted.
    pub const NOTE: u8 = 1;
    /// Times of clocks that have been moved are moved.
    pub const SHIFT: u8 = 2;
    /// The same for futex(2), of whose operations those with numbers below 8 know no moment.
    pub const SHIFT_FUTEX: u8 = 3;
}

static FRONT: Front = Front {
    vsyscall: AtomicUsize::new(0),
    clock_gettime64: AtomicUsize::new(0),
    duty: {
        let mut duties = [const { AtomicU8::new(0) }; CALLS];
        let mut rest: &[u32] = &WITH_TIMES;
        while let [number, others @ ..] = rest {
            let is_futex = matches!(*number, nr::FUTEX | nr::FUTEX_TIME64);
            duties[*number as usize] = AtomicU8::new(if is_futex { duty::SHIFT_FUTEX } else { duty::SHIFT });
            rest = others;
        }
        duties
    },
};

/// How a call goes on that `selfckpt_shift` has looked at.
pub mod shift {
    /// As the program has made it.
    pub const AS_IT_IS: u32 = 0;
    /// The kernel has made it, and [`Shifted::args`] begins with its result.
    pub const MADE: u32 = 1;
    /// With [`Shifted::args`].
    pub const MOVED: u32 = 2;
}

/// A call whose times may be moved, as the code lays it on the stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Shifted {
    pub args: [u32; 6],
    /// For times that have been moved.
    pub times: [u64; 4],
    pub nr: u32,
    /// ebx, ecx, edx, esi, edi, ebp of the program.
    saved: [u32; 6],
}

impl Shifted {
    /// The program's arguments.
    pub fn given(&self) -> [u32; 6] {
        self.saved
    }
}

/// What the code has on the stack below the address that it returns to, in a call: the address of the entry, and a note.
const FRAME: usize = size_of::<usize>() + size_of::<Began>();
/// The same where times have been moved.
const SHIFT_FRAME: usize = FRAME + size_of::<Shifted>();

// Called as the kernel's entry: the number in eax, arguments in the other registers, which all come back as they were, but
// eax. The vector registers and the x87 stay as they are: the vdso uses none. What it needs to know of an unwinder that
// passes by is what is on the stack.
global_asm!(
    ".pushsection .text.selfckpt_vsyscall,\"ax\",@progbits",
    ".globl selfckpt_vsyscall",
    ".hidden selfckpt_vsyscall",
    ".globl selfckpt_vsyscall_return",
    ".hidden selfckpt_vsyscall_return",
    ".globl selfckpt_vsyscall_shift",
    ".hidden selfckpt_vsyscall_shift",
    ".globl selfckpt_vsyscall_check",
    ".hidden selfckpt_vsyscall_check",
    ".globl selfckpt_vsyscall_shifted",
    ".hidden selfckpt_vsyscall_shifted",
    ".type selfckpt_vsyscall, @function",
    "selfckpt_vsyscall:",
    ".cfi_startproc",
    "subl ${frame}, %esp",
    ".cfi_adjust_cfa_offset {frame}",
    "pushl %ecx",
    ".cfi_adjust_cfa_offset 4",
    "pushl %edx",
    ".cfi_adjust_cfa_offset 4",
    "call 1f", // where this is
    ".cfi_adjust_cfa_offset 4",
    "1: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "movl {front_info} + {vsyscall_behind} - 1b(%edx), %ecx",
    "testl %ecx, %ecx",
    "cmovzl {front} + {vsyscall} - 1b(%edx), %ecx",
    "movl %ecx, 8(%esp)",
    "cmpl ${calls}, %eax",
    "jae 2f",
    "cmpb ${note}, {front} + {duty} - 1b(%edx,%eax)",
    "je 4f",
    "ja 5f",
    // What is left of another call's note is none of this one's.
    "2: movl $0, 12 + {magic}(%esp)",
    "3: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "popl %ecx",
    ".cfi_adjust_cfa_offset -4",
    "call *(%esp)",
    "selfckpt_vsyscall_return:",
    "movl $0, 4 + {magic}(%esp)",
    "addl ${frame}, %esp",
    ".cfi_adjust_cfa_offset -{frame}",
    "ret",
    ".cfi_def_cfa_offset 12 + {frame}",
    // The first two arguments, then the epoch, then the clock: that of an earlier program would be taken for this one's.
    "4: movl %ebx, 12 + {call}(%esp)",
    "movl 4(%esp), %ecx",
    "movl %ecx, 16 + {call}(%esp)",
    "movl {restart_info} + {epoch_of_restart} - 1b(%edx), %ecx",
    "movl %ecx, 12 + {epoch}(%esp)",
    "pushl %eax",
    ".cfi_adjust_cfa_offset 4",
    "subl $16, %esp", // struct __kernel_timespec
    ".cfi_adjust_cfa_offset 16",
    "movl {front_info} + {clock_behind} - 1b(%edx), %ecx",
    "testl %ecx, %ecx",
    "cmovzl {front} + {clock_gettime64} - 1b(%edx), %ecx",
    "pushl %esp",
    ".cfi_adjust_cfa_offset 4",
    "pushl ${monotonic}",
    ".cfi_adjust_cfa_offset 4",
    "call *%ecx",
    "addl $8, %esp",
    ".cfi_adjust_cfa_offset -8",
    "movl $1000000000, %eax",
    "mull (%esp)", // seconds, of which 32 bits are enough
    "addl 8(%esp), %eax",
    "adcl $0, %edx",
    "movl %eax, 32 + {start}(%esp)",
    "movl %edx, 36 + {start}(%esp)",
    "addl $16, %esp",
    ".cfi_adjust_cfa_offset -16",
    "popl %eax",
    ".cfi_adjust_cfa_offset -4",
    "leal 12(%esp), %ecx",
    "movl %ecx, 12 + {at}(%esp)",
    "movl ${magic_low}, 12 + {magic}(%esp)",
    "movl ${magic_high}, 16 + {magic}(%esp)",
    "jmp 3b",
    // Only where clocks have been moved. A `Shifted` comes to lie below the place of the entry's address and the note's.
    "5: cmpl $0, {front_info} + {is_moved} - 1b(%edx)",
    "je 2b",
    "cmpb ${shift_futex}, {front} + {duty} - 1b(%edx,%eax)",
    "jne 10f",
    "testb $0x78, 4(%esp)",
    "jz 2b",
    "10: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "popl %ecx",
    ".cfi_adjust_cfa_offset -4",
    "pushl %ebp",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset %ebp, 0",
    "pushl %edi",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset %edi, 0",
    "pushl %esi",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset %esi, 0",
    "pushl %edx",
    ".cfi_adjust_cfa_offset 4",
    "pushl %ecx",
    ".cfi_adjust_cfa_offset 4",
    "pushl %ebx",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset %ebx, 0",
    "pushl %eax",
    ".cfi_adjust_cfa_offset 4",
    "subl ${nr}, %esp",
    ".cfi_adjust_cfa_offset {nr}",
    // Anew after a restart on the way to the kernel, which has moved the clocks by something else.
    "selfckpt_vsyscall_shift:",
    "call 8f", // where this is
    ".cfi_adjust_cfa_offset 4",
    "8: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "movl {front_info} + {is_moved} - 8b(%edx), %eax",
    "movl %eax, {epoch_of_shift}(%esp)",
    "movl %esp, %ebx",
    ".cfi_def_cfa_register %ebx",
    "subl $512, %esp", // compiled code uses the vector registers
    "andl $-16, %esp",
    "fxsave (%esp)",
    "subl $16, %esp",
    "movl %ebx, (%esp)",
    "call {shift}",
    "addl $16, %esp",
    "fxrstor (%esp)",
    "movl %ebx, %esp",
    ".cfi_def_cfa_register %esp",
    "call 9f",
    ".cfi_adjust_cfa_offset 4",
    "9: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "selfckpt_vsyscall_check:",
    "movl {front_info} + {is_moved} - 9b(%edx), %ecx",
    "cmpl {epoch_of_shift}(%esp), %ecx",
    "jne selfckpt_vsyscall_shift",
    "cmpl ${made}, %eax",
    "je 6f",
    "jb 11f",
    "movl {nr}(%esp), %eax",
    "movl (%esp), %ebx",
    "movl 4(%esp), %ecx",
    "movl 8(%esp), %edx",
    "movl 12(%esp), %esi",
    "movl 16(%esp), %edi",
    "movl 20(%esp), %ebp",
    "int $0x80", // in here, so that it is known how far a thread has come
    "selfckpt_vsyscall_shifted:",
    "jmp 7f",
    "6: movl (%esp), %eax",
    "7: movl {saved}(%esp), %ebx",
    "movl {saved} + 4(%esp), %ecx",
    "movl {saved} + 8(%esp), %edx",
    "movl {saved} + 12(%esp), %esi",
    "movl {saved} + 16(%esp), %edi",
    "movl {saved} + 20(%esp), %ebp",
    ".cfi_restore %ebx",
    ".cfi_restore %esi",
    ".cfi_restore %edi",
    ".cfi_restore %ebp",
    "addl ${shift_frame}, %esp",
    ".cfi_adjust_cfa_offset -{shift_frame}",
    "ret",
    // The program's own call after all: back to where the stack is as before.
    ".cfi_def_cfa_offset 4 + {shift_frame}",
    "11: movl {nr}(%esp), %eax",
    "movl {saved}(%esp), %ebx",
    "movl {saved} + 4(%esp), %ecx",
    "movl {saved} + 8(%esp), %edx",
    "leal {shifted} - 8(%esp), %esp",
    ".cfi_def_cfa_offset 12 + {frame}",
    "movl %edx, (%esp)",
    "movl %ecx, 4(%esp)",
    "jmp 2b",
    ".cfi_endproc",
    ".size selfckpt_vsyscall, . - selfckpt_vsyscall",
    ".popsection",
    frame = const FRAME,
    front = sym FRONT,
    vsyscall = const offset_of!(Front, vsyscall),
    clock_gettime64 = const offset_of!(Front, clock_gettime64),
    duty = const offset_of!(Front, duty),
    note = const duty::NOTE,
    calls = const CALLS,
    front_info = sym clock_front::FRONT_INFO,
    vsyscall_behind = const offset_of!(FrontInfo, vsyscall),
    clock_behind = const offset_of!(FrontInfo, clock_gettime64),
    is_moved = const offset_of!(FrontInfo, epoch),
    restart_info = sym restarted::RESTART_INFO,
    epoch_of_restart = const offset_of!(RestartInfo, epoch),
    magic = const offset_of!(Began, magic),
    at = const offset_of!(Began, at),
    epoch = const offset_of!(Began, epoch),
    call = const offset_of!(Began, call),
    start = const offset_of!(Began, start),
    magic_low = const MAGIC[0],
    magic_high = const MAGIC[1],
    monotonic = const CLOCK_MONOTONIC,
    shift = sym crate::interpose::shift::selfckpt_shift,
    shift_futex = const duty::SHIFT_FUTEX,
    made = const shift::MADE,
    shifted = const size_of::<Shifted>(),
    epoch_of_shift = const size_of::<Shifted>() + size_of::<usize>() + offset_of!(Began, epoch),
    nr = const offset_of!(Shifted, nr),
    saved = const offset_of!(Shifted, saved),
    shift_frame = const SHIFT_FRAME,
    options(att_syntax), // the other syntax has no difference of symbols
);

unsafe extern "C" {
    fn selfckpt_vsyscall();
    fn selfckpt_vsyscall_return();
    fn selfckpt_vsyscall_shift();
    fn selfckpt_vsyscall_check();
    fn selfckpt_vsyscall_shifted();
}

/// How much the stack pointer of the function of libc that has made a call lies above that behind the kernel's entry,
/// which returns to `back`; 0 where nothing stands in front of it.
pub fn frame_of(back: u32) -> u32 {
    // With the address that the code returns to.
    if back == selfckpt_vsyscall_return as *const () as u32 { (FRAME + 4) as u32 } else { 0 }
}

/// Where the number lies of the call behind which a thread stands, if its times may have been moved.
pub fn number_of_shifted(ip: u32, stack_pointer: u32) -> Option<u32> {
    let is_one = ip == selfckpt_vsyscall_shifted as *const () as u32;
    stack_pointer.checked_add(offset_of!(Shifted, nr) as u32).filter(|_| is_one)
}

/// Where a thread goes on that stands before a call for which times have been moved: a restart may move them by
/// something else.
pub fn shift_again(ip: u32) -> Option<u32> {
    let [check, behind] =
        [selfckpt_vsyscall_check as *const (), selfckpt_vsyscall_shifted as *const ()].map(|place| place as u32);
    (check..behind).contains(&ip).then_some(selfckpt_vsyscall_shift as *const () as u32)
}

/// Where calls go to that are led here.
pub fn address() -> usize {
    selfckpt_vsyscall as *const () as usize
}

/// Leads the system calls of this thread here, and with them those of the threads that the program makes. If it has made
/// some already, it is too late, and the answer is no. `clock_gettime64` is the vdso's function; without it nothing is noted.
pub fn lead(clock_gettime64: usize) -> bool {
    let vsyscall = control_block::vsyscall();
    if vsyscall == address() || clock_gettime64 == 0 {
        return true;
    }
    if control_block::has_made_threads() {
        return false;
    }
    FRONT.prepare(vsyscall, clock_gettime64);
    // SAFETY: the code there makes the same calls by `FRONT`.
    unsafe { control_block::set_vsyscall(address()) };
    true
}

impl Front {
    fn prepare(&self, vsyscall: usize, clock_gettime64: usize) {
        for (number, duty) in self.duty.iter().enumerate() {
            // By the first argument of socketcall(2); the others are waits whatever that is.
            let is_wait = |first| {
                let found = timeout(number as u32, [first, 0, 0, 0, 0, 0]);
                found.is_some_and(|found| found.is_of_socket())
            };
            if (0..32).any(is_wait) {
                duty.store(duty::NOTE, Relaxed);
            }
        }
        self.clock_gettime64.store(clock_gettime64, Relaxed);
        self.vsyscall.store(vsyscall, Relaxed);
    }
}
