//! [NORMAL] Memfds of huge pages, if so many are free. All that is needed of them is reserved when they are made.
#![allow(unsafe_code)] // memfd_create(2), and memory of this file's own.

use crate::format::image::Image;
use crate::format::memory::{vma_flag, vma_kind};
use crate::sys::fs::{self, OwnedFd};
use crate::sys::{Errno, call, nr, process};

/// What is said where there are too few.
pub const NONE_FREE: &str = "has pages of normal size, for want of huge ones";

/// Makes one in the place of the file `key` (device and inode at the checkpoint), of `size` bytes and pages of two to the
/// power of `log2`. `name` ends with a NUL. What the image's mappings show of it is reserved.
pub fn memfd(image: &Image, key: (u64, u64), name: &[u8], size: u64, log2: u32) -> Result<OwnedFd, Errno> {
    const CLOEXEC_SEALING_HUGETLB: u32 = 1 | 2 | 4;
    let flags = CLOEXEC_SEALING_HUGETLB | log2 << vma_flag::HUGE_SHIFT;
    // SAFETY: the kernel reads `name` up to its NUL.
    let fd = OwnedFd(unsafe { call!(nr::MEMFD_CREATE, name.as_ptr(), flags) }? as i32);
    fs::ftruncate(fd.0, size)?;
    for entry in image.vmas.iter().filter(|entry| entry.vma.kind.get() == vma_kind::ANON_SHARED) {
        let vma = &entry.vma;
        if (vma.dev.get(), vma.ino.get()) == key {
            with_mapping(fd.0, vma.offset.get(), (vma.end.get() - vma.start.get()) as usize, |_| ())?;
        }
    }
    Ok(fd)
}

/// Writes to one, which write(2) does not.
pub fn write_at(fd: i32, bytes: &[u8], offset: u64, log2: u32) -> Result<(), Errno> {
    let page = 1u64 << log2;
    let start = offset / page * page;
    let end = (offset + bytes.len() as u64).next_multiple_of(page);
    with_mapping(fd, start, (end - start) as usize, |memory| {
        let at = (offset - start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    })
}

/// Maps a part, which reserves it for good.
fn with_mapping(fd: i32, offset: u64, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Errno> {
    let page = (offset / crate::format::PAGE) as u32;
    // SAFETY: no address is demanded, so nothing is replaced; the memory is used by `fill` alone, and its pages are
    // reserved.
    unsafe {
        let start = process::mmap(0, len, process::PROT_READ | process::PROT_WRITE, process::MAP_SHARED, fd, page)?;
        fill(std::slice::from_raw_parts_mut(start as *mut u8, len));
        process::munmap(start, len)
    }
}
