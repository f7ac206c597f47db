//! [NORMAL] Functions of libc that take a thread's id from its descriptor. Since a restart with other ids (`sys::ids`)
//! what stands there is not the kernel's, so that these talk to the kernel themselves; until then they look at one word
//! and go on.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::ids::{SIGCANCEL, SIGSETXID, send_to_self};
use super::next::call_next;
use crate::arch::entry::thread_pointer;
use crate::format::ids::uses;
use crate::sys::abi::{SI_TKILL, Siginfo};
use crate::sys::ids;
use crate::sys::{Errno, Text, call, fs, nr, process, text::text};
use core::ffi::{CStr, c_char, c_int, c_void};

type Pointer = *mut c_void;

fn status<T>(result: Result<T, Errno>) -> c_int {
    result.map_or_else(|errno| errno.0, |_| 0)
}

/// The kernel's id of a thread whose descriptor has another one.
///
/// # Safety
/// `thread` is a pthread_t that may be used.
unsafe fn changed_id(thread: usize) -> Option<u32> {
    // SAFETY: by the contract above.
    if ids::changed() { unsafe { ids::thread_of(thread) } } else { None }
}

/// # Safety
/// As pthread_kill(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_kill(thread: usize, signal: c_int) -> c_int {
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(PTHREAD_KILL as fn(usize, c_int) -> c_int, (thread, signal), else Errno::ENOSYS.0);
    };
    match signal as u32 {
        SIGCANCEL | SIGSETXID => Errno::EINVAL.0,
        _ => status(send_to_self(Some(tid), signal, SI_TKILL)),
    }
}

/// # Safety
/// As pthread_sigqueue(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_sigqueue(thread: usize, signal: c_int, value: u32) -> c_int {
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(
            PTHREAD_SIGQUEUE as fn(usize, c_int, u32) -> c_int,
            (thread, signal, value),
            else Errno::ENOSYS.0
        );
    };
    match signal as u32 {
        SIGCANCEL | SIGSETXID => Errno::EINVAL.0,
        signal => {
            let pid = process::getpid();
            let mut info = Siginfo::queued(signal, ids::own_pid(), value);
            info.words[4] = process::getuid();
            status(process::queue_signal(pid, Some(tid), &info))
        }
    }
}

/// # Safety
/// As pthread_cancel(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cancel(thread: usize) -> c_int {
    // SAFETY: by the contract above. It may be gone when libc has done its part.
    let tid = unsafe { changed_id(thread) };
    let result = call_next!(PTHREAD_CANCEL as fn(usize) -> c_int, (thread), else Errno::ENOSYS.0);
    match tid {
        // libc has noted that the thread is to end, and has told a thread that is not there.
        Some(tid) if thread != thread_pointer() => match process::tgkill(process::getpid(), tid, SIGCANCEL) {
            Ok(()) | Err(Errno::ESRCH) => 0,
            Err(errno) => errno.0,
        },
        _ => result,
    }
}

/// # Safety
/// As pthread_setschedparam(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setschedparam(thread: usize, policy: c_int, parameters: Pointer) -> c_int {
    // SAFETY: by the contract above.
    match unsafe { changed_id(thread) } {
        // SAFETY: as above.
        Some(tid) => status(unsafe { call!(nr::SCHED_SETSCHEDULER, tid, policy, parameters) }),
        None => call_next!(
            PTHREAD_SETSCHEDPARAM as fn(usize, c_int, Pointer) -> c_int,
            (thread, policy, parameters),
            else Errno::ENOSYS.0
        ),
    }
}

/// # Safety
/// As pthread_getschedparam(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_getschedparam(thread: usize, policy: *mut c_int, parameters: Pointer) -> c_int {
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(
            PTHREAD_GETSCHEDPARAM as fn(usize, *mut c_int, Pointer) -> c_int,
            (thread, policy, parameters),
            else Errno::ENOSYS.0
        );
    };
    // SAFETY: as above: room for the answers.
    status(unsafe {
        call!(nr::SCHED_GETSCHEDULER, tid).and_then(|found| {
            policy.write(found as c_int);
            call!(nr::SCHED_GETPARAM, tid, parameters)
        })
    })
}

/// # Safety
/// As pthread_setschedprio(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setschedprio(thread: usize, priority: c_int) -> c_int {
    // SAFETY: by the contract above.
    match unsafe { changed_id(thread) } {
        // SAFETY: the structure is one number.
        Some(tid) => status(unsafe { call!(nr::SCHED_SETPARAM, tid, &raw const priority) }),
        None => call_next!(
            PTHREAD_SETSCHEDPRIO as fn(usize, c_int) -> c_int,
            (thread, priority),
            else Errno::ENOSYS.0
        ),
    }
}

/// # Safety
/// As pthread_setaffinity_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setaffinity_np(thread: usize, size: usize, cpus: Pointer) -> c_int {
    // SAFETY: by the contract above.
    match unsafe { changed_id(thread) } {
        // SAFETY: as above.
        Some(tid) => status(unsafe { call!(nr::SCHED_SETAFFINITY, tid, size, cpus) }),
        None => call_next!(
            PTHREAD_SETAFFINITY_NP as fn(usize, usize, Pointer) -> c_int,
            (thread, size, cpus),
            else Errno::ENOSYS.0
        ),
    }
}

/// # Safety
/// As pthread_getaffinity_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_getaffinity_np(thread: usize, size: usize, cpus: Pointer) -> c_int {
    // SAFETY: by the contract above.
    match unsafe { changed_id(thread) } {
        // SAFETY: as above.
        Some(tid) => status(unsafe { affinity(tid, size, cpus) }),
        None => call_next!(
            PTHREAD_GETAFFINITY_NP as fn(usize, usize, Pointer) -> c_int,
            (thread, size, cpus),
            else Errno::ENOSYS.0
        ),
    }
}

/// CPUs of a thread; what the kernel leaves of the room is cleared.
///
/// # Safety
/// `cpus` has room for `size` bytes.
unsafe fn affinity(tid: u32, size: usize, cpus: Pointer) -> Result<(), Errno> {
    // SAFETY: by the contract above.
    unsafe {
        let written = call!(nr::SCHED_GETAFFINITY, tid, size.min(c_int::MAX as usize), cpus)?;
        cpus.cast::<u8>().add(written).write_bytes(0, size.saturating_sub(written));
    }
    Ok(())
}

fn comm_path(tid: u32) -> Text<64> {
    text!("/proc/self/task/{tid}/comm\0")
}

/// # Safety
/// As pthread_setname_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setname_np(thread: usize, name: *const c_char) -> c_int {
    const LONGEST: usize = 15;
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(
            PTHREAD_SETNAME_NP as fn(usize, *const c_char) -> c_int,
            (thread, name),
            else Errno::ENOSYS.0
        );
    };
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    if name.len() > LONGEST {
        return Errno::ERANGE.0;
    }
    let written =
        fs::open(comm_path(tid).as_bytes(), fs::O_WRONLY | fs::O_CLOEXEC, 0).map(fs::OwnedFd).and_then(|fd| {
            // SAFETY: bytes of the caller's.
            unsafe { call!(nr::WRITE, fd.0, name.as_ptr(), name.len()) }
        });
    status(written)
}

/// # Safety
/// As pthread_getname_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_getname_np(thread: usize, name: *mut c_char, size: usize) -> c_int {
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(
            PTHREAD_GETNAME_NP as fn(usize, *mut c_char, usize) -> c_int,
            (thread, name, size),
            else Errno::ENOSYS.0
        );
    };
    const WITH_NUL: usize = 16;
    if size < WITH_NUL {
        return Errno::ERANGE.0;
    }
    let mut buf = [0u8; 64];
    match fs::read_file(comm_path(tid).as_bytes(), &mut buf) {
        Ok(found) => {
            let found = found.strip_suffix(b"\n").unwrap_or(found);
            let len = found.len().min(WITH_NUL - 1);
            // SAFETY: there is room for 16 bytes.
            unsafe {
                name.cast::<u8>().copy_from_nonoverlapping(found.as_ptr(), len);
                name.add(len).write(0);
            }
            0
        }
        Err(errno) => errno.0,
    }
}

/// # Safety
/// As pthread_getcpuclockid(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_getcpuclockid(thread: usize, clock: *mut c_int) -> c_int {
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else {
        return call_next!(
            PTHREAD_GETCPUCLOCKID as fn(usize, *mut c_int) -> c_int,
            (thread, clock),
            else Errno::ENOSYS.0
        );
    };
    const OF_A_THREAD: c_int = 4 | 2; // CPUCLOCK_PERTHREAD_MASK, CPUCLOCK_SCHED
    // SAFETY: as above.
    unsafe { clock.write(!(tid as c_int) << 3 | OF_A_THREAD) };
    0
}

/// It asks for the thread's CPUs, last of all.
///
/// # Safety
/// As pthread_getattr_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_getattr_np(thread: usize, attributes: Pointer) -> c_int {
    let result = call_next!(
        PTHREAD_GETATTR_NP as fn(usize, Pointer) -> c_int,
        (thread, attributes),
        else Errno::ENOSYS.0
    );
    if result != Errno::ESRCH.0 {
        return result;
    }
    // SAFETY: by the contract above.
    let Some(tid) = (unsafe { changed_id(thread) }) else { return result };
    let mut cpus = [0u8; 1024];
    let room = cpus.len();
    // SAFETY: the array has that room.
    if unsafe { affinity(tid, room, cpus.as_mut_ptr().cast()) }.is_err() {
        return 0;
    }
    call_next!(
        PTHREAD_ATTR_SETAFFINITY_NP as fn(Pointer, usize, *const u8) -> c_int,
        (attributes, room, cpus.as_ptr()),
        else 0
    )
}

/// # Safety
/// As pthread_mutexattr_setprotocol(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutexattr_setprotocol(attributes: Pointer, protocol: c_int) -> c_int {
    const PTHREAD_PRIO_INHERIT: c_int = 1;
    if protocol == PTHREAD_PRIO_INHERIT {
        ids::note_use(uses::INHERITING_MUTEXES);
    }
    call_next!(
        PTHREAD_MUTEXATTR_SETPROTOCOL as fn(Pointer, c_int) -> c_int,
        (attributes, protocol),
        else Errno::ENOSYS.0
    )
}

/// # Safety
/// As pthread_mutexattr_setrobust(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutexattr_setrobust(attributes: Pointer, robust: c_int) -> c_int {
    const PTHREAD_MUTEX_ROBUST: c_int = 1;
    if robust == PTHREAD_MUTEX_ROBUST {
        ids::note_use(uses::ROBUST_MUTEXES);
    }
    call_next!(
        PTHREAD_MUTEXATTR_SETROBUST as fn(Pointer, c_int) -> c_int,
        (attributes, robust),
        else Errno::ENOSYS.0
    )
}

/// # Safety
/// As pthread_mutexattr_setrobust(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutexattr_setrobust_np(attributes: Pointer, robust: c_int) -> c_int {
    // SAFETY: by the contract above.
    unsafe { pthread_mutexattr_setrobust(attributes, robust) }
}
