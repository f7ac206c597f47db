//! [SIGNAL] Writes the chosen pages straight from the program's memory.
//!
//! Runs in the stopped program for shared memory, in a fork of it for private memory.
#![allow(unsafe_code)] // Makes slices of the program's memory.

use super::Stream;
use super::failure::{Failure, fail, refuse};
use super::select_pages::Selector;
use super::vmas::VmaSlot;
use crate::format::memory::PageRun;
use crate::sys::{Errno, fs};

/// Bytes whose checksum is taken before they are handed to the sink: they fit into the second-level
/// cache, so that the write finds them there.
const CHUNK: usize = 256 << 10;

/// Writes all pages that `selector` chooses.
pub fn write_pages(
    stream: &mut Stream<'_>,
    selector: &mut Selector<'_>,
    vmas: &[VmaSlot],
    runs: &mut [PageRun],
    bounce: &mut [u8],
) -> Result<(), Failure> {
    let mut memory: Option<fs::OwnedFd> = None;
    loop {
        let batch = selector.next_batch(runs)?;
        let chosen = runs.get(..batch.runs).unwrap_or(&[]);
        if chosen.is_empty() {
            return Ok(());
        }
        stream.begin_pages(chosen)?;
        for run in chosen {
            let start = run.addr.get() as usize;
            let len = run.pages.get() as usize * 4096;
            if vma_of(vmas, start).is_some_and(|vma| selector.is_steady(vma, start, start + len)) {
                write_directly(stream, start, len)?;
            } else {
                let fd = match &memory {
                    Some(fd) => fd.0,
                    None => {
                        let fd = fs::open(b"/proc/thread-self/mem\0", fs::O_RDONLY | fs::O_CLOEXEC, 0)
                            .map_err(|errno| fail!(errno, "cannot open /proc/thread-self/mem"))?;
                        memory.insert(fs::OwnedFd(fd)).0
                    }
                };
                write_copied(stream, fd, start, len, bounce)?;
            }
            stream.end_run()?;
        }
        stream.end_pages()?;
    }
}

fn vma_of(vmas: &[VmaSlot], addr: usize) -> Option<&VmaSlot> {
    let after = vmas.partition_point(|vma| vma.start <= addr);
    vmas.get(after.checked_sub(1)?).filter(|vma| addr < vma.end)
}

fn write_directly(stream: &mut Stream<'_>, start: usize, len: usize) -> Result<(), Failure> {
    let mut at = start;
    while at < start + len {
        let n = CHUNK.min(start + len - at);
        // SAFETY: the selector found these pages resident or readable, in a mapping that may be
        // read; the program is stopped, so that they stay as they are until the stream is flushed.
        let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(at as *const u8, n) };
        stream.page_bytes(bytes)?;
        at += n;
    }
    Ok(())
}

/// Pages that may not be read (PROT_NONE, execute only, a protection key) or do not stand still, by way of the kernel,
/// which leaves the mapping as it is.
fn write_copied(stream: &mut Stream<'_>, mem: i32, start: usize, len: usize, bounce: &mut [u8]) -> Result<(), Failure> {
    let mut done = 0;
    while done < len {
        let n = bounce.len().min(len - done);
        let part = bounce.get_mut(..n).unwrap_or(&mut []);
        let at = start + done;
        let got = fs::pread(mem, part, at as u64)
            .map_err(|errno| fail!(errno, "cannot read the program's memory at {at:#x}"))?;
        if got == 0 {
            return Err(refuse!(Errno::EFAULT, "cannot read the program's memory at {at:#x}"));
        }
        stream.page_copy(part.get(..got).unwrap_or(&[]))?;
        done += got;
    }
    Ok(())
}
