//! [NORMAL] setsockopt(2): a program that limits how long its sockets wait is led past a place that notes when they begin
//! to ([`vsyscall`]).
#![allow(unsafe_code)] // A function that C calls with a pointer.

use super::next::call_next;
use super::{clock, fail, tables};
use crate::arch::vsyscall;
use crate::sys::Errno;
use core::ffi::c_int;

const SOL_SOCKET: c_int = 1;
/// SO_RCVTIMEO and SO_SNDTIMEO, with 32-bit and with 64-bit times.
const LIMITS: [c_int; 4] = [20, 21, 66, 67];
/// Size of the longer ones.
const TIME: usize = 16;

/// Functions of libc that set a socket's options.
macro_rules! setsockopt {
    ($($(#[$doc:meta])* $name:ident = $next:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the function of libc of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(fd: c_int, level: c_int, option: c_int, value: *const u8, len: usize) -> c_int {
            let result = call_next!(
                $next as fn(c_int, c_int, c_int, *const u8, usize) -> c_int,
                (fd, level, option, value, len),
                else fail(Errno::ENOSYS)
            );
            if result == 0 && level == SOL_SOCKET && LIMITS.contains(&option) {
                // SAFETY: the kernel has read a time from there.
                let time = unsafe { core::slice::from_raw_parts(value, len.min(TIME)) };
                if time.iter().any(|&byte| byte != 0) && !vsyscall::lead(clock::function()) {
                    tables::change();
                }
            }
            result
        }
    )*};
}

setsockopt! {
    /// setsockopt(2)
    setsockopt = SETSOCKOPT;
    /// setsockopt(2) with 64-bit times
    __setsockopt64 = SETSOCKOPT64;
}
