//! [NORMAL] Open files: everything is opened and checked first, changed last.
//!
//! Nothing of the program's files is touched until all of them could be opened. Only then are output
//! files cut back to their length at the checkpoint, and the descriptors put in place.
#![allow(unsafe_code)] // Raw descriptors, pipe(2), socketpair(2).

use crate::format::files::{File as FileRecord, file_kind};
use crate::format::image::{FileEntry, Image};
use crate::sys::abi::{S_IFCHR, S_IFIFO, S_IFMT, S_IFREG};
use crate::sys::fs as raw;
use std::collections::BTreeSet;
use std::os::fd::RawFd;

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

/// Flags of F_GETFL that a file is opened with again; the others tell how it was created.
const REOPEN: u32 = raw::O_ACCMODE
    | raw::O_APPEND
    | raw::O_NONBLOCK
    | raw::O_LARGEFILE
    | raw::O_DIRECTORY
    | raw::O_NOFOLLOW
    | raw::O_PATH
    | 0o10_000 // O_DSYNC
    | 0o20_000 // O_ASYNC
    | 0o40_000 // O_DIRECT
    | 0o1_000_000 // O_NOATIME
    | 0o4_000_000; // O_SYNC

impl Files {
    /// Opens every file of the image. `inherit` gives fds 0, 1, 2 to the command in any case.
    pub fn open(image: &Image, inherit: bool, warn: &mut dyn FnMut(String)) -> Result<Files, String> {
        let highest = image.fds.last().map_or(2, |fd| fd.fd.get().max(2)) as RawFd;
        let mut files = Files { fds: Vec::new(), cuts: Vec::new(), floor: highest + 1, keep: BTreeSet::new() };
        if image.runtime.lock_fd.get() as RawFd >= files.floor {
            files.floor = image.runtime.lock_fd.get() as RawFd + 1;
        }
        for entry in &image.files {
            let users: Vec<u32> =
                image.fds.iter().filter(|fd| fd.file == entry.file.id).map(|fd| fd.fd.get()).collect();
            let fd = files.open_one(image, entry, &users, inherit, warn)?;
            files.fds.push(fd);
        }
        Ok(files)
    }

    pub fn raise(&mut self, fd: RawFd) -> Result<RawFd, String> {
        let high = raise_from(fd, self.floor)?;
        self.keep.insert(high);
        Ok(high)
    }

    fn open_one(
        &mut self,
        image: &Image,
        entry: &FileEntry,
        users: &[u32],
        inherit: bool,
        warn: &mut dyn FnMut(String),
    ) -> Result<RawFd, String> {
        let standard = users.iter().copied().find(|&fd| fd <= 2);
        if let (Some(fd), true) = (standard, inherit) {
            return self.command_stream(fd as RawFd, warn);
        }
        match entry.file.kind.get() {
            file_kind::REGULAR => self.regular(image, entry, users, warn),
            file_kind::DIRECTORY => self.directory(entry, users),
            file_kind::DEVICE => self.device(entry, users),
            file_kind::TERMINAL => match standard {
                Some(fd) => self.command_stream(fd as RawFd, warn),
                None => self.terminal(entry, users, warn),
            },
            file_kind::STREAM => match standard {
                Some(fd) => self.command_stream(fd as RawFd, warn),
                None => self.closed_peer(&entry.file),
            },
            file_kind::CLOSED_PEER => {
                warn(format!(
                    "fd {} ({}) could not be saved and stands as if its peer had closed",
                    list(users),
                    shown(&entry.path)
                ));
                self.closed_peer(&entry.file)
            }
            other => Err(format!("FILE record {}: kind cannot be {other}", entry.file.id.get())),
        }
    }

    /// The restarting command's own stream.
    fn command_stream(&mut self, fd: RawFd, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        match raw::fcntl(fd, raw::F_DUPFD_CLOEXEC, self.floor as usize) {
            Ok(high) => Ok(high as RawFd),
            Err(crate::sys::Errno(9)) => {
                warn(format!("fd {fd} of this command is closed; the program gets /dev/null"));
                self.opened(b"/dev/null\0", raw::O_RDWR).map_err(|errno| format!("cannot open /dev/null: {errno}"))
            }
            Err(errno) => Err(format!("cannot pass fd {fd} on: {errno}")),
        }
    }

    fn opened(&self, path: &[u8], flags: u32) -> Result<RawFd, crate::sys::Errno> {
        let low = raw::OwnedFd(raw::open_exactly(path, flags | raw::O_CLOEXEC | raw::O_NOCTTY)?);
        raw::fcntl(low.0, raw::F_DUPFD_CLOEXEC, self.floor as usize).map(|fd| fd as RawFd)
    }

    fn reopen(&self, entry: &FileEntry, users: &[u32]) -> Result<RawFd, String> {
        let mut path = entry.path.clone();
        path.push(0);
        self.opened(&path, entry.file.flags.get() & REOPEN)
            .map_err(|errno| format!("fd {}: cannot open {}: {errno}", list(users), shown(&entry.path)))
    }

    fn regular(
        &mut self,
        image: &Image,
        entry: &FileEntry,
        users: &[u32],
        warn: &mut dyn FnMut(String),
    ) -> Result<RawFd, String> {
        let file = &entry.file;
        let path = shown(&entry.path);
        // What the process read about itself is about another process now.
        let own_proc = format!("/proc/{}/", image.task.pid.get());
        let fd = match path.strip_prefix(&own_proc) {
            Some(rest) => {
                let entry = FileEntry { path: format!("/proc/self/{rest}").into_bytes(), ..entry.clone() };
                self.reopen(&entry, users)?
            }
            None => self.reopen(entry, users)?,
        };
        let stat = raw::fstat(fd).map_err(|errno| format!("cannot look at {path}: {errno}"))?;
        if u32::from(stat.mode) & S_IFMT != S_IFREG {
            return Err(format!("fd {}: {path} is no longer a regular file", list(users)));
        }
        // Files of /proc have no length and always the time of the look.
        let real = file.size.get() != 0 || stat.size != 0;
        if stat.size < file.size.get() {
            return Err(format!(
                "fd {}: {path} is shorter than at the checkpoint: {} bytes instead of {}",
                list(users),
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
            warn(format!("fd {}: {path} has changed since the checkpoint", list(users)));
        }
        if file.flags.get() & raw::O_PATH == 0 {
            raw::seek_to(fd, file.pos.get(), 0)
                .map_err(|errno| format!("fd {}: cannot set the offset of {path}: {errno}", list(users)))?;
        }
        Ok(fd)
    }

    fn directory(&mut self, entry: &FileEntry, users: &[u32]) -> Result<RawFd, String> {
        let fd = self.reopen(entry, users)?;
        if entry.file.flags.get() & raw::O_PATH == 0 && entry.file.pos.get() != 0 {
            raw::seek_to(fd, entry.file.pos.get(), 0).map_err(|errno| {
                format!("fd {}: cannot set the read position of {}: {errno}", list(users), shown(&entry.path))
            })?;
        }
        Ok(fd)
    }

    fn device(&mut self, entry: &FileEntry, users: &[u32]) -> Result<RawFd, String> {
        let fd = self.reopen(entry, users)?;
        let same = raw::fstat(fd)
            .is_ok_and(|stat| u32::from(stat.mode) & S_IFMT == S_IFCHR && stat.rdev() == entry.file.rdev.get());
        if same {
            Ok(fd)
        } else {
            Err(format!("fd {}: {} is another device than at the checkpoint", list(users), shown(&entry.path)))
        }
    }

    /// A terminal on another descriptor than 0, 1, 2: the controlling one, or what this command has.
    fn terminal(&mut self, entry: &FileEntry, users: &[u32], warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        if let Ok(fd) = self.opened(b"/dev/tty\0", entry.file.flags.get() & REOPEN) {
            return Ok(fd);
        }
        for fd in 0..=2 {
            // SAFETY: takes a number.
            if unsafe { libc::isatty(fd) } == 1 {
                return self.command_stream(fd, warn);
            }
        }
        warn(format!(
            "fd {} was the terminal {}; there is none here, it stands as if its peer had closed",
            list(users),
            shown(&entry.path)
        ));
        self.closed_peer(&entry.file)
    }

    /// What reads as the end of file and refuses writes with EPIPE.
    fn closed_peer(&mut self, file: &FileRecord) -> Result<RawFd, String> {
        let mut pair = [0 as RawFd; 2];
        let pipe = file.mode.get() & S_IFMT == S_IFIFO;
        let result = if pipe {
            // SAFETY: `pair` takes two descriptors.
            unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC) }
        } else {
            // SAFETY: as above.
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) }
        };
        if result != 0 {
            return Err(format!("cannot make a closed pipe: {}", std::io::Error::last_os_error()));
        }
        let writes = pipe && file.flags.get() & raw::O_ACCMODE == raw::O_WRONLY;
        let kept = raw::OwnedFd(pair[usize::from(writes)]);
        raw::close(pair[usize::from(!writes)]);
        let high = raise_from(kept.0, self.floor)?;
        const F_SETFL: u32 = 4;
        // O_NONBLOCK belongs to the description; a failure leaves a blocking descriptor that never
        // blocks, since its peer is closed.
        let _ = raw::fcntl(high, F_SETFL, (file.flags.get() & raw::O_NONBLOCK) as usize);
        Ok(high)
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

fn list(users: &[u32]) -> String {
    users.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
