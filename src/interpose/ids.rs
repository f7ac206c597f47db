//! [NORMAL] Functions of libc that carry ids of processes, threads and groups. Since a restart that could not give the
//! program its ids again (`sys::ids`) they are translated; until then each of them looks at one word and goes on.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::fail;
use super::next::call_next;
use crate::arch::control_block::note_thread;
use crate::arch::entry::thread_pointer;
use crate::sys::abi::{SI_TKILL, Siginfo};
use crate::sys::ids::{self, changed, to_kernel, to_program};
use crate::sys::{Errno, call, nr, process};
use core::ffi::{c_int, c_void};

type Pointer = *mut c_void;

/// Signals that libc keeps for itself.
pub(super) const SIGCANCEL: u32 = 32;
pub(super) const SIGSETXID: u32 = 33;

/// An id, or minus the id of a group.
pub(super) fn signed_to_kernel(id: c_int) -> c_int {
    if id < -1 { -(to_kernel(id.unsigned_abs()) as c_int) } else { to_kernel_int(id) }
}

pub(super) fn to_kernel_int(id: c_int) -> c_int {
    if id > 0 { to_kernel(id as u32) as c_int } else { id }
}

pub(super) fn to_program_int(id: c_int) -> c_int {
    if id < -1 {
        -(to_program(id.unsigned_abs()) as c_int)
    } else if id > 0 {
        to_program(id as u32) as c_int
    } else {
        id
    }
}

/// The calling thread's id, as the program knows it.
pub(super) fn own_tid() -> c_int {
    ids::own_tid(thread_pointer()) as c_int
}

/// getpid(2)
#[unsafe(no_mangle)]
pub extern "C" fn getpid() -> c_int {
    if changed() {
        return ids::own_pid() as c_int;
    }
    call_next!(GETPID as fn() -> c_int, (), else process::getpid() as c_int)
}

/// The name behind getpid(2).
#[unsafe(no_mangle)]
pub extern "C" fn __getpid() -> c_int {
    getpid()
}

/// gettid(2)
#[unsafe(no_mangle)]
pub extern "C" fn gettid() -> c_int {
    if changed() {
        return own_tid();
    }
    call_next!(GETTID as fn() -> c_int, (), else process::gettid() as c_int)
}

/// Functions whose arguments marked `id` are ids or, where negative, groups.
macro_rules! takes_ids {
    ($($(#[$doc:meta])* $name:ident = $next:ident($($id:ident),*; $($arg:ident: $type:ty),*) $(-> $back:ident)?;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the function of libc of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($id: c_int,)* $($arg: $type),*) -> c_int {
            let next = |$($id: c_int),*| call_next!(
                $next as fn($(takes_ids!(int $id),)* $($type),*) -> c_int,
                ($($id,)* $($arg),*),
                else fail(Errno::ENOSYS)
            );
            if !changed() {
                return next($($id),*);
            }
            let result = next($(signed_to_kernel($id)),*);
            $(let result = $back(result);)?
            result
        }
    )*};
    (int $id:ident) => { c_int };
}

/// Sends a signal to the process itself, or to one of its threads, with the sender that the program knows.
pub(super) fn send_to_self(tid: Option<u32>, signal: c_int, code: i32) -> Result<(), Errno> {
    let pid = process::getpid();
    let signal = signal as u32;
    if signal == 0 {
        return tid.map_or_else(|| process::kill(pid, 0), |tid| process::tgkill(pid, tid, 0));
    }
    let mut info = Siginfo::queued(signal, ids::own_pid(), 0);
    info.words[2] = code as u32;
    info.words[4] = process::getuid();
    match process::queue_signal(pid, tid, &info) {
        // No room for what the signal carries; or the kernel lets no other thread say so.
        Err(Errno::EAGAIN | Errno::EPERM) => {
            tid.map_or_else(|| process::kill(pid, signal), |tid| process::tgkill(pid, tid, signal))
        }
        result => result,
    }
}

/// kill(2) and tgkill(2) with ids of the kernel's.
pub(super) fn send(pid: c_int, tid: Option<c_int>, signal: c_int) -> Result<(), Errno> {
    const SI_USER: i32 = 0;
    if pid as u32 == process::getpid() {
        return match tid {
            Some(tid) => send_to_self(Some(tid as u32), signal, SI_TKILL),
            None => send_to_self(None, signal, SI_USER),
        };
    }
    // SAFETY: takes numbers.
    unsafe {
        match tid {
            Some(tid) => call!(nr::TGKILL, pid, tid, signal),
            None => call!(nr::KILL, pid, signal),
        }
    }
    .map(drop)
}

/// kill(2)
#[unsafe(no_mangle)]
pub extern "C" fn kill(pid: c_int, signal: c_int) -> c_int {
    if changed() {
        return send(signed_to_kernel(pid), None, signal).map_or_else(fail, |()| 0);
    }
    call_next!(KILL as fn(c_int, c_int) -> c_int, (pid, signal), else fail(Errno::ENOSYS))
}

/// tgkill(2)
#[unsafe(no_mangle)]
pub extern "C" fn tgkill(pid: c_int, tid: c_int, signal: c_int) -> c_int {
    if changed() {
        return send(to_kernel_int(pid), Some(to_kernel_int(tid)), signal).map_or_else(fail, |()| 0);
    }
    call_next!(TGKILL as fn(c_int, c_int, c_int) -> c_int, (pid, tid, signal), else fail(Errno::ENOSYS))
}

/// raise(3)
#[unsafe(no_mangle)]
pub extern "C" fn raise(signal: c_int) -> c_int {
    if changed() && !matches!(signal as u32, SIGCANCEL | SIGSETXID) {
        return send_to_self(Some(process::gettid()), signal, SI_TKILL).map_or_else(fail, |()| 0);
    }
    call_next!(RAISE as fn(c_int) -> c_int, (signal), else fail(Errno::ENOSYS))
}

/// The name of raise(3) in System V.
#[unsafe(no_mangle)]
pub extern "C" fn gsignal(signal: c_int) -> c_int {
    raise(signal)
}

/// # Safety
/// As sigqueue(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigqueue(pid: c_int, signal: c_int, value: u32) -> c_int {
    if changed() {
        let mut info = Siginfo::queued(signal as u32, ids::own_pid(), value);
        info.words[4] = process::getuid();
        return process::queue_signal(to_kernel_int(pid) as u32, None, &info).map_or_else(fail, |()| 0);
    }
    call_next!(SIGQUEUE as fn(c_int, c_int, u32) -> c_int, (pid, signal, value), else fail(Errno::ENOSYS))
}

takes_ids! {
    /// killpg(3)
    killpg = KILLPG(group; signal: c_int);
    /// getppid(2), of a child of the program
    getppid = GETPPID(;) -> to_program_int;
    /// getpgrp(2)
    getpgrp = GETPGRP(;) -> to_program_int;
    /// getpgid(2)
    getpgid = GETPGID(pid;) -> to_program_int;
    /// The name behind getpgid(2)
    __getpgid = GETPGID(pid;) -> to_program_int;
    /// getsid(2)
    getsid = GETSID(pid;) -> to_program_int;
    /// setpgid(2)
    setpgid = SETPGID(pid, group;);
    /// The name behind setpgid(2)
    __setpgid = SETPGID(pid, group;);
    /// sched_setscheduler(2)
    sched_setscheduler = SCHED_SETSCHEDULER(pid; policy: c_int, parameters: Pointer);
    /// The name behind sched_setscheduler(2)
    __sched_setscheduler = SCHED_SETSCHEDULER(pid; policy: c_int, parameters: Pointer);
    /// sched_getscheduler(2)
    sched_getscheduler = SCHED_GETSCHEDULER(pid;);
    /// The name behind sched_getscheduler(2)
    __sched_getscheduler = SCHED_GETSCHEDULER(pid;);
    /// sched_setparam(2)
    sched_setparam = SCHED_SETPARAM(pid; parameters: Pointer);
    /// sched_getparam(2)
    sched_getparam = SCHED_GETPARAM(pid; parameters: Pointer);
    /// The name behind sched_getparam(2)
    __sched_getparam = SCHED_GETPARAM(pid; parameters: Pointer);
    /// sched_rr_get_interval(2)
    sched_rr_get_interval = SCHED_RR_GET_INTERVAL(pid; interval: Pointer);
    /// sched_rr_get_interval(2) with 64-bit times
    __sched_rr_get_interval64 = SCHED_RR_GET_INTERVAL64(pid; interval: Pointer);
    /// sched_setaffinity(2)
    sched_setaffinity = SCHED_SETAFFINITY(pid; size: usize, cpus: Pointer);
    /// sched_getaffinity(2)
    sched_getaffinity = SCHED_GETAFFINITY(pid; size: usize, cpus: Pointer);
    /// prlimit(2)
    prlimit = PRLIMIT(pid; resource: c_int, new: Pointer, old: Pointer);
    /// prlimit(2) with 64-bit limits
    prlimit64 = PRLIMIT64(pid; resource: c_int, new: Pointer, old: Pointer);
    /// pidfd_open(2)
    pidfd_open = PIDFD_OPEN(pid; flags: u32);
    /// clock_getcpuclockid(3)
    clock_getcpuclockid = CLOCK_GETCPUCLOCKID(pid; clock: Pointer);
}

/// tcgetpgrp(3)
#[unsafe(no_mangle)]
pub extern "C" fn tcgetpgrp(fd: c_int) -> c_int {
    to_program_int(call_next!(TCGETPGRP as fn(c_int) -> c_int, (fd), else fail(Errno::ENOSYS)))
}

/// tcgetsid(3)
#[unsafe(no_mangle)]
pub extern "C" fn tcgetsid(fd: c_int) -> c_int {
    to_program_int(call_next!(TCGETSID as fn(c_int) -> c_int, (fd), else fail(Errno::ENOSYS)))
}

/// tcsetpgrp(3)
#[unsafe(no_mangle)]
pub extern "C" fn tcsetpgrp(fd: c_int, group: c_int) -> c_int {
    call_next!(TCSETPGRP as fn(c_int, c_int) -> c_int, (fd, to_kernel_int(group)), else fail(Errno::ENOSYS))
}

/// A group of children may be the program's own. Children themselves have the ids that the kernel has told.
fn group_to_kernel(pid: c_int) -> c_int {
    if pid < -1 { signed_to_kernel(pid) } else { pid }
}

/// # Safety
/// As waitpid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitpid(pid: c_int, status: Pointer, options: c_int) -> c_int {
    call_next!(
        WAITPID as fn(c_int, Pointer, c_int) -> c_int,
        (group_to_kernel(pid), status, options),
        else fail(Errno::ENOSYS)
    )
}

/// # Safety
/// As waitpid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __waitpid(pid: c_int, status: Pointer, options: c_int) -> c_int {
    // SAFETY: by the contract above.
    unsafe { waitpid(pid, status, options) }
}

/// # Safety
/// As wait4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait4(pid: c_int, status: Pointer, options: c_int, usage: Pointer) -> c_int {
    call_next!(
        WAIT4 as fn(c_int, Pointer, c_int, Pointer) -> c_int,
        (group_to_kernel(pid), status, options, usage),
        else fail(Errno::ENOSYS)
    )
}

/// # Safety
/// As waitid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitid(kind: c_int, id: c_int, info: Pointer, options: c_int) -> c_int {
    const P_PGID: c_int = 2;
    let id = if kind == P_PGID { to_kernel_int(id) } else { id };
    call_next!(
        WAITID as fn(c_int, c_int, Pointer, c_int) -> c_int,
        (kind, id, info, options),
        else fail(Errno::ENOSYS)
    )
}

const PRIO_USER: c_int = 2;

/// getpriority(2)
#[unsafe(no_mangle)]
pub extern "C" fn getpriority(which: c_int, who: c_int) -> c_int {
    let who = if which == PRIO_USER { who } else { to_kernel_int(who) };
    call_next!(GETPRIORITY as fn(c_int, c_int) -> c_int, (which, who), else fail(Errno::ENOSYS))
}

/// setpriority(2)
#[unsafe(no_mangle)]
pub extern "C" fn setpriority(which: c_int, who: c_int, value: c_int) -> c_int {
    let who = if which == PRIO_USER { who } else { to_kernel_int(who) };
    call_next!(SETPRIORITY as fn(c_int, c_int, c_int) -> c_int, (which, who, value), else fail(Errno::ENOSYS))
}

/// `struct sigevent`, as far as its kind tells.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Event {
    value: u32,
    signal: c_int,
    notify: c_int,
    thread: c_int,
    rest: [u32; 12],
}

/// The event with the kernel's id of the thread that it names.
///
/// # Safety
/// `event` is null or points to an event.
pub(super) unsafe fn event_to_kernel(event: *const Event) -> Option<Event> {
    const SIGEV_THREAD_ID: c_int = 4;
    if event.is_null() || !changed() {
        return None;
    }
    // SAFETY: by the contract above. The kernel reads all of it, too.
    let mut event = unsafe { event.read_unaligned() };
    if event.notify != SIGEV_THREAD_ID {
        return None;
    }
    event.thread = to_kernel_int(event.thread);
    Some(event)
}

/// # Safety
/// As timer_create(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timer_create(clock: c_int, event: *const Event, timer: Pointer) -> c_int {
    // SAFETY: by the contract above.
    let translated = unsafe { event_to_kernel(event) };
    let event = translated.as_ref().map_or(event, core::ptr::from_ref);
    note_thread(); // SIGEV_THREAD makes one.
    call_next!(
        TIMER_CREATE as fn(c_int, *const Event, Pointer) -> c_int,
        (clock, event, timer),
        else fail(Errno::ENOSYS)
    )
}

const F_SETOWN: c_int = 8;
const F_GETOWN: c_int = 9;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

/// Commands that name who gets the signals of a descriptor; `None` for all others.
///
/// # Safety
/// As fcntl(2).
unsafe fn owner_command(fd: c_int, command: c_int, argument: usize) -> Option<c_int> {
    let result = match command {
        F_SETOWN => {
            let owner = signed_to_kernel(argument as c_int);
            // SAFETY: takes numbers.
            unsafe { call!(nr::FCNTL64, fd, command, owner) }
        }
        F_GETOWN => {
            let owner = crate::sys::fs::owner(fd);
            const GROUP: u32 = 2;
            owner.map(|[what, id]| {
                let id = to_program(id) as c_int;
                (if what == GROUP { -id } else { id }) as usize
            })
        }
        F_SETOWN_EX if argument != 0 => {
            // SAFETY: two words, by the contract above.
            let [what, id] = unsafe { (argument as *const [u32; 2]).read_unaligned() };
            crate::sys::fs::set_owner(fd, [what, to_kernel(id)]).map(|()| 0)
        }
        F_GETOWN_EX if argument != 0 => crate::sys::fs::owner(fd).map(|[what, id]| {
            // SAFETY: room for two words, by the contract above.
            unsafe { (argument as *mut [u32; 2]).write_unaligned([what, to_program(id)]) };
            0
        }),
        _ => return None,
    };
    Some(result.map_or_else(fail, |value| value as c_int))
}

/// Locks of open file descriptions, of which older programs give the structure with 64-bit offsets to fcntl(2) itself.
/// There the word that must be zero in the other one is the length.
///
/// # Safety
/// As fcntl(2).
unsafe fn old_lock_command(fd: c_int, command: c_int, argument: usize) -> Option<c_int> {
    if !(36..=38).contains(&command) || argument == 0 {
        return None;
    }
    // SAFETY: the smaller structure has four words.
    let [_, _, _, fourth] = unsafe { (argument as *const [u32; 4]).read_unaligned() };
    if fourth == 0 {
        return None;
    }
    // SAFETY: by the contract above; it is the kernel's structure.
    Some(unsafe { call!(nr::FCNTL64, fd, command, argument) }.map_or_else(fail, |value| value as c_int))
}

/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: by the contract above.
    let done = unsafe {
        if changed() { owner_command(fd, command, argument) } else { None }
            .or_else(|| old_lock_command(fd, command, argument))
    };
    done.unwrap_or_else(
        || call_next!(FCNTL as fn(c_int, c_int, usize) -> c_int, (fd, command, argument), else fail(Errno::ENOSYS)),
    )
}

/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: by the contract above.
    unsafe { fcntl(fd, command, argument) }
}

/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    if changed() {
        // SAFETY: by the contract above.
        if let Some(result) = unsafe { owner_command(fd, command, argument) } {
            return result;
        }
    }
    call_next!(FCNTL64 as fn(c_int, c_int, usize) -> c_int, (fd, command, argument), else fail(Errno::ENOSYS))
}
