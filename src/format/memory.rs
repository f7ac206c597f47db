//! [NORMAL, SIGNAL] MM, VMA, PAGES: the address space and its contents.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// MM. The bytes of /proc/self/auxv follow in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mm {
    pub start_code: U64,
    pub end_code: U64,
    pub start_data: U64,
    pub end_data: U64,
    pub start_brk: U64,
    pub brk: U64,
    pub start_stack: U64,
    pub arg_start: U64,
    pub arg_end: U64,
    pub env_start: U64,
    pub env_end: U64,
    /// End of user addresses of the kernel that the image was taken on.
    pub task_size: U64,
    pub vmas: U32,
    pub auxv_len: U32,
}
const _: () = assert!(size_of::<Mm>() == 104);

/// VMA: one mapping. Its name (path, or `[heap]` and the like) follows in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Vma {
    pub start: U64,
    pub end: U64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub prot: U32,
    /// One of [`vma_kind`].
    pub kind: U32,
    /// See [`vma_flag`].
    pub flags: U64,
    /// Offset into the file, bytes.
    pub offset: U64,
    pub dev: U64,
    pub ino: U64,
    /// Size and modification time of the file at the checkpoint, if it could be looked at.
    pub file_size: U64,
    pub file_mtime: U64,
    pub file_mtime_nsec: U32,
    pub name_len: U32,
}
const _: () = assert!(size_of::<Vma>() == 80);

/// What a mapping is.
pub mod vma_kind {
    /// Private anonymous memory, heap and stacks included.
    pub const ANON: u32 = 1;
    /// Private mapping of a file.
    pub const FILE_PRIVATE: u32 = 2;
    /// Shared mapping of a file.
    pub const FILE_SHARED: u32 = 3;
    /// Shared memory without a name.
    pub const ANON_SHARED: u32 = 4;
    /// The kernel's code page.
    pub const VDSO: u32 = 5;
    /// The kernel's data pages that belong to it (vvar, vvar_vclock).
    pub const VVAR: u32 = 6;
    /// Private mapping of a device or file that cannot be opened again; only its memory is kept.
    pub const FILE_GONE: u32 = 7;
    /// System V shared memory; an IPC record tells the rest.
    pub const SEGMENT: u32 = 8;

    pub fn name(kind: u32) -> &'static str {
        match kind {
            ANON => "anonymous",
            FILE_PRIVATE => "file",
            FILE_SHARED => "shared file",
            ANON_SHARED => "shared memory",
            VDSO => "vdso",
            VVAR => "vvar",
            FILE_GONE => "deleted file",
            SEGMENT => "System V",
            _ => "unknown",
        }
    }
}

/// Attributes of a mapping, from the VmFlags line of /proc/self/smaps.
pub mod vma_flag {
    /// MAP_GROWSDOWN.
    pub const GROWSDOWN: u64 = 1 << 0;
    /// mlock.
    pub const LOCKED: u64 = 1 << 1;
    /// mlock2(MLOCK_ONFAULT).
    pub const LOCK_ON_FAULT: u64 = 1 << 2;
    pub const MADV_SEQUENTIAL: u64 = 1 << 3;
    pub const MADV_RANDOM: u64 = 1 << 4;
    pub const MADV_DONTFORK: u64 = 1 << 5;
    pub const MADV_DONTDUMP: u64 = 1 << 6;
    pub const MADV_WIPEONFORK: u64 = 1 << 7;
    pub const MADV_HUGEPAGE: u64 = 1 << 8;
    pub const MADV_NOHUGEPAGE: u64 = 1 << 9;
    pub const MADV_MERGEABLE: u64 = 1 << 10;
    pub const NORESERVE: u64 = 1 << 11;
    /// mseal.
    pub const SEALED: u64 = 1 << 12;
    /// Huge pages of hugetlbfs.
    pub const HUGETLB: u64 = 1 << 13;
    /// The memory cannot be looked at or put back (VM_IO, VM_PFNMAP).
    pub const DEVICE: u64 = 1 << 14;
    /// Registered with a userfaultfd.
    pub const USERFAULT: u64 = 1 << 15;
    /// Of System V shared memory: it may be made writable.
    pub const MAY_WRITE: u64 = 1 << 16;
    /// Of a shared file: it lies in memory (tmpfs) and is gone after a boot; the pages that it holds are in the image.
    pub const VOLATILE: u64 = 1 << 17;
    /// The ring of a context of kernel AIO.
    pub const AIO_RING: u64 = 1 << 18;
    /// Of [`HUGETLB`]: the logarithm of the pages' size, where mmap(2) has it among its flags.
    pub const HUGE_SHIFT: u32 = 26;
    pub const HUGE_SIZE: u64 = 63 << HUGE_SHIFT;
    pub const ALL: u64 = ((1 << 19) - 1) | HUGE_SIZE;

    /// Two-letter names of smaps and the flags that they set.
    pub const SMAPS: &[(&[u8; 2], u64)] = &[
        (b"gd", GROWSDOWN),
        (b"lo", LOCKED),
        (b"lf", LOCK_ON_FAULT),
        (b"sr", MADV_SEQUENTIAL),
        (b"rr", MADV_RANDOM),
        (b"dc", MADV_DONTFORK),
        (b"dd", MADV_DONTDUMP),
        (b"wf", MADV_WIPEONFORK),
        (b"hg", MADV_HUGEPAGE),
        (b"nh", MADV_NOHUGEPAGE),
        (b"mg", MADV_MERGEABLE),
        (b"nr", NORESERVE),
        (b"sl", SEALED),
        (b"ht", HUGETLB),
        (b"io", DEVICE),
        (b"pf", DEVICE),
        (b"um", USERFAULT),
        (b"uw", USERFAULT),
        (b"ui", USERFAULT),
        (b"mw", MAY_WRITE),
    ];

    /// Names for people.
    pub const NAMES: &[(u64, &str)] = &[
        (GROWSDOWN, "growsdown"),
        (LOCKED, "locked"),
        (LOCK_ON_FAULT, "lock-on-fault"),
        (MADV_SEQUENTIAL, "sequential"),
        (MADV_RANDOM, "random"),
        (MADV_DONTFORK, "dontfork"),
        (MADV_DONTDUMP, "dontdump"),
        (MADV_WIPEONFORK, "wipeonfork"),
        (MADV_HUGEPAGE, "hugepage"),
        (MADV_NOHUGEPAGE, "nohugepage"),
        (MADV_MERGEABLE, "mergeable"),
        (NORESERVE, "noreserve"),
        (SEALED, "sealed"),
        (HUGETLB, "hugetlb"),
        (DEVICE, "device"),
        (USERFAULT, "userfault"),
        (MAY_WRITE, "may-write"),
        (VOLATILE, "volatile"),
        (AIO_RING, "aio-ring"),
    ];
}

/// GUARDS. `count` [`GuardRange`]s follow, ascending.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Guards {
    pub count: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Guards>() == 8);

/// Pages of a mapping that madvise(MADV_GUARD_INSTALL) has made inaccessible.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GuardRange {
    pub start: U64,
    pub end: U64,
}
const _: () = assert!(size_of::<GuardRange>() == 16);

/// PAGES. `runs` [`PageRun`]s follow; then zeros up to `data_offset`, counted from the record's
/// first byte, which is page-aligned in the file; the pages of all runs; a CRC-32 per run, padded
/// with a zero to 8 bytes; the trailer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Pages {
    pub runs: U32,
    pub data_offset: U32,
    /// Pages of all runs together.
    pub pages: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Pages>() == 16);

/// Pages that follow each other in memory and in the file.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PageRun {
    pub addr: U64,
    pub pages: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<PageRun>() == 16);

/// Shared anonymous memory is a deleted file of the kernel's own, as its name shows.
pub const SHARED_ANONYMOUS: &[u8] = b"/dev/zero (deleted)";

/// Whether a mapping bears the name of System V shared memory.
pub fn is_segment(name: &[u8]) -> bool {
    name.starts_with(b"/SYSV")
}

/// Whether shared memory was a file that had a name: a memfd or a deleted file, not memory of the kernel's own making.
pub fn is_nameless_file(name: &[u8]) -> bool {
    name.starts_with(b"/") && name != SHARED_ANONYMOUS && !is_segment(name)
}
