//! [SIGNAL, NORMAL] System V IPC: the raw calls, and the tables in /proc/sysvipc.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right length.

use super::lines::{Cursor, parse_dec, parse_oct};
use super::{Errno, call, nr};

pub const IPC_CREAT: u32 = 0o1000;
pub const IPC_EXCL: u32 = 0o2000;
pub const IPC_NOWAIT: u32 = 0o4000;
pub const SHM_RDONLY: u32 = 0o10_000;
pub const SHM_REMAP: u32 = 0o40_000;
pub const SHM_EXEC: u32 = 0o100_000;
pub const IPC_RMID: u32 = 0;
const IPC_SET: u32 = 1;
const IPC_STAT: u32 = 2;
const SHM_LOCK: u32 = 11;
const GETPID: u32 = 11;
const GETALL: u32 = 13;
const SETALL: u32 = 17;
const MSG_NOERROR: u32 = 0o10_000;
const MSG_COPY: u32 = 0o40_000;

/// `struct sembuf`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Sembuf {
    pub number: u16,
    pub op: i16,
    pub flags: i16,
}
pub const SEM_UNDO: i16 = 0x1000;
pub const SEM_NOWAIT: i16 = IPC_NOWAIT as i16;

/// A line of /proc/sysvipc/{shm,sem,msg}.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub key: u32,
    pub id: u32,
    pub mode: u32,
    /// Bytes of a segment, semaphores of a set, bytes in a queue.
    pub size: u64,
    /// cpid and lpid of a segment, lspid and lrpid of a queue.
    pub pids: [u32; 2],
    /// Mappings of a segment, messages of a queue.
    pub count: u32,
    /// otime of a set.
    pub time: u64,
}

/// Which of the three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    SharedMemory,
    Semaphores,
    Queues,
}

impl Table {
    pub fn path(self) -> &'static [u8] {
        match self {
            Table::SharedMemory => b"/proc/sysvipc/shm\0",
            Table::Semaphores => b"/proc/sysvipc/sem\0",
            Table::Queues => b"/proc/sysvipc/msg\0",
        }
    }

    /// Takes a line apart; the heading is none.
    pub fn parse(self, line: &[u8]) -> Option<Listed> {
        let mut cursor = Cursor(line);
        let key = cursor.word();
        // The key is shown as a signed number.
        let key = match key.strip_prefix(b"-") {
            Some(digits) => (parse_dec(digits)? as u32).wrapping_neg(),
            None => parse_dec(key)? as u32,
        };
        let mut listed = Listed { key, id: parse_dec(cursor.word())? as u32, ..Listed::default() };
        listed.mode = parse_oct(cursor.word())? as u32;
        let mut number = || parse_dec(cursor.word());
        match self {
            // size cpid lpid nattch
            Table::SharedMemory => {
                listed.size = number()?;
                listed.pids = [number()? as u32, number()? as u32];
                listed.count = number()? as u32;
            }
            // nsems uid gid cuid cgid otime
            Table::Semaphores => {
                listed.size = number()?;
                for _ in 0..4 {
                    number()?;
                }
                listed.time = number()?;
            }
            // cbytes qnum lspid lrpid
            Table::Queues => {
                listed.size = number()?;
                listed.count = number()? as u32;
                listed.pids = [number()? as u32, number()? as u32];
            }
        }
        Some(listed)
    }
}

pub fn shmget(key: u32, size: usize, flags: u32) -> Result<u32, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SHMGET, key, size, flags) }.map(|id| id as u32)
}

/// Attaches a segment where the kernel likes.
pub fn shmat(id: u32, flags: u32) -> Result<usize, Errno> {
    // SAFETY: no address is demanded, so nothing is replaced.
    unsafe { call!(nr::SHMAT, id, 0, flags) }
}

/// # Safety
/// Nothing uses the memory any more.
pub unsafe fn shmdt(at: usize) -> Result<(), Errno> {
    // SAFETY: by the contract above.
    unsafe { call!(nr::SHMDT, at) }.map(drop)
}

pub fn shm_lock(id: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SHMCTL, id, SHM_LOCK, 0) }.map(drop)
}

pub fn semget(key: u32, count: usize, flags: u32) -> Result<u32, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SEMGET, key, count, flags) }.map(|id| id as u32)
}

/// The process that changed a semaphore last; 0 for none.
pub fn sem_pid(id: u32, number: u32) -> Result<u32, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SEMCTL, id, number, GETPID, 0) }.map(|pid| pid as u32)
}

/// The values of a set that has `out.len()` semaphores.
pub fn sem_values(id: u32, out: &mut [u16]) -> Result<(), Errno> {
    // SAFETY: the caller has asked how many there are; a set never changes its size.
    unsafe { call!(nr::SEMCTL, id, 0, GETALL, out.as_mut_ptr()) }.map(drop)
}

pub fn set_sem_values(id: u32, values: &[u16]) -> Result<(), Errno> {
    // SAFETY: as above.
    unsafe { call!(nr::SEMCTL, id, 0, SETALL, values.as_ptr()) }.map(drop)
}

pub fn sem_remove(id: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SEMCTL, id, 0, IPC_RMID, 0) }.map(drop)
}

/// semop(2) without a timeout.
pub fn semop(id: u32, ops: &[Sembuf]) -> Result<(), Errno> {
    // SAFETY: `ops` has the kernel's layout and its length.
    unsafe { call!(nr::SEMTIMEDOP_TIME64, id, ops.as_ptr(), ops.len(), 0) }.map(drop)
}

pub fn msgget(key: u32, flags: u32) -> Result<u32, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::MSGGET, key, flags) }.map(|id| id as u32)
}

pub fn msg_remove(id: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::MSGCTL, id, IPC_RMID, 0) }.map(drop)
}

/// `struct msqid64_ds` of i386: the limit of bytes stands at 68, owner and mode from 4 on.
const MSQID_DS: usize = 88;
const MSQID_QBYTES: usize = 68;

/// How many bytes a queue may hold.
pub fn queue_limit(id: u32) -> Result<u32, Errno> {
    let mut ds = [0u8; MSQID_DS];
    // SAFETY: `ds` takes a struct msqid64_ds.
    unsafe { call!(nr::MSGCTL, id, IPC_STAT, ds.as_mut_ptr()) }?;
    let bytes = ds.get(MSQID_QBYTES..MSQID_QBYTES + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 4]);
    Ok(u32::from_le_bytes(bytes))
}

pub fn set_queue_limit(id: u32, limit: u32) -> Result<(), Errno> {
    let mut ds = [0u8; MSQID_DS];
    // SAFETY: as above.
    unsafe { call!(nr::MSGCTL, id, IPC_STAT, ds.as_mut_ptr()) }?;
    if let Some(place) = ds.get_mut(MSQID_QBYTES..MSQID_QBYTES + 4) {
        place.copy_from_slice(&limit.to_le_bytes());
    }
    // SAFETY: as above.
    unsafe { call!(nr::MSGCTL, id, IPC_SET, ds.as_mut_ptr()) }.map(drop)
}

/// Copies the message at place `index` into `buf`: its type in the first word, then its bytes, whose number is
/// returned. ENOMSG behind the last one.
pub fn peek_message(id: u32, index: u32, buf: &mut [u8]) -> Result<usize, Errno> {
    let room = buf.len().saturating_sub(4);
    // SAFETY: the kernel writes a word and at most `room` bytes.
    unsafe { call!(nr::MSGRCV, id, buf.as_mut_ptr(), room, index, MSG_COPY | IPC_NOWAIT) }
}

/// Takes a message out and forgets it.
pub fn drop_message(id: u32) -> Result<(), Errno> {
    let mut kind = 0u32;
    // SAFETY: the kernel writes a word and nothing else.
    unsafe { call!(nr::MSGRCV, id, &raw mut kind, 0, 0, MSG_NOERROR | IPC_NOWAIT) }.map(drop)
}

/// Sends `message`: its type in the first word, then its bytes.
pub fn send_message(id: u32, message: &[u8]) -> Result<(), Errno> {
    let len = message.len().checked_sub(4).ok_or(Errno::EINVAL)?;
    // SAFETY: the kernel reads a word and `len` bytes.
    unsafe { call!(nr::MSGSND, id, message.as_ptr(), len, IPC_NOWAIT) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let line = b"-559038737          7  1600               524288    12    13      2     0     0";
        let listed = Table::SharedMemory.parse(line).expect("a line");
        assert_eq!((listed.key, listed.id, listed.mode, listed.size), (0xdead_beef, 7, 0o1600, 524288));
        assert_eq!((listed.pids, listed.count), ([12, 13], 2));
        let line = b"      4660          3   600          2     0     0     0     0 1700000000 1600000000";
        let listed = Table::Semaphores.parse(line).expect("a line");
        assert_eq!((listed.key, listed.size, listed.time), (0x1234, 2, 1_700_000_000));
        let line = b"         0          5   644         10          2   100   101     0     0     0     0  1 2 3";
        let listed = Table::Queues.parse(line).expect("a line");
        assert_eq!((listed.size, listed.count, listed.pids), (10, 2, [100, 101]));
        assert_eq!(Table::Queues.parse(b"       key      msqid perms"), None);
    }
}
