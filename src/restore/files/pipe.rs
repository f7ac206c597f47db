//! [NORMAL] Pipes and FIFOs: made anew or opened by path, with what was in flight in them.

use super::{Files, Subject};
use crate::format::files::data_kind;
use crate::format::image::FileDataEntry;
use crate::sys::abi::{S_IFIFO, S_IFMT};
use crate::sys::{Errno, fs as raw};
use std::os::fd::RawFd;

/// Flags of F_GETFL that an end of a pipe can have.
const END_FLAGS: u32 = raw::O_APPEND | raw::O_NONBLOCK | raw::O_DIRECT | 0o1_000_000; // O_NOATIME

/// A pipe or FIFO of which some end has been asked for.
pub(super) struct PipeObject {
    /// The two ends, or twice one descriptor that can do both. Closed when all files are open.
    read: RawFd,
    write: RawFd,
}

impl Files {
    /// An end of a pipe within the process.
    #[allow(clippy::map_entry)] // The entry would borrow the map while the object is made.
    pub(super) fn pipe(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let key = (file.dev.get(), file.ino.get());
        if !self.pipes.contains_key(&key) {
            let failed = |errno: Errno| format!("fd {}: cannot make a pipe: {errno}", subject.fds());
            let (read, write) = raw::pipe(raw::O_CLOEXEC).map_err(failed)?;
            let object = PipeObject { read: self.above(read.0)?, write: self.above(write.0)? };
            self.fill_pipe(subject, object.write, warn)?;
            self.pipes.insert(key, object);
        }
        let object = &self.pipes[&key];
        let end = if file.flags.get() & raw::O_ACCMODE == raw::O_WRONLY { object.write } else { object.read };
        self.reopen_end(subject, end)
    }

    /// A FIFO that has a name.
    #[allow(clippy::map_entry)] // The entry would borrow the map while the object is made.
    pub(super) fn fifo(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let path = subject.path();
        let stat = subject.stat_path().map_err(|errno| format!("fd {}: cannot open {path}: {errno}", subject.fds()))?;
        if u32::from(stat.mode) & S_IFMT != S_IFIFO {
            return Err(format!("fd {}: {path} is no FIFO any more", subject.fds()));
        }
        let key = (file.dev.get(), file.ino.get());
        // Without a writer, now or earlier, the reader of a FIFO is told nothing; with a descriptor that can write
        // it would see its writer go.
        let data = subject.object_data();
        let hold = subject.object().any(|entry| entry.file.flags.get() & raw::O_ACCMODE != raw::O_RDONLY)
            || data.iter().any(|item| item.data.what.get() != data_kind::PIPE_SIZE);
        if !self.pipes.contains_key(&key) && hold {
            match self.opened(&subject.path_nul(), raw::O_RDWR | raw::O_NONBLOCK) {
                Ok(both) => {
                    let object = PipeObject { read: both, write: both };
                    // Where the other side lives on, so does what was in flight.
                    if raw::bytes_to_read(both).unwrap_or(0) == 0 {
                        self.fill_pipe(subject, both, warn)?;
                    }
                    self.pipes.insert(key, object);
                }
                // One way only: its other side is elsewhere.
                Err(Errno::EACCES) => {}
                Err(errno) => return Err(format!("fd {}: cannot open {path}: {errno}", subject.fds())),
            }
        }
        if let Some(object) = self.pipes.get(&key) {
            return self.reopen_end(subject, object.read);
        }
        let flags = file.flags.get() & (raw::O_ACCMODE | raw::O_LARGEFILE | END_FLAGS);
        match self.opened(&subject.path_nul(), flags & !raw::O_DIRECT | raw::O_NONBLOCK) {
            Ok(fd) => {
                set_capacity(subject, fd, warn);
                set_flags(fd, flags).map(|()| fd)
            }
            Err(Errno(6)) => {
                warn(format!("fd {}: nobody reads the FIFO {path} any more", subject.fds()));
                self.closed_peer(subject, warn)
            }
            Err(errno) => Err(format!("fd {}: cannot open {path}: {errno}", subject.fds())),
        }
    }

    /// A FIFO without a name: made and removed again.
    #[allow(clippy::map_entry)] // The entry would borrow the map while the object is made.
    pub(super) fn deleted_fifo(
        &mut self,
        subject: &Subject<'_>,
        warn: &mut dyn FnMut(String),
    ) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let key = (file.dev.get(), file.ino.get());
        if !self.pipes.contains_key(&key) {
            let make = &mut |path: &[u8]| {
                raw::mkfifo(path, 0o600)?;
                raw::open_exactly(path, raw::O_RDWR | raw::O_NONBLOCK | raw::O_CLOEXEC)
            };
            let both = self.make_and_remove(subject, make, raw::remove)?;
            let _ = raw::fchmod(both, file.mode.get() & 0o7777);
            self.fill_pipe(subject, both, warn)?;
            self.pipes.insert(key, PipeObject { read: both, write: both });
        }
        let object = &self.pipes[&key];
        self.reopen_end(subject, object.read)
    }

    /// Closes the ends that nobody asked for.
    pub(super) fn close_pipe(&mut self, key: (u64, u64)) {
        if let Some(object) = self.pipes.remove(&key) {
            raw::close(object.read);
            if object.write != object.read {
                raw::close(object.write);
            }
        }
    }

    /// A description of its own, with the flags that it had.
    fn reopen_end(&self, subject: &Subject<'_>, end: RawFd) -> Result<RawFd, String> {
        let flags = subject.entry.file.flags.get() & (raw::O_ACCMODE | raw::O_LARGEFILE | END_FLAGS);
        let path = format!("/proc/self/fd/{end}\0");
        let fd = self
            .opened(path.as_bytes(), flags & !raw::O_DIRECT | raw::O_NONBLOCK)
            .map_err(|errno| format!("fd {}: cannot open {} again: {errno}", subject.fds(), subject.path()))?;
        set_flags(fd, flags)?;
        Ok(fd)
    }

    /// Sets the capacity and puts in what was in flight.
    pub(super) fn fill_pipe(
        &self,
        subject: &Subject<'_>,
        write: RawFd,
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        set_capacity(subject, write, warn);
        write_data(write, &subject.object_data()).map_err(|errno| {
            format!("fd {}: cannot put back what was in the pipe {}: {errno}", subject.fds(), subject.path())
        })
    }
}

fn set_capacity(subject: &Subject<'_>, end: RawFd, warn: &mut dyn FnMut(String)) {
    let Some(size) = subject.object_data_of(data_kind::PIPE_SIZE) else { return };
    let size = size.data.offset.get() as usize;
    let here = raw::fcntl(end, raw::F_GETPIPE_SZ, 0).unwrap_or(0);
    let set = if here == size { Ok(size) } else { raw::fcntl(end, raw::F_SETPIPE_SZ, size) };
    if let Err(errno) = set {
        warn(format!("fd {}: the pipe holds {here} bytes instead of {size}: {errno}", subject.fds()));
    }
}

/// Writes bytes and packets in their order; none may have to wait.
fn write_data(write: RawFd, data: &[&FileDataEntry]) -> Result<(), Errno> {
    for item in data {
        let direct = match item.data.what.get() {
            data_kind::PIPE_BYTES => 0,
            data_kind::PIPE_PACKET => raw::O_DIRECT,
            _ => continue,
        };
        raw::fcntl(write, raw::F_SETFL, (raw::O_NONBLOCK | direct) as usize)?;
        raw::write_all(write, &item.bytes)?;
    }
    Ok(())
}

fn set_flags(fd: RawFd, flags: u32) -> Result<(), String> {
    raw::fcntl(fd, raw::F_SETFL, (flags & END_FLAGS) as usize)
        .map(drop)
        .map_err(|errno| format!("cannot set the flags of a pipe: {errno}"))
}
