//! [NORMAL] The restorer's plan: every system call of the take-over, in order, with its arguments. The
//! threads have a file of their own.

use super::aio;
use super::attributes::{self, Here};
use super::files::LateLock;
use super::huge::NONE_FREE;
use super::ipc::{Segments, attach_flags};
use super::memory::{Mapped, Source};
use super::steps::Steps;
use super::threads;
use super::timers::{self, TimerIds};
use super::vdso::VdsoPlan;
use crate::arch::cpu::Cpu as HostCpu;
use crate::format::image::{Image, VmaEntry};
use crate::format::memory::{vma_flag, vma_kind};
use crate::format::task::{FrontInfo, RestartInfo};
use crate::sys::abi::KernelSigaction;
use crate::sys::{fs as raw, nr, process};
use std::collections::HashMap;
use std::os::fd::RawFd;
use zerocopy::IntoBytes;

/// Everything that the plan is made from.
pub struct Inputs<'a> {
    pub image: &'a Image,
    pub host: &'a HostCpu,
    pub mapped: &'a [Mapped],
    pub vdso: &'a VdsoPlan,
    /// Temporary places of the vdso's parts, in the order of its moves.
    pub vdso_temporary: &'a [u64],
    pub image_fd: RawFd,
    /// Descriptors that are closed when the memory is in place.
    pub close: &'a [RawFd],
    /// Locks that the next close of such a file would drop.
    pub posix_locks: &'a [LateLock],
    /// Of memfds, whose mappings could not be made with them.
    pub seals: &'a [(RawFd, u32)],
    pub region: Region,
    pub info: &'a RestartInfo,
    /// What the front of the clocks does, if the vdso leads to it.
    pub clock_front: Option<FrontInfo>,
    pub task_size: u64,
    /// Threads get the ids that they had.
    pub same_ids: bool,
    /// Capabilities that each thread goes on with, where they are not those of now.
    pub capabilities: Option<process::CapSets>,
    /// Contexts of kernel AIO.
    pub aio: &'a [aio::Context],
    /// System V shared memory that is attached.
    pub segments: &'a Segments,
    /// [`MM_MAP_64`] or [`MM_MAP_32`].
    pub mm_map_size: u32,
    pub attributes: &'a Here,
    pub timer_ids: TimerIds,
    /// Of timers that send their pending signals themselves, by id.
    pub expirations: HashMap<u32, u64>,
    /// Milliseconds from one automatic checkpoint to the next, and the signal that takes one.
    pub period: Option<(u32, u32)>,
}

/// The restorer's memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub start: u32,
    pub len: u32,
}

/// Writes the plan.
pub fn write_plan(inputs: &Inputs<'_>, steps: &mut Steps) -> Result<(), String> {
    clear_address_space(inputs, steps);
    for (mapped, entry) in inputs.mapped.iter().zip(&inputs.image.vmas) {
        restore_mapping(inputs, mapped, entry, steps);
    }
    for (mapped, entry) in inputs.mapped.iter().zip(&inputs.image.vmas) {
        restore_alias(mapped, entry, steps);
    }
    for (temporary, vdso) in inputs.vdso_temporary.iter().zip(&inputs.vdso.moves) {
        steps.explain("cannot move the vdso to its place");
        move_mapping(*temporary, vdso.len, vdso.to, steps);
    }
    for segment in inputs.segments.values().filter(|segment| segment.remove) {
        steps.explain("cannot mark System V shared memory for removal");
        steps.call(nr::SHMCTL, &[segment.id, crate::sys::ipc::IPC_RMID, 0]);
    }
    aio::restore(inputs, steps);
    restore_guards(inputs, steps);
    for (mapped, entry) in inputs.mapped.iter().zip(&inputs.image.vmas) {
        restore_attributes(inputs.image, mapped, entry, steps);
    }
    steps.explain("cannot set the personality");
    steps.call(nr::PERSONALITY, &[inputs.image.task.personality.get()]);
    restore_mm(inputs, steps);
    for (fd, seals) in inputs.seals {
        steps.explain(&format!("cannot seal the memfd {fd}"));
        steps.call(nr::FCNTL64, &[*fd as u32, raw::F_ADD_SEALS, *seals]);
    }
    for fd in inputs.close {
        steps.attempt(nr::CLOSE, &[*fd as u32]);
    }
    for LateLock { fd, path, lock } in inputs.posix_locks {
        let raw::Flock { mode, whence, start, len, pid } = *lock;
        let (start, len) = ([start as u32, (start >> 32) as u32], [len as u32, (len >> 32) as u32]);
        let words = [u32::from(mode) | u32::from(whence) << 16, start[0], start[1], len[0], len[1], pid];
        let at = steps.bytes(words.as_bytes());
        steps.explain(&format!("cannot take the lock of fd {fd} on {path} again"));
        steps.call(nr::FCNTL64, &[*fd, raw::F_SETLK64, at]);
    }
    restore_signals(inputs, steps);
    steps.copy(inputs.info.as_bytes(), inputs.image.runtime.restart_info.get() as u32);
    if let (Some(info), Some(front)) = (&inputs.clock_front, inputs.image.clock_front) {
        steps.copy(info.as_bytes(), front.info.get() as u32);
    }
    attributes::pass_inherited(inputs, steps);
    threads::restore_threads(inputs, steps)
}

pub const MREMAP_MAYMOVE_FIXED: u32 = 1 | 2;

fn move_mapping(from: u64, len: u64, to: u64, steps: &mut Steps) {
    let len = len as u32;
    steps.expect(nr::MREMAP, &[from as u32, len, len, MREMAP_MAYMOVE_FIXED, to as u32], to as u32);
}

/// Personality flags that change what mmap does: off while mapping.
const ADDR_LIMIT_3GB: u32 = 0x0800_0000;
const READ_IMPLIES_EXEC: u32 = 0x0040_0000;

fn clear_address_space(inputs: &Inputs<'_>, steps: &mut Steps) {
    steps.explain("cannot set the personality");
    let personality = process::personality() & !(ADDR_LIMIT_3GB | READ_IMPLIES_EXEC);
    steps.call(nr::PERSONALITY, &[personality]);
    steps.explain("cannot move the vdso out of the way");
    for (temporary, vdso) in inputs.vdso_temporary.iter().zip(&inputs.vdso.moves) {
        move_mapping(vdso.from, vdso.len, *temporary, steps);
    }
    let region = (u64::from(inputs.region.start), u64::from(inputs.region.start + inputs.region.len));
    let mut keep = vec![region];
    keep.extend(inputs.vdso_temporary.iter().zip(&inputs.vdso.moves).map(|(at, vdso)| (*at, at + vdso.len)));
    keep.sort_unstable();
    steps.explain("cannot clear the address space");
    let mut at = 0;
    for (start, end) in keep.into_iter().chain([(inputs.task_size, inputs.task_size)]) {
        if at < start {
            steps.call(nr::MUNMAP, &[at as u32, (start - at) as u32]);
        }
        at = end;
    }
}

fn describe(entry: &VmaEntry) -> String {
    let name = String::from_utf8_lossy(&entry.name);
    format!("{:#x}-{:#x} {name}", entry.vma.start.get(), entry.vma.end.get())
}

fn restore_mapping(inputs: &Inputs<'_>, mapped: &Mapped, entry: &VmaEntry, steps: &mut Steps) {
    let vma = &entry.vma;
    let (start, len) = (vma.start.get() as u32, (vma.end.get() - vma.start.get()) as u32);
    let prot = vma.prot.get();
    let flags = vma.flags.get();
    let has = |flag: u64, value: u32| if flags & flag != 0 { value } else { 0 };
    let while_filling = if mapped.reads.is_empty() { prot } else { prot | process::PROT_READ | process::PROT_WRITE };
    let anonymous = process::MAP_ANONYMOUS | process::MAP_FIXED;
    let private = process::MAP_PRIVATE
        | has(vma_flag::GROWSDOWN, process::MAP_GROWSDOWN)
        | has(vma_flag::NORESERVE, process::MAP_NORESERVE);
    steps.explain(&format!("cannot map {}", describe(entry)));
    let no_fd = u32::MAX;
    match &mapped.source {
        Source::Anonymous if flags & vma_flag::HUGETLB != 0 => {
            steps.say(&format!("{} {NONE_FREE}", describe(entry)));
            // With a reservation in any case: its pages are sure to be had when they are read.
            let flags = anonymous | process::MAP_PRIVATE | process::MAP_HUGETLB | (flags & vma_flag::HUGE_SIZE) as u32;
            steps.tell(nr::MMAP2, &[start, len, while_filling, flags, no_fd, 0]);
            let flags = process::MAP_ANONYMOUS | process::MAP_FIXED_NOREPLACE | private;
            steps.attempt(nr::MMAP2, &[start, len, while_filling, flags, no_fd, 0]);
            steps.explain(&format!("cannot map {}", describe(entry)));
            steps.call(nr::MPROTECT, &[start, len, while_filling]);
        }
        Source::Anonymous => {
            steps.expect(nr::MMAP2, &[start, len, while_filling, anonymous | private, no_fd, 0], start);
        }
        Source::SharedAnonymous { continues: false } => {
            let whole = shared_length(inputs, mapped.index);
            let flags = anonymous | process::MAP_SHARED | has(vma_flag::NORESERVE, process::MAP_NORESERVE);
            steps.expect(nr::MMAP2, &[start, whole, while_filling, flags, no_fd, 0], start);
        }
        Source::SharedAnonymous { continues: true } => {
            steps.call(nr::MPROTECT, &[start, len, while_filling]);
        }
        Source::File { fd, shared } => {
            let flags = process::MAP_FIXED | if *shared { process::MAP_SHARED } else { private };
            let page = (vma.offset.get() / 4096) as u32;
            steps.expect(nr::MMAP2, &[start, len, while_filling, flags, *fd as u32, page], start);
        }
        Source::Segment { continues } => {
            let segment = inputs.segments.get(&(vma.ino.get() as u32));
            if let Some(segment) = segment.filter(|_| !continues) {
                let flags = attach_flags(inputs.image, inputs.mapped, mapped.index);
                steps.expect(nr::SHMAT, &[segment.id, start, flags], start);
            }
            steps.call(nr::MPROTECT, &[start, len, prot]);
        }
        Source::Nothing => {
            steps.expect(nr::MMAP2, &[start, len, 0, anonymous | process::MAP_PRIVATE, no_fd, 0], start);
            return;
        }
        // Where the kernel's data was, zeros: who returns into the old code, from a handler that has interrupted it, finds
        // no clock source there, and it asks the kernel.
        Source::Kernel if inputs.vdso.keep_old_code => {
            steps.expect(nr::MMAP2, &[start, len, while_filling, anonymous | private, no_fd, 0], start);
        }
        // When all that they may be the same as is mapped.
        Source::SharedAlias { .. } => return,
        Source::Kernel => return,
    }
    steps.explain(&format!("cannot read the pages of {} from the image", describe(entry)));
    for (addr, bytes, offset) in &mapped.reads {
        steps.read(inputs.image_fd as u32, *addr as u32, *bytes as u32, *offset);
    }
    if entry.vma.kind.get() == vma_kind::VDSO {
        for (addr, jump) in &inputs.vdso.patches {
            steps.copy(jump, *addr as u32);
        }
    }
    if while_filling != prot {
        steps.explain(&format!("cannot protect {}", describe(entry)));
        steps.call(nr::MPROTECT, &[start, len, prot]);
    }
}

/// A second mapping of shared memory: mremap with an old length of zero makes one.
fn restore_alias(mapped: &Mapped, entry: &VmaEntry, steps: &mut Steps) {
    let Source::SharedAlias { same_as } = mapped.source else { return };
    let (start, end) = (entry.vma.start.get() as u32, entry.vma.end.get());
    let len = (end - entry.vma.start.get()) as u32;
    steps.explain(&format!("cannot map {} a second time", describe(entry)));
    steps.expect(nr::MREMAP, &[same_as as u32, 0, len, MREMAP_MAYMOVE_FIXED, start], start);
    steps.call(nr::MPROTECT, &[start, len, entry.vma.prot.get()]);
}

/// Length of a shared mapping with all parts that continue it.
fn shared_length(inputs: &Inputs<'_>, first: usize) -> u32 {
    let start = inputs.image.vmas[first].vma.start.get();
    let mut end = inputs.image.vmas[first].vma.end.get();
    for mapped in &inputs.mapped[first + 1..] {
        if mapped.source != (Source::SharedAnonymous { continues: true }) {
            break;
        }
        end = inputs.image.vmas[mapped.index].vma.end.get();
    }
    (end - start) as u32
}

/// Linux 6.13.
pub const MADV_GUARD_INSTALL: u32 = 102;

/// madvise(2) values by flag.
const ADVICE: &[(u64, u32)] = &[
    (vma_flag::MADV_RANDOM, 1),
    (vma_flag::MADV_SEQUENTIAL, 2),
    (vma_flag::MADV_DONTFORK, 10),
    (vma_flag::MADV_MERGEABLE, 12),
    (vma_flag::MADV_HUGEPAGE, 14),
    (vma_flag::MADV_NOHUGEPAGE, 15),
    (vma_flag::MADV_DONTDUMP, 16),
    (vma_flag::MADV_WIPEONFORK, 18),
];

/// While nothing is locked or sealed, which keeps the kernel from it.
fn restore_guards(inputs: &Inputs<'_>, steps: &mut Steps) {
    for range in &inputs.image.guards {
        let (start, end) = (range.start.get(), range.end.get());
        steps.explain(&format!("cannot make {start:#x}-{end:#x} a guard region"));
        steps.call(nr::MADVISE, &[start as u32, (end - start) as u32, MADV_GUARD_INSTALL]);
    }
}

fn restore_attributes(image: &Image, mapped: &Mapped, entry: &VmaEntry, steps: &mut Steps) {
    if matches!(mapped.source, Source::Kernel | Source::Nothing) {
        return;
    }
    let flags = entry.vma.flags.get();
    let (start, len) = (entry.vma.start.get() as u32, (entry.vma.end.get() - entry.vma.start.get()) as u32);
    for (flag, advice) in ADVICE {
        if flags & flag != 0 {
            // Advice that this kernel does not know changes speed or core dumps, not results.
            steps.attempt(nr::MADVISE, &[start, len, *advice]);
        }
    }
    if let Some(name) = entry.name.strip_prefix(b"[anon:").and_then(|name| name.strip_suffix(b"]")) {
        const PR_SET_VMA: u32 = 0x5356_4d41;
        let mut name = name.to_vec();
        name.push(0);
        let at = steps.bytes(&name);
        steps.attempt(nr::PRCTL, &[PR_SET_VMA, 0, start, len, at]);
    }
    if flags & (vma_flag::LOCKED | vma_flag::LOCK_ON_FAULT) != 0 {
        steps.explain(&format!("cannot lock {} in memory (raise ulimit -l)", describe(entry)));
        let args = [start, len, u32::from(flags & vma_flag::LOCK_ON_FAULT != 0)];
        let range = entry.vma.start.get()..entry.vma.end.get();
        if image.guards.iter().any(|guard| range.contains(&guard.start.get())) {
            // Locks what can be locked; its guard pages are an error.
            steps.attempt(nr::MLOCK2, &args);
        } else {
            steps.call(nr::MLOCK2, &args);
        }
    }
    if flags & vma_flag::SEALED != 0 {
        steps.explain(&format!("cannot seal {}", describe(entry)));
        steps.call(nr::MSEAL, &[start, len, 0]);
    }
}

/// Sizes of the structure for PR_SET_MM_MAP: a 64-bit kernel wants its own layout from a 32-bit task
/// as well.
pub const MM_MAP_64: u32 = 104;
pub const MM_MAP_32: u32 = 100;

/// PR_SET_MM_MAP: eleven addresses, the auxiliary vector's address, its size, and a descriptor.
fn restore_mm(inputs: &Inputs<'_>, steps: &mut Steps) {
    let mm = &inputs.image.mm;
    let auxv = steps.bytes(&inputs.image.auxv);
    let mut map = Vec::with_capacity(104);
    for value in [
        mm.start_code,
        mm.end_code,
        mm.start_data,
        mm.end_data,
        mm.start_brk,
        mm.brk,
        mm.start_stack,
        mm.arg_start,
        mm.arg_end,
        mm.env_start,
        mm.env_end,
    ] {
        map.extend_from_slice(value.as_bytes());
    }
    if inputs.mm_map_size == MM_MAP_64 {
        map.extend_from_slice(&u64::from(auxv).to_le_bytes());
    } else {
        map.extend_from_slice(&auxv.to_le_bytes());
    }
    map.extend_from_slice(&(inputs.image.auxv.len() as u32).to_le_bytes());
    map.extend_from_slice(&u32::MAX.to_le_bytes());
    let at = steps.bytes(&map);
    steps.explain(
        "cannot set the layout of the address space (prctl PR_SET_MM_MAP; the kernel needs \
                   CONFIG_CHECKPOINT_RESTORE)",
    );
    steps.call(nr::PRCTL, &[process::PR_SET_MM, process::PR_SET_MM_MAP, at, map.len() as u32, 0]);
}

fn restore_signals(inputs: &Inputs<'_>, steps: &mut Steps) {
    for (i, action) in inputs.image.actions.iter().enumerate() {
        let signal = i as u32 + 1;
        if signal == 9 || signal == 19 {
            continue;
        }
        let kernel = KernelSigaction {
            handler: action.handler.get() as u32,
            flags: action.flags.get() as u32,
            restorer: action.restorer.get() as u32,
            mask: [action.mask.get() as u32, (action.mask.get() >> 32) as u32],
        };
        let words = [kernel.handler, kernel.flags, kernel.restorer, kernel.mask[0], kernel.mask[1]];
        let at = steps.bytes(words.as_bytes());
        steps.explain(&format!("cannot set the action of signal {signal}"));
        steps.call(nr::RT_SIGACTION, &[signal, at, 0, 8]);
    }
    let pid = process::getpid();
    for pending in inputs.image.pending.iter().filter(|pending| pending.tid.get() == 0) {
        if timers::sends_again(inputs, pending) {
            continue;
        }
        let info = steps.bytes(&pending.siginfo);
        let signal = pending.signo.get();
        steps.explain(&format!("cannot queue the pending signal {signal}"));
        steps.call(nr::RT_SIGQUEUEINFO, &[pid, signal, info]);
    }
}
