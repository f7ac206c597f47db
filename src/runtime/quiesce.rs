//! [SIGNAL] Stopping the program: with the handler running, its one thread stands still.

use crate::capture::failure::{Failure, fail, refuse};
use crate::sys::lines::{field, parse_dec};
use crate::sys::{Errno, fs, process};

/// Programs with more than one thread are refused, never saved in part.
pub fn check_single_thread(buf: &mut [u8]) -> Result<(), Failure> {
    let status = fs::read_file(b"/proc/self/status\0", buf)
        .map_err(|errno| fail!(errno, "cannot read /proc/self/status (is /proc mounted?)"))?;
    match field(status, b"Threads").and_then(parse_dec) {
        Some(1) => Ok(()),
        Some(n) => {
            Err(refuse!(Errno::EOPNOTSUPP, "the program has {n} threads; this version saves programs with one thread"))
        }
        None => Err(refuse!(Errno::EIO, "/proc/self/status does not tell the number of threads")),
    }
}

/// Makes the process's /proc files readable to itself for the duration of a checkpoint.
pub struct Dumpable {
    /// What the program had set.
    pub value: u32,
    restore: Option<usize>,
}

impl Dumpable {
    /// A process that is not dumpable may not open its own /proc/self/fd, pagemap or mem.
    pub fn ensure() -> Dumpable {
        match process::prctl(process::PR_GET_DUMPABLE, 0, 0, 0, 0) {
            Ok(0) => {
                let changed = process::prctl(process::PR_SET_DUMPABLE, 1, 0, 0, 0).is_ok();
                Dumpable { value: 0, restore: changed.then_some(0) }
            }
            Ok(value) => Dumpable { value: value as u32, restore: None },
            Err(_) => Dumpable { value: 1, restore: None },
        }
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if let Some(value) = self.restore {
            // The value was in force before; it can be set again.
            let _ = process::prctl(process::PR_SET_DUMPABLE, value, 0, 0, 0);
        }
    }
}
