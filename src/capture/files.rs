//! [SIGNAL] Open descriptors into FILE and FD records.

use super::Stream;
use super::failure::{Failure, fail, refuse};
use super::notices::{Notices, notice};
use super::scratch::FdSlot;
use crate::format::files::{Fd, File, file_kind};
use crate::format::{kind, notice::code};
use crate::sys::abi::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, Statx, makedev};
use crate::sys::lines::parse_dec;
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, call, fs, nr, process, text::text};
use zerocopy::little_endian::{U32, U64};

type Path = Text<4100>;

/// Reads the descriptor table and writes it.
///
/// `own` are the library's descriptors, which are not the program's.
pub fn capture_files(
    stream: &mut Stream<'_>,
    fds: &mut [FdSlot],
    own: &[i32],
    notices: &mut Notices<'_>,
    buf: &mut [u8],
) -> Result<(), Failure> {
    let count = list_fds(fds, own, buf)?;
    let fds = fds.get_mut(..count).unwrap_or(&mut []);
    // Numbers come in any order from a large table; records are ordered.
    fds.sort_unstable_by_key(|slot| slot.fd);
    for slot in fds.iter_mut() {
        look_at(slot)?;
    }
    let files = find_sharing(fds);
    write_files(stream, fds, files, notices)?;
    for slot in fds.iter() {
        let cloexec = fs::fcntl(slot.fd, fs::F_GETFD, 0).unwrap_or(0) as u32 & 1;
        let fd = Fd {
            fd: U32::new(slot.fd as u32),
            file: U32::new(slot.file),
            flags: U32::new(cloexec),
            reserved: U32::new(0),
        };
        stream.record(kind::FD, 0, &fd, &[])?;
    }
    Ok(())
}

fn list_fds(fds: &mut [FdSlot], own: &[i32], buf: &mut [u8]) -> Result<usize, Failure> {
    let failed = |errno| fail!(errno, "cannot read /proc/self/fd (is /proc mounted?)");
    let dir = fs::open(b"/proc/self/fd\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0).map_err(failed)?;
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

fn look_at(slot: &mut FdSlot) -> Result<(), Failure> {
    let fd = slot.fd;
    let stat = fs::fstat(fd).map_err(|errno| fail!(errno, "cannot look at descriptor {fd}"))?;
    slot.dev = stat.dev();
    slot.ino = stat.ino;
    slot.flags =
        fs::fcntl(fd, fs::F_GETFL, 0).map_err(|errno| fail!(errno, "cannot read flags of descriptor {fd}"))? as u32;
    slot.pos = match u32::from(stat.mode) & S_IFMT {
        // O_PATH descriptors have no offset.
        S_IFREG | S_IFDIR => fs::seek_to(fd, 0, 1).unwrap_or(0),
        _ => 0,
    };
    Ok(())
}

/// Gives descriptors of one open file description the same number, in the order of their lowest
/// descriptors. Returns how many there are. Sorted by the kernel's own order of descriptions
/// (kcmp(2)), equal ones are neighbours: nothing here is quadratic.
fn find_sharing(fds: &mut [FdSlot]) -> u32 {
    let pid = process::getpid();
    // Only descriptors that agree in all that a description holds can share one.
    let key = |slot: &FdSlot| (slot.dev, slot.ino, slot.pos, slot.flags);
    let compare = |a: &FdSlot, b: &FdSlot| {
        key(a).cmp(&key(b)).then_with(|| fs::kcmp_file(pid, a.fd, b.fd).unwrap_or(a.fd.cmp(&b.fd)))
    };
    fds.sort_unstable_by(compare);
    let mut start = 0;
    while let Some(rest) = fds.get_mut(start..).filter(|rest| !rest.is_empty()) {
        let shared = match rest.split_first() {
            Some((one, others)) => 1 + others.iter().take_while(|other| compare(one, other).is_eq()).count(),
            None => 1,
        };
        let group = rest.get_mut(..shared).unwrap_or(&mut []);
        let leader = group.iter().map(|slot| slot.fd).min().unwrap_or(0);
        for slot in group {
            slot.leader = leader;
        }
        start += shared;
    }
    fds.sort_unstable_by_key(|slot| slot.fd);
    let mut files = 0;
    for i in 0..fds.len() {
        let (before, rest) = fds.split_at_mut(i);
        let Some(slot) = rest.first_mut() else { break };
        // The leader has the lowest number, so it lies before.
        let leader = before.binary_search_by_key(&slot.leader, |other| other.fd).ok().and_then(|at| before.get(at));
        match leader {
            Some(leader) => slot.file = leader.file,
            None => {
                slot.first = true;
                slot.file = files;
                files += 1;
            }
        }
    }
    files
}

/// Whether a pipe has both of its ends here, so that no restarting command can stand in for one.
fn both_ends_here(slot: &FdSlot, fds: &[FdSlot]) -> bool {
    let access = |flags: u32| flags & fs::O_ACCMODE;
    fds.iter().any(|other| (other.dev, other.ino) == (slot.dev, slot.ino) && access(other.flags) != access(slot.flags))
}

fn write_files(stream: &mut Stream<'_>, fds: &[FdSlot], files: u32, notices: &mut Notices<'_>) -> Result<(), Failure> {
    let mut written = 0;
    for slot in fds.iter().filter(|slot| slot.first) {
        let fd = slot.fd;
        let stat = fs::fstat(fd).map_err(|errno| fail!(errno, "cannot look at descriptor {fd}"))?;
        let mut path = Path::new();
        let mut link = [0u8; 4096];
        let proc_path: Text<40> = text!("/proc/self/fd/{fd}\0");
        let target = fs::readlink(fs::AT_FDCWD, proc_path.as_bytes(), &mut link)
            .map_err(|errno| fail!(errno, "cannot read the path of descriptor {fd}"))?;
        path.push(target);
        let standard = slot.fd <= 2;
        let kind = classify(slot, &stat, &mut path, standard, fds);
        if kind == file_kind::CLOSED_PEER {
            notice!(
                notices,
                code::FD_NOT_SAVED,
                fd as u64,
                "fd {fd} ({}) cannot be saved; after a restart it stands as if its peer had closed",
                Bytes(path.as_bytes())
            );
        }
        note_lock(fd, notices);
        let file = File {
            id: U32::new(slot.file),
            kind: U32::new(kind),
            flags: U32::new(slot.flags),
            mode: U32::new(stat.mode.into()),
            pos: U64::new(slot.pos),
            dev: U64::new(slot.dev),
            ino: U64::new(slot.ino),
            rdev: U64::new(stat.rdev()),
            size: U64::new(stat.size),
            mtime: U64::new(stat.mtime.sec as u64),
            mtime_nsec: U32::new(stat.mtime.nsec),
            path_len: U32::new(path.len() as u32),
        };
        stream.record(crate::format::kind::FILE, 0, &file, &[path.as_bytes()])?;
        written += 1;
    }
    debug_assert_eq!(written, files);
    Ok(())
}

fn classify(slot: &FdSlot, stat: &Statx, path: &mut Path, standard: bool, fds: &[FdSlot]) -> u32 {
    let same_file = |path: &mut Path| {
        let found = path.as_path().ok_or(Errno::ENAMETOOLONG).and_then(fs::stat);
        found.is_ok_and(|found| found.dev() == stat.dev() && found.ino == stat.ino)
    };
    match u32::from(stat.mode) & S_IFMT {
        S_IFREG if same_file(path) => file_kind::REGULAR,
        S_IFDIR if same_file(path) => file_kind::DIRECTORY,
        S_IFCHR => match stat.rdev() {
            rdev if is_harmless_device(rdev) => file_kind::DEVICE,
            _ if is_terminal(slot.fd) => file_kind::TERMINAL,
            // The controlling terminal, by its own name.
            rdev if rdev == makedev(5, 0) => file_kind::TERMINAL,
            _ => file_kind::CLOSED_PEER,
        },
        S_IFIFO if standard && !both_ends_here(slot, fds) => file_kind::STREAM,
        S_IFSOCK if standard => file_kind::STREAM,
        _ => file_kind::CLOSED_PEER,
    }
}

/// null, zero, full, random, urandom.
fn is_harmless_device(rdev: u64) -> bool {
    [3, 5, 7, 8, 9].iter().any(|&minor| rdev == makedev(1, minor))
}

fn is_terminal(fd: i32) -> bool {
    const TCGETS: usize = 0x5401;
    let mut termios = [0u8; 64];
    ioctl(fd, TCGETS, termios.as_mut_ptr() as usize).is_ok()
}

#[allow(unsafe_code)] // ioctl(2) with a buffer that is large enough for the operation.
fn ioctl(fd: i32, op: usize, arg: usize) -> Result<usize, Errno> {
    // SAFETY: TCGETS writes a struct termios of 36 bytes.
    unsafe { call!(nr::IOCTL, fd, op, arg) }
}

/// Locks are not carried over by this revision; the program's owner is told.
fn note_lock(fd: i32, notices: &mut Notices<'_>) {
    let path: Text<40> = text!("/proc/self/fdinfo/{fd}\0");
    let mut buf = [0u8; 1024];
    let Ok(text) = fs::read_file(path.as_bytes(), &mut buf) else { return };
    if let Some(lock) = crate::sys::lines::field(text, b"lock") {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "a file lock on fd {fd} is not saved and not held after a restart ({})",
            Bytes(lock)
        );
    }
}
