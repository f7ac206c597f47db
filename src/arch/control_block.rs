//! [NORMAL] The block at the base of each thread's TLS segment, which holds the address by which glibc makes
//! system calls (`call *%gs:0x10`), for this thread and for those that it starts.
#![allow(unsafe_code)] // Changes that address.

use super::entry;
use crate::sys::lines::parse_dec;
use crate::sys::{Errno, fs, process};
use core::arch::asm;
use core::mem::offset_of;
use zerocopy::{FromBytes, IntoBytes};

/// What of glibc's `tcbhead_t` is of interest: `tcb` and `self` are the block's own address.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct ControlBlock {
    tcb: u32,
    dtv: u32,
    itself: u32,
    multiple_threads: u32,
    /// The kernel's entry for system calls, as libc calls it.
    sysinfo: u32,
}
const SYSINFO: usize = offset_of!(ControlBlock, sysinfo);

/// In the other threads, the entry for system calls becomes `to` where it is `from`. One that the kernel tells nothing of is
/// left out.
///
/// # Safety
/// What lies at `to` does what is done at `from`.
pub unsafe fn change_others(from: usize, to: usize) {
    /// Milliseconds for which threads are waited for that have only just been made.
    const PATIENCE: u32 = 10;
    let mut pauses = 0;
    // One that has not been changed yet may have started another one meanwhile, which takes it over.
    while let Ok(found) = change_those_listed(from, to) {
        match found {
            Listed { has_changed: false, has_strangers: true } if pauses < PATIENCE => {
                pauses += 1;
                process::pause_ms(1);
            }
            Listed { has_changed: false, .. } => return,
            Listed { has_changed: true, .. } => (),
        }
    }
}

/// What a walk over the threads has found.
#[derive(Default)]
struct Listed {
    has_changed: bool,
    /// Threads of which the kernel does not tell where their descriptors are: glibc has not come to tell it yet, or they
    /// are not glibc's, or have ended.
    has_strangers: bool,
}

fn change_those_listed(from: usize, to: usize) -> Result<Listed, Errno> {
    // glibc registers a list in each thread's descriptor, which begins with the control block.
    let own = entry::thread_pointer();
    let distance = process::robust_list(0)?.0.wrapping_sub(own);
    let dir = fs::OwnedFd(fs::open(b"/proc/self/task\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0)?);
    let mut found = Listed::default();
    fs::for_each_name(dir.0, &mut [0; 4096], |name| {
        let list = parse_dec(name).map(|tid| process::robust_list(tid as u32));
        match list {
            Some(Ok((0, _))) => found.has_strangers = true,
            Some(Ok((head, _))) => {
                found.has_changed |= change_one(head.wrapping_sub(distance), from, to).is_ok_and(|changed| changed)
            }
            _ => (),
        }
        Ok::<(), Errno>(())
    })?;
    Ok(found)
}

/// By the kernel's hand, to whom memory may be gone that a thread had which has ended.
fn change_one(block_at: usize, from: usize, to: usize) -> Result<bool, Errno> {
    let mut block = ControlBlock { tcb: 0, dtv: 0, itself: 0, multiple_threads: 0, sysinfo: 0 };
    process::read_memory(block_at, block.as_mut_bytes())?;
    if [block.tcb, block.itself, block.sysinfo] != [block_at as u32, block_at as u32, from as u32] {
        return Ok(false);
    }
    // SAFETY: the word that libc calls by, of a thread that goes on with any of the two in it, by the contract of
    // `change_others`.
    unsafe { process::write_memory(block_at + SYSINFO, &(to as u32).to_ne_bytes()) }?;
    Ok(true)
}

/// The calling thread's entry for system calls.
pub fn vsyscall() -> usize {
    let value: usize;
    // SAFETY: glibc's ABI on i386 keeps the address there in every thread.
    unsafe {
        asm!("mov {}, gs:[{at}]", out(reg) value, at = const SYSINFO, options(nostack, readonly, preserves_flags));
    }
    value
}

/// # Safety
/// What lies at `entry` does what the one of before does.
pub unsafe fn set_vsyscall(entry: usize) {
    // SAFETY: as in `vsyscall`, and by the contract above.
    unsafe {
        asm!("mov gs:[{at}], {}", in(reg) entry, at = const SYSINFO, options(nostack, preserves_flags));
    }
}
