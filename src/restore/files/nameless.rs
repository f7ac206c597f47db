//! [NORMAL] Deleted files and memfds: made again from their contents.
#![allow(unsafe_code)] // memfd_create(2), futimens(3).

use super::regular::REOPEN;
use super::{Files, Subject};
use crate::format::ReadAt;
use crate::format::files::{data_kind, file_kind};
use crate::restore::huge;
use crate::sys::{Errno, fs as raw};
use std::collections::HashMap;
use std::os::fd::RawFd;

/// O_TMPFILE without its O_DIRECTORY: such a file may still be given a name, or have got one.
pub(super) const TMPFILE: u32 = 0o20_000_000;

impl Files {
    #[allow(clippy::map_entry)] // The entry would borrow the map while the object is made.
    pub(super) fn nameless(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let key = (file.dev.get(), file.ino.get());
        if !self.nameless.contains_key(&key) {
            let huge = match subject.huge() {
                Some(log2) => self.huge_memfd(subject, log2, warn)?,
                None => None,
            };
            let fd = match huge {
                Some(fd) => fd,
                None => {
                    let fd =
                        if file.kind.get() == file_kind::MEMFD { self.memfd(subject)? } else { self.deleted(subject)? };
                    let write = &mut |bytes: &[u8], at| {
                        raw::seek_to(fd, at, 0)?;
                        raw::write_all(fd, bytes)
                    };
                    raw::ftruncate(fd, file.size.get()).map_err(error).and_then(|()| fill(subject, write)).map_err(
                        |error| {
                            format!("fd {}: cannot write the contents of {}: {error}", subject.fds(), subject.path())
                        },
                    )?;
                    fd
                }
            };
            set_time(subject, fd);
            self.nameless.insert(key, (fd, file.mode.get() & 0o7777, subject.seals()));
        }
        let (made, _, _) = self.nameless[&key];
        let flags = file.flags.get() & REOPEN & !raw::O_DIRECTORY & !raw::O_NOFOLLOW;
        let failed = |errno: Errno| format!("fd {}: cannot open {} again: {errno}", subject.fds(), subject.path());
        let fd = match self.made.remove(&file.id.get()) {
            Some(fd) => {
                raw::fcntl(fd, raw::F_SETFL, flags as usize).map_err(failed)?;
                fd
            }
            None => self.opened(format!("/proc/self/fd/{made}\0").as_bytes(), flags).map_err(failed)?,
        };
        if flags & raw::O_PATH == 0 {
            raw::seek_to(fd, file.pos.get(), 0).map_err(failed)?;
        }
        Ok(fd)
    }

    fn memfd(&self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let path = subject.path_nul();
        let name = path.strip_prefix(b"/memfd:").unwrap_or(b"\0");
        // SAFETY: `name` ends in a NUL.
        let fd = unsafe { libc::memfd_create(name.as_ptr().cast(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            let error = std::io::Error::last_os_error();
            return Err(format!("fd {}: cannot make a memfd: {error}", subject.fds()));
        }
        let low = raw::OwnedFd(fd);
        self.above(low.0)
    }

    /// With its contents, if there are as many huge pages as it takes.
    fn huge_memfd(
        &self,
        subject: &Subject<'_>,
        log2: u32,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<RawFd>, String> {
        let file = &subject.entry.file;
        let (path, key) = (subject.path_nul(), (file.dev.get(), file.ino.get()));
        let name = path.strip_prefix(b"/memfd:").unwrap_or(b"\0");
        let made = huge::memfd(subject.image, key, name, file.size.get(), log2).map_err(error).and_then(|fd| {
            fill(subject, &mut |bytes, at| huge::write_at(fd.0, bytes, at, log2))?;
            Ok(fd)
        });
        match made {
            Ok(low) => self.above(low.0).map(Some),
            Err(_) => {
                warn(format!("fd {} ({}) {}", subject.fds(), subject.path(), huge::NONE_FREE));
                Ok(None)
            }
        }
    }

    fn deleted(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let maker = subject.object().find(|entry| entry.file.flags.get() & TMPFILE != 0).map(|entry| &entry.file);
        if let Some(maker) = maker {
            let path = &subject.entry.path;
            let slash = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
            let mut dir = path[..slash.max(1)].to_vec();
            dir.push(0);
            // Only this description has the flag, which the next checkpoint tells such a file by. The offset is not yet
            // for appending.
            let flags = TMPFILE | raw::O_DIRECTORY | raw::O_CLOEXEC | maker.flags.get() & REOPEN & !raw::O_APPEND;
            if let Ok(fd) = raw::open_exactly(&dir, flags) {
                let low = raw::OwnedFd(fd);
                let _ = raw::fchmod(low.0, 0o600);
                let high = self.above(low.0)?;
                self.made.insert(maker.id.get(), high);
                let failed = |errno| format!("fd {}: cannot open {} again: {errno}", subject.fds(), subject.path());
                return self.opened(format!("/proc/self/fd/{high}\0").as_bytes(), raw::O_RDWR).map_err(failed);
            }
        }
        let make = &mut |path: &[u8]| raw::open(path, raw::O_RDWR | raw::O_CREAT | O_EXCL | raw::O_CLOEXEC, 0o600);
        self.make_and_remove(subject, make, raw::remove)
    }

    /// A directory without a name: nothing can be in it.
    pub(super) fn deleted_directory(&self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let make = &mut |path: &[u8]| {
            raw::mkdir(path, file.mode.get() & 0o7777)?;
            raw::open_exactly(path, file.flags.get() & REOPEN | raw::O_CLOEXEC)
        };
        self.make_and_remove(subject, make, raw::rmdir)
    }

    /// Modes and seals, when every description is open and mappings have what they need.
    pub fn finish_nameless(&mut self) {
        for (_, (fd, mode, seals)) in std::mem::take(&mut self.nameless) {
            let _ = raw::fchmod(fd, mode);
            // The program may go on to write by a mapping of before.
            if seals & F_SEAL_FUTURE_WRITE != 0 && seals & F_SEAL_WRITE == 0 {
                self.keep.insert(fd);
                self.late_seals.push((fd, seals as u32));
                continue;
            }
            if seals != 0 {
                let _ = raw::fcntl(fd, raw::F_ADD_SEALS, seals as usize);
            }
            raw::close(fd);
        }
    }

    /// Deleted files and memfds that were made again, by device and inode at the checkpoint, and whether nobody will be able
    /// to write to them: mappings of them show the same file.
    pub fn nameless_files(&self) -> HashMap<(u64, u64), (RawFd, bool)> {
        self.nameless.iter().map(|(key, (fd, _, seals))| (*key, (*fd, seals & F_SEAL_WRITE != 0))).collect()
    }
}

const F_SEAL_WRITE: u64 = 8;
const F_SEAL_FUTURE_WRITE: u64 = 16;

const O_EXCL: u32 = 0o200;

impl Subject<'_> {
    /// Of a memfd of huge pages: the logarithm of their size.
    fn huge(&self) -> Option<u32> {
        self.object_data_of(data_kind::HUGE).map(|item| item.data.offset.get() as u32)
    }

    fn seals(&self) -> u64 {
        self.object_data_of(data_kind::SEALS).map_or(0, |item| item.data.offset.get())
    }
}

fn error(errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.0)
}

/// Writes bytes at an offset.
type WriteAt<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), Errno>;

/// Writes the data that the image has.
fn fill(subject: &Subject<'_>, write: WriteAt<'_>) -> std::io::Result<()> {
    let mut buf = Vec::new();
    for item in subject.object_data() {
        if item.data.what.get() != data_kind::CONTENTS {
            continue;
        }
        buf.resize(item.data.len.get() as usize, 0);
        let mut done = 0;
        while done < buf.len() {
            match ReadAt::read_at(subject.source, &mut buf[done..], item.at + done as u64)? {
                0 => return Err(std::io::Error::other("the image ends")),
                n => done += n,
            }
        }
        write(&buf, item.data.offset.get()).map_err(error)?;
    }
    Ok(())
}

/// Of the last change.
fn set_time(subject: &Subject<'_>, fd: RawFd) {
    let file = &subject.entry.file;
    let times = [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: file.mtime.get() as libc::time_t, tv_nsec: file.mtime_nsec.get() as i32 },
    ];
    // SAFETY: two times. A wrong time of change is no reason to refuse.
    let _ = unsafe { libc::futimens(fd, times.as_ptr()) };
}
