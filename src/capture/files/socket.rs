//! [SIGNAL] Sockets.

use super::Subject;
use crate::format::files::file_kind;
use crate::sys::abi::S_IFSOCK;

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    (subject.file_type() == S_IFSOCK && subject.slot.fd <= 2).then_some(file_kind::STREAM)
}
