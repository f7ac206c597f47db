//! [NORMAL, SIGNAL] Paths that the program has had inotify watch, of which the kernel tells no more than the inode.
//!
//! Noted by any thread, without a lock, in memory that is never given back; a checkpoint reads them.
#![allow(unsafe_code)] // Memory of its own, with structures of changing length.

use super::process;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// One path; its `len` bytes follow, and a NUL.
#[repr(C)]
struct Noted {
    before: *const Noted,
    dev: u64,
    ino: u64,
    len: usize,
}

/// Memory for paths, of which `used` bytes are given away, these first ones among them.
#[repr(C, align(8))]
struct Chunk {
    used: AtomicUsize,
}

/// inotify_add_watch(2): a symbolic link itself is watched.
pub const IN_DONT_FOLLOW: u32 = 0x0200_0000;

const CHUNK: usize = 64 << 10;
const PATH_MAX: usize = 4096;

static LAST: AtomicPtr<Noted> = AtomicPtr::new(null_mut());
static CHUNK_IN_USE: AtomicPtr<Chunk> = AtomicPtr::new(null_mut());

impl Noted {
    fn path_with_nul(&self) -> &[u8] {
        // SAFETY: `note` has written so many bytes behind the structure before it has let anybody see it.
        unsafe { core::slice::from_raw_parts((&raw const *self).add(1).cast(), self.len + 1) }
    }
}

fn all() -> impl Iterator<Item = &'static Noted> {
    // SAFETY: null, or a complete `Noted` that stays where it is.
    let get = |noted: *const Noted| unsafe { noted.as_ref() };
    core::iter::successors(get(LAST.load(Ordering::Acquire)), move |noted| get(noted.before))
}

/// Paths, each with its NUL, that were those of the file with this device and inode when they were noted, the latest
/// first.
pub fn paths_of(dev: u64, ino: u64) -> impl Iterator<Item = &'static [u8]> {
    all().filter(move |noted| noted.ino == ino && noted.dev == dev).map(Noted::path_with_nul)
}

/// Notes the path, without NUL, of a file. Without memory for it, it is not known later.
pub fn note(dev: u64, ino: u64, path: &[u8]) {
    if path.len() >= PATH_MAX || paths_of(dev, ino).any(|known| known.strip_suffix(b"\0") == Some(path)) {
        return;
    }
    let Some(place) = take_room(size_of::<Noted>() + path.len() + 1) else { return };
    let noted = place as *mut Noted;
    let mut before = LAST.load(Ordering::Acquire);
    loop {
        // SAFETY: the room is this call's alone until it is LAST, large enough, aligned, and zero behind the path.
        unsafe {
            noted.write(Noted { before, dev, ino, len: path.len() });
            core::ptr::copy_nonoverlapping(path.as_ptr(), noted.add(1).cast(), path.len());
        }
        match LAST.compare_exchange(before, noted, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return,
            Err(other) => before = other,
        }
    }
}

/// `len` bytes of zeros, at most a chunk's.
fn take_room(len: usize) -> Option<usize> {
    let len = len.next_multiple_of(align_of::<Chunk>());
    let chunk = CHUNK_IN_USE.load(Ordering::Acquire);
    // SAFETY: null, or a chunk, which is never unmapped.
    if let Some(used) = unsafe { chunk.as_ref() }.map(|chunk| &chunk.used) {
        let at = used.fetch_add(len, Ordering::Relaxed);
        if at.checked_add(len).is_some_and(|end| end <= CHUNK) {
            return Some(chunk as usize + at);
        }
    }
    let flags = process::MAP_PRIVATE | process::MAP_ANONYMOUS;
    // SAFETY: without MAP_FIXED the kernel chooses a free range.
    let fresh = unsafe { process::mmap(0, CHUNK, process::PROT_READ | process::PROT_WRITE, flags, -1, 0) }.ok()?;
    let at = size_of::<Chunk>();
    // SAFETY: fresh memory of that size. Of two threads here at once, one's chunk serves for its own path alone.
    unsafe { (*(fresh as *const Chunk)).used.store(at + len, Ordering::Relaxed) };
    CHUNK_IN_USE.store(fresh as *mut Chunk, Ordering::Release);
    Some(fresh + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_known_once() {
        let path = |i: usize| format!("/{i:0>200}").into_bytes();
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(move || (0..1000).for_each(|i| note(7, i as u64 % 500, &path(i)))))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for i in 0..500 {
            let mut wanted = [path(i), path(i + 500)].map(|path| [&path[..], b"\0"].concat());
            let mut found: Vec<_> = paths_of(7, i as u64).map(<[u8]>::to_vec).collect();
            found.sort();
            found.dedup();
            wanted.sort();
            assert_eq!(found, wanted);
        }
        let count = paths_of(7, 3).count();
        note(7, 3, &path(3));
        assert_eq!(paths_of(7, 3).count(), count);
        assert_eq!(paths_of(8, 3).count(), 0);
    }
}
