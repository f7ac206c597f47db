//! [NORMAL, SIGNAL] IDS: where the saved library keeps the ids that the program knows itself by.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// IDS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ids {
    /// Address of a [`TableHead`] that room for `capacity` [`Translation`]s follows.
    pub table: U64,
    pub capacity: U32,
    /// Bits of [`uses`].
    pub uses: U32,
}
const _: () = assert!(size_of::<Ids>() == 16);

/// Bits of [`Ids::uses`]: what cannot do without the same thread ids.
pub mod uses {
    pub const INHERITING_MUTEXES: u32 = 1;
    pub const ROBUST_MUTEXES: u32 = 2;
    pub const ALL: u32 = 3;
}

/// Room in the library's table: as many as a program can have threads.
pub const MOST: usize = 32 << 10;

/// Written by a restart.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TableHead {
    /// 1 where the ids are not the same; the rest counts only then.
    pub changed: U32,
    pub count: U32,
    pub known_pid: U32,
    pub real_pid: U32,
    /// Distance of the id from the beginning of a thread's descriptor.
    pub tid_offset: U32,
    pub reserved: [U32; 3],
}
const _: () = assert!(size_of::<TableHead>() == 32);

/// A thread; ordered by `tid_address`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Translation {
    /// Where libc has its id, and the kernel clears it when the thread ends; 0 for none.
    pub tid_address: U32,
    pub known: U32,
    pub real: U32,
}
const _: () = assert!(size_of::<Translation>() == 12);
