//! [SIGNAL, NORMAL] Scheduling, priorities, limits and other attributes of processes and threads.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right type.

use super::{Errno, call, nr};

pub const PR_SET_PDEATHSIG: u32 = 1;
pub const PR_GET_PDEATHSIG: u32 = 2;
pub const PR_GET_KEEPCAPS: u32 = 7;
pub const PR_SET_KEEPCAPS: u32 = 8;
pub const PR_GET_SECUREBITS: u32 = 27;
pub const PR_SET_SECUREBITS: u32 = 28;
pub const PR_SET_TIMERSLACK: u32 = 29;
pub const PR_GET_TIMERSLACK: u32 = 30;
pub const PR_SET_CHILD_SUBREAPER: u32 = 36;
pub const PR_GET_CHILD_SUBREAPER: u32 = 37;
pub const PR_SET_NO_NEW_PRIVS: u32 = 38;
pub const PR_GET_NO_NEW_PRIVS: u32 = 39;
pub const PR_SET_THP_DISABLE: u32 = 41;
pub const PR_GET_THP_DISABLE: u32 = 42;
pub const PR_SET_MEMORY_MERGE: u32 = 67;
pub const PR_GET_MEMORY_MERGE: u32 = 68;

/// `struct sched_attr`, its first version.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}
const _: () = assert!(size_of::<SchedAttr>() == 48);

/// Scheduling of a thread; 0 for the calling one.
pub fn sched_attr(tid: u32) -> Result<SchedAttr, Errno> {
    let mut out = SchedAttr::default();
    // SAFETY: `out` takes as many bytes as the third argument says.
    unsafe { call!(nr::SCHED_GETATTR, tid, &raw mut out, size_of::<SchedAttr>(), 0) }?;
    Ok(out)
}

const PRIO_PROCESS: u32 = 0;

/// Nice value of a thread.
pub fn nice(tid: u32) -> i32 {
    // SAFETY: takes numbers.
    20 - unsafe { call!(nr::GETPRIORITY, PRIO_PROCESS, tid) }.map_or(20, |value| value as i32)
}

/// I/O priority of a thread.
pub fn ioprio(tid: u32) -> u32 {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: takes numbers.
    unsafe { call!(nr::IOPRIO_GET, IOPRIO_WHO_PROCESS, tid) }.map_or(0, |value| value as u32)
}

/// The CPUs that a thread may run on, a bit each. Returns how many bytes of `out` the kernel filled.
pub fn affinity(tid: u32, out: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `out` takes as many bytes as the second argument says.
    unsafe { call!(nr::SCHED_GETAFFINITY, tid, out.len(), out.as_mut_ptr()) }
}

pub fn set_affinity(cpus: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as the second argument says.
    unsafe { call!(nr::SCHED_SETAFFINITY, 0, cpus.len(), cpus.as_ptr()) }.map(drop)
}

/// Of setrlimit(2): open files.
pub const RLIMIT_NOFILE: u32 = 7;

/// Soft and hard limit of the calling process.
pub fn limit(resource: u32) -> Result<[u64; 2], Errno> {
    let mut out = [0u64; 2];
    // SAFETY: `out` takes a struct rlimit64.
    unsafe { call!(nr::PRLIMIT64, 0, resource, 0, out.as_mut_ptr()) }?;
    Ok(out)
}

pub fn set_limit(resource: u32, limit: [u64; 2]) -> Result<(), Errno> {
    // SAFETY: the kernel reads a struct rlimit64.
    unsafe { call!(nr::PRLIMIT64, 0, resource, limit.as_ptr(), 0) }.map(drop)
}

pub const MEMBARRIER_GET_REGISTRATIONS: u32 = 1 << 9;

pub fn membarrier(command: u32) -> Result<u32, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::MEMBARRIER, command, 0, 0) }.map(|value| value as u32)
}
