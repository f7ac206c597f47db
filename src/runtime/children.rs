//! [SIGNAL] Live children: a checkpoint of a process that has some would lose them.
#![allow(unsafe_code)] // waitid(2).

use crate::capture::failure::{Failure, refuse};
use crate::sys::abi::Siginfo;
use crate::sys::lines::{Cursor, parse_dec};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, call, fs, nr, text::text};
use core::fmt::Write;

/// Fails when there are children and `ignore` is not set. Returns how many there are.
pub fn check(ignore: bool, buf: &mut [u8]) -> Result<u32, Failure> {
    if !any() {
        return Ok(0);
    }
    let mut count = 0;
    let mut names: Text<400> = Text::new();
    let (entries, listed) = buf.split_at_mut(buf.len() / 2);
    // Each thread has the children that it made itself.
    if let Ok(dir) = fs::open(b"/proc/self/task\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0) {
        let dir = fs::OwnedFd(dir);
        // A thread that ends meanwhile has none: what cannot be listed is counted by `any`.
        let _ = fs::for_each_name(dir.0, entries, |tid| {
            let path: Text<64> = text!("/proc/self/task/{}/children\0", Bytes(tid));
            let listed = fs::read_file(path.as_bytes(), listed).unwrap_or(&[]);
            name_children(listed, &mut count, &mut names);
            Ok::<(), Errno>(())
        });
    }
    if ignore {
        return Ok(count.max(1));
    }
    Err(refuse!(
        Errno::ECHILD,
        "the program has child processes, which an image cannot hold: {}; wait for them, or set \
         SELFCKPT_CHILDREN=ignore",
        Bytes(if names.is_empty() { b"(the kernel does not list them)" } else { names.as_bytes() })
    ))
}

fn name_children(listed: &[u8], count: &mut u32, names: &mut Text<400>) {
    let mut cursor = Cursor(listed);
    while let Some(pid) = parse_dec(cursor.word()) {
        *count += 1;
        let path: Text<64> = text!("/proc/{pid}/comm\0");
        let mut comm = [0u8; 64];
        let comm = fs::read_file(path.as_bytes(), &mut comm).unwrap_or(b"?");
        // Text takes everything; what does not fit is cut off.
        let _ = write!(
            names,
            "{}{pid} ({})",
            if *count == 1 { "" } else { ", " },
            Bytes(comm.strip_suffix(b"\n").unwrap_or(comm))
        );
    }
}

/// Whether there is any child, running or not yet waited for.
fn any() -> bool {
    const P_ALL: u32 = 0;
    const WNOHANG_WEXITED_WNOWAIT_WALL: u32 = 1 | 4 | 0x0100_0000 | 0x4000_0000;
    let mut info = Siginfo::new();
    // SAFETY: `info` takes one siginfo; WNOWAIT leaves the child as it is.
    let result = unsafe { call!(nr::WAITID, P_ALL, 0, &raw mut info, WNOHANG_WEXITED_WNOWAIT_WALL, 0) };
    result != Err(Errno::ECHILD)
}
