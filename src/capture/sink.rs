//! [SIGNAL] The image file as a sink: memory is gathered and written from where it lies.
#![allow(unsafe_code)] // writev(2) of the program's memory.

use super::failure::{Failure, fail};
use super::progress::Progress;
use crate::format::Sink;
use crate::sys::abi::Iovec;
use crate::sys::{Errno, fs, process};

/// Bytes that collect before a write: few calls, and the pages are still in the cache after their
/// checksum was taken.
const BATCH: usize = 1 << 20;

/// Writes to a descriptor.
pub struct FileSink<'a> {
    fd: i32,
    iov: &'a mut [Iovec],
    queued: usize,
    queued_bytes: usize,
    /// Name for messages.
    path: &'a [u8],
    progress: Progress,
    /// Nothing is written any more when this is not the parent: what has ended may be under way again. 0: whoever it is.
    parent: u32,
}

impl<'a> FileSink<'a> {
    pub fn new(fd: i32, iov: &'a mut [Iovec], path: &'a [u8], progress: Progress) -> Self {
        FileSink { fd, iov, queued: 0, queued_bytes: 0, path, progress, parent: 0 }
    }

    /// From now on, nothing is written without this parent.
    pub fn end_with(&mut self, parent: u32) {
        self.parent = parent;
    }

    fn failed(&self, errno: Errno) -> Failure {
        fail!(errno, "cannot write {}", crate::sys::text::Bytes(self.path))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.parent != 0 && process::getppid() != self.parent {
            return Err(fail!(Errno::ESRCH, "the program has ended"));
        }
        let mut first = 0;
        while first < self.queued {
            let pieces = self.iov.get(first..self.queued).unwrap_or(&[]);
            // SAFETY: every piece was given to `write_memory` as a slice that stays valid.
            let mut written = match unsafe { fs::writev(self.fd, pieces) } {
                Ok(0) => return Err(self.failed(Errno::EIO)),
                Ok(n) => n,
                Err(Errno::EFAULT) => {
                    let addr = pieces.first().map_or(0, |piece| piece.base);
                    return Err(fail!(Errno::EFAULT, "cannot read the program's memory at {addr:#x}"));
                }
                Err(errno) => return Err(self.failed(errno)),
            };
            while first < self.queued {
                let Some(piece) = self.iov.get_mut(first) else { break };
                if written < piece.len {
                    piece.base += written;
                    piece.len -= written;
                    break;
                }
                written -= piece.len;
                first += 1;
            }
        }
        if self.queued != 0 {
            self.progress.add(self.queued_bytes);
        }
        self.queued = 0;
        self.queued_bytes = 0;
        Ok(())
    }
}

impl Sink for FileSink<'_> {
    type Error = Failure;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.flush()?;
        fs::write_all(self.fd, bytes).map_err(|errno| self.failed(errno))
    }

    fn write_memory(&mut self, pages: &'static [u8]) -> Result<(), Failure> {
        if self.queued == self.iov.len() || self.queued_bytes + pages.len() > BATCH {
            self.flush()?;
        }
        if let Some(slot) = self.iov.get_mut(self.queued) {
            *slot = Iovec { base: pages.as_ptr() as usize, len: pages.len() };
            self.queued += 1;
            self.queued_bytes += pages.len();
        }
        Ok(())
    }
}
