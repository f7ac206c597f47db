//! [NORMAL] Regular files and directories: opened again by path.

use super::{Files, Subject};
use crate::format::image::FileEntry;
use crate::sys::abi::{S_IFMT, S_IFREG};
use crate::sys::fs as raw;
use std::os::fd::RawFd;

/// Flags of F_GETFL that a file is opened with again; the others tell how it was created.
pub(super) const REOPEN: u32 = raw::O_ACCMODE
    | raw::O_APPEND
    | raw::O_NONBLOCK
    | raw::O_LARGEFILE
    | raw::O_DIRECTORY
    | raw::O_NOFOLLOW
    | raw::O_PATH
    | 0o10_000 // O_DSYNC
    | 0o40_000 // O_DIRECT
    | 0o1_000_000 // O_NOATIME
    | 0o4_000_000; // O_SYNC

impl Files {
    pub(super) fn reopen(&self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let mut path = subject.entry.path.clone();
        path.push(0);
        self.opened(&path, subject.entry.file.flags.get() & REOPEN)
            .map_err(|errno| format!("fd {}: cannot open {}: {errno}", subject.fds(), subject.path()))
    }

    pub(super) fn regular(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let path = subject.path();
        // What the process read about itself is about another process now.
        let own_proc = format!("/proc/{}/", subject.image.task.pid.get());
        let fd = match path.strip_prefix(&own_proc) {
            Some(rest) => {
                let entry = FileEntry { path: format!("/proc/self/{rest}").into_bytes(), ..subject.entry.clone() };
                self.reopen(&Subject { entry: &entry, ..*subject })?
            }
            None => self.reopen(subject)?,
        };
        let stat = raw::fstat(fd).map_err(|errno| format!("cannot look at {path}: {errno}"))?;
        if u32::from(stat.mode) & S_IFMT != S_IFREG {
            return Err(format!("fd {}: {path} is no longer a regular file", subject.fds()));
        }
        // Files of /proc have no length and always the time of the look.
        let real = file.size.get() != 0 || stat.size != 0;
        if stat.size < file.size.get() {
            return Err(format!(
                "fd {}: {path} is shorter than at the checkpoint: {} bytes instead of {}",
                subject.fds(),
                stat.size,
                file.size.get()
            ));
        }
        let access = file.flags.get() & raw::O_ACCMODE;
        let writes = access == raw::O_WRONLY || access == raw::O_RDWR;
        let at_end = file.flags.get() & raw::O_APPEND != 0 || file.pos.get() >= file.size.get();
        if writes && at_end && stat.size > file.size.get() {
            self.cuts.push((fd, file.size.get(), path.clone()));
        } else if real
            && (stat.size != file.size.get()
                || (!writes && (stat.mtime.sec as u64, stat.mtime.nsec) != (file.mtime.get(), file.mtime_nsec.get())))
        {
            warn(format!("fd {}: {path} has changed since the checkpoint", subject.fds()));
        }
        if file.flags.get() & raw::O_PATH == 0 {
            raw::seek_to(fd, file.pos.get(), 0)
                .map_err(|errno| format!("fd {}: cannot set the offset of {path}: {errno}", subject.fds()))?;
        }
        Ok(fd)
    }

    pub(super) fn directory(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let entry = subject.entry;
        let fd = self.reopen(subject)?;
        if entry.file.flags.get() & raw::O_PATH == 0 && entry.file.pos.get() != 0 {
            raw::seek_to(fd, entry.file.pos.get(), 0).map_err(|errno| {
                format!("fd {}: cannot set the read position of {}: {errno}", subject.fds(), subject.path())
            })?;
        }
        Ok(fd)
    }
}
