//! [NORMAL, SIGNAL] ATTRIBUTES and THREAD_ATTR: what the kernel keeps of a process and of a thread besides memory,
//! files and signals.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What the kernel does not tell.
pub const UNKNOWN: u32 = u32::MAX;

/// Resource limits, in the kernel's order.
pub const LIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Limit {
    pub soft: U64,
    pub hard: U64,
}

/// ATTRIBUTES: of the process.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Attributes {
    /// Address of the library's [`Inherited`].
    pub inherited: U64,
    pub subreaper: U32,
    pub no_new_privs: U32,
    pub keepcaps: U32,
    pub securebits: U32,
    pub thp_disable: U32,
    pub memory_merge: U32,
    /// A signed number.
    pub oom_score_adj: U32,
    /// [`UNKNOWN`] where it cannot be read.
    pub coredump_filter: U32,
    /// Commands of membarrier(2) that the process is registered for; [`UNKNOWN`] before Linux 6.3.
    pub membarrier: U32,
    pub reserved: U32,
    pub limits: [Limit; LIMITS.len()],
}
const _: () = assert!(size_of::<Attributes>() == 304);

/// Most bytes of a set of CPUs: 8192 of them.
pub const CPUS: usize = 1024;

/// What the process had when it was started, before the program did anything. Lies in the library's writable data;
/// a restart writes its own there.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Inherited {
    pub death_signal: U32,
    pub reserved: U32,
    pub cpus: [u8; CPUS],
}
const _: () = assert!(size_of::<Inherited>() == 8 + CPUS);

/// THREAD_ATTR: of the thread whose CPU came last. `cpus_len` bytes follow, the CPUs that it is bound to; none if
/// they are those that the process was started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ThreadAttr {
    pub policy: U32,
    /// A signed number.
    pub nice: U32,
    pub priority: U32,
    /// As ioprio_get(2) tells it.
    pub ioprio: U32,
    pub sched_flags: U64,
    /// Of SCHED_DEADLINE, nanoseconds.
    pub runtime: U64,
    pub deadline: U64,
    pub period: U64,
    /// Timer slack, nanoseconds.
    pub slack: U64,
    /// Signal at the parent's death; [`UNKNOWN`]: that which the process was started with.
    pub death_signal: U32,
    pub cpus_len: U32,
}
const _: () = assert!(size_of::<ThreadAttr>() == 64);

/// Policies of scheduling.
pub mod policy {
    pub const OTHER: u32 = 0;
    pub const BATCH: u32 = 3;

    pub fn name(policy: u32) -> &'static str {
        match policy {
            0 => "SCHED_OTHER",
            1 => "SCHED_FIFO",
            2 => "SCHED_RR",
            3 => "SCHED_BATCH",
            5 => "SCHED_IDLE",
            6 => "SCHED_DEADLINE",
            7 => "SCHED_EXT",
            _ => "unknown",
        }
    }
}
