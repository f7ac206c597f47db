//! [SIGNAL, NORMAL] Files: thin wrappers around the raw calls. Paths end in a NUL.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right length.

use super::abi::{Iovec, Statx, Timespec64};
use super::{Errno, call, nr};

pub const O_RDONLY: u32 = 0;
pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_ACCMODE: u32 = 3;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_NOCTTY: u32 = 0o400;
pub const O_TRUNC: u32 = 0o1000;
pub const O_APPEND: u32 = 0o2000;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_LARGEFILE: u32 = 0o100_000;
pub const O_DIRECTORY: u32 = 0o200_000;
pub const O_NOFOLLOW: u32 = 0o400_000;
pub const O_CLOEXEC: u32 = 0o2_000_000;
pub const O_PATH: u32 = 0o10_000_000;

pub const AT_FDCWD: i32 = -100;
pub const AT_EMPTY_PATH: u32 = 0x1000;

pub const F_GETFD: u32 = 1;
pub const F_GETFL: u32 = 3;
pub const F_DUPFD_CLOEXEC: u32 = 1030;
pub const LOCK_EX_NB: u32 = 2 | 4;

pub const KCMP_FILE: u32 = 0;

/// A path that lacks its NUL is a programming error; it is refused like a bad path.
fn checked(path: &[u8]) -> Result<usize, Errno> {
    if path.contains(&0) { Ok(path.as_ptr() as usize) } else { Err(Errno::ENAMETOOLONG) }
}

/// With exactly these flags: without O_LARGEFILE a file of 2 GiB is refused.
pub fn open_exactly(path: &[u8], flags: u32) -> Result<i32, Errno> {
    let path = checked(path)?;
    // SAFETY: `path` points to a NUL-terminated string.
    unsafe { call!(nr::OPENAT, AT_FDCWD, path, flags, 0) }.map(|fd| fd as i32)
}

pub fn openat(dir: i32, path: &[u8], flags: u32, mode: u32) -> Result<i32, Errno> {
    let path = checked(path)?;
    // SAFETY: `path` points to a NUL-terminated string.
    unsafe { call!(nr::OPENAT, dir, path, flags | O_LARGEFILE, mode) }.map(|fd| fd as i32)
}

pub fn open(path: &[u8], flags: u32, mode: u32) -> Result<i32, Errno> {
    openat(AT_FDCWD, path, flags, mode)
}

pub fn close(fd: i32) {
    // SAFETY: closing affects no memory. Nothing useful can be done about its errors.
    let _ = unsafe { call!(nr::CLOSE, fd) };
}

/// A descriptor that is closed at the end of its scope.
pub struct OwnedFd(pub i32);

impl Drop for OwnedFd {
    fn drop(&mut self) {
        close(self.0);
    }
}

pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`.
        match unsafe { call!(nr::READ, fd, buf.as_mut_ptr(), buf.len()) } {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

pub fn pread(fd: i32, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`.
        let result =
            unsafe { call!(nr::PREAD64, fd, buf.as_mut_ptr(), buf.len(), offset as u32, (offset >> 32) as u32) };
        match result {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Reads until `buf` is full or the file ends.
pub fn read_full(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read(fd, rest)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Reads a file, typically of /proc, into `buf`. What does not fit is an error.
pub fn read_file<'a>(path: &[u8], buf: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let fd = OwnedFd(open(path, O_RDONLY | O_CLOEXEC, 0)?);
    let n = read_full(fd.0, buf)?;
    if n == buf.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(buf.get(..n).unwrap_or(&[]))
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel reads `bytes` only.
        match unsafe { call!(nr::WRITE, fd, bytes.as_ptr(), bytes.len()) } {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return Err(Errno::EIO),
            n => bytes = bytes.get(n..).unwrap_or(&[]),
        }
    }
    Ok(())
}

/// Gathers memory into one write. Returns what was written, which may be less.
///
/// # Safety
/// Every element describes memory that may be read; unmapped or unreadable memory gives EFAULT.
pub unsafe fn writev(fd: i32, pieces: &[Iovec]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel reads the array and, by the contract above, what it describes.
        match unsafe { call!(nr::WRITEV, fd, pieces.as_ptr(), pieces.len()) } {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

pub fn statx(dir: i32, path: &[u8], flags: u32) -> Result<Statx, Errno> {
    const BASIC_STATS_BTIME_AND_MNT_ID: u32 = 0x1fff;
    let path = checked(path)?;
    let mut out = Statx::default();
    // SAFETY: `path` is NUL-terminated, `out` has the size of struct statx.
    unsafe { call!(nr::STATX, dir, path, flags, BASIC_STATS_BTIME_AND_MNT_ID, &raw mut out) }?;
    Ok(out)
}

pub fn fstat(fd: i32) -> Result<Statx, Errno> {
    statx(fd, b"\0", AT_EMPTY_PATH)
}

pub fn stat(path: &[u8]) -> Result<Statx, Errno> {
    statx(AT_FDCWD, path, 0)
}

/// Target of a symbolic link. One that may have been cut is an error.
pub fn readlink<'a>(dir: i32, path: &[u8], buf: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let path = checked(path)?;
    // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`.
    let n = unsafe { call!(nr::READLINKAT, dir, path, buf.as_mut_ptr(), buf.len()) }?;
    if n >= buf.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(buf.get(..n).unwrap_or(&[]))
}

pub fn fcntl(fd: i32, op: u32, arg: usize) -> Result<usize, Errno> {
    // SAFETY: the operations used here take numbers, no pointers.
    unsafe { call!(nr::FCNTL64, fd, op, arg) }
}

pub fn fsync(fd: i32) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::FSYNC, fd) }.map(drop)
}

pub fn fchmod(fd: i32, mode: u32) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::FCHMOD, fd, mode) }.map(drop)
}

pub fn flock(fd: i32, op: u32) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::FLOCK, fd, op) }.map(drop)
}

pub fn ftruncate(fd: i32, len: u64) -> Result<(), Errno> {
    // SAFETY: affects no memory but mappings of the file, which the callers do not have.
    unsafe { call!(nr::FTRUNCATE64, fd, len as u32, (len >> 32) as u32) }.map(drop)
}

/// Sets when a file was changed, and leaves when it was read.
pub fn set_mtime(fd: i32, sec: u64, nsec: u32) -> Result<(), Errno> {
    const UTIME_OMIT: i64 = (1 << 30) - 2;
    let times = [Timespec64 { sec: 0, nsec: UTIME_OMIT }, Timespec64 { sec: sec as i64, nsec: nsec.into() }];
    // SAFETY: reads two timespecs of 64 bits; the path is the descriptor itself.
    unsafe { call!(nr::UTIMENSAT_TIME64, fd, 0, times.as_ptr(), 0) }.map(drop)
}

/// Reserves space for a file that is about to be written.
pub fn fallocate(fd: i32, len: u64) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::FALLOCATE, fd, 0, 0, 0, len as u32, (len >> 32) as u32) }.map(drop)
}

pub fn renameat(dir: i32, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let (from, to) = (checked(from)?, checked(to)?);
    // SAFETY: both are NUL-terminated.
    unsafe { call!(nr::RENAMEAT, dir, from, dir, to) }.map(drop)
}

pub fn unlinkat(dir: i32, path: &[u8]) -> Result<(), Errno> {
    let path = checked(path)?;
    // SAFETY: NUL-terminated.
    unsafe { call!(nr::UNLINKAT, dir, path, 0) }.map(drop)
}

pub fn mkdir(path: &[u8], mode: u32) -> Result<(), Errno> {
    let path = checked(path)?;
    // SAFETY: NUL-terminated.
    unsafe { call!(nr::MKDIR, path, mode) }.map(drop)
}

pub fn getdents(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`.
    unsafe { call!(nr::GETDENTS64, fd, buf.as_mut_ptr(), buf.len()) }
}

/// Names in a directory; `each` gets every entry but `.` and `..`.
pub fn for_each_name<E: From<Errno>>(
    fd: i32,
    buf: &mut [u8],
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // struct linux_dirent64: ino u64, off i64, reclen u16, type u8, name.
    const RECLEN: usize = 16;
    const NAME: usize = 19;
    loop {
        let n = getdents(fd, buf)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = buf.get(..n).unwrap_or(&[]);
        while let (Some(&[lo, hi]), true) = (rest.get(RECLEN..RECLEN + 2), rest.len() > NAME) {
            let reclen = usize::from(u16::from_le_bytes([lo, hi]));
            let name = rest.get(NAME..reclen).unwrap_or(&[]);
            let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
            if name != b"." && name != b".." {
                each(name)?;
            }
            if reclen == 0 {
                break;
            }
            rest = rest.get(reclen..).unwrap_or(&[]);
        }
    }
}

pub fn seek_to(fd: i32, offset: u64, whence: u32) -> Result<u64, Errno> {
    let mut out = 0u64;
    // SAFETY: `out` takes the resulting offset.
    unsafe { call!(nr::LLSEEK, fd, (offset >> 32) as u32, offset as u32, &raw mut out, whence) }?;
    Ok(out)
}

/// Compares the open file descriptions of two descriptors of process `pid`: an order in which
/// equal means one and the same.
pub fn kcmp_file(pid: u32, a: i32, b: i32) -> Result<core::cmp::Ordering, Errno> {
    // SAFETY: takes numbers only.
    match unsafe { call!(nr::KCMP, pid, pid, KCMP_FILE, a, b) }? {
        0 => Ok(core::cmp::Ordering::Equal),
        1 => Ok(core::cmp::Ordering::Less),
        2 => Ok(core::cmp::Ordering::Greater),
        _ => Err(Errno::EINVAL),
    }
}

/// Size of the pipe behind a descriptor, and its change.
pub const F_SETPIPE_SZ: u32 = 1031;
pub const F_GETPIPE_SZ: u32 = 1032;
pub const F_SETFL: u32 = 4;
pub const O_DIRECT: u32 = 0o40_000;

/// A pipe: its reading and its writing end.
pub fn pipe(flags: u32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut pair = [0i32; 2];
    // SAFETY: `pair` takes two descriptors.
    unsafe { call!(nr::PIPE2, pair.as_mut_ptr(), flags) }?;
    let [read, write] = pair;
    Ok((OwnedFd(read), OwnedFd(write)))
}

/// Copies what is in the pipe `from` to the pipe `to`, without taking it out. Does not wait.
pub fn tee(from: i32, to: i32, len: usize) -> Result<usize, Errno> {
    const SPLICE_F_NONBLOCK: usize = 2;
    // SAFETY: takes numbers only.
    unsafe { call!(nr::TEE, from, to, len, SPLICE_F_NONBLOCK) }
}

/// Bytes that can be read at once.
pub fn bytes_to_read(fd: i32) -> Result<usize, Errno> {
    const FIONREAD: usize = 0x541b;
    let mut n = 0i32;
    // SAFETY: `n` takes the number.
    unsafe { call!(nr::IOCTL, fd, FIONREAD, &raw mut n) }?;
    Ok(n.max(0) as usize)
}

pub const POLLIN: u16 = 1;
pub const POLLOUT: u16 = 4;
pub const POLLERR: u16 = 8;
pub const POLLHUP: u16 = 16;

/// What poll(2) says of one descriptor now.
pub fn poll_now(fd: i32, events: u16) -> Result<u16, Errno> {
    // struct pollfd: fd, events, revents.
    let mut poll = [fd as u32, u32::from(events)];
    // SAFETY: `poll` has the size of one struct pollfd.
    unsafe { call!(nr::POLL, poll.as_mut_ptr(), 1, 0) }?;
    Ok((poll[1] >> 16) as u16)
}

pub fn rmdir(path: &[u8]) -> Result<(), Errno> {
    let path = checked(path)?;
    // SAFETY: NUL-terminated.
    unsafe { call!(nr::RMDIR, path) }.map(drop)
}

/// Looks at a path itself, even if it is a symbolic link.
pub fn lstat(path: &[u8]) -> Result<Statx, Errno> {
    const NOFOLLOW: u32 = 0x100;
    statx(AT_FDCWD, path, NOFOLLOW)
}

/// A file without a name, in memory.
pub fn memfd() -> Result<OwnedFd, Errno> {
    const MFD_CLOEXEC: u32 = 1;
    // SAFETY: the name is NUL-terminated.
    unsafe { call!(nr::MEMFD_CREATE, c"selfckpt".as_ptr(), MFD_CLOEXEC) }.map(|fd| OwnedFd(fd as i32))
}

/// Whether a path is on a file system that lives in memory.
pub fn is_in_memory(path: &[u8]) -> bool {
    const TMPFS_MAGIC: u32 = 0x0102_1994;
    const RAMFS_MAGIC: u32 = 0x8584_58f6;
    // struct statfs64 of i386; its type comes first.
    let mut out = [0u32; 21];
    let Ok(path) = checked(path) else { return false };
    // SAFETY: `path` is NUL-terminated, `out` has the size that is told.
    let found = unsafe { call!(nr::STATFS64, path, size_of_val(&out), out.as_mut_ptr()) };
    found.is_ok() && matches!(core::hint::black_box(out)[0], TMPFS_MAGIC | RAMFS_MAGIC)
}

pub fn mkfifo(path: &[u8], mode: u32) -> Result<(), Errno> {
    const S_IFIFO: u32 = 0o010_000;
    let path = checked(path)?;
    // SAFETY: NUL-terminated.
    unsafe { call!(nr::MKNOD, path, S_IFIFO | mode, 0) }.map(drop)
}

/// Takes a name away from a file that is no directory.
pub fn remove(path: &[u8]) -> Result<(), Errno> {
    unlinkat(AT_FDCWD, path)
}

pub const F_SETSIG: u32 = 10;
pub const F_GETSIG: u32 = 11;
pub const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
pub const O_ASYNC: u32 = 0o20_000;

/// Who gets the signals of a descriptor: whether a thread, a process or a group, and its id.
pub fn owner(fd: i32) -> Result<[u32; 2], Errno> {
    let mut out = [0u32; 2];
    // SAFETY: `out` has the size of struct f_owner_ex.
    unsafe { call!(nr::FCNTL64, fd, F_GETOWN_EX, out.as_mut_ptr()) }?;
    Ok(out)
}

pub fn set_owner(fd: i32, owner: [u32; 2]) -> Result<(), Errno> {
    // SAFETY: `owner` is a struct f_owner_ex.
    unsafe { call!(nr::FCNTL64, fd, F_SETOWN_EX, owner.as_ptr()) }.map(drop)
}

pub const F_SETLK64: u32 = 13;
pub const F_ADD_SEALS: u32 = 1033;
pub const F_OFD_GETLK: u32 = 36;
pub const F_OFD_SETLK: u32 = 37;
pub const F_SETLEASE: u32 = 1024;
/// Kinds of locks: to share, to be alone, none.
pub const F_RDLCK: u32 = 0;
pub const F_WRLCK: u32 = 1;

/// `struct flock64` of a 32-bit task: type and whence of two bytes each, start, length, process.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub struct Flock {
    pub mode: u16,
    pub whence: u16,
    pub start: u64,
    /// 0: up to the end, wherever that will be.
    pub len: u64,
    pub pid: u32,
}
const _: () = assert!(size_of::<Flock>() == 24);

/// Takes, drops or asks for a lock of a range.
pub fn lock(fd: i32, op: u32, lock: &mut Flock) -> Result<(), Errno> {
    // SAFETY: `lock` is a struct flock64.
    unsafe { call!(nr::FCNTL64, fd, op, &raw mut *lock) }.map(drop)
}
