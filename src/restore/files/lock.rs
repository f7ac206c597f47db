//! [NORMAL] Locks on files. All are taken while files are opened, so that a lock which somebody else has taken
//! meanwhile is a refusal and nothing else.
//!
//! Closing any descriptor of a file drops the process's POSIX locks on it. Until the last one is closed, a lock of a
//! description of ours keeps the place; the plan takes the real one.

use super::{Files, Subject};
use crate::format::files::{Lock, data_kind, lock};
use crate::format::image::FileEntry;
use crate::sys::fs::{self as raw, Flock};
use crate::sys::{Errno, fs};
use std::os::fd::RawFd;
use zerocopy::FromBytes;

fn locks_of(entry: &FileEntry) -> impl Iterator<Item = Lock> + use<'_> {
    entry.data_of(data_kind::LOCK).filter_map(|item| Lock::read_from_bytes(&item.bytes).ok())
}

/// What fcntl(2) takes.
fn range(lock: &Lock) -> Flock {
    let (start, end) = (lock.start.get(), lock.end.get());
    let len = if end == lock::TO_THE_END { 0 } else { end - start + 1 };
    Flock { mode: lock.mode.get() as u16, whence: 0, start, len, pid: 0 }
}

impl Files {
    /// Takes the locks of a FILE that has been opened as `fd`.
    pub(super) fn take_locks(&mut self, subject: &Subject<'_>, fd: RawFd) -> Result<(), String> {
        let mut place = None;
        for lock in locks_of(subject.entry) {
            let taken = match lock.what.get() {
                lock::FLOCK => {
                    const SH_NB: u32 = 1 | 4;
                    raw::flock(fd, if lock.mode.get() == fs::F_WRLCK { raw::LOCK_EX_NB } else { SH_NB })
                }
                lock::OFD => raw::lock(fd, raw::F_OFD_SETLK, &mut range(&lock)),
                lock::POSIX => {
                    let holder = match place {
                        Some(holder) => holder,
                        None => {
                            let flags = subject.entry.file.flags.get() & raw::O_ACCMODE | raw::O_LARGEFILE;
                            let opened = self.opened(format!("/proc/self/fd/{fd}\0").as_bytes(), flags);
                            let opened = opened.map_err(|errno| {
                                format!("fd {}: cannot lock {}: {errno}", subject.fds(), subject.path())
                            })?;
                            self.keep.insert(opened);
                            *place.insert(opened)
                        }
                    };
                    self.posix_locks.extend(LateLock::new(subject, &lock));
                    raw::lock(holder, raw::F_OFD_SETLK, &mut range(&lock))
                }
                _ => {
                    self.leases.extend(LateLock::new(subject, &lock));
                    Ok(())
                }
            };
            taken.map_err(|errno| refusal(subject, fd, &lock, errno))?;
        }
        Ok(())
    }

    /// Leases, when all descriptors are in place. What else has the file open by now may forbid one.
    pub(super) fn take_leases(&self, warn: &mut dyn FnMut(String)) {
        for LateLock { fd, path, lock } in &self.leases {
            if let Err(errno) = raw::fcntl(*fd as RawFd, raw::F_SETLEASE, lock.mode.into()) {
                warn(format!("fd {fd}: the lease on {path} cannot be taken again: {errno}"));
            }
        }
    }
}

/// A lock that is taken by the program's own descriptor: a lease, or a POSIX lock when no other descriptor of the file
/// will be closed any more.
pub struct LateLock {
    pub fd: u32,
    pub path: String,
    pub lock: Flock,
}

impl LateLock {
    fn new(subject: &Subject<'_>, lock: &Lock) -> Option<LateLock> {
        Some(LateLock { fd: *subject.users.first()?, path: subject.path(), lock: range(lock) })
    }
}

fn refusal(subject: &Subject<'_>, fd: RawFd, lock: &Lock, errno: Errno) -> String {
    let (fds, path, name) = (subject.fds(), subject.path(), lock::name(lock.what.get()));
    if !matches!(errno, Errno::EAGAIN | Errno::EACCES) {
        return format!("fd {fds}: cannot take the {name} on {path}: {errno}");
    }
    let holder = match holder_of(fd, lock) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_string(),
    };
    format!("fd {fds}: {holder} has locked {path} since the checkpoint; the program held a {name} on it")
}

/// The process that holds what is in the way, if it can be told.
fn holder_of(fd: RawFd, lock: &Lock) -> Option<u32> {
    let mut asked = range(lock);
    if lock.what.get() != lock::FLOCK && raw::lock(fd, raw::F_OFD_GETLK, &mut asked).is_ok() {
        let pid = asked.pid;
        return (pid as i32 > 0).then_some(pid);
    }
    // `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`
    let stat = raw::fstat(fd).ok()?;
    let file = format!("{:02x}:{:02x}:{}", stat.dev_major, stat.dev_minor, stat.ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        (words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str())).then(|| words[4].parse().ok())?
    })
}
