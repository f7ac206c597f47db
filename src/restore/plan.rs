//! [NORMAL] The restorer's plan: every system call of the take-over, in order, with its arguments.

use super::memory::{Mapped, Source};
use super::steps::Steps;
use super::vdso::VdsoPlan;
use crate::arch::cpu::Cpu as HostCpu;
use crate::arch::debug_registers as debug;
use crate::arch::frame;
use crate::format::image::{Image, ThreadEntry, VmaEntry};
use crate::format::memory::vma_flag;
use crate::format::task::RestartInfo;
use crate::format::thread::desc;
use crate::sys::abi::{KernelSigaction, SS_DISABLE};
use crate::sys::{nr, process};
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
    pub region: Region,
    pub info: &'a RestartInfo,
    pub task_size: u64,
    /// [`MM_MAP_64`] or [`MM_MAP_32`].
    pub mm_map_size: u32,
}

/// The restorer's memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub start: u32,
    pub len: u32,
}

/// Most steps that a plan can have: bounds the restorer's memory.
pub fn most_steps(image: &Image, mapped: &[Mapped]) -> usize {
    let reads: usize = mapped.iter().map(|mapped| mapped.reads.len()).sum();
    reads + mapped.len() * 12 + image.pending.len() + image.ldt.len() + 4 * 64 + 1200
}

/// Most bytes that its data can have.
pub fn most_bytes(image: &Image, mapped: &[Mapped]) -> usize {
    let names: usize = image.vmas.iter().map(|entry| entry.name.len()).sum();
    names + mapped.len() * 200 + image.pending.len() * 320 + image.ldt.len() * 24 + image.auxv.len() + (64 << 10)
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
    for (mapped, entry) in inputs.mapped.iter().zip(&inputs.image.vmas) {
        restore_attributes(mapped, entry, steps);
    }
    steps.explain("cannot set the personality");
    steps.call(nr::PERSONALITY, &[inputs.image.task.personality.get()]);
    restore_mm(inputs, steps);
    for fd in inputs.close {
        steps.attempt(nr::CLOSE, &[*fd as u32]);
    }
    restore_signals(inputs, steps);
    let [thread] = inputs.image.threads.as_slice() else {
        return Err("the image has more than one thread".to_string());
    };
    restore_thread(inputs, thread, steps)
}

const MREMAP_MAYMOVE_FIXED: u32 = 1 | 2;

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
        Source::Nothing => {
            steps.expect(nr::MMAP2, &[start, len, 0, anonymous | process::MAP_PRIVATE, no_fd, 0], start);
            return;
        }
        Source::Kernel if inputs.vdso.keep_old_code && !mapped.reads.is_empty() => {
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
    if mapped.source == Source::Kernel {
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

fn restore_attributes(mapped: &Mapped, entry: &VmaEntry, steps: &mut Steps) {
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
        steps.call(nr::MLOCK2, &[start, len, u32::from(flags & vma_flag::LOCK_ON_FAULT != 0)]);
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
    for pending in &inputs.image.pending {
        let info = steps.bytes(&pending.siginfo);
        let signal = pending.signo.get();
        steps.explain(&format!("cannot queue the pending signal {signal}"));
        if pending.tid.get() == 0 {
            steps.call(nr::RT_SIGQUEUEINFO, &[pid, signal, info]);
        } else {
            steps.call(nr::RT_TGSIGQUEUEINFO, &[pid, process::gettid(), signal, info]);
        }
    }
}

fn restore_thread(inputs: &Inputs<'_>, entry: &ThreadEntry, steps: &mut Steps) -> Result<(), String> {
    let thread = &entry.thread;
    restore_descriptors(inputs, entry, steps);
    steps.explain("cannot restore the thread's kernel state");
    if thread.clear_child_tid.get() != 0 {
        steps.call(nr::SET_TID_ADDRESS, &[thread.clear_child_tid.get() as u32]);
    }
    if thread.robust_head.get() != 0 {
        steps.call(nr::SET_ROBUST_LIST, &[thread.robust_head.get() as u32, thread.robust_len.get()]);
    }
    if thread.rseq_addr.get() != 0 {
        steps.explain("cannot register restartable sequences");
        steps.call(nr::RSEQ, &[thread.rseq_addr.get() as u32, thread.rseq_len.get(), 0, thread.rseq_sig.get()]);
    }
    let disabled = thread.altstack_size.get() == 0;
    let flags = if disabled { SS_DISABLE } else { thread.altstack_flags.get() & !1 };
    let altstack = [thread.altstack_sp.get() as u32, flags, thread.altstack_size.get() as u32];
    let at = steps.bytes(altstack.as_bytes());
    steps.explain("cannot set the alternate signal stack");
    steps.call(nr::SIGALTSTACK, &[at, 0]);
    let name = steps.bytes(&thread.name);
    steps.call(nr::PRCTL, &[process::PR_SET_NAME, name]);
    if inputs.image.task.dumpable.get() == 0 {
        steps.call(nr::PRCTL, &[process::PR_SET_DUMPABLE, 0]);
    }
    steps.copy(inputs.info.as_bytes(), inputs.image.runtime.restart_info.get() as u32);
    let esp = place_frame(inputs, entry, altstack, steps)?;
    restore_debug_registers(entry, steps);
    // The kernel restores from the frame all that a handler may change; these two it does not.
    const ID_AND_NT: u32 = 0x20_0000 | 0x4000;
    const IF_AND_FIXED: u32 = 0x202;
    let eflags = entry.cpu.flags.get() as u32 & ID_AND_NT | IF_AND_FIXED;
    steps.leave(inputs.region.start, inputs.region.len, esp, inputs.image.runtime.leave.get() as u32, eflags);
    Ok(())
}

fn restore_descriptors(inputs: &Inputs<'_>, entry: &ThreadEntry, steps: &mut Steps) {
    let thread = &entry.thread;
    for slot in 0..3 {
        let found = entry.tls.iter().find(|tls| tls.slot.get() == slot);
        let (base, limit, flags) = match found {
            Some(tls) => (tls.base.get() as u32, tls.limit.get(), tls.flags.get()),
            None => (0, 0, desc::READ_EXEC_ONLY | desc::SEG_NOT_PRESENT),
        };
        let at = steps.bytes([thread.gdt_first.get() + slot, base, limit, flags].as_bytes());
        steps.explain(&format!("cannot set TLS entry {slot}"));
        steps.call(nr::SET_THREAD_AREA, &[at]);
    }
    for ldt in &inputs.image.ldt {
        let words = [ldt.slot.get(), ldt.base.get() as u32, ldt.limit.get(), ldt.flags.get()];
        let at = steps.bytes(words.as_bytes());
        steps.explain(&format!("cannot set LDT entry {}", ldt.slot.get()));
        const WRITE_NEW: u32 = 0x11;
        steps.expect(nr::MODIFY_LDT, &[WRITE_NEW, at, 16], 0);
    }
}

/// Builds the signal frame that rt_sigreturn takes the registers from, where the checkpoint's own
/// frame was: memory below the stack pointer that the program does not use. Returns esp for it.
fn place_frame(inputs: &Inputs<'_>, entry: &ThreadEntry, altstack: [u32; 3], steps: &mut Steps) -> Result<u32, String> {
    let parts: Vec<(u32, &[u8])> =
        entry.fpu.iter().flat_map(|fpu| &fpu.parts).map(|part| (part.id, part.bytes.as_slice())).collect();
    let size = frame::built_size(inputs.host, &parts);
    let end = entry.thread.frame_addr.get() + u64::from(entry.thread.frame_size.get());
    let at = (end - size as u64) & !15;
    let room = inputs.image.vmas.iter().any(|vma| {
        let below = if vma.vma.flags.get() & vma_flag::GROWSDOWN != 0 { 64 << 10 } else { 0 };
        vma.vma.start.get() - below <= at && end <= vma.vma.end.get()
    });
    if !room {
        return Err(format!("there is no room for a signal frame of {size} bytes below {end:#x} on this CPU"));
    }
    let mut bytes = vec![0; size];
    let frame_parts = frame::FrameParts {
        cpu: &entry.cpu,
        sigmask: entry.thread.sigmask.get(),
        fpu: entry.fpu.as_ref().map(|fpu| (fpu.head.mxcsr.get(), parts.as_slice())),
        altstack,
    };
    frame::build(&mut bytes, at as u32, inputs.host, &frame_parts);
    steps.copy(&bytes, at as u32);
    // rt_sigreturn looks for the frame 4 bytes below the stack pointer.
    Ok(at as u32 + 4)
}

/// Sets the debug registers by a helper process that shares our memory: addresses, then dr7, then
/// dr6, which is sticky.
fn restore_debug_registers(entry: &ThreadEntry, steps: &mut Steps) {
    let cpu = &entry.cpu;
    if cpu.uses_debug.get() == 0 {
        return;
    }
    let target = process::getpid();
    let status = steps.bytes(&[0; 8]);
    let poke = |index: usize, value: u64| {
        (nr::PTRACE, [debug::PTRACE_POKEUSER, target, (debug::USER_DEBUGREG + 4 * index) as u32, value as u32])
    };
    let mut helper = vec![
        (nr::PTRACE, [debug::PTRACE_SEIZE, target, 0, 0]),
        (nr::PTRACE, [debug::PTRACE_INTERRUPT, target, 0, 0]),
        (nr::WAIT4, [target, status, debug::WALL, 0]),
    ];
    let addresses = [cpu.debugreg0, cpu.debugreg1, cpu.debugreg2, cpu.debugreg3];
    for (i, address) in addresses.iter().enumerate().filter(|(_, address)| address.get() != 0) {
        helper.push(poke(i, address.get()));
    }
    helper.push(poke(7, cpu.debugreg7.get()));
    helper.push(poke(6, cpu.debugreg6.get()));
    helper.push((nr::PTRACE, [debug::PTRACE_DETACH, target, 0, 0]));
    helper.push((nr::EXIT, [0; 4]));
    // Where the helper is not allowed, the program goes on without its watchpoints, and the log
    // says so: the helper ends, not the program.
    let stack = steps.child(&helper, "watchpoints are not restored (ptrace is not allowed)");
    const ANY: u32 = u32::MAX;
    steps.attempt(nr::PRCTL, &[process::PR_SET_PTRACER, ANY]);
    steps.explain("cannot start the helper for debug registers");
    steps.spawn(debug::CLONE_VM | debug::CLONE_UNTRACED, stack);
    steps.attempt(nr::WAIT4, &[u32::MAX, 0, debug::WCLONE, 0]);
    steps.attempt(nr::PRCTL, &[process::PR_SET_PTRACER, 0]);
}
