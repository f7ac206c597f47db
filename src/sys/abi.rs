//! [SIGNAL] Kernel structures as a 32-bit task sees them. Asserted against libc's where it has them.

/// `struct statx` (include/uapi/linux/stat.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub spare0: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub atime: StatxTime,
    pub btime: StatxTime,
    pub ctime: StatxTime,
    pub mtime: StatxTime,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mount: u64,
    pub spare: [u64; 13],
}
const _: () = assert!(size_of::<Statx>() == 256);

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct StatxTime {
    pub sec: i64,
    pub nsec: u32,
    pub reserved: i32,
}
const _: () = assert!(size_of::<StatxTime>() == 16);

impl Statx {
    pub fn dev(&self) -> u64 {
        makedev(self.dev_major, self.dev_minor)
    }

    /// When it was made, if the file system knows: what else has its inode's number later has another time.
    pub fn born(&self) -> Option<StatxTime> {
        const BTIME: u32 = 0x800;
        (self.mask & BTIME != 0).then_some(self.btime)
    }

    /// Number of the mount that it was reached on; 0 where the kernel does not tell (before Linux 5.8).
    pub fn mount(&self) -> u64 {
        const MNT_ID: u32 = 0x1000;
        if self.mask & MNT_ID != 0 { self.mount } else { 0 }
    }

    pub fn rdev(&self) -> u64 {
        makedev(self.rdev_major, self.rdev_minor)
    }
}

/// A device number as images store it: major in the upper, minor in the lower 32 bits.
pub const fn makedev(major: u32, minor: u32) -> u64 {
    ((major as u64) << 32) | minor as u64
}

pub const S_IFMT: u32 = 0o170_000;
pub const S_IFSOCK: u32 = 0o140_000;
pub const S_IFLNK: u32 = 0o120_000;
pub const S_IFREG: u32 = 0o100_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFCHR: u32 = 0o020_000;
pub const S_IFIFO: u32 = 0o010_000;

/// `struct user_desc` (arch/x86/include/uapi/asm/ldt.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct UserDesc {
    pub entry_number: u32,
    pub base_addr: u32,
    pub limit: u32,
    pub flags: u32,
}
const _: () = assert!(size_of::<UserDesc>() == 16);

/// The kernel's `struct sigaction` of a 32-bit task.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct KernelSigaction {
    pub handler: u32,
    pub flags: u32,
    pub restorer: u32,
    pub mask: [u32; 2],
}
const _: () = assert!(size_of::<KernelSigaction>() == 20);

pub const SA_SIGINFO: u32 = 4;
pub const SA_ONSTACK: u32 = 0x0800_0000;
pub const SA_RESTART: u32 = 0x1000_0000;
pub const SA_RESTORER: u32 = 0x0400_0000;

/// `ss_flags` of `stack_t`.
pub const SS_DISABLE: u32 = 2;

/// `siginfo_t`, of which the library reads the first words only.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Siginfo {
    pub words: [u32; 32],
}
const _: () = assert!(size_of::<Siginfo>() == 128);

impl Siginfo {
    pub const fn new() -> Self {
        Siginfo { words: [0; 32] }
    }

    pub fn signo(&self) -> u32 {
        self.words[0]
    }

    pub fn code(&self) -> i32 {
        self.words[2] as i32
    }

    /// As sigqueue(3) makes one, but for the sender, which is a number of the caller's.
    pub fn queued(signal: u32, sender: u32, value: u32) -> Self {
        let mut out = Siginfo::new();
        out.words[0] = signal;
        out.words[2] = SI_QUEUE as u32;
        out.words[3] = sender;
        out.words[5] = value;
        out
    }

    /// `si_pid`.
    pub fn sender(&self) -> u32 {
        self.words[3]
    }

    /// `si_value` of a queued signal.
    pub fn value(&self) -> u32 {
        self.words[5]
    }

    pub fn bytes(&self) -> [u8; 128] {
        let mut out = [0u8; 128];
        for (place, word) in out.chunks_exact_mut(4).zip(self.words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}

pub const SI_QUEUE: i32 = -1;
/// Of a POSIX timer.
pub const SI_TIMER: i32 = -2;
pub const SI_TKILL: i32 = -6;

/// `si_value` of signals that the library sends itself: its timer's, and requests that had to wait.
pub const OWN_MARK: u32 = 0x5e1f_c497;

/// `struct __kernel_timespec`.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Timespec64 {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec64 {
    /// Of a time that is not before its clock's zero.
    pub fn nanoseconds(&self) -> u64 {
        self.sec as u64 * 1_000_000_000 + self.nsec as u64
    }
}

/// `struct new_utsname`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Utsname {
    pub fields: [[u8; 65]; 6],
}

/// `struct iovec`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Iovec {
    pub base: usize,
    pub len: usize,
}

/// `struct pm_scan_arg` (include/uapi/linux/fs.h, Linux 6.7).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct PmScanArg {
    pub size: u64,
    pub flags: u64,
    pub start: u64,
    pub end: u64,
    pub walk_end: u64,
    pub vec: u64,
    pub vec_len: u64,
    pub max_pages: u64,
    pub category_inverted: u64,
    pub category_mask: u64,
    pub category_anyof_mask: u64,
    pub return_mask: u64,
}
const _: () = assert!(size_of::<PmScanArg>() == 96);

/// `struct page_region`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct PageRegion {
    pub start: u64,
    pub end: u64,
    pub categories: u64,
}
const _: () = assert!(size_of::<PageRegion>() == 24);

pub const PAGEMAP_SCAN: usize = 0xc060_6610;
pub const PAGE_IS_FILE: u64 = 1 << 2;
pub const PAGE_IS_PRESENT: u64 = 1 << 3;
pub const PAGE_IS_SWAPPED: u64 = 1 << 4;
pub const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// Linux 6.15.
pub const PAGE_IS_GUARD: u64 = 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libc() {
        assert_eq!(size_of::<libc::statx>(), size_of::<Statx>());
        assert_eq!(size_of::<libc::siginfo_t>(), size_of::<Siginfo>());
        assert_eq!(size_of::<libc::utsname>(), size_of::<Utsname>());
        assert_eq!(size_of::<libc::iovec>(), size_of::<Iovec>());
        assert_eq!(core::mem::offset_of!(libc::statx, stx_mtime), core::mem::offset_of!(Statx, mtime));
        assert_eq!(core::mem::offset_of!(libc::statx, stx_ino), core::mem::offset_of!(Statx, ino));
        assert_eq!(core::mem::offset_of!(libc::statx, stx_dev_major), core::mem::offset_of!(Statx, dev_major));
        assert_eq!(libc::SYS_statx as u32, crate::sys::nr::STATX);
        assert_eq!(libc::SYS_rt_tgsigqueueinfo as u32, crate::sys::nr::RT_TGSIGQUEUEINFO);
        assert_eq!(libc::SYS_mlock2 as u32, crate::sys::nr::MLOCK2);
        assert_eq!(libc::SYS_kcmp as u32, crate::sys::nr::KCMP);
        assert_eq!(libc::SYS_sendto as u32, crate::sys::nr::SENDTO);
        assert_eq!(libc::SYS_rseq as u32, crate::sys::nr::RSEQ);
        assert_eq!(libc::SYS_renameat as u32, crate::sys::nr::RENAMEAT);
        assert_eq!(libc::SYS_fallocate as u32, crate::sys::nr::FALLOCATE);
        assert_eq!(libc::SYS_waitid as u32, crate::sys::nr::WAITID);
        assert_eq!(libc::SYS_ugetrlimit as u32, crate::sys::nr::UGETRLIMIT);
        assert_eq!(libc::SYS_mincore as u32, crate::sys::nr::MINCORE);
        assert_eq!(libc::SYS_set_thread_area as u32, crate::sys::nr::SET_THREAD_AREA);
    }
}
