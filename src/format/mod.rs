//! [NORMAL, SIGNAL] What an image is: record numbers, record structures, [`Writer`], [`Reader`].
//!
//! No system calls, no `unsafe`, nothing that depends on the host's architecture: a 64-bit host
//! reads an i686 image with the same code that wrote it. The writer and the structures use `core`
//! only, since a checkpoint runs in a signal handler; the reader runs in ordinary code and allocates.
//!
//! ```text
//!  offset 0                                                                        end of file
//!  | HEADER | BUFFER x3 | HEADER_ARCH | task ... | MM | VMA ... | files | signals |
//!  | THREAD | THREAD_TLS | LDT | CPU | CPU_FPU | ... | PAGES | PAGES ... | NOTICE ... | TAIL |
//!
//!  every record:   type:u32  len:u32 | payload, zero-padded to 8 | flags:u32  crc:u32
//!                  \---------------------------- len bytes ----------------------------/
//!  PAGES:          type len | head | runs | zeros up to a page of the file | pages | crc per run | flags crc
//! ```
//!
//! `len` counts the whole record and is always a multiple of 8. `crc` is CRC-32 (IEEE 802.3, the
//! one of zlib and PNG) over everything of the record before it; the pages of a PAGES record are
//! left out there, each run has its own. TAIL holds a CRC-32 over all the trailers before it.
//! FORMAT.md describes each record to the byte.

pub mod attributes;
pub mod error;
pub mod files;
pub mod header;
pub mod ids;
pub mod image;
pub mod ipc;
pub mod memory;
pub mod notice;
pub mod reader;
pub mod signals;
pub mod task;
pub mod thread;
pub mod timers;
pub mod writer;

pub use error::FormatError;
pub use image::Image;
pub use reader::{ReadAt, Reader};
pub use writer::{Sink, Writer};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a checkpoint's HEADER (the number of the Linux-CR kernel patches).
pub const MAGIC_HEAD: u64 = 0x00fe_ed0c_c0a2_d200;
/// First bytes of the TAIL.
pub const MAGIC_TAIL: u64 = 0x002d_2a0c_c0de_ef00;
/// Architecture number of 32-bit x86.
pub const ARCH_X86_32: u16 = 1;
/// Our own revision of the stream. A reader takes exactly this one.
pub const REV: u16 = 2;
/// Size of a page of memory, and the alignment of page data in the file.
pub const PAGE: u64 = 4096;

/// Largest record that is not PAGES. Bounds what a reader allocates for one record.
pub const MAX_RECORD: u32 = 8 << 20;
/// Largest PAGES record: data of at most 64 MiB and its tables.
pub const MAX_PAGES_RECORD: u32 = 65 << 20;
/// Most runs in one PAGES record.
pub const MAX_RUNS: u32 = 4096;
/// Most records of an image. Bounds what a reader keeps.
pub const MAX_RECORDS: u64 = 16 << 20;

/// Record numbers. Those of the origin are kept; ours fill the free ones of each range.
pub mod kind {
    pub const HEADER: u32 = 1;
    pub const HEADER_ARCH: u32 = 2;
    pub const BUFFER: u32 = 3;
    pub const STRING: u32 = 4;
    pub const TASK: u32 = 101;
    pub const THREAD: u32 = 102;
    pub const CPU: u32 = 103;
    /// Ours: executable, arguments, environment, working directory.
    pub const PROGRAM: u32 = 104;
    /// Ours: where the library keeps its state in the saved memory.
    pub const RUNTIME: u32 = 105;
    /// Ours: something that could not be saved faithfully.
    pub const NOTICE: u32 = 106;
    /// Ours: scheduling and the like of a thread.
    pub const THREAD_ATTR: u32 = 107;
    /// Ours: limits and flags of the process.
    pub const ATTRIBUTES: u32 = 108;
    /// Ours: where the library keeps the ids that the program knows.
    pub const IDS: u32 = 109;
    pub const THREAD_TLS: u32 = 201;
    pub const CPU_FPU: u32 = 202;
    /// Ours: entries of the local descriptor table.
    pub const LDT: u32 = 203;
    /// Ours: the rest of a wait.
    pub const RESTART_BLOCK: u32 = 204;
    /// Ours: an open file description.
    pub const FILE: u32 = 301;
    /// Ours: a descriptor that refers to a FILE.
    pub const FD: u32 = 302;
    /// Ours: more state of a FILE: contents, bytes in flight, locks, watches.
    pub const FILE_DATA: u32 = 303;
    /// Ours: layout of the address space.
    pub const MM: u32 = 401;
    /// Ours: one mapping.
    pub const VMA: u32 = 402;
    /// Ours: contents of memory.
    pub const PAGES: u32 = 403;
    /// Ours: guard regions inside mappings.
    pub const GUARDS: u32 = 404;
    /// Ours: an object of System V IPC, or a message.
    pub const IPC: u32 = 405;
    /// Ours: the dispositions of all signals.
    pub const SIGACTIONS: u32 = 601;
    /// Ours: one pending signal.
    pub const SIGPENDING: u32 = 602;
    /// Ours: the three interval timers.
    pub const ITIMERS: u32 = 603;
    /// Ours: a POSIX timer.
    pub const TIMER: u32 = 604;
    /// Ours: the clocks that count from the boot.
    pub const CLOCKS: u32 = 605;
    /// Ours: what a time namespace adds to them.
    pub const CLOCK_OFFSETS: u32 = 606;
    /// Ours: the front that adds to them where there is no such namespace.
    pub const CLOCK_FRONT: u32 = 607;
    pub const TAIL: u32 = 9001;
    pub const ERROR: u32 = 9999;

    /// Name of a record number as FORMAT.md spells it.
    pub fn name(kind: u32) -> &'static str {
        match kind {
            HEADER => "HEADER",
            HEADER_ARCH => "HEADER_ARCH",
            BUFFER => "BUFFER",
            STRING => "STRING",
            TASK => "TASK",
            THREAD => "THREAD",
            CPU => "CPU",
            PROGRAM => "PROGRAM",
            RUNTIME => "RUNTIME",
            NOTICE => "NOTICE",
            THREAD_ATTR => "THREAD_ATTR",
            ATTRIBUTES => "ATTRIBUTES",
            IDS => "IDS",
            THREAD_TLS => "THREAD_TLS",
            CPU_FPU => "CPU_FPU",
            LDT => "LDT",
            RESTART_BLOCK => "RESTART_BLOCK",
            FILE => "FILE",
            FD => "FD",
            FILE_DATA => "FILE_DATA",
            MM => "MM",
            VMA => "VMA",
            PAGES => "PAGES",
            GUARDS => "GUARDS",
            IPC => "IPC",
            SIGACTIONS => "SIGACTIONS",
            SIGPENDING => "SIGPENDING",
            ITIMERS => "ITIMERS",
            TIMER => "TIMER",
            CLOCKS => "CLOCKS",
            CLOCK_OFFSETS => "CLOCK_OFFSETS",
            CLOCK_FRONT => "CLOCK_FRONT",
            TAIL => "TAIL",
            ERROR => "ERROR",
            _ => "unknown",
        }
    }
}

/// What every record starts with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHead {
    pub kind: U32,
    /// Bytes of the whole record, this header and the trailer included.
    pub len: U32,
}
const _: () = assert!(size_of::<RecordHead>() == 8);

/// What every record ends with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordTrailer {
    /// Bit 0: a reader that does not know the record may skip it. Other bits are zero.
    pub flags: U32,
    /// CRC-32 of the record up to here (page data left out).
    pub crc: U32,
}
const _: () = assert!(size_of::<RecordTrailer>() == 8);

/// Trailer flag: a reader that does not know this record may skip it.
pub const FLAG_OPTIONAL: u32 = 1;

/// Bytes that a record needs besides its payload.
pub const OVERHEAD: usize = size_of::<RecordHead>() + size_of::<RecordTrailer>();

/// Rounds up to the alignment of records.
pub const fn align8(n: usize) -> usize {
    (n + 7) & !7
}

/// TAIL: its presence means that the stream is whole.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tail {
    pub magic: U64,
    /// Records before this one.
    pub records: U64,
    /// Bytes of the stream before this record.
    pub bytes: U64,
    /// CRC-32 over the 8-byte trailers of all records before this one, in order.
    pub digest: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Tail>() == 32);
