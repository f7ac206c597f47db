//! [NORMAL] inotify_add_watch(2): the kernel tells of a watch no more than an inode, so the path is noted here.
#![allow(unsafe_code)] // A function that C calls with a pointer.

use super::fail;
use super::next::call_next;
use crate::sys::{Errno, Text, fs, watched};
use core::ffi::{CStr, c_char, c_int};

/// # Safety
/// As inotify_add_watch(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int {
    let watch = call_next!(
        INOTIFY_ADD_WATCH as fn(c_int, *const c_char, u32) -> c_int,
        (fd, path, mask),
        else fail(Errno::ENOSYS)
    );
    if watch >= 0 {
        // SAFETY: by the contract above; the kernel has read it.
        note(unsafe { CStr::from_ptr(path) }, mask);
    }
    watch
}

fn note(path: &CStr, mask: u32) {
    let look = if mask & watched::IN_DONT_FOLLOW != 0 { fs::lstat } else { fs::stat };
    let Ok(found) = look(path.to_bytes_with_nul()) else { return };
    let path = path.to_bytes();
    if path.starts_with(b"/") {
        watched::note(found.dev(), found.ino, path);
        return;
    }
    let mut buf = [0u8; 4096];
    let Ok(here) = fs::readlink(fs::AT_FDCWD, b"/proc/thread-self/cwd\0", &mut buf) else { return };
    let mut absolute: Text<4200> = Text::from_bytes(here);
    absolute.push(b"/");
    absolute.push(path);
    watched::note(found.dev(), found.ino, absolute.as_bytes());
}
