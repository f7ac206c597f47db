//! [NORMAL] Harmless devices: opened again by path.

use super::{Files, Subject};
use crate::sys::abi::{S_IFCHR, S_IFMT};
use crate::sys::fs as raw;
use std::os::fd::RawFd;

impl Files {
    pub(super) fn device(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let fd = self.reopen(subject)?;
        let same = raw::fstat(fd)
            .is_ok_and(|stat| u32::from(stat.mode) & S_IFMT == S_IFCHR && stat.rdev() == subject.entry.file.rdev.get());
        if same {
            Ok(fd)
        } else {
            Err(format!("fd {}: {} is another device than at the checkpoint", subject.fds(), subject.path()))
        }
    }
}
