//! [NORMAL] Open files: everything is opened and checked first, changed last.
//!
//! The phases, in the order in which `runtime::takeover` calls them:
//! 1. [`Files::open`]: every FILE of the image becomes a descriptor above the program's own numbers, by the
//!    module of its family (`open_one` chooses). Data in flight are put in. What can be refused is refused here:
//!    nothing outside this process has changed yet.
//! 2. [`Files::put_in_place`]: each descriptor gets its number; what depends on numbers (epoll) follows.
//! 3. [`Files::cut_back`]: output files are cut back to their length at the checkpoint. The first change
//!    to anything outside.
//! 4. [`Files::close_others`]: what is not the program's goes.
//!
//! To add a kind: a line in `open_one` and a method of [`Files`] in its family's module; `capture::files` tells the
//! rest. FILE ids count from 0 in the order of the image, so a kind that refers to another FILE which may
//! come later makes the connection in `connect`, when all are open.
#![allow(unsafe_code)] // Raw descriptors.

mod device;
mod event;
mod limit;
mod lock;
mod message;
mod mqueue;
mod multicast;
mod nameless;
mod owner;
mod pipe;
mod pty;
mod regular;
mod socket;
mod stream;
mod unix_socket;

pub use limit::raise_limit;
pub use lock::LateLock;
pub use owner::owned_by_threads;

use crate::format::files::file_kind;
use crate::format::image::{FileDataEntry, FileEntry, Image};
use crate::sys::abi::Statx;
use crate::sys::{Errno, fs as raw};
use pipe::PipeObject;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::RawFd;

/// A FILE of the image that is about to be opened.
pub(super) struct Subject<'a> {
    pub image: &'a Image,
    /// The image's file: for contents.
    pub source: &'a File,
    pub entry: &'a FileEntry,
    /// Descriptors that refer to it, ascending.
    pub users: &'a [u32],
    /// FILE ids by device and inode.
    pub objects: &'a Objects,
}

/// FILE ids of each file, pipe or socket.
type Objects = HashMap<(u64, u64), Vec<u32>>;

impl Subject<'_> {
    /// For messages.
    fn path(&self) -> String {
        shown(&self.entry.path)
    }

    /// With the NUL that system calls want.
    fn path_nul(&self) -> Vec<u8> {
        let mut path = self.entry.path.clone();
        path.push(0);
        path
    }

    fn stat_path(&self) -> Result<Statx, Errno> {
        raw::stat(&self.path_nul())
    }

    /// All descriptions of the same file, pipe or socket.
    fn object(&self) -> impl Iterator<Item = &FileEntry> {
        let key = (self.entry.file.dev.get(), self.entry.file.ino.get());
        self.objects.get(&key).into_iter().flatten().map(|&id| &self.image.files[id as usize])
    }

    /// What is known of it, with whichever description that was written.
    fn object_data(&self) -> Vec<&FileDataEntry> {
        self.object().flat_map(|entry| &entry.data).collect()
    }

    /// The first of one sort, with whichever description that was written.
    fn object_data_of(&self, what: u32) -> Option<&FileDataEntry> {
        self.object().find_map(|entry| entry.data_of(what).next())
    }

    /// Which of the standard streams it is.
    fn standard(&self) -> Option<u32> {
        self.users.iter().copied().find(|&fd| fd <= 2)
    }

    /// Its descriptors, for messages.
    fn fds(&self) -> String {
        if self.users.is_empty() {
            return "in a message that waits".to_string();
        }
        self.users.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// An output file that is to be what it was at the checkpoint.
struct Cut {
    fd: RawFd,
    path: String,
    len: u64,
    /// When it was changed: seconds and nanoseconds.
    mtime: (u64, u32),
}

/// Opened files of the program, high above its own descriptors.
pub struct Files {
    /// By FILE id.
    fds: Vec<RawFd>,
    /// Output files that are cut back.
    cuts: Vec<Cut>,
    /// First number that is neither the program's nor the command's standard streams'.
    floor: RawFd,
    /// Descriptors that stay open for the restorer.
    keep: BTreeSet<RawFd>,
    /// Pipes and FIFOs while their ends are opened, by device and inode at the checkpoint.
    pipes: HashMap<(u64, u64), PipeObject>,
    /// Deleted files and memfds while they are opened: descriptor, mode, seals.
    nameless: HashMap<(u64, u64), (RawFd, u32, u64)>,
    /// Locks that are taken last.
    pub posix_locks: Vec<LateLock>,
    leases: Vec<LateLock>,
    /// Seals of memfds that come after their mappings.
    pub late_seals: Vec<(RawFd, u32)>,
    /// Names by inode, of directories in which a file was looked for.
    names: HashMap<Vec<u8>, HashMap<u64, Vec<u8>>>,
    /// POSIX message queues, by device and inode at the checkpoint.
    queues: HashMap<(u64, u64), mqueue::Queue>,
    /// Ends of connections and terminals within the process, by FILE id, until they are asked for.
    made: HashMap<u32, RawFd>,
    /// By FILE id: ends of peers that have gone, which still have descriptors to send.
    gone: HashMap<u32, raw::OwnedFd>,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Moves a descriptor to the lowest free number from `floor` on.
fn raise_from(fd: RawFd, floor: RawFd) -> Result<RawFd, String> {
    duplicate(fd, floor).map_err(|errno| format!("no descriptor is free above {floor} ({errno})"))
}

/// The same, where the limit of open files has one name.
fn duplicate(fd: RawFd, floor: RawFd) -> Result<RawFd, Errno> {
    raw::fcntl(fd, raw::F_DUPFD_CLOEXEC, floor as usize)
        .map(|fd| fd as RawFd)
        .map_err(|errno| if errno == Errno::EINVAL { Errno::EMFILE } else { errno })
}

impl Files {
    /// Opens every file of the image. `inherit` gives fds 0, 1, 2 to the command in any case.
    pub fn open(image: &Image, source: &File, inherit: bool, warn: &mut dyn FnMut(String)) -> Result<Files, String> {
        let highest = image.fds.last().map_or(2, |fd| fd.fd.get().max(2)) as RawFd;
        let mut files = Files {
            fds: Vec::new(),
            cuts: Vec::new(),
            floor: highest + 1,
            keep: BTreeSet::new(),
            pipes: HashMap::new(),
            nameless: HashMap::new(),
            posix_locks: Vec::new(),
            leases: Vec::new(),
            late_seals: Vec::new(),
            names: HashMap::new(),
            queues: HashMap::new(),
            made: HashMap::new(),
            gone: HashMap::new(),
        };
        if image.runtime.lock_fd.get() as RawFd >= files.floor {
            files.floor = image.runtime.lock_fd.get() as RawFd + 1;
        }
        let mut users = vec![Vec::new(); image.files.len()];
        for fd in &image.fds {
            users[fd.file.get() as usize].push(fd.fd.get());
        }
        let mut objects = Objects::new();
        for entry in &image.files {
            objects.entry((entry.file.dev.get(), entry.file.ino.get())).or_default().push(entry.file.id.get());
        }
        files.connect_pairs(image, warn)?;
        files.open_ptys(image, warn)?;
        for (entry, users) in image.files.iter().zip(&users) {
            let subject = Subject { image, source, entry, users, objects: &objects };
            let named = |message: String| {
                let known = message.starts_with("fd ");
                let message =
                    if known { message } else { format!("fd {} ({}): {message}", subject.fds(), subject.path()) };
                let full = message.contains(&Errno::EMFILE.to_string());
                if full { format!("{message}; raise the limit (ulimit -n)") } else { message }
            };
            let fd = files.open_one(&subject, inherit, warn).map_err(named)?;
            if !(inherit && subject.standard().is_some()) {
                files.take_locks(&subject, fd)?;
            }
            files.fds.push(fd);
            let key = (entry.file.dev.get(), entry.file.ino.get());
            if objects[&key].last() == Some(&entry.file.id.get()) {
                files.close_pipe(key);
            }
        }
        files.finish_sockets(image, warn)?;
        files.take_control(image, warn);
        Ok(files)
    }

    fn open_one(
        &mut self,
        subject: &Subject<'_>,
        inherit: bool,
        warn: &mut dyn FnMut(String),
    ) -> Result<RawFd, String> {
        let standard = subject.standard();
        if let (Some(fd), true) = (standard, inherit) {
            return self.command_stream(fd as RawFd, warn);
        }
        match subject.entry.file.kind.get() {
            file_kind::DIRECTORY_DELETED => self.deleted_directory(subject),
            file_kind::PLACE => self.place(subject),
            file_kind::REGULAR => self.regular(subject, warn),
            file_kind::DELETED | file_kind::MEMFD => self.nameless(subject, warn),
            file_kind::DIRECTORY => self.directory(subject),
            file_kind::DEVICE => self.device(subject),
            file_kind::TERMINAL => match standard {
                Some(fd) => self.command_stream(fd as RawFd, warn),
                None => self.terminal(subject, warn),
            },
            file_kind::STREAM => self.stream(subject, warn),
            file_kind::PIPE => self.pipe(subject, warn),
            file_kind::FIFO => self.fifo(subject, warn),
            file_kind::EVENTFD
            | file_kind::TIMERFD
            | file_kind::SIGNALFD
            | file_kind::EPOLL
            | file_kind::INOTIFY
            | file_kind::PIDFD => self.event(subject, warn),
            file_kind::FIFO_DELETED => self.deleted_fifo(subject, warn),
            file_kind::SOCKET => self.socket(subject, warn),
            file_kind::PTY_MASTER | file_kind::PTY_SLAVE => self.pty(subject),
            file_kind::QUEUE => self.queue(subject, warn),
            file_kind::CLOSED_PEER => {
                warn(format!(
                    "fd {} ({}) could not be saved and stands as if its peer had closed",
                    subject.fds(),
                    subject.path()
                ));
                self.closed_peer(subject, warn)
            }
            other => Err(format!("FILE record {}: kind cannot be {other}", subject.entry.file.id.get())),
        }
    }

    /// Moves a descriptor above the program's numbers; the low one stays open.
    fn above(&self, fd: RawFd) -> Result<RawFd, String> {
        raise_from(fd, self.floor)
    }

    /// Something without a name: `make` makes and opens it at a path that is free, which is removed again at once. The
    /// path that it had is tried first, then one beside it, then one in the directory for temporary files.
    fn make_and_remove(
        &self,
        subject: &Subject<'_>,
        make: &mut dyn FnMut(&[u8]) -> Result<RawFd, Errno>,
        remove: fn(&[u8]) -> Result<(), Errno>,
    ) -> Result<RawFd, String> {
        let temporary = format!("/tmp/.selfckpt-{}", std::process::id());
        let mut beside = subject.entry.path.clone();
        beside.extend_from_slice(format!(".selfckpt-{}", std::process::id()).as_bytes());
        let mut last = Errno::ENOENT;
        for mut path in [subject.entry.path.clone(), beside, temporary.into_bytes()] {
            path.push(0);
            match make(&path) {
                Ok(fd) => {
                    let low = raw::OwnedFd(fd);
                    let removed = remove(&path);
                    let high = self.above(low.0)?;
                    return removed
                        .map(|()| high)
                        .map_err(|errno| format!("cannot remove {} again: {errno}", shown(&path[..path.len() - 1])));
                }
                Err(errno) => last = errno,
            }
        }
        Err(format!("fd {}: cannot make {} again: {last}", subject.fds(), subject.path()))
    }

    pub fn raise(&mut self, fd: RawFd) -> Result<RawFd, String> {
        let high = raise_from(fd, self.floor)?;
        self.keep.insert(high);
        Ok(high)
    }

    /// Opens a path with these flags, above the program's numbers.
    fn opened(&self, path: &[u8], flags: u32) -> Result<RawFd, Errno> {
        let low = raw::OwnedFd(raw::open_exactly(path, flags | raw::O_CLOEXEC | raw::O_NOCTTY)?);
        duplicate(low.0, self.floor)
    }

    /// Cuts output files back and fills message queues. The first change to anything outside this process.
    pub fn cut_back(&self, image: &Image) -> Result<(), String> {
        for Cut { fd, path, len, mtime } in &self.cuts {
            raw::ftruncate(*fd, *len).map_err(|errno| format!("cannot cut {path} back to {len} bytes: {errno}"))?;
            // So that another restart of the same image does not find it changed. Only its owner may.
            let _ = raw::set_mtime(*fd, mtime.0, mtime.1);
        }
        self.fill_queues(image)
    }

    /// Gives every descriptor of the program its number.
    pub fn put_in_place(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        for fd in &image.fds {
            let from = self.fds[fd.file.get() as usize];
            let flags = if fd.flags.get() & 1 != 0 { libc::O_CLOEXEC } else { 0 };
            // SAFETY: takes numbers; what was on the target is not used any more.
            if unsafe { libc::dup3(from, fd.fd.get() as RawFd, flags) } < 0 {
                let error = std::io::Error::last_os_error();
                return Err(format!("cannot put fd {} in place: {error}", fd.fd.get()));
            }
        }
        self.connect_epolls(image, warn)?;
        owner::set_owners(image, &self.fds, warn);
        self.take_leases(warn);
        Ok(())
    }

    /// Closes all that is neither the program's nor in `keep`. Returns the descriptors that the restorer closes at its
    /// end.
    pub fn close_others(&mut self, image: &Image, lock: RawFd) -> Result<Vec<RawFd>, String> {
        let wanted: BTreeSet<RawFd> = image.fds.iter().map(|fd| fd.fd.get() as RawFd).collect();
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
