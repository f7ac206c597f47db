//! [SIGNAL] Memory for the duration of a checkpoint, mapped when it starts and unmapped at its end.
//!
//! One private anonymous mapping: a fork that writes the image has its own. The kernel may have merged it with a
//! neighbour, from which it is told by its address. Only what is touched costs anything.
#![allow(unsafe_code)] // Hands out disjoint parts of one mapping.

use super::files::{Group, Options};
use super::threads::ThreadSlot;
use super::vmas::VmaSlot;
use crate::arch::debug_registers::Look;
use crate::format::memory::{GuardRange, PageRun};
use crate::format::timers::Timer;
use crate::format::{MAX_RECORD, MAX_RUNS};
use crate::sys::abi::{Iovec, PageRegion, Siginfo, StatxTime};
use crate::sys::{Errno, process};
use core::sync::atomic::AtomicU32;

pub const STACK: usize = 512 << 10;
pub const HELPER_STACK: usize = 256 << 10;
/// The kernel's limit is 65530 mappings (vm.max_map_count) unless somebody raised it.
pub const MAX_VMAS: usize = 128 << 10;
pub const MAX_FDS: usize = 128 << 10;
pub const MAX_THREADS: usize = 32 << 10;
/// Highest pid_max of a 64-bit kernel.
pub const MAX_TID: usize = 4 << 20;
const MAX_PENDING: usize = 64 << 10;
const MAX_GUARDS: usize = 128 << 10;
/// A timer counts as a pending signal (RLIMIT_SIGPENDING).
const MAX_TIMERS: usize = MAX_PENDING;
pub const MAX_IOV: usize = 1024;

/// A descriptor while its sharing is being found out.
#[derive(Clone, Copy, Default)]
pub struct FdSlot {
    pub fd: i32,
    /// Number of its FILE.
    pub file: u32,
    /// First descriptor of the same FILE is this one.
    pub first: bool,
    pub dev: u64,
    pub ino: u64,
    pub pos: u64,
    pub flags: u32,
    pub mode: u32,
    pub nlink: u32,
    pub blksize: u32,
    pub rdev: u64,
    pub size: u64,
    pub mtime: StatxTime,
    /// When it was made, if the file system tells.
    pub born: StatxTime,
    pub has_born: bool,
    /// Number of the mount that it was opened on; 0: not told.
    pub mount: u64,
    /// FD_CLOEXEC.
    pub cloexec: bool,
    /// F_GETOWN_EX and F_GETSIG: whom signals of the descriptor go to, and which.
    pub owner: [u32; 2],
    pub signal: u32,
    /// There are locks or leases on it. Of a FIFO it is not known.
    pub is_locked: bool,
    /// What an eventfd holds.
    pub eventfd: Option<Eventfd>,
    pub socket: SocketLook,
    /// Number of a socket's own end and of its peer's; 0: none.
    pub end: u64,
    pub peer_end: u64,
    /// Of a UNIX socket: the kernel has told who its peer is.
    pub is_diagnosed: bool,
    /// Of a listening UNIX socket: its backlog, and how many wait to be accepted.
    pub backlog: u32,
    pub queued: u32,
    /// Inode of a UNIX socket's name.
    pub name_ino: u32,
    /// How a UNIX socket was shut down: 1 for receiving, 2 for sending.
    pub shutdown: u8,
}

/// An eventfd.
#[derive(Clone, Copy)]
pub struct Eventfd {
    pub count: u64,
    /// The kernel's number for it. Before Linux 5.2 it does not tell.
    pub id: u64,
    /// Before Linux 6.5 the kernel does not tell.
    pub is_semaphore: Option<bool>,
}

/// SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN of a socket.
#[derive(Clone, Copy, Default)]
pub struct SocketLook {
    pub domain: u32,
    pub kind: u32,
    pub protocol: u32,
    pub listens: bool,
}

/// A pending signal, and the thread that it is for; 0 for the process.
#[derive(Clone, Copy)]
pub struct PendingSlot {
    pub tid: u32,
    pub info: Siginfo,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident: [$type:ty; $count:expr],)*) => {
        /// All tables of a checkpoint. Their memory is fresh from the kernel: zero.
        pub struct Scratch {
            $($(#[$doc])* pub $name: &'static mut [$type],)*
            /// End of the memory for the helper process's stack.
            pub helper_stack_top: usize,
            pub start: usize,
            pub end: usize,
        }

        /// Bytes of all tables, each on its own pages.
        const TABLES: usize = 0 $(+ (size_of::<$type>() * $count).next_multiple_of(4096))*;

        impl Scratch {
            /// # Safety
            /// `start` is the first byte of a fresh mapping of `LEN` bytes; called once for it.
            unsafe fn lay_out(start: usize) -> Scratch {
                let mut at = start + GUARD + STACK + HELPER_STACK;
                $(
                    // SAFETY: the part lies inside the mapping, belongs to nothing else, is page
                    // aligned, and all-zero bytes are a value of its type.
                    let $name = unsafe { core::slice::from_raw_parts_mut(at as *mut $type, $count) };
                    at += (size_of::<$type>() * $count).next_multiple_of(4096);
                )*
                debug_assert!(at <= start + LEN);
                Scratch { $($name,)* helper_stack_top: start + GUARD + STACK + HELPER_STACK, start, end: start + LEN }
            }
        }
    };
}

parts! {
    /// Records before they are written.
    records: [u8; MAX_RECORD as usize + (1 << 20)],
    vmas: [VmaSlot; MAX_VMAS],
    /// Names of the mappings, one after the other.
    names: [u8; 16 << 20],
    fds: [FdSlot; MAX_FDS],
    fd_order: [u32; MAX_FDS],
    /// Of each descriptor, the place of another one of the same FILE with a lower number, or its own.
    fd_leaders: [AtomicU32; MAX_FDS],
    /// Options of the sockets among the first ones of `fds`.
    socket_options: [Options; 16 << 10],
    /// Places of the sockets in `fds`, by their end.
    socket_order: [u32; MAX_FDS],
    groups: [Group; 8192],
    pending: [PendingSlot; MAX_PENDING],
    timers: [Timer; MAX_TIMERS],
    threads: [ThreadSlot; MAX_THREADS],
    looks: [Look; MAX_THREADS],
    /// Thread ids that have been seen, a bit each.
    tids: [u32; MAX_TID / 32],
    runs: [PageRun; MAX_RUNS as usize],
    regions: [PageRegion; 4096],
    guards: [GuardRange; MAX_GUARDS],
    iov: [Iovec; MAX_IOV],
    /// Texts of notices: code, number, length, text.
    notices: [u8; 256 << 10],
    /// For reading files of /proc.
    text: [u8; 1 << 20],
    /// For lines of smaps and entries of directories.
    lines: [u8; 64 << 10],
    /// Copies of pages that cannot be written from where they lie.
    bounce: [u8; 256 << 10],
}

const GUARD: usize = 4096;
const LEN: usize = GUARD + STACK + HELPER_STACK + TABLES;

/// Maps the memory of a checkpoint. Returns its start.
pub fn map() -> Result<usize, Errno> {
    let flags = process::MAP_PRIVATE | process::MAP_ANONYMOUS | process::MAP_NORESERVE;
    // SAFETY: no address is demanded, so nothing is replaced.
    let start = unsafe { process::mmap(0, LEN, process::PROT_READ | process::PROT_WRITE, flags, -1, 0) }?;
    // The stack comes first: running over its end hits this page.
    match process::protect(start, GUARD, process::PROT_NONE) {
        Ok(()) => Ok(start),
        Err(error) => {
            unmap(start);
            Err(error)
        }
    }
}

/// Top of the handler's stack in the mapping at `start`.
pub fn stack_top(start: usize) -> usize {
    start + GUARD + STACK
}

/// The tables of the mapping at `start`.
///
/// # Safety
/// `start` comes from [`map`]; called once for it; nothing is used after [`unmap`].
pub unsafe fn tables(start: usize) -> Scratch {
    // SAFETY: by the contract above.
    unsafe { Scratch::lay_out(start) }
}

/// Gives the mapping back.
pub fn unmap(start: usize) {
    // SAFETY: the caller is done with it; it runs on the program's stack again.
    let _ = unsafe { process::munmap(start, LEN) };
}
