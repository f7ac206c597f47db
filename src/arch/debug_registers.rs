//! [SIGNAL] Debug registers, read by a short-lived helper process: only a tracer may see them.
#![allow(unsafe_code)] // ptrace(2).

use super::helper;
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

/// Runs in the helper. Fails where not all could be seen.
fn look_from_outside(looks: &mut [Look]) -> Result<(), Errno> {
    // All are stopped before the first one is waited for: they stop side by side.
    for look in looks.iter_mut() {
        look.found = seize(look.tid).map(|()| Traced::default());
    }
    for look in looks.iter_mut().filter(|look| look.found.is_ok()) {
        look.found = read(look.tid);
        // A thread that is gone needs no release.
        let _ = ptrace(PTRACE_DETACH, look.tid, 0, 0);
    }
    if looks.iter().any(|look| look.found.is_err_and(|errno| errno == Errno::EPERM)) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

pub(super) fn ptrace(request: u32, target: u32, addr: usize, data: usize) -> Result<usize, Errno> {
    // SAFETY: PEEKUSER writes one word at `data`, GET_RSEQ_CONFIGURATION `addr` bytes, PEEKSIGINFO as many entries as it
    // is told to; the other requests take numbers.
    unsafe { call!(nr::PTRACE, request, target, addr, data) }
}

pub(super) fn seize(target: u32) -> Result<(), Errno> {
    ptrace(PTRACE_SEIZE, target, 0, 0)?;
    ptrace(PTRACE_INTERRUPT, target, 0, 0).map(drop)
}

/// Waits until a thread that was seized stands still.
pub(super) fn await_stop(target: u32) -> Result<(), Errno> {
    process::wait4(target, process::WALL).map(drop)
}

fn read(target: u32) -> Result<Traced, Errno> {
    await_stop(target)?;
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
    // What was refused stands in the entries.
    let started = |result| if result == Err(Errno::EPERM) { Ok(()) } else { result };
    // SAFETY: by the contract above.
    started(unsafe { as_tracer(stack_top, &mut || look_from_outside(looks)) })
}

/// Runs `work` in a helper that may trace this process.
///
/// # Errors
/// Those of `work`; or the helper could not be started.
///
/// # Safety
/// As `look_at_threads`.
pub(super) unsafe fn as_tracer(stack_top: usize, work: &mut dyn FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    let mut result = Ok(());
    // SAFETY: by the contract above.
    unsafe { helper::run(stack_top, &mut || result = work()) }?;
    if result == Err(Errno::EPERM) {
        // Yama refuses a tracer that is no ancestor until the target names it.
        const ANY: usize = usize::MAX;
        if process::prctl(process::PR_SET_PTRACER, ANY, 0, 0, 0).is_ok() {
            // SAFETY: as above.
            let again = unsafe { helper::run(stack_top, &mut || result = work()) };
            let _ = process::prctl(process::PR_SET_PTRACER, 0, 0, 0, 0);
            again?;
        }
    }
    result
}
