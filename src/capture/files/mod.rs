//! [SIGNAL] Open descriptors into FILE, FILE_DATA and FD records.
//!
//! The table of descriptors and who shares what is made here; each family of files has a module that
//! knows its kinds. To add a kind:
//! 1. `format::files`: a number in `file_kind`, and one in `data_kind` for each sort of state that does
//!    not fit into FILE (FILE_DATA: bounded bytes with an offset, as many as it takes);
//! 2. here: the family's `classify` says which description is of the kind (the first family that
//!    answers wins), its `save` writes the FILE_DATA;
//! 3. `restore::check_files`: what the records must look like, or the image is refused;
//! 4. `restore::files`: the family's module makes the thing again.
//!
//! What no family knows is saved as CLOSED_PEER, with a notice. Nothing here may disturb the program that
//! goes on. Closing any descriptor of a file drops the process's POSIX locks on it: files of the program
//! are read through its own descriptors.

mod device;
mod diagnosis;
mod event;
mod in_flight;
mod lock;
mod look;
mod mqueue;
mod multicast;
mod names;
mod owner;
mod pipe;
mod pty;
mod regular;
mod sharing;
mod socket;
mod socket_data;
mod socket_options;
mod unix_socket;

use super::Stream;
use super::failure::{Failure, fail, refuse, unreadable};
use super::notices::{Notices, notice};
use super::scratch::FdSlot;
use crate::format::files::{Fd, File, FileData, file_kind};
pub use crate::format::task::DELETED;
use crate::format::{kind, notice::code};
use crate::sys::abi::{S_IFIFO, S_IFLNK, S_IFMT};
use crate::sys::lines::parse_dec;
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, process, text::text};
use core::sync::atomic::AtomicU32;
use zerocopy::little_endian::{U32, U64};

pub use multicast::Group;
pub use regular::find_link;
pub use socket_options::Options;

pub type Path = Text<4100>;

/// Directories of a thread in /proc: what is open there once is found there faster.
struct ProcDirs {
    links: fs::OwnedFd,
    info: fs::OwnedFd,
}

impl ProcDirs {
    fn open() -> Result<ProcDirs, Failure> {
        let open = |path: &[u8], name| {
            let opened = fs::open(path, fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0);
            opened.map(fs::OwnedFd).map_err(|errno| unreadable(errno, name))
        };
        Ok(ProcDirs {
            links: open(b"/proc/thread-self/fd\0", "/proc/thread-self/fd")?,
            info: open(b"/proc/thread-self/fdinfo\0", "/proc/thread-self/fdinfo")?,
        })
    }
}

/// What /proc tells of a descriptor in fdinfo; one read gets it whole.
fn fdinfo(dir: i32, fd: i32, buf: &mut [u8]) -> Result<&[u8], Errno> {
    let name: Text<16> = text!("{fd}\0");
    let file = fs::OwnedFd(fs::openat(dir, name.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0)?);
    let n = fs::read(file.0, buf)?;
    if n == buf.len() { Err(Errno::ENAMETOOLONG) } else { Ok(buf.get(..n).unwrap_or(&[])) }
}

/// The program, and whoever writes its table: the thread that takes the checkpoint, or a helper of it.
#[derive(Clone, Copy)]
pub struct Program {
    pub pid: u32,
    /// Directory fdinfo of the program's thread.
    info: i32,
    /// Directories fd and fdinfo of the writer.
    writer_links: i32,
    writer_info: i32,
}

impl Program {
    /// With what tells of its own POSIX locks, which are told to nobody else.
    pub fn own_fdinfo<'b>(&self, fd: i32, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        fdinfo(self.info, fd, buf)
    }

    /// Of any descriptor of the table.
    pub fn fdinfo<'b>(&self, fd: i32, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        fdinfo(self.writer_info, fd, buf)
    }
}

/// All descriptors of the program, in two orders; behind them those in flight.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    program: Program,
    /// So many descriptors are the program's.
    own: usize,
    /// By number.
    slots: &'a [FdSlot],
    /// Places in `slots`, by device and inode.
    by_object: &'a [u32],
    /// Places of the sockets in `slots`, by their end.
    by_end: &'a [u32],
    /// Of each descriptor, as far as there was room for them.
    options: &'a [Options],
}

impl<'a> Table<'a> {
    /// Whether the program itself has a descriptor of this description, none but messages that wait.
    pub fn is_own(&self, slot: &FdSlot) -> bool {
        // Those in flight have the highest numbers.
        self.own.checked_sub(1).and_then(|last| self.slots.get(last)).is_some_and(|last| slot.fd <= last.fd)
    }

    /// The options of a socket.
    pub fn options_of(&self, slot: &FdSlot) -> Option<&'a Options> {
        let at = self.slots.binary_search_by_key(&slot.fd, |slot| slot.fd).ok()?;
        self.options.get(at)
    }

    /// The FILE of a descriptor that is none of the table's.
    pub fn file_of(&self, fd: i32) -> Option<u32> {
        let stat = fs::fstat(fd).ok()?;
        let this = process::gettid();
        let mut same = self.of_object(stat.dev(), stat.ino).filter(|slot| slot.first);
        same.find(|slot| fs::kcmp_file(this, fd, slot.fd).is_ok_and(|order| order.is_eq())).map(|slot| slot.file)
    }

    /// The descriptor with this number.
    pub fn by_fd(&self, fd: i32) -> Option<&'a FdSlot> {
        self.slots.binary_search_by_key(&fd, |slot| slot.fd).ok().and_then(|at| self.slots.get(at))
    }

    /// A descriptor of the socket that has this end of a connection.
    pub fn of_end(&self, end: u64) -> Option<&'a FdSlot> {
        let slots = self.slots;
        let key = |at: &u32| slots.get(*at as usize).map_or(0, |slot| slot.end);
        let found = self.by_end.binary_search_by_key(&end, key).ok()?;
        self.by_end.get(found).and_then(|&at| slots.get(at as usize))
    }

    /// All descriptors of one file, pipe or socket.
    pub fn of_object(&self, dev: u64, ino: u64) -> impl Iterator<Item = &'a FdSlot> + Clone + use<'a> {
        let slots = self.slots;
        let key = move |&at: &u32| slots.get(at as usize).map_or((0, 0), |slot| (slot.dev, slot.ino));
        let start = self.by_object.partition_point(|at| key(at) < (dev, ino));
        let rest = self.by_object.get(start..).unwrap_or(&[]);
        rest.iter().take_while(move |at| key(at) == (dev, ino)).filter_map(move |&at| slots.get(at as usize))
    }
}

/// An open file description that is about to be saved.
pub struct Subject<'a> {
    /// Its lowest descriptor.
    pub slot: &'a FdSlot,
    /// As /proc/thread-self/fd shows it; a family may put a better one in its place.
    pub path: &'a mut Path,
    /// Whether it can be found again by its path, once that has been looked at.
    at_its_path: Option<bool>,
    pub table: Table<'a>,
}

impl Subject<'_> {
    /// S_IFMT bits of the mode.
    pub fn file_type(&self) -> u32 {
        self.slot.mode & S_IFMT
    }

    /// Whether it can be found again by its path.
    pub fn is_at_its_path(&mut self) -> bool {
        if let Some(known) = self.at_its_path {
            return known;
        }
        // With O_PATH a link itself can be open.
        let look = if self.file_type() == S_IFLNK { fs::lstat } else { fs::stat };
        let found = self.path.as_path().ok_or(Errno::ENAMETOOLONG).and_then(look);
        let found = found.is_ok_and(|found| found.dev() == self.slot.dev && found.ino == self.slot.ino);
        self.at_its_path = Some(found);
        found
    }
}

/// Where the families write to.
pub struct Saver<'a, 's, 'n> {
    pub stream: &'a mut Stream<'s>,
    pub notices: &'a mut Notices<'n>,
    /// A connection to another process is a failure.
    pub refuse_sockets: bool,
    /// Whether descriptors that come with messages are in the table.
    pub in_flight: bool,
    pub groups: multicast::Groups<'a>,
    /// For what is read. A family leaves nothing in it.
    pub buf: &'a mut [u8],
}

impl Saver<'_, '_, '_> {
    /// Writes a FILE_DATA of the FILE `file`.
    pub fn data(&mut self, file: u32, what: u32, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let head = FileData {
            file: U32::new(file),
            what: U32::new(what),
            offset: U64::new(offset),
            len: U32::new(bytes.len() as u32),
            reserved: U32::new(0),
        };
        Ok(self.stream.record(kind::FILE_DATA, 0, &head, &[bytes])?)
    }

    /// The same with the first `len` bytes of `buf`.
    pub fn data_in_buf(&mut self, file: u32, what: u32, offset: u64, len: usize) -> Result<(), Failure> {
        let buf = core::mem::take(&mut self.buf);
        let result = self.data(file, what, offset, buf.get(..len).unwrap_or(&[]));
        self.buf = buf;
        result
    }
}

/// Memory for the table of descriptors.
pub struct Tables<'a> {
    pub fds: &'a mut [FdSlot],
    /// By device and inode.
    pub order: &'a mut [u32],
    pub leaders: &'a mut [AtomicU32],
    pub options: &'a mut [Options],
    /// By end of a connection.
    pub ends: &'a mut [u32],
    pub groups: &'a mut [Group],
}

/// Reads the descriptor table and writes it.
///
/// `own` are the library's descriptors, which are not the program's; `helper_stack_top` ends memory for a helper's stack.
/// Returns how many there are in `fds`.
#[allow(clippy::too_many_arguments)]
pub fn capture_files(
    stream: &mut Stream<'_>,
    mut tables: Tables<'_>,
    own: &[i32],
    refuse_sockets: bool,
    helper_stack_top: usize,
    notices: &mut Notices<'_>,
    buf: &mut [u8],
    large_buf: &mut [u8],
) -> Result<usize, Failure> {
    let count = list_fds(tables.fds, own, buf)?;
    let fds = tables.fds.get_mut(..count).unwrap_or(&mut []);
    // Numbers come in any order from a large table; records are ordered.
    fds.sort_unstable_by_key(|slot| slot.fd);
    let beside = Some(helper_stack_top).filter(|_| process::has_several_cpus());
    look::look_at(fds, beside)?;
    let dirs = ProcDirs::open()?;
    let (links, info) = (dirs.links.0, dirs.info.0);
    let program = Program { pid: process::getpid(), info, writer_links: links, writer_info: info };
    let any = in_flight::are_any(fds, info) || fds.iter().any(regular::is_opened_to_look);
    let groups = multicast::Groups::new(core::mem::take(&mut tables.groups));
    let mut saver = Saver { stream, notices, refuse_sockets, in_flight: false, groups, buf: large_buf };
    if any {
        let mut result = None;
        let helped = in_flight::beside(helper_stack_top, &mut || {
            saver.in_flight = true;
            result = Some(ProcDirs::open().and_then(|own| {
                let program = Program { writer_links: own.links.0, writer_info: own.info.0, ..program };
                let all = in_flight::collect(tables.fds, count, own.info.0, saver.buf);
                write_table(&mut saver, &mut tables, program, count, all, None)
            }));
        });
        match (result, helped) {
            (Some(result), _) => return result.map(|()| count),
            // Half a table may be in the image.
            (None, Err(errno)) if saver.in_flight => return Err(fail!(errno, "cannot save the open files")),
            // There is no helper: what it would have done is lost, and noted with each message.
            (None, _) => {}
        }
    }
    write_table(&mut saver, &mut tables, program, count, count, beside).map(|()| count)
}

/// Writes the table of `all` descriptors, of which the first `own` ones are the program's. `beside` ends memory for the
/// stack of a helper, if there may be one.
fn write_table(
    saver: &mut Saver<'_, '_, '_>,
    tables: &mut Tables<'_>,
    program: Program,
    own: usize,
    all: usize,
    beside: Option<usize>,
) -> Result<(), Failure> {
    let fds = tables.fds.get_mut(..all).unwrap_or(&mut []);
    let files = sharing::find_sharing(fds, tables.leaders, tables.order, tables.ends, beside);
    let elsewhere = saver.in_flight.then_some((own, program.info));
    look::look_closer(fds, tables.options, elsewhere, beside)?;
    let sockets = socket::find_ends(fds, tables.ends, saver.buf);
    let fds = &*fds;
    let order = tables.order.get_mut(..all).unwrap_or(&mut []);
    for (place, number) in order.iter_mut().zip(0..) {
        *place = number;
    }
    order.sort_unstable_by_key(|&at| fds.get(at as usize).map_or((0, 0, 0), |slot| (slot.dev, slot.ino, slot.fd)));
    let by_end = tables.ends.get(..sockets).unwrap_or(&[]);
    write_files(saver, Table { program, own, slots: fds, by_object: order, by_end, options: tables.options }, files)?;
    for slot in fds.get(..own).unwrap_or(&[]) {
        let fd = Fd {
            fd: U32::new(slot.fd as u32),
            file: U32::new(slot.file),
            flags: U32::new(slot.cloexec.into()),
            reserved: U32::new(0),
        };
        saver.stream.record(kind::FD, 0, &fd, &[])?;
    }
    Ok(())
}

fn list_fds(fds: &mut [FdSlot], own: &[i32], buf: &mut [u8]) -> Result<usize, Failure> {
    let failed = |errno| unreadable(errno, "/proc/thread-self/fd");
    let dir = fs::open(b"/proc/thread-self/fd\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0).map_err(failed)?;
    let dir = fs::OwnedFd(dir);
    let room = fds.len();
    let mut count = 0;
    let mut overflow = false;
    fs::for_each_name(dir.0, buf, |name| {
        let fd = parse_dec(name).ok_or(Errno::EIO)? as i32;
        if fd != dir.0 && !own.contains(&fd) {
            match fds.get_mut(count) {
                Some(slot) => *slot = FdSlot { fd, ..FdSlot::default() },
                None => overflow = true,
            }
            count += 1;
        }
        Ok(())
    })
    .map_err(failed)?;
    if overflow {
        return Err(refuse!(Errno(24), "the program has {count} open descriptors; {room} can be saved"));
    }
    Ok(count)
}

fn write_files(saver: &mut Saver<'_, '_, '_>, table: Table<'_>, files: u32) -> Result<(), Failure> {
    let mut written = 0;
    let mut names = names::Names::new(table.program.writer_links);
    let mut copies = [None, None];
    for slot in table.slots.iter().filter(|slot| slot.first) {
        let fd = slot.fd;
        let mut path = Path::new();
        let at_its_path =
            names.find(slot, &mut path).map_err(|errno| fail!(errno, "cannot read the path of descriptor {fd}"))?;
        let mut subject = Subject { slot, path: &mut path, at_its_path, table };
        let kind = classify(&mut subject);
        names.note(slot, subject.at_its_path);
        if kind == file_kind::CLOSED_PEER {
            notice!(
                saver.notices,
                code::FD_NOT_SAVED,
                fd as u64,
                "fd {fd} ({}) cannot be saved; after a restart it stands as if its peer had closed",
                Bytes(subject.path.as_bytes())
            );
        }
        let file = File {
            id: U32::new(slot.file),
            kind: U32::new(kind),
            flags: U32::new(slot.flags),
            mode: U32::new(slot.mode),
            pos: U64::new(slot.pos),
            dev: U64::new(slot.dev),
            ino: U64::new(slot.ino),
            rdev: U64::new(slot.rdev),
            size: U64::new(slot.size),
            mtime: U64::new(slot.mtime.sec as u64),
            mtime_nsec: U32::new(slot.mtime.nsec),
            path_len: U32::new(subject.path.len() as u32),
        };
        saver.stream.record(crate::format::kind::FILE, 0, &file, &[subject.path.as_bytes()])?;
        save(saver, &subject, kind, &mut copies)?;
        lock::save(saver, &subject, kind)?;
        owner::save(saver, &subject, kind)?;
        written += 1;
    }
    debug_assert_eq!(written, files);
    Ok(())
}

/// What the description is, as the first family says that knows it.
fn classify(subject: &mut Subject<'_>) -> u32 {
    mqueue::classify(subject)
        .or_else(|| event::classify(subject))
        .or_else(|| regular::classify(subject))
        .or_else(|| device::classify(subject))
        .or_else(|| pipe::classify(subject))
        .or_else(|| socket::classify(subject))
        .unwrap_or(file_kind::CLOSED_PEER)
}

/// Writes what does not fit into FILE. `copies` are for what waits in pipes.
fn save(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    kind: u32,
    copies: &mut [Option<pipe::CopyPipe>; 2],
) -> Result<(), Failure> {
    match kind {
        file_kind::STREAM => {
            pipe::note_stream(saver, subject);
            if subject.file_type() == S_IFIFO {
                pipe::save(saver, subject, kind, copies)?;
            }
        }
        file_kind::REGULAR => regular::save_born(saver, subject)?,
        file_kind::DELETED | file_kind::MEMFD => regular::save_contents(saver, subject, kind)?,
        file_kind::EVENTFD | file_kind::TIMERFD | file_kind::SIGNALFD | file_kind::EPOLL | file_kind::INOTIFY => {
            event::save(saver, subject, kind)?;
        }
        file_kind::PIPE | file_kind::FIFO | file_kind::FIFO_DELETED => pipe::save(saver, subject, kind, copies)?,
        file_kind::SOCKET => socket::save(saver, subject)?,
        file_kind::PTY_MASTER => pty::save(saver, subject)?,
        file_kind::QUEUE => mqueue::save(saver, subject)?,
        _ => {}
    }
    Ok(())
}
