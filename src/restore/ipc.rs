//! [NORMAL] System V IPC: what is still in the kernel is taken as it is and filled anew, what has gone is made again, with
//! its key and, where that is allowed, its number.
//!
//! [`find`] changes nothing and refuses what cannot work; [`Found::put_back`] does it.
#![allow(unsafe_code)] // Writes to segments that are attached for that.

use super::memory::{Mapped, Source};
use crate::format::ReadAt;
use crate::format::image::{Image, IpcEntry};
use crate::format::ipc::{SHM_DEST, SHM_LOCKED, Semaphore, flag, what};
use crate::format::memory::{vma_flag, vma_kind};
use crate::sys::ipc::{self, IPC_CREAT, IPC_EXCL, Listed, SEM_UNDO, Sembuf, Table};
use crate::sys::{Errno, call, nr, process};
use std::collections::HashMap;
use std::fs::File;
use zerocopy::FromBytes;

/// What is there of each object of the image, in its order.
pub struct Found<'a> {
    image: &'a Image,
    objects: Vec<(&'a IpcEntry, State)>,
    /// Messages by queue.
    messages: HashMap<u32, Vec<&'a IpcEntry>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Gone,
    There,
    /// Another process has it, too, as at the checkpoint: it is left as it is.
    Shared,
}

/// Segments for the restorer, by their number at the checkpoint.
pub type Segments = HashMap<u32, Segment>;

#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub id: u32,
    /// It goes with its last user.
    pub remove: bool,
}

fn list(table: Table) -> Vec<Listed> {
    let path = String::from_utf8_lossy(table.path());
    let text = std::fs::read(path.trim_end_matches('\0')).unwrap_or_default();
    text.split(|&b| b == b'\n').filter_map(|line| table.parse(line)).collect()
}

fn table_of(entry: &IpcEntry) -> Table {
    match entry.ipc.what.get() {
        what::SHARED_MEMORY => Table::SharedMemory,
        what::SEMAPHORES => Table::Semaphores,
        _ => Table::Queues,
    }
}

fn describe(entry: &IpcEntry) -> String {
    let ipc = &entry.ipc;
    format!("System V {} {} (key {:#x})", what::name(ipc.what.get()), ipc.id.get(), ipc.key.get())
}

/// Looks for all objects of the image.
pub fn find<'a>(image: &'a Image, warn: &mut dyn FnMut(String)) -> Result<Found<'a>, String> {
    let mut found = Found { image, objects: Vec::new(), messages: HashMap::new() };
    let mut lists: Vec<(Table, Vec<Listed>)> = Vec::new();
    for entry in &image.ipc {
        if entry.ipc.what.get() == what::MESSAGE {
            found.messages.entry(entry.ipc.id.get()).or_default().push(entry);
            continue;
        }
        let table = table_of(entry);
        let at = lists.iter().position(|(listed, _)| *listed == table).unwrap_or_else(|| {
            lists.push((table, list(table)));
            lists.len() - 1
        });
        let state = find_one(entry, table, &lists[at].1)?;
        if state == State::Shared {
            warn(format!("the {} is used by another process: its contents are left as they are", describe(entry)));
        }
        found.objects.push((entry, state));
    }
    Ok(found)
}

fn find_one(entry: &IpcEntry, table: Table, listed: &[Listed]) -> Result<State, String> {
    let ipc = &entry.ipc;
    let (id, key) = (ipc.id.get(), ipc.key.get());
    let there = listed.iter().find(|listed| {
        let same_size = table == Table::Queues || listed.size == ipc.size.get();
        (listed.id, listed.key) == (id, key) && same_size
    });
    let Some(there) = there else {
        return match listed.iter().find(|other| other.key == key && key != 0) {
            Some(other) => Err(format!(
                "the {} cannot be made again: its key belongs to number {}; remove that (ipcrm) or use another machine",
                describe(entry),
                other.id
            )),
            None => Ok(State::Gone),
        };
    };
    let user = match table {
        Table::SharedMemory if there.count == 0 => None,
        Table::SharedMemory if ipc.flags.get() & flag::OTHERS != 0 => return Ok(State::Shared),
        Table::SharedMemory => Some(there.pids[1]),
        Table::Semaphores => live((0..there.size as u32).filter_map(|number| ipc::sem_pid(id, number).ok())),
        Table::Queues => live(there.pids.into_iter()),
    };
    match user {
        None => Ok(State::There),
        Some(pid) => Err(format!(
            "the {} is used by another process now (the last one was {pid}); end that first",
            describe(entry)
        )),
    }
}

/// The first of these processes that lives and is not this one.
fn live(mut pids: impl Iterator<Item = u32>) -> Option<u32> {
    pids.find(|&pid| pid != 0 && pid != process::getpid() && process::kill(pid, 0) != Err(Errno::ESRCH))
}

impl Found<'_> {
    /// Makes what is gone and fills what is there. Returns what the restorer attaches.
    pub fn put_back(&self, source: &File, warn: &mut dyn FnMut(String)) -> Result<Segments, String> {
        let mut segments = Segments::new();
        for (entry, state) in &self.objects {
            let id = self.id_of(entry, *state, warn)?;
            let old = entry.ipc.id.get();
            let failed = |errno: Errno| format!("cannot fill the {}: {errno}", describe(entry));
            match entry.ipc.what.get() {
                what::SHARED_MEMORY => {
                    if *state != State::Shared {
                        fill_segment(self.image, source, entry, id)?;
                    }
                    if entry.ipc.mode.get() & SHM_LOCKED != 0 {
                        ipc::shm_lock(id).map_err(failed)?;
                    }
                    segments.insert(old, Segment { id, remove: entry.ipc.mode.get() & SHM_DEST != 0 });
                }
                what::SEMAPHORES => set_semaphores(id, &entry.bytes).map_err(failed)?,
                _ => {
                    let messages = self.messages.get(&old).map_or(&[][..], Vec::as_slice);
                    fill_queue(id, entry, messages).map_err(failed)?;
                }
            }
        }
        Ok(segments)
    }

    fn id_of(&self, entry: &IpcEntry, state: State, warn: &mut dyn FnMut(String)) -> Result<u32, String> {
        let ipc = &entry.ipc;
        let old = ipc.id.get();
        if state != State::Gone {
            return Ok(old);
        }
        let next = match table_of(entry) {
            Table::SharedMemory => "/proc/sys/kernel/shm_next_id",
            Table::Semaphores => "/proc/sys/kernel/sem_next_id",
            Table::Queues => "/proc/sys/kernel/msg_next_id",
        };
        // Only root may say which number comes next; anybody may be lucky.
        let _ = std::fs::write(next, old.to_string());
        let (key, flags) = (ipc.key.get(), IPC_CREAT | IPC_EXCL | ipc.mode.get() & 0o777);
        let size = ipc.size.get() as usize;
        let made = match table_of(entry) {
            Table::SharedMemory => ipc::shmget(key, size, flags),
            Table::Semaphores => ipc::semget(key, size, flags),
            Table::Queues => ipc::msgget(key, flags),
        };
        let id = made.map_err(|errno| format!("cannot make the {} again: {errno}", describe(entry)))?;
        if id == old {
            return Ok(id);
        }
        if table_of(entry) == Table::SharedMemory {
            warn(format!("the {} is there again as number {id}", describe(entry)));
            return Ok(id);
        }
        let _ = if table_of(entry) == Table::Semaphores { ipc::sem_remove(id) } else { ipc::msg_remove(id) };
        Err(format!(
            "the {} is gone, and its number cannot be had again; root, or CAP_CHECKPOINT_RESTORE, can",
            describe(entry)
        ))
    }
}

/// The segment's memory while it is filled.
struct Attached {
    at: usize,
    len: usize,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: nothing refers to it any more.
        let _ = unsafe { ipc::shmdt(self.at) };
    }
}

fn fill_segment(image: &Image, source: &File, entry: &IpcEntry, id: u32) -> Result<(), String> {
    const MADV_REMOVE: u32 = 9;
    let failed = |what: &str, errno: Errno| format!("cannot {what} the {}: {errno}", describe(entry));
    let at = ipc::shmat(id, 0).map_err(|errno| failed("attach", errno))?;
    let memory = Attached { at, len: (entry.ipc.size.get() as usize).next_multiple_of(4096) };
    // SAFETY: the segment is this process's alone; what is not in the image is zero.
    unsafe { call!(nr::MADVISE, memory.at, memory.len, MADV_REMOVE) }.map_err(|errno| failed("empty", errno))?;
    for mapped in image.vmas.iter() {
        let vma = &mapped.vma;
        if vma.kind.get() != vma_kind::SEGMENT || vma.ino.get() != u64::from(entry.ipc.id.get()) {
            continue;
        }
        for run in super::memory::runs_of(image, mapped) {
            let offset = run.addr - vma.start.get() + vma.offset.get();
            let end = offset.checked_add(run.bytes).filter(|end| *end <= memory.len as u64);
            let end = end.ok_or_else(|| format!("the image has more of the {} than it holds", describe(entry)))?;
            // SAFETY: inside the segment, as was just checked; nobody else refers to it.
            let out = unsafe {
                std::slice::from_raw_parts_mut((memory.at + offset as usize) as *mut u8, (end - offset) as usize)
            };
            let mut done = 0;
            while done < out.len() {
                match source.read_at(&mut out[done..], run.offset + done as u64) {
                    Ok(n) if n > 0 => done += n,
                    Ok(_) => return Err("the image ends".to_string()),
                    Err(error) => return Err(format!("cannot read the image: {error}")),
                }
            }
        }
    }
    Ok(())
}

/// Values, and what the process owes: an operation with SEM_UNDO and one without that takes it back.
fn set_semaphores(id: u32, bytes: &[u8]) -> Result<(), Errno> {
    let semaphores: Vec<Semaphore> =
        bytes.chunks_exact(size_of::<Semaphore>()).filter_map(|part| Semaphore::read_from_bytes(part).ok()).collect();
    let values: Vec<u16> = semaphores.iter().map(|semaphore| semaphore.value.get()).collect();
    ipc::set_sem_values(id, &values)?;
    for (semaphore, number) in semaphores.iter().zip(0..) {
        let mut left = i32::from(semaphore.adjust.get());
        while left != 0 {
            let step = left.clamp(-0x3fff, 0x3fff);
            let owed = Sembuf { number, op: -step as i16, flags: SEM_UNDO };
            let back = Sembuf { number, op: step as i16, flags: 0 };
            // The one that raises the value comes first where there is room above it, else last.
            let up_first = semaphore.value.get() <= 0x3fff;
            ipc::semop(id, &if (step > 0) == up_first { [back, owed] } else { [owed, back] })?;
            left -= step;
        }
    }
    Ok(())
}

fn fill_queue(id: u32, entry: &IpcEntry, messages: &[&IpcEntry]) -> Result<(), Errno> {
    while ipc::drop_message(id).is_ok() {}
    if ipc::queue_limit(id)? != entry.ipc.size.get() as u32 {
        ipc::set_queue_limit(id, entry.ipc.size.get() as u32)?;
    }
    // Whoever sent last uses the queue: this process, also if there is nothing in it.
    ipc::send_message(id, &1u32.to_le_bytes())?;
    ipc::drop_message(id)?;
    for message in messages {
        let mut bytes = (message.ipc.size.get() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&message.bytes);
        ipc::send_message(id, &bytes)?;
    }
    Ok(())
}

/// How the restorer attaches the segment that the mapping `first` shows from its start on.
pub fn attach_flags(image: &Image, mapped: &[Mapped], first: usize) -> u32 {
    let goes_on = |part: &&Mapped| part.source == Source::Segment { continues: true };
    let parts = 1 + mapped[first + 1..].iter().take_while(goes_on).count();
    let parts = &image.vmas[first..first + parts];
    let mut flags = ipc::SHM_REMAP;
    if parts.iter().all(|part| part.vma.flags.get() & vma_flag::MAY_WRITE == 0) {
        flags |= ipc::SHM_RDONLY;
    }
    if parts.iter().any(|part| part.vma.prot.get() & process::PROT_EXEC != 0) {
        flags |= ipc::SHM_EXEC;
    }
    flags
}
