//! [SIGNAL] Regular files and directories.

use super::{Subject, notice};
use crate::capture::notices::Notices;
use crate::format::files::file_kind;
use crate::format::notice::code;
use crate::sys::abi::{S_IFDIR, S_IFREG};
use crate::sys::text::Bytes;
use crate::sys::{Text, fs, text::text};

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    match subject.file_type() {
        S_IFREG if subject.is_at_its_path() => Some(file_kind::REGULAR),
        S_IFDIR if subject.is_at_its_path() => Some(file_kind::DIRECTORY),
        _ => None,
    }
}

/// Locks are not carried over by this revision; the program's owner is told.
pub fn note_lock(fd: i32, notices: &mut Notices<'_>) {
    let path: Text<40> = text!("/proc/thread-self/fdinfo/{fd}\0");
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
