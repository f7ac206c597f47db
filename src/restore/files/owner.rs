//! [NORMAL] Who is told of what happens to a descriptor. A thread's id is not known before the thread is there: those
//! descriptors are left to the plan.

use crate::format::files::{Owner, data_kind, file_kind, owner};
use crate::format::image::{FileEntry, Image};
use crate::sys::fs as raw;
use crate::sys::process;
use std::collections::HashMap;
use std::os::fd::RawFd;
use zerocopy::FromBytes;

/// Owner and signal of a FILE.
fn owner_of(entry: &FileEntry) -> Option<(Owner, u64)> {
    let item = entry.data_of(data_kind::OWNER).next()?;
    Some((Owner::read_from_bytes(&item.bytes).ok()?, item.data.offset.get()))
}

/// Sets owners and signals, then O_ASYNC, by the program's own numbers: the signal names the number by which
/// O_ASYNC was set.
/// `fds` has those of descriptors that only come with messages.
pub(super) fn set_owners(image: &Image, fds: &[RawFd], warn: &mut dyn FnMut(String)) {
    let lowest: HashMap<usize, u32> = lowest_descriptors(image).collect();
    let files = || {
        let own = |file| lowest.get(&file).map_or_else(|| fds[file], |&fd| fd as RawFd);
        image.files.iter().enumerate().map(move |(file, entry)| (entry, own(file)))
    };
    for (entry, fd) in files() {
        let Some((owner, signal)) = owner_of(entry) else { continue };
        let own = process::getpid();
        let to = match owner.what.get() {
            _ if owner.id.get() == 0 => [owner.what.get(), 0],
            owner::GROUP => match process::getpgrp() {
                // Outside of the pid namespace, where it has no name.
                0 => {
                    warn(format!(
                        "signals of {} go to this process alone: its group lies outside of the pid namespace",
                        super::shown(&entry.path)
                    ));
                    [owner::PROCESS, own]
                }
                group => [owner::GROUP, group],
            },
            owner::PROCESS => [owner::PROCESS, own],
            // The main thread; others come later.
            _ if owner.id == image.task.pid => [owner::THREAD, own],
            _ => [owner::THREAD, 0],
        };
        let set = if to[1] == 0 { Ok(()) } else { raw::set_owner(fd, to) };
        if let Err(errno) = set.and_then(|()| raw::fcntl(fd, raw::F_SETSIG, signal as usize)) {
            warn(format!("cannot set who gets the signals of {}: {errno}", super::shown(&entry.path)));
        }
    }
    for (entry, fd) in files() {
        let wanted = entry.file.flags.get() & (raw::O_ASYNC | raw::O_PATH) == raw::O_ASYNC;
        if !wanted || entry.file.kind.get() == file_kind::CLOSED_PEER {
            continue;
        }
        let set = raw::fcntl(fd, raw::F_GETFL, 0)
            .and_then(|flags| raw::fcntl(fd, raw::F_SETFL, flags | raw::O_ASYNC as usize));
        if let Err(errno) = set {
            warn(format!("cannot set O_ASYNC for {}: {errno}", super::shown(&entry.path)));
        }
    }
}

/// Every FILE with the lowest descriptor that refers to it.
fn lowest_descriptors(image: &Image) -> impl Iterator<Item = (usize, u32)> + use<'_> {
    let mut seen = vec![false; image.files.len()];
    image.fds.iter().filter_map(move |fd| {
        let file = fd.file.get() as usize;
        let known = std::mem::replace(&mut seen[file], true);
        (!known).then_some((file, fd.fd.get()))
    })
}

/// Descriptors whose signals go to a thread other than the main one, by that thread's id at the checkpoint.
pub fn owned_by_threads(image: &Image) -> HashMap<u32, Vec<u32>> {
    let mut owned: HashMap<u32, Vec<u32>> = HashMap::new();
    for (file, fd) in lowest_descriptors(image) {
        match owner_of(&image.files[file]) {
            Some((owner, _)) if owner.what.get() == owner::THREAD && owner.id != image.task.pid => {
                owned.entry(owner.id.get()).or_default().push(fd);
            }
            _ => {}
        }
    }
    owned
}
