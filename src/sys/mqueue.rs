//! [SIGNAL, NORMAL] POSIX message queues: thin wrappers around the raw calls. Names end in a NUL and have no slash.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right length.

use super::fs::{OwnedFd, fcntl};
use super::{Errno, call, nr};

/// What mq_getattr(3) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub max_messages: u32,
    pub message_size: u32,
    /// Messages that wait.
    pub messages: u32,
}

/// `struct mq_attr` of i386: flags, most messages, bytes of one, how many wait, four reserved words.
type RawAttributes = [u32; 8];

/// Fails with EBADF for whatever is no queue.
pub fn attributes(fd: i32) -> Result<Attributes, Errno> {
    let mut raw: RawAttributes = [0; 8];
    // SAFETY: `raw` takes a struct mq_attr; nothing is set.
    unsafe { call!(nr::MQ_GETSETATTR, fd, 0, raw.as_mut_ptr()) }?;
    let [_, max_messages, message_size, messages, ..] = core::hint::black_box(raw);
    Ok(Attributes { max_messages, message_size, messages })
}

pub fn open(name: &[u8], flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: NUL-terminated, see above; without O_CREAT there are no attributes.
    unsafe { call!(nr::MQ_OPEN, checked(name)?, flags, 0, 0) }.map(|fd| OwnedFd(fd as i32))
}

pub fn create(name: &[u8], flags: u32, mode: u32, attributes: Attributes) -> Result<OwnedFd, Errno> {
    let raw: RawAttributes = [0, attributes.max_messages, attributes.message_size, 0, 0, 0, 0, 0];
    // SAFETY: NUL-terminated, see above; `raw` is a struct mq_attr.
    unsafe { call!(nr::MQ_OPEN, checked(name)?, flags, mode, raw.as_ptr()) }.map(|fd| OwnedFd(fd as i32))
}

pub fn unlink(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: NUL-terminated, see above.
    unsafe { call!(nr::MQ_UNLINK, checked(name)?) }.map(drop)
}

fn checked(name: &[u8]) -> Result<usize, Errno> {
    if name.contains(&0) { Ok(name.as_ptr() as usize) } else { Err(Errno::ENAMETOOLONG) }
}

/// `struct __kernel_timespec` of a moment that is long past: nothing is waited for, whatever the descriptor's flags.
const PAST: [u64; 2] = [0, 0];

/// Takes the next message out: its length and priority. `out` has to have room for the longest of the queue.
pub fn receive(fd: i32, out: &mut [u8]) -> Result<(usize, u32), Errno> {
    let mut priority = 0u32;
    // SAFETY: the kernel writes at most `out.len()` bytes, and the priority.
    let len = unsafe {
        call!(nr::MQ_TIMEDRECEIVE_TIME64, fd, out.as_mut_ptr(), out.len(), &raw mut priority, PAST.as_ptr())
    }?;
    Ok((len, core::hint::black_box(priority)))
}

pub fn send(fd: i32, bytes: &[u8], priority: u32) -> Result<(), Errno> {
    // SAFETY: the kernel reads `bytes` only.
    unsafe { call!(nr::MQ_TIMEDSEND_TIME64, fd, bytes.as_ptr(), bytes.len(), priority, PAST.as_ptr()) }.map(drop)
}

/// Whether another open file description of the queue exists anywhere; `fd` is the only one here. A lease on all of a
/// file is given to nobody else's neighbour.
pub fn is_open_elsewhere(fd: i32) -> bool {
    const F_SETLEASE: u32 = 1024;
    const F_WRLCK: usize = 1;
    const F_UNLCK: usize = 2;
    match fcntl(fd, F_SETLEASE, F_WRLCK) {
        Ok(_) => {
            let _ = fcntl(fd, F_SETLEASE, F_UNLCK);
            false
        }
        // A kernel without leases of queues does not tell.
        Err(Errno::EINVAL) => false,
        // EAGAIN: it does; EACCES: the queue is another user's.
        Err(_) => true,
    }
}
