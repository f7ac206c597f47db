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

#[repr(C)]
struct Job {
    target: u32,
    /// 0 when all registers were read, else an errno.
    failed: i32,
    out: DebugRegisters,
}

/// Runs in the helper.
extern "C" fn read_from_outside(job: usize) -> i32 {
    // SAFETY: `capture` passes the address of its Job and waits until the helper has ended.
    let job = unsafe { &mut *(job as *mut Job) };
    match read(job.target) {
        Ok(out) => {
            job.out = out;
            job.failed = 0;
            0
        }
        Err(error) => {
            job.failed = error.0;
            1
        }
    }
}

fn read(target: u32) -> Result<DebugRegisters, Errno> {
    let ptrace = |request: u32, addr: usize, data: usize| {
        // SAFETY: PEEKUSER writes one word at `data`; the other requests take numbers.
        unsafe { call!(nr::PTRACE, request, target, addr, data) }
    };
    ptrace(PTRACE_SEIZE, 0, 0)?;
    let result = (|| {
        ptrace(PTRACE_INTERRUPT, 0, 0)?;
        let mut status = 0u32;
        // SAFETY: `status` takes one word.
        unsafe { call!(nr::WAIT4, target, &raw mut status, WALL, 0) }?;
        let peek = |index: usize| {
            let mut word = 0u32;
            ptrace(PTRACE_PEEKUSER, USER_DEBUGREG + 4 * index, &raw mut word as usize)?;
            Ok(word)
        };
        Ok(DebugRegisters { address: [peek(0)?, peek(1)?, peek(2)?, peek(3)?], dr6: peek(6)?, dr7: peek(7)? })
    })();
    ptrace(PTRACE_DETACH, 0, 0)?;
    result
}

/// Reads the debug registers of the calling thread. `stack_top` ends at least 16 KiB of memory for
/// the helper.
///
/// # Errors
/// EPERM where ptrace(2) is not allowed (another tracer, a security module).
///
/// # Safety
/// The memory below `stack_top` is writable and unused.
pub unsafe fn capture(stack_top: usize) -> Result<DebugRegisters, Errno> {
    // SAFETY: by the contract above.
    match unsafe { capture_once(stack_top) } {
        // Yama refuses a tracer that is no ancestor until the target names it.
        Err(Errno::EPERM) => {
            const ANY: usize = usize::MAX;
            process::prctl(process::PR_SET_PTRACER, ANY, 0, 0, 0).map_err(|_| Errno::EPERM)?;
            // SAFETY: as above.
            let result = unsafe { capture_once(stack_top) };
            let _ = process::prctl(process::PR_SET_PTRACER, 0, 0, 0, 0);
            result
        }
        other => other,
    }
}

/// # Safety
/// As [`capture`].
unsafe fn capture_once(stack_top: usize) -> Result<DebugRegisters, Errno> {
    let mut job = Job { target: process::gettid(), failed: -1, out: DebugRegisters::default() };
    // SAFETY: the stack is the caller's promise; `job` outlives the helper, which is waited for.
    let child =
        unsafe { entry::clone(CLONE_VM | CLONE_UNTRACED, stack_top, read_from_outside, &raw mut job as usize) }?;
    loop {
        // SAFETY: no status is asked for.
        match unsafe { call!(nr::WAIT4, child, 0, WCLONE, 0) } {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // The helper wrote through the raw pointer.
    // SAFETY: `job` is alive and nobody else uses it any more.
    let job = unsafe { core::ptr::read_volatile(&raw const job) };
    match job.failed {
        0 => Ok(job.out),
        error if error > 0 => Err(Errno(error)),
        _ => Err(Errno::EIO),
    }
}
