//! [NORMAL] Whether the FILE, FILE_DATA and FD records make sense. Pure: looks at the image only.

use super::check::Problems;
use crate::format::files::{data_kind, file_kind};
use crate::format::image::{FileEntry, Image};
use crate::format::kind;

pub(super) fn check_files(image: &Image, problems: &mut Problems) {
    for entry in &image.files {
        let kind = entry.file.kind.get();
        if file_kind::name(kind) == "unknown" {
            problems.refuse(kind::FILE, "kind", kind.into());
        }
        if entry.path.contains(&0) {
            problems.refuse(kind::FILE, "path (it holds a NUL)", entry.file.id.get().into());
        }
        check_data(entry, problems);
    }
}

/// Every FILE_DATA belongs to a kind that has such, and lies where it can lie.
fn check_data(entry: &FileEntry, problems: &mut Problems) {
    for item in &entry.data {
        let what = item.data.what.get();
        let belongs = match what {
            data_kind::CONTENTS => item.data.offset.get().checked_add(item.data.len.get().into()).is_some(),
            _ => false,
        };
        if !belongs {
            problems.refuse(kind::FILE_DATA, "what", what.into());
        }
    }
}
