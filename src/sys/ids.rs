//! [SIGNAL, NORMAL] The ids that the program knows itself by and those that the kernel has for them, where a restart
//! could not give it the same ones.
//!
//! A restart fills the table in; until then it is all zeros, and every question is answered by one look at one word.
//! Threads that the program makes later have the ids that the kernel gives them, and are not in it.
#![allow(unsafe_code)] // Reads the id in a thread's descriptor.

use super::{call, nr, process};
use crate::format::ids::{MOST, Translation};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// [`Translation`], as others see it.
#[repr(C)]
struct Entry {
    tid_address: AtomicU32,
    known: AtomicU32,
    real: AtomicU32,
}
const _: () = assert!(size_of::<Entry>() == size_of::<Translation>());

/// [`crate::format::ids::TableHead`] and what follows it.
#[repr(C, align(4096))] // In one mapping as a whole.
struct Table {
    changed: AtomicU32,
    count: AtomicU32,
    known_pid: AtomicU32,
    real_pid: AtomicU32,
    tid_offset: AtomicU32,
    reserved: [AtomicU32; 3],
    entries: [Entry; MOST],
}

impl Entry {
    const fn none() -> Entry {
        Entry { tid_address: AtomicU32::new(0), known: AtomicU32::new(0), real: AtomicU32::new(0) }
    }
}

static TABLE: Table = Table {
    changed: AtomicU32::new(0),
    count: AtomicU32::new(0),
    known_pid: AtomicU32::new(0),
    real_pid: AtomicU32::new(0),
    tid_offset: AtomicU32::new(0),
    reserved: [const { AtomicU32::new(0) }; 3],
    entries: [const { Entry::none() }; MOST],
};

/// Bits of [`uses`](crate::format::ids::uses): what the program has that cannot do without the same thread ids.
static USES: AtomicU32 = AtomicU32::new(0);

pub fn note_use(of: u32) {
    USES.fetch_or(of, Relaxed);
}

pub fn uses() -> u32 {
    USES.load(Relaxed)
}

/// Where a restart finds the table.
pub fn table_address() -> usize {
    &raw const TABLE as usize
}

/// Whether the program knows itself by other ids than the kernel.
#[inline]
pub fn changed() -> bool {
    TABLE.changed.load(Relaxed) != 0
}

fn entries() -> &'static [Entry] {
    TABLE.entries.get(..TABLE.count.load(Relaxed) as usize).unwrap_or(&[])
}

/// Whether this is the process that was restarted, and not a child of it.
fn is_the_program() -> bool {
    process::getpid() == TABLE.real_pid.load(Relaxed)
}

/// Whether a child has this id: that is whom the program means.
fn is_child(id: u32) -> bool {
    const P_PID: u32 = 1;
    const ANY_STATE_AND_LEAVE_IT: u32 = 1 | 2 | 4 | 8 | 0x0100_0000; // WNOHANG, WSTOPPED, WEXITED, WCONTINUED, WNOWAIT
    // SAFETY: takes numbers, asks for nothing to be written.
    unsafe { call!(nr::WAITID, P_PID, id, 0, ANY_STATE_AND_LEAVE_IT, 0) }.is_ok()
}

/// The kernel's id for one that the program names.
pub fn to_kernel(id: u32) -> u32 {
    if id == 0 || !changed() {
        return id;
    }
    let found = if id == TABLE.known_pid.load(Relaxed) {
        Some(TABLE.real_pid.load(Relaxed))
    } else {
        entries().iter().find(|entry| entry.known.load(Relaxed) == id).map(|entry| entry.real.load(Relaxed))
    };
    found.filter(|_| !is_child(id)).unwrap_or(id)
}

/// The id that the program knows for one of the kernel's.
pub fn to_program(id: u32) -> u32 {
    if id == 0 || !changed() {
        return id;
    }
    if id == TABLE.real_pid.load(Relaxed) {
        return TABLE.known_pid.load(Relaxed);
    }
    let found = entries().iter().find(|entry| entry.real.load(Relaxed) == id);
    found.map_or(id, |entry| entry.known.load(Relaxed))
}

/// The pid that the calling process knows itself by.
pub fn own_pid() -> u32 {
    let pid = process::getpid();
    if changed() && pid == TABLE.real_pid.load(Relaxed) { TABLE.known_pid.load(Relaxed) } else { pid }
}

/// The thread that glibc has a word with its id for at this address.
fn find_by_address(address: u32) -> Option<&'static Entry> {
    let entries = entries();
    let at = entries.binary_search_by_key(&address, |entry| entry.tid_address.load(Relaxed)).ok()?;
    entries.get(at)
}

/// The id by which the program knows its thread `tid`, for which the kernel clears the word at `tid_address`.
pub fn known_tid(tid: u32, tid_address: usize) -> u32 {
    if !changed() || !is_the_program() {
        return tid;
    }
    if tid == TABLE.real_pid.load(Relaxed) {
        return TABLE.known_pid.load(Relaxed);
    }
    if let Some(entry) = find_by_address(tid_address as u32).filter(|entry| entry.real.load(Relaxed) == tid) {
        return entry.known.load(Relaxed);
    }
    // Made by clone(2) itself, without such a word. They come first.
    let without = entries().iter().take_while(|entry| entry.tid_address.load(Relaxed) == 0);
    let found = without.filter(|entry| entry.real.load(Relaxed) == tid).last();
    found.map_or(tid, |entry| entry.known.load(Relaxed))
}

/// The same for the calling thread, whose descriptor begins at `descriptor`.
pub fn own_tid(descriptor: usize) -> u32 {
    let offset = TABLE.tid_offset.load(Relaxed) as usize;
    known_tid(process::gettid(), descriptor.wrapping_add(offset))
}

/// The kernel's id of a thread from before the restart, by its descriptor (pthread_t). `None`: libc knows it as the
/// kernel does.
///
/// # Safety
/// `descriptor` is a pthread_t that the program may use.
pub unsafe fn thread_of(descriptor: usize) -> Option<u32> {
    if !changed() || !is_the_program() {
        return None;
    }
    let address = descriptor.wrapping_add(TABLE.tid_offset.load(Relaxed) as usize);
    let entry = find_by_address(address as u32)?;
    // SAFETY: the word lies in the descriptor, by the contract above. The kernel clears it when the thread ends.
    let there = unsafe { (*(address as *const AtomicU32)).load(Relaxed) };
    // Another one in place of a thread that has ended has an id of the kernel's.
    (there == entry.known.load(Relaxed)).then(|| entry.real.load(Relaxed))
}
