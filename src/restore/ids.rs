//! [NORMAL] The ids of process and threads that the program knows: given to the kernel where that is possible, else
//! written into the saved library's table, which translates (`sys::ids`).

use super::plan::Inputs;
use super::steps::Steps;
use crate::format::ids::{TableHead, Translation, uses};
use crate::format::image::{Image, ThreadEntry};
use crate::sys::process;
use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// The pid that the program knows itself by.
pub fn known_pid(image: &Image) -> Option<u32> {
    image.threads.first().map(|main| main.thread.known())
}

/// A thread that was made after a restart with other ids may have got one that an older thread believes to have.
pub fn are_distinct(image: &Image) -> bool {
    let mut seen = HashSet::new();
    image.threads.iter().all(|entry| seen.insert(entry.thread.known()))
}

/// What does not work with other ids.
pub fn tell_what_needs_them(image: &Image, warn: &mut dyn FnMut(String)) {
    let used = image.ids.map_or(0, |ids| ids.uses.get());
    let kinds = [(uses::INHERITING_MUTEXES, "priority-inheritance"), (uses::ROBUST_MUTEXES, "robust")];
    let kinds: Vec<&str> = kinds.into_iter().filter(|(bit, _)| used & bit != 0).map(|(_, kind)| kind).collect();
    if !kinds.is_empty() {
        warn(format!(
            "the program uses {} mutexes, whose owners the kernel looks for by thread ids, and these are new ones: \
             threads that wait for one may hang (--pid same keeps the ids)",
            kinds.join(" and ")
        ));
    }
}

/// Address of a thread's descriptor: what its gs leads to.
fn descriptor(entry: &ThreadEntry) -> Option<u32> {
    let index = (entry.cpu.gs.get() as u32 & 0xffff) >> 3;
    let slot = index.checked_sub(entry.thread.gdt_first.get())?;
    entry.tls.iter().find(|tls| tls.slot.get() == slot).map(|tls| tls.base.get() as u32)
}

/// Writes the table but for the new ids of the threads, which are not there yet. Returns where each of them
/// belongs, by the id at the checkpoint.
pub fn write_table(inputs: &Inputs<'_>, steps: &mut Steps) -> HashMap<u32, u32> {
    let mut slots = HashMap::new();
    let (Some(ids), Some(known_pid)) = (inputs.image.ids, known_pid(inputs.image)) else { return slots };
    let at = ids.table.get() as u32;
    if inputs.same_ids {
        steps.copy(TableHead::default().as_bytes(), at);
        return slots;
    }
    let mut threads: Vec<&ThreadEntry> = inputs.image.threads.iter().collect();
    threads.sort_by_key(|entry| entry.thread.clear_child_tid.get());
    let offset = threads.iter().find_map(|entry| {
        let word = entry.thread.clear_child_tid.get() as u32;
        if word == 0 { None } else { word.checked_sub(descriptor(entry)?) }
    });
    let real_pid = process::getpid();
    let head = TableHead {
        changed: U32::new(1),
        count: U32::new(threads.len() as u32),
        known_pid: U32::new(known_pid),
        real_pid: U32::new(real_pid),
        tid_offset: U32::new(offset.unwrap_or(0)),
        ..TableHead::default()
    };
    steps.copy(head.as_bytes(), at);
    let mut next = at + size_of::<TableHead>() as u32;
    let mut table = Vec::with_capacity(threads.len());
    for entry in threads {
        table.push(Translation {
            tid_address: U32::new(entry.thread.clear_child_tid.get() as u32),
            known: U32::new(entry.thread.known()),
            real: U32::new(real_pid),
        });
        slots.insert(entry.thread.tid.get(), next + offset_of!(Translation, real) as u32);
        next += size_of::<Translation>() as u32;
    }
    steps.copy(table.as_bytes(), at + size_of::<TableHead>() as u32);
    slots
}
