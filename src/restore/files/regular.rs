//! [NORMAL] Regular files and directories: opened again by path.

use super::nameless::TMPFILE;
use super::{Cut, Files, Subject, duplicate};
use crate::format::files::data_kind;
use crate::format::image::FileEntry;
use crate::sys::abi::{S_IFMT, S_IFREG, Statx};
use crate::sys::{Errno, fs as raw};
use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;

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

/// What the process has open of its own directory in /proc is about another process now: that path, for this one.
/// Threads other than the main one are not there yet; it stands for them.
fn own_proc_path(subject: &Subject<'_>) -> Option<Vec<u8>> {
    let own = format!("/proc/{}", subject.image.task.pid.get());
    let rest = subject.entry.path.strip_prefix(own.as_bytes())?;
    let pid = std::process::id();
    let task = rest.strip_prefix(b"/task/").map(|rest| {
        let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        [format!("/proc/{pid}/task/{pid}").as_bytes(), &rest[end..]].concat()
    });
    match rest.first() {
        None | Some(b'/') => Some(task.unwrap_or_else(|| [format!("/proc/{pid}").as_bytes(), rest].concat())),
        _ => None,
    }
}

fn born(entry: &FileEntry) -> Option<(i64, u32)> {
    let item = entry.data_of(data_kind::BORN).next()?;
    Some((item.data.offset.get() as i64, u32::from_le_bytes(item.bytes.as_slice().try_into().ok()?)))
}

fn nul(path: &[u8]) -> Vec<u8> {
    [path, b"\0"].concat()
}

impl Files {
    pub(super) fn reopen(&self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let mut path = subject.entry.path.clone();
        path.push(0);
        let made_nameless = subject.entry.file.flags.get() & TMPFILE != 0;
        let flags = subject.entry.file.flags.get() & if made_nameless { REOPEN & !raw::O_DIRECTORY } else { REOPEN };
        let opened = match self.opened(&path, flags) {
            // It has grown beyond 2 GiB since it was opened without O_LARGEFILE.
            Err(Errno::EOVERFLOW) => self.opened(&path, flags | raw::O_LARGEFILE),
            Err(Errno::ENOENT) => self.open_info(&path, flags),
            opened => opened,
        };
        opened.map_err(|errno| format!("fd {}: cannot open {}: {errno}", subject.fds(), subject.path()))
    }

    /// What /proc tells of a descriptor that is not in place yet. Another one has its number until then, or until all that
    /// is not the program's is closed.
    fn open_info(&self, path: &[u8], flags: u32) -> Result<RawFd, Errno> {
        let own = format!("/proc/{}/fdinfo/", std::process::id());
        let number = path.strip_prefix(own.as_bytes()).and_then(|rest| std::str::from_utf8(rest).ok());
        let number = number.and_then(|text| text.trim_end_matches('\0').parse::<RawFd>().ok()).ok_or(Errno::ENOENT)?;
        let any = raw::OwnedFd(raw::open(b"/dev/null\0", raw::O_PATH | raw::O_CLOEXEC, 0)?);
        duplicate(any.0, number)?;
        self.opened(path, flags)
    }

    pub(super) fn regular(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let entry = self.find_entry(subject, warn);
        let subject = &Subject { entry: &entry, ..*subject };
        let path = subject.path();
        let fd = self.reopen(subject)?;
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
        let same_time = (stat.mtime.sec as u64, stat.mtime.nsec) == (file.mtime.get(), file.mtime_nsec.get());
        if writes && at_end && stat.size > file.size.get() {
            let mtime = (file.mtime.get(), file.mtime_nsec.get());
            self.cuts.push(Cut { fd, path: path.clone(), len: file.size.get(), mtime });
        } else if real && writes && stat.size == file.size.get() && !same_time {
            warn(format!(
                "fd {}: {path} has been written to since the checkpoint, not at its end: what was changed stays",
                subject.fds()
            ));
        } else if real && (stat.size != file.size.get() || !same_time) {
            warn(format!("fd {}: {path} has changed since the checkpoint", subject.fds()));
        }
        if file.flags.get() & raw::O_PATH == 0 {
            raw::seek_to(fd, file.pos.get(), 0)
                .map_err(|errno| format!("fd {}: cannot set the offset of {path}: {errno}", subject.fds()))?;
        }
        Ok(fd)
    }

    /// The FILE with the path by which it is found now.
    fn find_entry(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> FileEntry {
        let with_path = |path| FileEntry { path, ..subject.entry.clone() };
        if let Some(path) = own_proc_path(subject) {
            return with_path(path);
        }
        let file = &subject.entry.file;
        let Some(born) = born(subject.entry) else { return subject.entry.clone() };
        let same = |stat: Statx| {
            stat.dev() == file.dev.get()
                && stat.ino == file.ino.get()
                && stat.born().is_some_and(|time| (time.sec, time.nsec) == born)
        };
        let here = subject.stat_path();
        if here.is_ok_and(same) {
            return subject.entry.clone();
        }
        let (fds, path) = (subject.fds(), subject.path());
        let renamed = self.find_inode(subject).filter(|renamed| raw::lstat(&nul(renamed)).is_ok_and(same));
        if let Some(renamed) = renamed {
            warn(format!("fd {fds}: {path} is called {} by now", super::shown(&renamed)));
            return with_path(renamed);
        }
        let unchanged = here.is_ok_and(|stat| {
            stat.size == file.size.get()
                && (stat.mtime.sec as u64, stat.mtime.nsec) == (file.mtime.get(), file.mtime_nsec.get())
        });
        if here.is_ok() && !unchanged {
            warn(format!("fd {fds}: {path} is another file than at the checkpoint"));
        }
        subject.entry.clone()
    }

    /// The name that a file's inode has in the directory where the file was.
    fn find_inode(&mut self, subject: &Subject<'_>) -> Option<Vec<u8>> {
        let path = &subject.entry.path;
        let dir = path[..path.iter().rposition(|&b| b == b'/')? + 1].to_vec();
        let names = self.names.entry(dir.clone()).or_insert_with(|| {
            let entries = std::fs::read_dir(OsStr::from_bytes(&dir)).into_iter().flatten().flatten();
            entries.map(|entry| (entry.ino(), entry.file_name().as_bytes().to_vec())).collect()
        });
        let name = names.get(&subject.entry.file.ino.get())?;
        Some([dir.as_slice(), name].concat())
    }

    /// Something that was opened with O_PATH: the name is what counts.
    pub(super) fn place(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let fd = self.reopen(subject)?;
        let stat = raw::fstat(fd).map_err(|errno| format!("cannot look at {}: {errno}", subject.path()))?;
        if u32::from(stat.mode) & S_IFMT != subject.entry.file.mode.get() & S_IFMT {
            return Err(format!("fd {}: {} is of another kind than at the checkpoint", subject.fds(), subject.path()));
        }
        Ok(fd)
    }

    pub(super) fn directory(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let entry = match own_proc_path(subject) {
            Some(path) => &FileEntry { path, ..subject.entry.clone() },
            None => subject.entry,
        };
        let subject = &Subject { entry, ..*subject };
        let fd = self.reopen(subject)?;
        if entry.file.flags.get() & raw::O_PATH == 0 && entry.file.pos.get() != 0 {
            // ext4 takes a position before the first read for the beginning: a program that goes back there would not
            // see what comes before it.
            let _ = raw::getdents(fd, &mut [0; 1024]);
            raw::seek_to(fd, entry.file.pos.get(), 0).map_err(|errno| {
                format!("fd {}: cannot set the read position of {}: {errno}", subject.fds(), subject.path())
            })?;
        }
        Ok(fd)
    }
}
