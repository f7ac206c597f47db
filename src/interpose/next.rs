//! [NORMAL] The definitions behind ours: libc's, or those of a library that is preloaded after this one.
//!
//! They are looked up by the constructor, so that no call in a handler is the first one.
#![allow(unsafe_code)] // dlsym(3).

use super::objects::Object;
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A function by its name.
pub struct Next {
    name: &'static CStr,
    address: AtomicUsize,
}

impl Next {
    const fn new(name: &'static CStr) -> Next {
        Next { name, address: AtomicUsize::new(0) }
    }

    fn address(&self) -> usize {
        let known = self.address.load(Relaxed);
        if known != 0 {
            return known;
        }
        // SAFETY: a string with its NUL.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } as usize;
        self.address.store(found, Relaxed);
        found
    }

    /// The function; `None` where libc has none of that name.
    ///
    /// # Safety
    /// `F` is the type of the function of that name.
    pub unsafe fn function<F: Copy>(&self) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<usize>()) };
        let address = self.address();
        // SAFETY: an address of a function of this type, by the contract above.
        (address != 0).then(|| unsafe { core::mem::transmute_copy(&address) })
    }
}

/// A program that was linked with a libc before 2.34 has pthread_kill tell it of threads that have ended, by another
/// version of the symbol. All programs linked later need that version for their very start.
pub fn choose_versions() {
    if main_program_names(b"GLIBC_2.34") {
        return;
    }
    // SAFETY: strings with their NULs.
    let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, PTHREAD_KILL.name.as_ptr(), c"GLIBC_2.0".as_ptr()) };
    if !found.is_null() {
        PTHREAD_KILL.address.store(found as usize, Relaxed);
    }
}

/// Whether the dynamic strings of the main program hold this one; true where they cannot be found.
fn main_program_names(wanted: &[u8]) -> bool {
    let Some(strings) = Object::main().and_then(|program| program.strings()) else { return true };
    strings.split(|&byte| byte == 0).any(|string| string == wanted)
}

macro_rules! names {
    ($($upper:ident = $name:literal;)*) => {
        $(pub static $upper: Next = Next::new($name);)*
        /// Looks all of them up.
        pub fn resolve() {
            for next in [$(&$upper),*] {
                next.address();
            }
        }
    };
}

names! {
    SIGACTION = c"sigaction";
    SIGNAL = c"signal";
    SYSV_SIGNAL = c"sysv_signal";
    SIGSET = c"sigset";
    SIGIGNORE = c"sigignore";
    SIGINTERRUPT = c"siginterrupt";
    SIGSUSPEND = c"sigsuspend";
    SIGWAITINFO = c"sigwaitinfo";
    SIGTIMEDWAIT = c"sigtimedwait";
    SIGTIMEDWAIT64 = c"__sigtimedwait64";
    SIGNALFD = c"signalfd";
    INOTIFY_ADD_WATCH = c"inotify_add_watch";
    POLL = c"poll";
    POLL_CHK = c"__poll_chk";
    NANOSLEEP = c"nanosleep";
    PPOLL = c"ppoll";
    PPOLL64 = c"__ppoll64";
    PPOLL_CHK = c"__ppoll_chk";
    PSELECT = c"pselect";
    PSELECT64 = c"__pselect64";
    EPOLL_PWAIT = c"epoll_pwait";
    EPOLL_PWAIT2 = c"epoll_pwait2";
    EPOLL_PWAIT2_64 = c"__epoll_pwait2_time64";
    EPOLL_WAIT = c"epoll_wait";
    SEMTIMEDOP = c"semtimedop";
    SEMTIMEDOP64 = c"__semtimedop64";
    SETSOCKOPT = c"setsockopt";
    SETSOCKOPT64 = c"__setsockopt64";
    PTHREAD_CREATE = c"pthread_create";
    THRD_CREATE = c"thrd_create";
    PTHREAD_ATTR_GETSIGMASK = c"pthread_attr_getsigmask_np";
    POSIX_SPAWN = c"posix_spawn";
    POSIX_SPAWNP = c"posix_spawnp";
    GETPID = c"getpid";
    GETTID = c"gettid";
    KILL = c"kill";
    RAISE = c"raise";
    KILLPG = c"killpg";
    TGKILL = c"tgkill";
    SIGQUEUE = c"sigqueue";
    GETPPID = c"getppid";
    GETPGRP = c"getpgrp";
    GETPGID = c"getpgid";
    GETSID = c"getsid";
    SETPGID = c"setpgid";
    SCHED_SETSCHEDULER = c"sched_setscheduler";
    SCHED_GETSCHEDULER = c"sched_getscheduler";
    SCHED_SETPARAM = c"sched_setparam";
    SCHED_GETPARAM = c"sched_getparam";
    SCHED_RR_GET_INTERVAL = c"sched_rr_get_interval";
    SCHED_RR_GET_INTERVAL64 = c"__sched_rr_get_interval64";
    SCHED_SETAFFINITY = c"sched_setaffinity";
    SCHED_GETAFFINITY = c"sched_getaffinity";
    PRLIMIT = c"prlimit";
    PRLIMIT64 = c"prlimit64";
    PIDFD_OPEN = c"pidfd_open";
    CLOCK_GETCPUCLOCKID = c"clock_getcpuclockid";
    TCGETPGRP = c"tcgetpgrp";
    TCGETSID = c"tcgetsid";
    TCSETPGRP = c"tcsetpgrp";
    WAITPID = c"waitpid";
    WAIT4 = c"wait4";
    WAITID = c"waitid";
    GETPRIORITY = c"getpriority";
    SETPRIORITY = c"setpriority";
    TIMER_CREATE = c"timer_create";
    FCNTL = c"fcntl";
    FCNTL64 = c"fcntl64";
    SYSCALL = c"syscall";
    PTHREAD_KILL = c"pthread_kill";
    PTHREAD_SIGQUEUE = c"pthread_sigqueue";
    PTHREAD_CANCEL = c"pthread_cancel";
    PTHREAD_SETSCHEDPARAM = c"pthread_setschedparam";
    PTHREAD_GETSCHEDPARAM = c"pthread_getschedparam";
    PTHREAD_SETSCHEDPRIO = c"pthread_setschedprio";
    PTHREAD_SETAFFINITY_NP = c"pthread_setaffinity_np";
    PTHREAD_GETAFFINITY_NP = c"pthread_getaffinity_np";
    PTHREAD_SETNAME_NP = c"pthread_setname_np";
    PTHREAD_GETNAME_NP = c"pthread_getname_np";
    PTHREAD_GETCPUCLOCKID = c"pthread_getcpuclockid";
    PTHREAD_GETATTR_NP = c"pthread_getattr_np";
    PTHREAD_ATTR_SETAFFINITY_NP = c"pthread_attr_setaffinity_np";
    PTHREAD_MUTEXATTR_SETPROTOCOL = c"pthread_mutexattr_setprotocol";
    PTHREAD_MUTEXATTR_SETROBUST = c"pthread_mutexattr_setrobust";
}

/// Calls the next definition; where there is none, the value of the block.
macro_rules! call_next {
    ($next:ident as fn($($type:ty),* $(,)?) -> $result:ty, ($($arg:expr),* $(,)?), else $missing:expr) => {
        // SAFETY: the type is that of libc's declaration, and the arguments are the caller's.
        match unsafe { $crate::interpose::next::$next.function::<unsafe extern "C" fn($($type),*) -> $result>() } {
            // SAFETY: as above.
            Some(function) => unsafe { function($($arg),*) },
            None => $missing,
        }
    };
}
pub(crate) use call_next;
