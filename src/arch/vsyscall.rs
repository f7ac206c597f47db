//! [SIGNAL, NORMAL] In front of the kernel's entry that libc's functions call (`call *%gs:0x10`, the word `sysinfo` of a
//! thread's control block): notes when a wait began of which neither the kernel nor an argument tells it, in the way of
//! [`Began`].
//!
//! Only in programs that wait so, from then on ([`lead`]): the others, and calls before that, never come here.
#![allow(unsafe_code)] // Stands between libc and the kernel, and changes the word that leads there.

use super::began::{Began, MAGIC};
use super::entry;
use super::resume::timeout;
use crate::sys::lines::parse_dec;
use crate::sys::process::{self, CLOCK_MONOTONIC};
use crate::sys::{Errno, clock_front, fs, restarted};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::{AtomicU8, AtomicUsize};
use zerocopy::{FromBytes, IntoBytes};

/// Calls that are known: more than i386 has.
const CALLS: usize = 512;

/// What the code below works with.
#[repr(C)]
struct Front {
    /// The entry that it stands in front of; 0 before the first [`lead`].
    kernel: AtomicUsize,
    /// The vdso's clock_gettime64(2), and where that lies that takes its place [in front of](clock_front) other clocks.
    clock_gettime64: AtomicUsize,
    behind_clock_front: AtomicUsize,
    /// Address of the [epoch](restarted::epoch).
    epoch: AtomicUsize,
    /// By number: 1 for a call that is noted.
    is_noted: [AtomicU8; CALLS],
}

static FRONT: Front = Front {
    kernel: AtomicUsize::new(0),
    clock_gettime64: AtomicUsize::new(0),
    behind_clock_front: AtomicUsize::new(0),
    epoch: AtomicUsize::new(0),
    is_noted: [const { AtomicU8::new(0) }; CALLS],
};

/// What the code has on the stack below the address that it returns to, in a call: the address of the entry, and a note.
const FRAME: usize = size_of::<usize>() + size_of::<Began>();

// Called as the kernel's entry: the number in eax, arguments in the other registers, which all come back as they were, but
// eax. The vector registers and the x87 stay as they are: the vdso uses none. What it needs to know of an unwinder that
// passes by is what is on the stack.
global_asm!(
    ".pushsection .text.selfckpt_vsyscall,\"ax\",@progbits",
    ".globl selfckpt_vsyscall",
    ".hidden selfckpt_vsyscall",
    ".globl selfckpt_vsyscall_return",
    ".hidden selfckpt_vsyscall_return",
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
    "leal {front} - 1b(%edx), %edx",
    "movl {kernel}(%edx), %ecx",
    "movl %ecx, 8(%esp)",
    "cmpl ${calls}, %eax",
    "jae 2f",
    "cmpb $0, {is_noted}(%edx,%eax)",
    "jne 4f",
    // What is left of another call's note is none of this one's.
    "2: movl $0, 12 + {magic}(%esp)",
    "3: popl %edx",
    ".cfi_adjust_cfa_offset -4",
    "popl %ecx",
    ".cfi_adjust_cfa_offset -4",
    "call *(%esp)",
    "selfckpt_vsyscall_return:",
    "movl $0, 4 + {magic}(%esp)",
    ".cfi_remember_state",
    "addl ${frame}, %esp",
    ".cfi_adjust_cfa_offset -{frame}",
    "ret",
    ".cfi_restore_state",
    ".cfi_adjust_cfa_offset 8",
    // The first two arguments, then the epoch, then the clock: that of an earlier program would be taken for this one's.
    "4: movl %ebx, 12 + {call}(%esp)",
    "movl 4(%esp), %ecx",
    "movl %ecx, 16 + {call}(%esp)",
    "movl {epoch_address}(%edx), %ecx",
    "movl (%ecx), %ecx",
    "movl %ecx, 12 + {epoch}(%esp)",
    "pushl %eax",
    ".cfi_adjust_cfa_offset 4",
    "subl $16, %esp", // struct __kernel_timespec
    ".cfi_adjust_cfa_offset 16",
    "movl {behind_clock_front}(%edx), %ecx",
    "movl (%ecx), %ecx",
    "testl %ecx, %ecx",
    "cmovzl {clock_gettime64}(%edx), %ecx",
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
    ".cfi_endproc",
    ".size selfckpt_vsyscall, . - selfckpt_vsyscall",
    ".popsection",
    frame = const FRAME,
    front = sym FRONT,
    kernel = const offset_of!(Front, kernel),
    clock_gettime64 = const offset_of!(Front, clock_gettime64),
    behind_clock_front = const offset_of!(Front, behind_clock_front),
    epoch_address = const offset_of!(Front, epoch),
    is_noted = const offset_of!(Front, is_noted),
    calls = const CALLS,
    magic = const offset_of!(Began, magic),
    at = const offset_of!(Began, at),
    epoch = const offset_of!(Began, epoch),
    call = const offset_of!(Began, call),
    start = const offset_of!(Began, start),
    magic_low = const MAGIC[0],
    magic_high = const MAGIC[1],
    monotonic = const CLOCK_MONOTONIC,
    options(att_syntax), // the other syntax has no difference of symbols
);

unsafe extern "C" {
    fn selfckpt_vsyscall();
    fn selfckpt_vsyscall_return();
}

/// How much the stack pointer of the function of libc that has made a call lies above that behind the kernel's entry,
/// which returns to `back`; 0 where nothing stands in front of it.
pub fn frame_of(back: u32) -> u32 {
    // With the address that the code returns to.
    if back == selfckpt_vsyscall_return as *const () as u32 { (FRAME + 4) as u32 } else { 0 }
}

/// Leads the system calls of all threads here, and with them those of the threads that they start. `clock_gettime64` is
/// the vdso's function. In a thread that the kernel tells nothing of, a wait begins anew at its first checkpoint.
pub fn lead(clock_gettime64: usize) {
    let kernel = own_sysinfo();
    if leads_here(kernel) || clock_gettime64 == 0 {
        return;
    }
    let is_first = FRONT.kernel.load(Relaxed) == 0;
    if is_first {
        FRONT.prepare(kernel, clock_gettime64);
    }
    if FRONT.kernel.load(Relaxed) != kernel {
        return;
    }
    set_own_sysinfo();
    if is_first {
        lead_others(kernel);
    }
}

impl Front {
    fn prepare(&self, kernel: usize, clock_gettime64: usize) {
        for (number, is_noted) in self.is_noted.iter().enumerate() {
            // By the first argument of socketcall(2); the others are waits whatever that is.
            let is_wait = |first| {
                let found = timeout(number as u32, [first, 0, 0, 0, 0, 0]);
                found.is_some_and(|found| found.is_of_socket())
            };
            is_noted.store(u8::from((0..32).any(is_wait)), Relaxed);
        }
        self.clock_gettime64.store(clock_gettime64, Relaxed);
        self.behind_clock_front.store(clock_front::clock_gettime64_address(), Relaxed);
        self.epoch.store(restarted::epoch_address(), Relaxed);
        self.kernel.store(kernel, Release);
    }
}

/// What of glibc's `tcbhead_t` is of interest: `tcb` and `self` are the block's own address.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct ControlBlock {
    tcb: u32,
    dtv: u32,
    itself: u32,
    multiple_threads: u32,
    sysinfo: u32,
}

/// Leads those threads here whose calls go to `kernel`.
fn lead_others(kernel: usize) {
    /// Milliseconds for which threads are waited for that have only just been made.
    const PATIENCE: u32 = 10;
    let mut pauses = 0;
    // One that has not been led here yet may have started another one meanwhile.
    while let Ok(found) = lead_those_listed(kernel) {
        match found {
            Listed { has_led: false, has_strangers: true } if pauses < PATIENCE => {
                pauses += 1;
                process::pause_ms(1);
            }
            Listed { has_led: false, .. } => return,
            Listed { has_led: true, .. } => (),
        }
    }
}

/// What a walk over the threads has found.
#[derive(Default)]
struct Listed {
    has_led: bool,
    /// Threads of which the kernel does not tell where their descriptors are: glibc has not come to tell it yet, or they
    /// are not glibc's, or have ended.
    has_strangers: bool,
}

fn lead_those_listed(kernel: usize) -> Result<Listed, Errno> {
    // glibc registers a list in each thread's descriptor, which begins with the control block.
    let own = entry::thread_pointer();
    let distance = process::robust_list(0)?.0.wrapping_sub(own);
    let dir = fs::OwnedFd(fs::open(b"/proc/self/task\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0)?);
    let mut found = Listed::default();
    fs::for_each_name(dir.0, &mut [0; 4096], |name| {
        let list = parse_dec(name).map(|tid| process::robust_list(tid as u32));
        match list {
            Some(Ok((0, _))) => found.has_strangers = true,
            Some(Ok((head, _))) => found.has_led |= lead_one(head.wrapping_sub(distance), kernel).is_ok_and(|led| led),
            _ => (),
        }
        Ok::<(), Errno>(())
    })?;
    Ok(found)
}

/// By the kernel's hand, to whom memory may be gone that a thread had which has ended.
fn lead_one(address: usize, kernel: usize) -> Result<bool, Errno> {
    let mut block = ControlBlock { tcb: 0, dtv: 0, itself: 0, multiple_threads: 0, sysinfo: 0 };
    process::read_memory(address, block.as_mut_bytes())?;
    if [block.tcb, block.itself, block.sysinfo] != [address as u32, address as u32, kernel as u32] {
        return Ok(false);
    }
    let entry = (selfckpt_vsyscall as *const () as u32).to_ne_bytes();
    // SAFETY: the word that libc calls by, of a thread that goes on with any of the two in it.
    unsafe { process::write_memory(address + offset_of!(ControlBlock, sysinfo), &entry) }?;
    Ok(true)
}

fn leads_here(sysinfo: usize) -> bool {
    sysinfo == selfckpt_vsyscall as *const () as usize
}

fn own_sysinfo() -> usize {
    let value: usize;
    // SAFETY: glibc's ABI on i386 keeps the address of the kernel's entry there in every thread.
    unsafe {
        asm!("mov {}, gs:[{at}]", out(reg) value, at = const SYSINFO, options(nostack, readonly, preserves_flags));
    }
    value
}

fn set_own_sysinfo() {
    let entry = selfckpt_vsyscall as *const () as usize;
    // SAFETY: as in `own_sysinfo`, and the code there is such an entry.
    unsafe {
        asm!("mov gs:[{at}], {}", in(reg) entry, at = const SYSINFO, options(nostack, preserves_flags));
    }
}

const SYSINFO: usize = offset_of!(ControlBlock, sysinfo);
