//! [NORMAL] The definitions behind ours: libc's, or those of a library that is preloaded after this one.
//!
//! They are looked up by the constructor, so that no call in a handler is the first one.
#![allow(unsafe_code)] // dlsym(3).

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
    PPOLL = c"ppoll";
    PPOLL64 = c"__ppoll64";
    PPOLL_CHK = c"__ppoll_chk";
    PSELECT = c"pselect";
    PSELECT64 = c"__pselect64";
    EPOLL_PWAIT = c"epoll_pwait";
    EPOLL_PWAIT2 = c"epoll_pwait2";
    PTHREAD_CREATE = c"pthread_create";
    THRD_CREATE = c"thrd_create";
    PTHREAD_ATTR_GETSIGMASK = c"pthread_attr_getsigmask_np";
    POSIX_SPAWN = c"posix_spawn";
    POSIX_SPAWNP = c"posix_spawnp";
}

/// Calls the next definition; where there is none, the value of the block.
macro_rules! call_next {
    ($next:ident as fn($($type:ty),*) -> $result:ty, ($($arg:expr),*), else $missing:expr) => {
        // SAFETY: the type is that of libc's declaration, and the arguments are the caller's.
        match unsafe { $crate::interpose::next::$next.function::<unsafe extern "C" fn($($type),*) -> $result>() } {
            // SAFETY: as above.
            Some(function) => unsafe { function($($arg),*) },
            None => $missing,
        }
    };
}
pub(crate) use call_next;
