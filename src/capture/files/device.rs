//! [SIGNAL] Character devices: harmless ones, and terminals that are not the process's own pair.
#![allow(unsafe_code)] // ioctl(2) with a buffer that is large enough for the operation.

use super::Subject;
use crate::format::files::file_kind;
use crate::sys::abi::{S_IFCHR, makedev};
use crate::sys::{Errno, call, nr};

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    if subject.file_type() != S_IFCHR {
        return None;
    }
    if let Some(kind) = super::pty::classify(subject) {
        return Some(kind);
    }
    match subject.slot.rdev {
        rdev if is_harmless_device(rdev) => Some(file_kind::DEVICE),
        _ if is_terminal(subject.slot.fd) => Some(file_kind::TERMINAL),
        // The controlling terminal, by its own name.
        rdev if rdev == makedev(5, 0) => Some(file_kind::TERMINAL),
        _ => None,
    }
}

/// null, zero, full, random, urandom.
fn is_harmless_device(rdev: u64) -> bool {
    [3, 5, 7, 8, 9].iter().any(|&minor| rdev == makedev(1, minor))
}

fn is_terminal(fd: i32) -> bool {
    const TCGETS: usize = 0x5401;
    let mut termios = [0u8; 64];
    ioctl(fd, TCGETS, termios.as_mut_ptr() as usize).is_ok()
}

fn ioctl(fd: i32, op: usize, arg: usize) -> Result<usize, Errno> {
    // SAFETY: TCGETS writes a struct termios of 36 bytes.
    unsafe { call!(nr::IOCTL, fd, op, arg) }
}
