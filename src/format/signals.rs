//! [NORMAL, SIGNAL] SIGACTIONS and SIGPENDING.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Signals of Linux on x86.
pub const NSIG: usize = 64;

/// SIGACTIONS: 64 of these, signal 1 first. For the trigger signals it is the library's handler.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SigAction {
    pub handler: U64,
    pub flags: U64,
    pub restorer: U64,
    pub mask: U64,
}
const _: () = assert!(size_of::<SigAction>() == 32);

/// SIGPENDING: one pending signal, in the order in which they are delivered.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SigPending {
    /// Thread that it is for; 0 for the process.
    pub tid: U32,
    pub signo: U32,
    /// The kernel's siginfo of a 32-bit task.
    pub siginfo: [u8; 128],
}
const _: () = assert!(size_of::<SigPending>() == 136);
