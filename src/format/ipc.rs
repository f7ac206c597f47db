//! [NORMAL, SIGNAL] IPC: System V shared memory, semaphores, message queues.

use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// IPC: one object, or one message. Its bytes follow in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipc {
    /// One of [`what`].
    pub what: U32,
    pub id: U32,
    pub key: U32,
    /// Permissions, as /proc/sysvipc shows them.
    pub mode: U32,
    /// Shared memory: bytes; semaphores: how many; queue: bytes that it may hold; message: its type.
    pub size: U64,
    /// Bits of [`flag`].
    pub flags: U32,
    pub len: U32,
}
const _: () = assert!(size_of::<Ipc>() == 32);

pub mod what {
    /// Its contents are in PAGES.
    pub const SHARED_MEMORY: u32 = 1;
    /// A [`super::Semaphore`] for each follows.
    pub const SEMAPHORES: u32 = 2;
    pub const QUEUE: u32 = 3;
    /// A message of the queue that came before; its bytes follow.
    pub const MESSAGE: u32 = 4;

    pub fn name(what: u32) -> &'static str {
        match what {
            SHARED_MEMORY => "shared memory",
            SEMAPHORES => "semaphores",
            QUEUE => "message queue",
            MESSAGE => "message",
            _ => "unknown",
        }
    }
}

pub mod flag {
    /// Another process has it attached, too.
    pub const OTHERS: u32 = 1;
    pub const ALL: u32 = 1;
}

/// Bits of a segment's mode: it goes with its last user; it is locked in memory.
pub const SHM_DEST: u32 = 0o1000;
pub const SHM_LOCKED: u32 = 0o2000;

/// A semaphore, and what the process owes it at its end (SEM_UNDO).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Semaphore {
    pub value: U16,
    pub adjust: I16,
}
const _: () = assert!(size_of::<Semaphore>() == 4);
