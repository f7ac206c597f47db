//! [NORMAL] Open files: everything is opened and checked first, changed last.
//!
//! The phases, in the order in which `runtime::takeover` calls them:
//! 1. [`Files::open`]: every FILE of the image becomes a descriptor above the program's own numbers, by the
//!    module of its family (`open_one` chooses). Data in flight are put in. What can be refused is refused here:
//!    nothing outside this process has changed yet.
//! 2. [`Files::put_in_place`]: each descriptor gets its number.
//! 3. [`Files::cut_back`]: output files are cut back to their length at the checkpoint. The first change
//!    to anything outside.
//!
//! To add a kind: a line in `open_one` and a method of [`Files`] in its family's module; `capture::files` tells the
//! rest. FILE ids count from 0 in the order of the image, so a kind that refers to another FILE which may
//! come later makes the connection in `connect`, when all are open.
#![allow(unsafe_code)] // Raw descriptors.

mod device;
mod regular;
mod stream;

use crate::format::files::file_kind;
use crate::format::image::{FileEntry, Image};
use crate::sys::fs as raw;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::RawFd;

/// A FILE of the image that is about to be opened.
pub(super) struct Subject<'a> {
    pub image: &'a Image,
    /// The image's file: for contents.
    #[allow(dead_code)] // The first kind with contents follows.
    pub source: &'a File,
    pub entry: &'a FileEntry,
    /// Descriptors that refer to it, ascending.
    pub users: &'a [u32],
}

impl Subject<'_> {
    /// For messages.
    fn path(&self) -> String {
        shown(&self.entry.path)
    }

    /// Its descriptors, for messages.
    fn fds(&self) -> String {
        self.users.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Opened files of the program, high above its own descriptors.
pub struct Files {
    /// By FILE id.
    fds: Vec<RawFd>,
    /// (descriptor, length) of output files that are cut back.
    cuts: Vec<(RawFd, u64, String)>,
    /// First number that is neither the program's nor the command's standard streams'.
    floor: RawFd,
    /// Descriptors that stay open for the restorer.
    keep: BTreeSet<RawFd>,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Moves a descriptor to the lowest free number from `floor` on.
fn raise_from(fd: RawFd, floor: RawFd) -> Result<RawFd, String> {
    raw::fcntl(fd, raw::F_DUPFD_CLOEXEC, floor as usize)
        .map(|fd| fd as RawFd)
        .map_err(|errno| format!("no descriptor is free above {floor} ({errno}); raise the limit (ulimit -n)"))
}

impl Files {
    /// Opens every file of the image. `inherit` gives fds 0, 1, 2 to the command in any case.
    pub fn open(image: &Image, source: &File, inherit: bool, warn: &mut dyn FnMut(String)) -> Result<Files, String> {
        let highest = image.fds.last().map_or(2, |fd| fd.fd.get().max(2)) as RawFd;
        let mut files = Files { fds: Vec::new(), cuts: Vec::new(), floor: highest + 1, keep: BTreeSet::new() };
        if image.runtime.lock_fd.get() as RawFd >= files.floor {
            files.floor = image.runtime.lock_fd.get() as RawFd + 1;
        }
        let mut users = vec![Vec::new(); image.files.len()];
        for fd in &image.fds {
            users[fd.file.get() as usize].push(fd.fd.get());
        }
        for (entry, users) in image.files.iter().zip(&users) {
            let fd = files.open_one(&Subject { image, source, entry, users }, inherit, warn)?;
            files.fds.push(fd);
        }
        Ok(files)
    }

    fn open_one(
        &mut self,
        subject: &Subject<'_>,
        inherit: bool,
        warn: &mut dyn FnMut(String),
    ) -> Result<RawFd, String> {
        let standard = subject.users.iter().copied().find(|&fd| fd <= 2);
        if let (Some(fd), true) = (standard, inherit) {
            return self.command_stream(fd as RawFd, warn);
        }
        match subject.entry.file.kind.get() {
            file_kind::REGULAR => self.regular(subject, warn),
            file_kind::DIRECTORY => self.directory(subject),
            file_kind::DEVICE => self.device(subject),
            file_kind::TERMINAL => match standard {
                Some(fd) => self.command_stream(fd as RawFd, warn),
                None => self.terminal(subject, warn),
            },
            file_kind::STREAM => match standard {
                Some(fd) => self.command_stream(fd as RawFd, warn),
                None => self.closed_peer(subject),
            },
            file_kind::CLOSED_PEER => {
                warn(format!(
                    "fd {} ({}) could not be saved and stands as if its peer had closed",
                    subject.fds(),
                    subject.path()
                ));
                self.closed_peer(subject)
            }
            other => Err(format!("FILE record {}: kind cannot be {other}", subject.entry.file.id.get())),
        }
    }

    pub fn raise(&mut self, fd: RawFd) -> Result<RawFd, String> {
        let high = raise_from(fd, self.floor)?;
        self.keep.insert(high);
        Ok(high)
    }

    /// Opens a path with these flags, above the program's numbers.
    fn opened(&self, path: &[u8], flags: u32) -> Result<RawFd, crate::sys::Errno> {
        let low = raw::OwnedFd(raw::open_exactly(path, flags | raw::O_CLOEXEC | raw::O_NOCTTY)?);
        raw::fcntl(low.0, raw::F_DUPFD_CLOEXEC, self.floor as usize).map(|fd| fd as RawFd)
    }

    /// Cuts output files back. The first change to anything outside this process.
    pub fn cut_back(&self) -> Result<(), String> {
        for (fd, len, path) in &self.cuts {
            raw::ftruncate(*fd, *len).map_err(|errno| format!("cannot cut {path} back to {len} bytes: {errno}"))?;
        }
        Ok(())
    }

    /// Gives every descriptor of the program its number, and closes all that is neither the
    /// program's nor in `keep`. Returns the descriptors that the restorer closes at its end.
    pub fn put_in_place(&mut self, image: &Image, lock: RawFd) -> Result<Vec<RawFd>, String> {
        let wanted: BTreeSet<RawFd> = image.fds.iter().map(|fd| fd.fd.get() as RawFd).collect();
        for fd in &image.fds {
            let from = self.fds[fd.file.get() as usize];
            let flags = if fd.flags.get() & 1 != 0 { libc::O_CLOEXEC } else { 0 };
            // SAFETY: takes numbers; what was on the target is not used any more.
            if unsafe { libc::dup3(from, fd.fd.get() as RawFd, flags) } < 0 {
                let error = std::io::Error::last_os_error();
                return Err(format!("cannot put fd {} in place: {error}", fd.fd.get()));
            }
        }
        let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
            .map_err(|error| format!("cannot read /proc/self/fd: {error}"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        for fd in open {
            if fd != lock && !wanted.contains(&fd) && !self.keep.contains(&fd) {
                raw::close(fd);
            }
        }
        Ok(self.keep.iter().copied().collect())
    }
}
