//! [SIGNAL] Regular files and directories.

use super::{DELETED, Path, Saver, Subject, notice};
use crate::capture::failure::{Failure, fail};
use crate::capture::scratch::FdSlot;
use crate::format::PAGE;
use crate::format::files::{data_kind, file_kind};
use crate::format::notice::code;
use crate::sys::abi::{S_IFDIR, S_IFMT, S_IFREG};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, text::text};

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    match subject.file_type() {
        S_IFREG if subject.is_at_its_path() => Some(file_kind::REGULAR),
        S_IFREG if subject.path.as_bytes().first() == Some(&b'/') => Some(classify_nameless(subject)),
        S_IFDIR if subject.is_at_its_path() => Some(file_kind::DIRECTORY),
        S_IFDIR if subject.slot.nlink == 0 => {
            let name = *subject.path;
            let name = name.as_bytes();
            *subject.path = Path::from_bytes(name.strip_suffix(DELETED).unwrap_or(name));
            Some(file_kind::DIRECTORY_DELETED)
        }
        S_IFREG | S_IFDIR => None,
        _ if subject.slot.flags & fs::O_PATH != 0 && subject.is_at_its_path() => Some(file_kind::PLACE),
        _ => None,
    }
}

/// A file that is not where its name says: a memfd, one that has another link beside it, one that has been deleted.
fn classify_nameless(subject: &mut Subject<'_>) -> u32 {
    let name = *subject.path;
    let name = name.as_bytes();
    let plain = Path::from_bytes(name.strip_suffix(DELETED).unwrap_or(name));
    if name.starts_with(MEMFD) {
        *subject.path = plain;
        return file_kind::MEMFD;
    }
    let slot = subject.slot;
    if let Some(link) = find_link(&plain, slot.dev, slot.ino).filter(|_| slot.nlink != 0) {
        *subject.path = link;
        return file_kind::REGULAR;
    }
    *subject.path = plain;
    file_kind::DELETED
}

const MEMFD: &[u8] = b"/memfd:";

/// Another name of the file in the directory where it had this one.
pub fn find_link(path: &Path, dev: u64, ino: u64) -> Option<Path> {
    let bytes = path.as_bytes();
    let slash = bytes.iter().rposition(|&b| b == b'/')?;
    let mut dir = Path::from_bytes(bytes.get(..=slash)?);
    let open = fs::open(dir.as_path()?, fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0).ok()?;
    let open = fs::OwnedFd(open);
    let mut buf = [0u8; 16 << 10];
    let mut found = None;
    let listed: Result<(), Errno> = fs::for_each_name(open.0, &mut buf, |name| {
        let mut link = Text::<300>::from_bytes(name);
        let here = link.as_path().ok_or(Errno::ENAMETOOLONG).and_then(|name| fs::statx(open.0, name, NOFOLLOW));
        if found.is_none() && here.is_ok_and(|here| here.ino == ino && here.dev() == dev) {
            let mut path = dir;
            path.push(name);
            found = Some(path);
        }
        Ok(())
    });
    listed.ok().and(found)
}

const NOFOLLOW: u32 = 0x100; // AT_SYMLINK_NOFOLLOW

/// Contents of a file without a name: its data, not its holes.
pub fn save_contents(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32) -> Result<(), Failure> {
    let slot = subject.slot;
    let (fd, file) = (slot.fd, slot.file);
    let mut same = subject.table.of_object(slot.dev, slot.ino);
    if same.clone().next().is_none_or(|first| first.file != file) {
        return Ok(());
    }
    if kind == file_kind::DELETED && slot.nlink != 0 {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "fd {fd} ({}) has lost this name and has others elsewhere; after a restart it is a file of its own",
            Bytes(subject.path.as_bytes())
        );
    }
    if kind == file_kind::MEMFD {
        const F_GET_SEALS: u32 = 1034;
        let seals = fs::fcntl(fd, F_GET_SEALS, 0).unwrap_or(0);
        saver.data(file, data_kind::SEALS, seals as u64, &[])?;
        if is_huge(slot) {
            saver.data(file, data_kind::HUGE, slot.blksize.trailing_zeros().into(), &[])?;
        }
    }
    let failed = |errno| fail!(errno, "cannot read the deleted file {} of fd {fd}", Bytes(subject.path.as_bytes()));
    // The program's own descriptor, if one can read; see is_opened_to_look.
    let own = same.find(|other| other.flags & (fs::O_PATH | fs::O_ACCMODE) & !fs::O_RDWR == 0);
    let (opened, from, pos);
    match own {
        Some(own) => (from, pos) = (own.fd, own.pos),
        None => {
            let path: Text<40> = text!("/proc/thread-self/fd/{fd}\0");
            opened = fs::OwnedFd(fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0).map_err(failed)?);
            (from, pos) = (opened.0, 0);
        }
    }
    let result = copy_data(saver, kind, slot, from, &failed);
    // Looking for data moves the offset.
    fs::seek_to(from, pos, 0).map_err(failed)?;
    result
}

/// Of a memfd: whether it has huge pages.
fn is_huge(slot: &FdSlot) -> bool {
    u64::from(slot.blksize) > PAGE
}

/// Whether its contents may have to be read by another description, which then has to be closed by somebody else than the
/// program: that would drop the program's POSIX locks on the file.
pub fn is_opened_to_look(slot: &FdSlot) -> bool {
    slot.mode & S_IFMT == S_IFREG && slot.nlink == 0 && slot.flags & (fs::O_PATH | fs::O_ACCMODE) == fs::O_WRONLY
}

fn copy_data(
    saver: &mut Saver<'_, '_, '_>,
    kind: u32,
    slot: &FdSlot,
    from: i32,
    failed: &dyn Fn(Errno) -> Failure,
) -> Result<(), Failure> {
    const SEEK_DATA: u32 = 3;
    const SEEK_HOLE: u32 = 4;
    let (file, size) = (slot.file, slot.size);
    // The kernel shows no holes among huge pages, of which there may be few.
    let show_holes = kind == file_kind::MEMFD && is_huge(slot);
    let mut at = 0;
    while at < size {
        let (start, end) = match fs::seek_to(from, at, SEEK_DATA) {
            Ok(start) => (start, fs::seek_to(from, start, SEEK_HOLE).map_err(failed)?.min(size)),
            Err(Errno(6)) => break, // ENXIO: nothing but a hole is left
            Err(Errno::EINVAL) => (at, size),
            Err(errno) => return Err(failed(errno)),
        };
        at = start;
        while at < end {
            let len = saver.buf.len().min((end - at) as usize);
            let n = fs::pread(from, saver.buf.get_mut(..len).unwrap_or(&mut []), at).map_err(failed)?;
            if n == 0 {
                return Ok(());
            }
            if !(show_holes && saver.buf.iter().take(n).all(|&byte| byte == 0)) {
                saver.data_in_buf(file, data_kind::CONTENTS, at, n)?;
            }
            at += n as u64;
        }
    }
    Ok(())
}

/// By what the file can be told from another one that gets its inode's number later.
pub fn save_born(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let slot = subject.slot;
    if !slot.has_born {
        return Ok(());
    }
    saver.data(slot.file, data_kind::BORN, slot.born.sec as u64, &slot.born.nsec.to_le_bytes())
}
