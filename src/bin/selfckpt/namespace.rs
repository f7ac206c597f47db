//! [NORMAL] Processes that choose their pid: clone3(2) with set_tid, pid namespaces, and the one capability that
//! choosing takes.
#![allow(unsafe_code)] // System calls that neither the standard library nor libc wraps.

use std::ffi::CStr;
use std::io;

/// What a clone of this process, which has one thread, gets of its own.
pub const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;
pub const NEW_PID_AND_MOUNTS: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// fork(2) with flags, and with a pid that is asked for: 0 in the child.
pub fn fork_with(flags: u64, pid: Option<u32>) -> io::Result<u32> {
    let set_tid = pid.unwrap_or(0);
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup.
    let mut args = [0u64; 11];
    args[0] = flags;
    args[4] = libc::SIGCHLD as u64;
    if pid.is_some() {
        args[8] = &raw const set_tid as u64;
        args[9] = 1;
    }
    // SAFETY: the kernel reads the two structures. Without CLONE_VM the child has memory of its own, and with one
    // thread in this process nothing in it is held by another.
    let result = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as u32) }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// Low and high halves: effective, permitted, inheritable.
type CapSets = [[u32; 3]; 2];

const CAP_VERSION_3: u32 = 0x2008_0522;

fn capabilities() -> io::Result<CapSets> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut sets: CapSets = [[0; 3]; 2];
    // SAFETY: version 3 fills in two triples.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut sets) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(sets) }
}

fn is_effective(capability: u32) -> bool {
    capabilities().is_ok_and(|sets| sets[(capability / 32) as usize][0] & (1 << (capability % 32)) != 0)
}

/// Whether this process may choose the pids of its children.
pub fn may_choose_pids() -> bool {
    is_effective(CAP_CHECKPOINT_RESTORE) || is_effective(CAP_SYS_ADMIN)
}

/// Whether it may make namespaces without one for users.
pub fn may_make_namespaces() -> bool {
    is_effective(CAP_SYS_ADMIN)
}

/// Has the program that is executed next keep the capability to choose ids, for its threads.
pub fn keep_choosing() -> io::Result<()> {
    let mut sets = capabilities()?;
    let [_, permitted, inheritable] = &mut sets[1];
    let bit = 1 << (CAP_CHECKPOINT_RESTORE - 32);
    if *permitted & bit == 0 {
        // With CAP_SYS_ADMIN alone there is nothing to keep; root gets its capabilities anyway.
        return Ok(());
    }
    *inheritable |= bit;
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    // SAFETY: version 3 reads two triples.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes numbers only.
    let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, CAP_CHECKPOINT_RESTORE, 0, 0) };
    if raised < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A /proc for the pids of this process's namespace, which no other mount namespace sees.
pub fn mount_own_proc() -> io::Result<()> {
    fn mount(kind: Option<&CStr>, place: &CStr, flags: libc::c_ulong) -> io::Result<()> {
        let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: strings with their NULs, or null where the kernel looks at none.
        let result = unsafe { libc::mount(kind, place.as_ptr(), kind, flags, std::ptr::null()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
    // What is mounted outside later is to be seen here, and not the other way round.
    mount(None, c"/", libc::MS_SLAVE | libc::MS_REC)?;
    mount(Some(c"proc"), c"/proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

/// This process is killed when its parent ends.
pub fn die_with_parent(does: bool) {
    let signal = if does { libc::SIGKILL } else { 0 };
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Waits for a change of any child's state: its pid and the status of waitpid(2).
pub fn any_child_change() -> io::Result<(u32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid int.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WUNTRACED | libc::WCONTINUED) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok((pid as u32, status)) }
}

/// Closes every descriptor but one.
pub fn close_all_but(fd: i32) {
    let fd = fd as libc::c_uint;
    // SAFETY: nothing uses the descriptors any more.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, fd.saturating_sub(1), 0);
        libc::syscall(libc::SYS_close_range, fd + 1, libc::c_uint::MAX, 0);
    }
}

/// Ends this process at once.
pub fn leave(status: u8) -> ! {
    // SAFETY: runs nothing of this process's any more.
    unsafe { libc::_exit(i32::from(status)) }
}
