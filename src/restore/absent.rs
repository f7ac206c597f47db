//! [NORMAL] Whether what a restart fails for may be there later: files of a file system that is not mounted, or
//! of a server that does not answer. Called by `runtime::takeover`.

use crate::format::files::file_kind;
use crate::format::image::Image;
use crate::format::memory::vma_kind;
use crate::sys::abi::Statx;
use crate::sys::{Errno, fs as raw};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Errors that may be others next time, whatever was called.
const PASSING: [Errno; 8] = [
    Errno::EIO,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno(23),  // ENFILE
    Errno(28),  // ENOSPC
    Errno(110), // ETIMEDOUT
    Errno(116), // ESTALE
    Errno(122), // EDQUOT
];

/// What is said of a file that another process has locked (`restore::files::lock`), and of a name that a running program
/// has (`runtime::lock`).
const HELD: [&str; 2] = [" has locked ", " holds the name "];

/// Whether a message gives such an error as its reason, or something that is held.
pub fn names_passing_error(message: &str) -> bool {
    let errors = PASSING.iter().filter_map(|errno| errno.words());
    HELD.into_iter().chain(errors).any(|words| message.contains(words))
}

/// A path that the image needs and that is missing as it is missing while its file system is not mounted.
pub fn find_unmounted(image: &Image) -> Option<String> {
    let files = image.files.iter().filter(|entry| {
        let kind = entry.file.kind.get();
        kind == file_kind::REGULAR || kind == file_kind::DIRECTORY
    });
    let files = files.map(|entry| (&entry.path, Some(entry.file.dev.get())));
    let shared = image.vmas.iter().filter(|entry| entry.vma.kind.get() == vma_kind::FILE_SHARED);
    let shared = shared.map(|entry| (&entry.name, Some(entry.vma.dev.get())));
    let mut all = files.chain(shared).chain([(&image.cwd, None)]);
    let found = all.find(|(path, dev)| looks_unmounted(Path::new(OsStr::from_bytes(path)), *dev));
    found.map(|(path, _)| String::from_utf8_lossy(path).into_owned())
}

fn stat(path: &Path) -> Result<Statx, Errno> {
    let mut path = path.as_os_str().as_bytes().to_vec();
    path.push(0);
    raw::stat(&path)
}

/// Whether the path is missing, and what there is of it may be the empty place where a file system belongs: another
/// device than at the checkpoint, and a directory without a file. Of a file that was removed the directory is left.
fn looks_unmounted(path: &Path, dev: Option<u64>) -> bool {
    const ENOTDIR: Errno = Errno(20);
    match stat(path) {
        Err(Errno::ENOENT | ENOTDIR) => {}
        Err(errno) => return PASSING.contains(&errno),
        Ok(_) => return false,
    }
    let there = path.ancestors().skip(1).find_map(|part| Some((part, stat(part).ok()?)));
    let Some((part, stat)) = there else { return false };
    if dev == Some(stat.dev()) {
        return false;
    }
    // Where more than the last name is missing, the directory above may hold other mount points.
    let parent_is_missing = path.parent() != Some(part);
    let is_empty = || std::fs::read_dir(part).is_ok_and(|mut entries| entries.next().is_none());
    parent_is_missing || is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_may_pass() {
        assert!(names_passing_error("fd 3: cannot write /x: No space left on device"));
        assert!(!names_passing_error("fd 3: cannot open /x: Permission denied"));
    }

    #[test]
    fn mount_points() {
        let dir = std::env::temp_dir().join(format!("selfckpt-absent-{}", std::process::id()));
        let point = dir.join("point");
        std::fs::create_dir_all(&point).expect("a directory");
        let here = stat(&point).expect("it is there").dev();
        let other = Some(here + 1);
        assert!(looks_unmounted(&point.join("file"), other));
        assert!(looks_unmounted(&point.join("sub/file"), other));
        assert!(looks_unmounted(&point.join("sub"), None));
        assert!(!looks_unmounted(&point.join("file"), Some(here)), "removed from the device that it was on");
        assert!(!looks_unmounted(&dir.join("file"), other), "others are there");
        assert!(!looks_unmounted(&point, other), "it is there");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
