//! [SIGNAL] Pipes and FIFOs.

use super::{Subject, Table};
use crate::capture::scratch::FdSlot;
use crate::format::files::file_kind;
use crate::sys::abi::S_IFIFO;
use crate::sys::fs;

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    if subject.file_type() != S_IFIFO {
        return None;
    }
    (subject.slot.fd <= 2 && !both_ends_here(subject.slot, subject.table)).then_some(file_kind::STREAM)
}

/// Whether a pipe has both of its ends here, so that no restarting command can stand in for one.
fn both_ends_here(slot: &FdSlot, table: Table<'_>) -> bool {
    let access = |flags: u32| flags & fs::O_ACCMODE;
    table.of_object(slot.dev, slot.ino).any(|other| access(other.flags) != access(slot.flags))
}
