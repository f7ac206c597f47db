//! [SIGNAL] Debug registers, read by a short-lived helper process: only a tracer may see them.
//!
//! The helper shares our memory, so that starting it costs no page tables, and sends no signal when
//! it ends, so that the program never learns of it.
#![allow(unsafe_code)] // ptrace(2), and a child on a stack of ours.

use super::entry;
use crate::sys::{Errno, call, nr, process};

/// dr0 to dr3, dr6, dr7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DebugRegisters {
    pub address: [u32; 4],
    pub dr6: u32,
    pub dr7: u32,
}

impl DebugRegisters {
    /// Whether any register differs from its state at process start.
    pub fn in_use(&self) -> bool {
        const DR6_IDLE: u32 = 0xffff_0ff0;
        self.address != [0; 4] || self.dr7 & 0xff != 0 || (self.dr6 != 0 && self.dr6 != DR6_IDLE)
    }
}

const SIGKILL: usize = 9;
pub const PTRACE_PEEKUSER: u32 = 3;
pub const PTRACE_POKEUSER: u32 = 6;
pub const PTRACE_DETACH: u32 = 17;
pub const PTRACE_SEIZE: u32 = 0x4206;
pub const PTRACE_INTERRUPT: u32 = 0x4207;
pub const WALL: u32 = 0x4000_0000;
pub const WCLONE: u32 = 0x8000_0000;
pub const CLONE_VM: u32 = 0x100;
pub const CLONE_UNTRACED: u32 = 0x80_0000;
/// Offset of `u_debugreg` in the 32-bit `struct user`.
pub const USER_DEBUGREG: usize = 252;

pub const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;

/// What only a tracer can see of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traced {
    pub debug: DebugRegisters,
    /// Registered restartable-sequence area: address, length, signature; `None` on a kernel that does
    /// not tell.
    pub rseq: Option<(u64, u32, u32)>,
}

/// A thread to look at, and what was found: an errno where it could not be done.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub tid: u32,
    pub found: Result<Traced, Errno>,
}

struct Job {
    looks: *mut Look,
    count: usize,
    parent: u32,
}

/// Runs in the helper.
extern "C" fn look_from_outside(job: usize) -> i32 {
    // SAFETY: `look_once` passes the address of its Job, of a slice that is the helper's alone until
    // it has ended.
    let (looks, parent) = unsafe {
        let job = &*(job as *const Job);
        (core::slice::from_raw_parts_mut(job.looks, job.count), job.parent)
    };
    // A tracer that waits for the first thread of a killed program would keep the others from ending,
    // and so would wait forever: it must die with the program.
    let dies = process::prctl(crate::sys::attributes::PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if dies.is_err() || process::getppid() != parent {
        return 1;
    }
    // All are stopped before the first one is waited for: they stop side by side.
    for look in looks.iter_mut() {
        look.found = seize(look.tid).map(|()| Traced::default());
    }
    for look in looks.iter_mut().filter(|look| look.found.is_ok()) {
        look.found = read(look.tid);
        // A thread that is gone needs no release.
        let _ = ptrace(PTRACE_DETACH, look.tid, 0, 0);
    }
    0
}

fn ptrace(request: u32, target: u32, addr: usize, data: usize) -> Result<usize, Errno> {
    // SAFETY: PEEKUSER writes one word at `data`, GET_RSEQ_CONFIGURATION `addr` bytes; the other
    // requests take numbers.
    unsafe { call!(nr::PTRACE, request, target, addr, data) }
}

fn seize(target: u32) -> Result<(), Errno> {
    ptrace(PTRACE_SEIZE, target, 0, 0)?;
    ptrace(PTRACE_INTERRUPT, target, 0, 0).map(drop)
}

fn read(target: u32) -> Result<Traced, Errno> {
    let mut status = 0u32;
    // SAFETY: `status` takes one word.
    unsafe { call!(nr::WAIT4, target, &raw mut status, WALL, 0) }?;
    let peek = |index: usize| {
        let mut word = 0u32;
        ptrace(PTRACE_PEEKUSER, target, USER_DEBUGREG + 4 * index, &raw mut word as usize)?;
        Ok::<u32, Errno>(word)
    };
    let debug = DebugRegisters { address: [peek(0)?, peek(1)?, peek(2)?, peek(3)?], dr6: peek(6)?, dr7: peek(7)? };
    // struct ptrace_rseq_configuration: pointer u64, size, signature, flags, padding.
    let mut rseq = [0u32; 6];
    let told = ptrace(PTRACE_GET_RSEQ_CONFIGURATION, target, size_of_val(&rseq), rseq.as_mut_ptr() as usize);
    let [low, high, size, signature, ..] = rseq;
    let rseq = told.is_ok().then_some((u64::from(low) | (u64::from(high) << 32), size, signature));
    Ok(Traced { debug, rseq })
}

/// Looks at threads of this process through a helper. `stack_top` ends at least 16 KiB of memory for
/// it. What could not be seen (another tracer, a security module) stands in the entry.
///
/// # Errors
/// The helper could not be started.
///
/// # Safety
/// The memory below `stack_top` is writable and unused; the threads stand still.
pub unsafe fn look_at_threads(stack_top: usize, looks: &mut [Look]) -> Result<(), Errno> {
    // SAFETY: by the contract above.
    unsafe { look_once(stack_top, looks) }?;
    if looks.iter().any(|look| look.found.is_err_and(|errno| errno == Errno::EPERM)) {
        // Yama refuses a tracer that is no ancestor until the target names it.
        const ANY: usize = usize::MAX;
        if process::prctl(process::PR_SET_PTRACER, ANY, 0, 0, 0).is_ok() {
            // SAFETY: as above.
            let result = unsafe { look_once(stack_top, looks) };
            let _ = process::prctl(process::PR_SET_PTRACER, 0, 0, 0, 0);
            return result;
        }
    }
    Ok(())
}

/// # Safety
/// As [`look_at_threads`].
unsafe fn look_once(stack_top: usize, looks: &mut [Look]) -> Result<(), Errno> {
    let mut job = Job { looks: looks.as_mut_ptr(), count: looks.len(), parent: process::getpid() };
    // SAFETY: the stack is the caller's promise; `job` and the slice outlive the helper, which is
    // waited for.
    let child =
        unsafe { entry::clone(CLONE_VM | CLONE_UNTRACED, stack_top, look_from_outside, &raw mut job as usize) }?;
    loop {
        // SAFETY: no status is asked for.
        match unsafe { call!(nr::WAIT4, child, 0, WCLONE, 0) } {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
}
