//! [SIGNAL, NORMAL] The process itself: identity, memory, signals, time.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right type.

use super::abi::{KernelSigaction, Siginfo, Timespec64, UserDesc, Utsname};
use super::{Errno, call, nr};

pub const PROT_NONE: u32 = 0;
pub const PROT_READ: u32 = 1;
pub const PROT_WRITE: u32 = 2;
pub const PROT_EXEC: u32 = 4;
pub const MAP_SHARED: u32 = 1;
pub const MAP_PRIVATE: u32 = 2;
pub const MAP_FIXED: u32 = 0x10;
pub const MAP_ANONYMOUS: u32 = 0x20;
pub const MAP_GROWSDOWN: u32 = 0x100;
pub const MAP_NORESERVE: u32 = 0x4000;
pub const MAP_HUGETLB: u32 = 0x4_0000;
pub const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

pub const CLOCK_REALTIME: u32 = 0;
pub const CLOCK_MONOTONIC: u32 = 1;
pub const CLOCK_BOOTTIME: u32 = 7;

pub const SIG_BLOCK: u32 = 0;
pub const SIG_UNBLOCK: u32 = 1;
pub const SIG_SETMASK: u32 = 2;

pub const PR_GET_DUMPABLE: u32 = 3;
pub const PR_SET_DUMPABLE: u32 = 4;
pub const PR_SET_NAME: u32 = 15;
pub const PR_GET_NAME: u32 = 16;
pub const PR_SET_MM: u32 = 35;
pub const PR_SET_MM_MAP: u32 = 14;
pub const PR_SET_MM_MAP_SIZE: u32 = 15;
pub const PR_GET_TID_ADDRESS: u32 = 40;
pub const PR_SET_PTRACER: u32 = 0x5961_6d61;

macro_rules! simple {
    ($($(#[$doc:meta])* $name:ident = $nr:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> u32 {
            // SAFETY: takes nothing and cannot fail.
            unsafe { call!(nr::$nr, 0) }.map_or(0, |value| value as u32)
        }
    )*};
}

simple! {
    getpid = GETPID;
    getppid = GETPPID;
    gettid = GETTID;
    getuid = GETUID32;
    geteuid = GETEUID32;
    getgid = GETGID32;
    getegid = GETEGID32;
    getpgrp = GETPGID;
    getsid = GETSID;
}

/// Makes this process the leader of a session of its own, without a controlling terminal.
pub fn setsid() -> Result<(), Errno> {
    // SAFETY: takes nothing.
    unsafe { call!(nr::SETSID) }.map(drop)
}

/// End of the heap.
pub fn current_brk() -> usize {
    // SAFETY: brk(0) asks only.
    unsafe { call!(nr::BRK, 0) }.unwrap_or(0)
}

pub fn personality() -> u32 {
    // SAFETY: 0xffffffff asks only.
    unsafe { call!(nr::PERSONALITY, 0xffff_ffffu32) }.map_or(0, |value| value as u32)
}

pub fn exit_group(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { call!(nr::EXIT_GROUP, code) };
    }
}

/// Sends `signal`, 0 to ask only whether the process is there.
pub fn kill(pid: u32, signal: u32) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::KILL, pid, signal) }.map(drop)
}

pub fn tgkill(pid: u32, tid: u32, signal: u32) -> Result<(), Errno> {
    // SAFETY: affects no memory.
    unsafe { call!(nr::TGKILL, pid, tid, signal) }.map(drop)
}

/// Queues a signal with a value for the calling thread. A handler may replace what the call returns:
/// this is what eax holds afterwards.
pub fn queue_to_self(signal: u32, value: u32) -> i32 {
    let pid = getpid();
    let info = Siginfo::queued(signal, pid, value);
    // SAFETY: the kernel reads one siginfo_t.
    match unsafe { call!(nr::RT_TGSIGQUEUEINFO, pid, gettid(), signal, &raw const info) } {
        Ok(value) => value as i32,
        Err(errno) => -errno.0,
    }
}

pub fn clock(id: u32) -> Timespec64 {
    let mut out = Timespec64::default();
    // SAFETY: `out` takes the time. A clock that is not there leaves zeros.
    let _ = unsafe { call!(nr::CLOCK_GETTIME64, id, &raw mut out) };
    out
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now() -> u64 {
    clock(CLOCK_MONOTONIC).nanoseconds()
}

pub fn uname() -> Utsname {
    let mut out = Utsname { fields: [[0; 65]; 6] };
    // SAFETY: `out` has the size of struct new_utsname.
    let _ = unsafe { call!(nr::UNAME, &raw mut out) };
    out
}

/// Maps fresh memory or a file.
///
/// # Safety
/// With MAP_FIXED the caller owns all that lies in the range.
pub unsafe fn mmap(addr: usize, len: usize, prot: u32, flags: u32, fd: i32, page: u32) -> Result<usize, Errno> {
    // SAFETY: by the contract above.
    unsafe { call!(nr::MMAP2, addr, len, prot, flags, fd, page) }
}

/// # Safety
/// Nothing may use the range any more.
pub unsafe fn munmap(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: by the contract above.
    unsafe { call!(nr::MUNMAP, addr, len) }.map(drop)
}

/// Whether a fork gets a mapping of this process.
pub fn inherit(addr: usize, len: usize, inherited: bool) -> Result<(), Errno> {
    const MADV_DONTFORK: u32 = 10;
    const MADV_DOFORK: u32 = 11;
    let advice = if inherited { MADV_DOFORK } else { MADV_DONTFORK };
    // SAFETY: changes no memory here.
    unsafe { call!(nr::MADVISE, addr, len, advice) }.map(drop)
}

/// Which pages of a mapping are in memory; one byte a page, bit 0 counts.
pub fn mincore(addr: usize, len: usize, out: &mut [u8]) -> Result<(), Errno> {
    if out.len() < len.div_ceil(4096) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `out` has a byte for each page.
    unsafe { call!(nr::MINCORE, addr, len, out.as_mut_ptr()) }.map(drop)
}

pub fn sigaction(signal: u32, new: Option<&KernelSigaction>) -> Result<KernelSigaction, Errno> {
    let mut old = KernelSigaction::default();
    let new = new.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: both have the kernel's layout; the caller's handler is its own affair.
    unsafe { call!(nr::RT_SIGACTION, signal, new, &raw mut old, 8) }?;
    Ok(old)
}

/// Changes the thread's signal mask and returns the old one.
pub fn sigprocmask(how: u32, set: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both are 8 bytes, as said by the last argument.
    let _ = unsafe { call!(nr::RT_SIGPROCMASK, how, &raw const set, &raw mut old, 8) };
    old
}

/// Signals that wait for this thread or the process.
pub fn sigpending() -> u64 {
    let mut set = 0u64;
    // SAFETY: 8 bytes, as said by the last argument.
    let _ = unsafe { call!(nr::RT_SIGPENDING, &raw mut set, 8) };
    set
}

/// Takes one pending signal of `set`, if there is one.
pub fn take_pending(set: u64) -> Option<Siginfo> {
    let mut info = Siginfo::new();
    let zero = [0u32; 2];
    // SAFETY: `info` has the size of siginfo_t, `zero` is an old timespec of zero.
    unsafe { call!(nr::RT_SIGTIMEDWAIT, &raw const set, &raw mut info, zero.as_ptr(), 8) }.ok()?;
    Some(info)
}

/// Queues a signal for the process, or for one of its threads.
pub fn queue_signal(pid: u32, tid: Option<u32>, info: &Siginfo) -> Result<(), Errno> {
    let info_ptr: *const Siginfo = info;
    match tid {
        // SAFETY: the kernel reads one siginfo_t.
        None => unsafe { call!(nr::RT_SIGQUEUEINFO, pid, info.signo(), info_ptr) }.map(drop),
        // SAFETY: as above.
        Some(tid) => unsafe { call!(nr::RT_TGSIGQUEUEINFO, pid, tid, info.signo(), info_ptr) }.map(drop),
    }
}

pub fn get_thread_area(entry: u32) -> Result<UserDesc, Errno> {
    let mut desc = UserDesc { entry_number: entry, ..UserDesc::default() };
    // SAFETY: `desc` has the kernel's layout.
    unsafe { call!(nr::GET_THREAD_AREA, &raw mut desc) }?;
    Ok(desc)
}

/// The raw descriptors of the LDT; returns the bytes that the kernel filled.
pub fn read_ldt(out: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `out.len()` bytes.
    unsafe { call!(nr::MODIFY_LDT, 0, out.as_mut_ptr(), out.len()) }
}

/// Head and length of the thread's robust list.
pub fn robust_list() -> (usize, usize) {
    let (mut head, mut len) = (0usize, 0usize);
    // SAFETY: both are words, as the call demands of a 32-bit task.
    let _ = unsafe { call!(nr::GET_ROBUST_LIST, 0, &raw mut head, &raw mut len) };
    (head, len)
}

/// Memory of this process that may not be there: all of it or an error.
pub fn read_memory(at: usize, out: &mut [u8]) -> Result<(), Errno> {
    let (to, from) = ([out.as_mut_ptr() as usize, out.len()], [at, out.len()]);
    // SAFETY: the kernel writes at most `out.len()` bytes into `out`.
    let read = unsafe { call!(nr::PROCESS_VM_READV, getpid(), &raw const to, 1, &raw const from, 1, 0) }?;
    if read == out.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The other way.
///
/// # Safety
/// If there is memory, nothing relies on what it holds.
pub unsafe fn write_memory(at: usize, bytes: &[u8]) -> Result<(), Errno> {
    let (from, to) = ([bytes.as_ptr() as usize, bytes.len()], [at, bytes.len()]);
    // SAFETY: the kernel reads `bytes`; by the contract above.
    unsafe { call!(nr::PROCESS_VM_WRITEV, getpid(), &raw const from, 1, &raw const to, 1, 0) }.map(drop)
}

/// mprotect(2).
pub fn protect(at: usize, len: usize, prot: u32) -> Result<(), Errno> {
    // SAFETY: changes no memory; who still uses it otherwise is killed by the kernel.
    unsafe { call!(nr::MPROTECT, at, len, prot) }.map(drop)
}

/// Low and high halves of a thread's capabilities: effective, permitted, inheritable.
pub type CapSets = [[u32; 3]; 2];

/// What capget(2) and capset(2) take first: the version that has two halves, and the calling thread.
pub const CAP_HEADER: [u32; 2] = [0x2008_0522, 0];

pub fn capabilities() -> Result<CapSets, Errno> {
    let mut header = CAP_HEADER;
    let mut sets = CapSets::default();
    // SAFETY: the kernel fills in two triples for this version.
    unsafe { call!(nr::CAPGET, &raw mut header, &raw mut sets) }?;
    Ok(sets)
}

pub fn prctl(op: u32, a: usize, b: usize, c: usize, d: usize) -> Result<usize, Errno> {
    // SAFETY: callers pass numbers, or pointers to memory that the operation may use.
    unsafe { call!(nr::PRCTL, op, a, b, c, d) }
}

/// Address that the kernel clears when the thread ends.
pub fn clear_child_tid() -> usize {
    // A 64-bit kernel writes a long of its own: room for 8 bytes.
    let mut out = 0u64;
    match prctl(PR_GET_TID_ADDRESS, &raw mut out as usize, 0, 0, 0) {
        Ok(_) => out as u32 as usize,
        Err(_) => 0,
    }
}

pub fn comm() -> [u8; 16] {
    let mut out = [0u8; 16];
    let _ = prctl(PR_GET_NAME, out.as_mut_ptr() as usize, 0, 0, 0);
    out
}

/// Real, effective, saved user ids, then the group ids, of the calling thread.
pub fn user_and_group_ids() -> [u32; 6] {
    let mut out = [0u32; 6];
    let [ru, eu, su, rg, eg, sg] = out.each_mut().map(core::ptr::from_mut);
    // SAFETY: three words each.
    let _ = unsafe { call!(nr::GETRESUID32, ru, eu, su) };
    // SAFETY: as above.
    let _ = unsafe { call!(nr::GETRESGID32, rg, eg, sg) };
    out
}

/// Sleeps while `*word` is `value`, at most `ms` milliseconds (0: without a limit). Wakes at random.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32, ms: u32) {
    const FUTEX_WAIT: u32 = 0;
    let time = [ms / 1000, ms % 1000 * 1_000_000];
    let timeout = if ms == 0 { core::ptr::null() } else { time.as_ptr() };
    // SAFETY: the kernel reads the word and an old timespec.
    let _ = unsafe { call!(nr::FUTEX, word.as_ptr(), FUTEX_WAIT, value, timeout) };
}

/// Wakes up to `count` threads that sleep on `word`.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    const FUTEX_WAKE: u32 = 1;
    // SAFETY: the kernel looks up the address only.
    let _ = unsafe { call!(nr::FUTEX, word.as_ptr(), FUTEX_WAKE, count) };
}

/// Whether two threads share their table of descriptors, and working directory, root and umask. `true` where the
/// kernel does not tell.
pub fn share_files_and_directory(a: u32, b: u32) -> (bool, bool) {
    const KCMP_FILES: u32 = 2;
    const KCMP_FS: u32 = 3;
    // SAFETY: takes numbers only.
    let same = |what: u32| unsafe { call!(nr::KCMP, a, b, what, 0, 0) }.map_or(true, |order| order == 0);
    (same(KCMP_FILES), same(KCMP_FS))
}

// Flags of clone(2), and of wait4(2) for children of whatever kind, and for those alone that send no SIGCHLD.
pub const CLONE_VM: u32 = 0x100;
pub const CLONE_FILES: u32 = 0x400;
pub const CLONE_UNTRACED: u32 = 0x80_0000;
pub const WALL: u32 = 0x4000_0000;
pub const WCLONE: u32 = 0x8000_0000;

/// Waits for a child as wait4(2) does, through all interruptions: its id, or 0 if it has not changed (WNOHANG), and its
/// status.
pub fn wait4(pid: u32, options: u32) -> Result<(u32, u32), Errno> {
    let mut status = 0u32;
    loop {
        // SAFETY: `status` takes one word.
        match unsafe { call!(nr::WAIT4, pid, &raw mut status, options, 0) } {
            Err(Errno::EINTR) => {}
            result => return result.map(|pid| (pid as u32, core::hint::black_box(status))),
        }
    }
}

/// Whether the process runs in its parent's memory, as after vfork(2). `false` where the kernel does not tell.
pub fn shares_memory_with_parent() -> bool {
    const KCMP_VM: u32 = 1;
    // SAFETY: takes numbers only.
    unsafe { call!(nr::KCMP, getppid(), getpid(), KCMP_VM, 0, 0) }.is_ok_and(|order| order == 0)
}

/// Whether the calling thread may run on more than one CPU.
pub fn has_several_cpus() -> bool {
    let mut cpus = [0; 1024];
    let len = super::attributes::affinity(0, &mut cpus).unwrap_or(0);
    cpus.iter().take(len).map(|byte: &u8| byte.count_ones()).sum::<u32>() > 1
}

/// Lets others run.
pub fn yield_cpu() {
    // SAFETY: affects no memory.
    let _ = unsafe { call!(nr::SCHED_YIELD) };
}

/// Waits a moment.
pub fn pause_ms(ms: u32) {
    let time = [0u32, ms * 1_000_000];
    // SAFETY: reads one old timespec. A signal that ends it early does no harm.
    let _ = unsafe { call!(nr::NANOSLEEP, time.as_ptr(), 0) };
}

/// Soft limit of open descriptors.
pub fn nofile_limit() -> u32 {
    let mut out = [0u32; 2];
    // SAFETY: two words, the soft and the hard limit.
    let _ = unsafe { call!(nr::UGETRLIMIT, super::attributes::RLIMIT_NOFILE, out.as_mut_ptr()) };
    out[0]
}

/// Sends one datagram to an abstract UNIX socket. Nobody listening is not an error of ours.
pub fn send_datagram(address: &[u8], payload: &[u8]) -> Result<(), Errno> {
    const AF_UNIX: u16 = 1;
    const SOCK_DGRAM: u32 = 2;
    const SOCK_CLOEXEC: u32 = 0o2_000_000;
    const MSG_DONTWAIT_NOSIGNAL: u32 = 0x40 | 0x4000;
    let mut name = [0u8; 110];
    if let Some(place) = name.get_mut(..2) {
        place.copy_from_slice(&AF_UNIX.to_le_bytes());
    }
    let end = 3 + address.len();
    name.get_mut(3..end).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(address);
    // SAFETY: takes numbers.
    let fd = unsafe { call!(nr::SOCKET, u32::from(AF_UNIX), SOCK_DGRAM | SOCK_CLOEXEC, 0) }?;
    let fd = super::fs::OwnedFd(fd as i32);
    // SAFETY: the kernel reads the payload and the address.
    unsafe { call!(nr::SENDTO, fd.0, payload.as_ptr(), payload.len(), MSG_DONTWAIT_NOSIGNAL, name.as_ptr(), end) }
        .map(drop)
}
