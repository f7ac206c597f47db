//! [NORMAL] Whether the IPC records, and the mappings that refer to them, make sense. Pure: looks at the image only.

use super::check::Problems;
use crate::format::image::Image;
use crate::format::ipc::{Semaphore, flag, what};
use crate::format::memory::{Vma, vma_kind};
use crate::format::{PAGE, kind};
use std::collections::HashMap;

pub(super) fn check_ipc(image: &Image, problems: &mut Problems) {
    let mut segments = HashMap::new();
    let mut queue = None;
    for entry in &image.ipc {
        let ipc = &entry.ipc;
        let (size, id) = (ipc.size.get(), ipc.id.get());
        let fine = match ipc.what.get() {
            what::SHARED_MEMORY => {
                let new = segments.insert(u64::from(id), size).is_none();
                new && size != 0 && size < 1 << 32 && entry.bytes.is_empty()
            }
            what::SEMAPHORES => {
                let sizes = size != 0 && size <= MAX_SEMAPHORES;
                sizes && entry.bytes.len() as u64 == size * size_of::<Semaphore>() as u64
            }
            what::QUEUE => {
                queue = Some(id);
                size <= u64::from(u32::MAX)
            }
            what::MESSAGE => queue == Some(id) && (1..1 << 31).contains(&size),
            _ => false,
        };
        if !fine {
            problems.refuse(kind::IPC, what::name(ipc.what.get()), size);
        }
        if id > i32::MAX as u32 {
            problems.refuse(kind::IPC, "id", id.into());
        }
        if ipc.flags.get() & !flag::ALL != 0 {
            problems.refuse(kind::IPC, "flags", ipc.flags.get().into());
        }
    }
    let mut vmas = image.vmas.iter().map(|entry| &entry.vma).peekable();
    while let Some(first) = vmas.next() {
        if first.kind.get() != vma_kind::SEGMENT {
            continue;
        }
        let mut end = first.end.get();
        let mut goes_on = |part: &&Vma| {
            let fits = part.kind.get() == vma_kind::SEGMENT
                && (part.ino, part.start.get()) == (first.ino, end)
                && part.offset.get() == end - first.start.get();
            end = if fits { part.end.get() } else { end };
            fits
        };
        while vmas.next_if(&mut goes_on).is_some() {}
        let size = segments.get(&first.ino.get()).copied().unwrap_or(0);
        if first.offset.get() != 0 || end.saturating_sub(first.start.get()) != size.next_multiple_of(PAGE) || size == 0
        {
            problems.refuse(kind::VMA, "ino of System V shared memory", first.ino.get());
        }
    }
}

/// The kernel's own limit.
const MAX_SEMAPHORES: u64 = 32_000;
