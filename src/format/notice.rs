//! [NORMAL, SIGNAL] NOTICE: what could not be saved faithfully, told in the image itself.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// NOTICE. Its text follows in the same record. A reader may skip it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Notice {
    /// One of [`code`].
    pub code: U32,
    pub text_len: U32,
    /// What it is about: a descriptor, an address, a thread.
    pub number: U64,
}
const _: () = assert!(size_of::<Notice>() == 16);

/// What a notice is about.
pub mod code {
    /// `number` is a descriptor that stands as a closed peer after a restart.
    pub const FD_NOT_SAVED: u32 = 1;
    /// `number` is the start of a mapping that is not restored as it was.
    pub const MAPPING_NOT_SAVED: u32 = 2;
    /// `number` is a thread whose debug registers could not be read.
    pub const DEBUG_REGISTERS: u32 = 3;
    /// Children were ignored on request; `number` is how many.
    pub const CHILDREN_IGNORED: u32 = 4;
    /// State of the process that this revision does not carry; `number` is zero.
    pub const STATE_NOT_SAVED: u32 = 5;

    pub fn name(code: u32) -> &'static str {
        match code {
            FD_NOT_SAVED => "fd-not-saved",
            MAPPING_NOT_SAVED => "mapping-not-saved",
            DEBUG_REGISTERS => "debug-registers",
            CHILDREN_IGNORED => "children-ignored",
            STATE_NOT_SAVED => "state-not-saved",
            _ => "unknown",
        }
    }
}
