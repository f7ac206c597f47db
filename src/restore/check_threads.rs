//! [NORMAL] What a thread may be in an image: registers, descriptors of its TLS, debug registers, extended state, the wait
//! that goes on.

use super::check::{EXEC, Host, Problems, READ, WRITE, inside};
use crate::arch::resume::{self, Resume, Timeout};
use crate::format::header::component_name;
use crate::format::image::{Image, ThreadEntry};
use crate::format::kind;
use crate::format::thread::{Cpu, SSE_SIZE, TlsEntry, X87_SIZE, desc, flag};

/// Flags of eflags that a program may have as it likes.
const USER_FLAGS: u64 =
    0x0001 | 0x0004 | 0x0010 | 0x0040 | 0x0080 | 0x0100 | 0x0400 | 0x0800 | 0x4000 | 0x1_0000 | 0x4_0000 | 0x20_0000;
/// IF and the bit that is always set.
const FIXED_FLAGS: u64 = 0x0202;

pub fn check_thread(entry: &ThreadEntry, image: &Image, host: &Host, problems: &mut Problems) {
    let thread = &entry.thread;
    if thread.gdt_tls_entries.get() != 3 {
        problems.refuse(kind::THREAD, "gdt_tls_entries", thread.gdt_tls_entries.get().into());
    }
    if thread.tls_entry_size.get() as usize != size_of::<TlsEntry>() {
        problems.refuse(kind::THREAD, "tls_entry_size", thread.tls_entry_size.get().into());
    }
    if thread.gdt_first.get() != host.gdt_first {
        problems.fatal(format!(
            "the TLS entries start at GDT entry {}, on this kernel at {}: a native 32-bit and a 64-bit kernel \
             cannot exchange images",
            thread.gdt_first.get(),
            host.gdt_first
        ));
    }
    for tls in &entry.tls {
        check_descriptor(tls, kind::THREAD_TLS, 3, host, problems);
    }
    if thread.flags.get() & flag::EXITED != 0 {
        return; // No registers.
    }
    // The frame's old place: writable, and long enough to be one.
    let (frame, size) = (thread.frame_addr.get(), u64::from(thread.frame_size.get()));
    if size < crate::arch::frame::FRAME_SIZE as u64 || !inside(image, frame + size - 1, 1, READ | WRITE) {
        problems.refuse(kind::THREAD, "frame_addr", frame);
    }
    check_registers(entry, image, problems);
    check_wait(entry, image, problems);
    check_debug_registers(entry, host, problems);
    check_fpu(entry, host, problems);
}

/// Arguments of a system call.
pub fn arguments(cpu: &Cpu) -> [u32; 6] {
    [cpu.bx, cpu.cx, cpu.dx, cpu.si, cpu.di, cpu.bp].map(|register| register.get() as u32)
}

/// The time limit of the system call that a thread waited in.
pub fn timeout_of(entry: &ThreadEntry) -> Option<Timeout> {
    resume::timeout(entry.wait?.nr.get(), arguments(&entry.cpu))
}

fn check_wait(entry: &ThreadEntry, image: &Image, problems: &mut Problems) {
    let Some(block) = entry.wait else { return };
    if timeout_of(entry).is_none() {
        problems.refuse(kind::RESTART_BLOCK, "nr", block.nr.get().into());
    }
    if block.resume_size.get() as usize != size_of::<Resume>() {
        problems.refuse(kind::RESTART_BLOCK, "resume_size", block.resume_size.get().into());
    }
    if block.left.get() > resume::LONGEST {
        problems.refuse(kind::RESTART_BLOCK, "left", block.left.get());
    }
    let place = block.place.get();
    let (end, sp) = (u64::from(place) + size_of::<Resume>() as u64, entry.cpu.sp.get());
    let is_below = end + 4 <= sp && sp - end <= 64;
    if place != 0 && !(is_below && inside(image, place.into(), size_of::<Resume>() as u64, WRITE)) {
        problems.refuse(kind::RESTART_BLOCK, "place", place.into());
    }
    if !inside(image, block.resume.get(), 16, EXEC) {
        problems.refuse(kind::RESTART_BLOCK, "resume", block.resume.get());
    }
}

fn check_registers(entry: &ThreadEntry, image: &Image, problems: &mut Problems) {
    let cpu = &entry.cpu;
    let flags = cpu.flags.get();
    if flags & !USER_FLAGS != FIXED_FLAGS {
        problems.refuse(kind::CPU, "flags", flags);
    }
    for (name, value) in [
        ("r8", cpu.r8.get()),
        ("r9", cpu.r9.get()),
        ("r10", cpu.r10.get()),
        ("r11", cpu.r11.get()),
        ("r12", cpu.r12.get()),
        ("r13", cpu.r13.get()),
        ("r14", cpu.r14.get()),
        ("r15", cpu.r15.get()),
    ] {
        if value != 0 {
            problems.refuse(kind::CPU, name, value);
        }
    }
    for (name, value) in [
        ("ax", cpu.ax.get()),
        ("bx", cpu.bx.get()),
        ("cx", cpu.cx.get()),
        ("dx", cpu.dx.get()),
        ("si", cpu.si.get()),
        ("di", cpu.di.get()),
        ("bp", cpu.bp.get()),
    ] {
        if value > u64::from(u32::MAX) {
            problems.refuse(kind::CPU, name, value);
        }
    }
    if !inside(image, cpu.ip.get(), 1, EXEC) {
        problems.refuse(kind::CPU, "ip", cpu.ip.get());
    }
    // A stack that is full to its end points just behind it.
    if !inside(image, cpu.sp.get(), 1, WRITE) && !inside(image, cpu.sp.get().wrapping_sub(1), 1, WRITE) {
        problems.refuse(kind::CPU, "sp", cpu.sp.get());
    }
    let first = entry.thread.gdt_first.get();
    let (user_cs, user_ds) = if first == 6 { (0x73, 0x7b) } else { (0x23, 0x2b) };
    let in_ldt =
        |selector: u64| selector & 7 == 7 && image.ldt.iter().any(|entry| u64::from(entry.slot.get()) == selector >> 3);
    let in_tls = |selector: u64| {
        selector & 7 == 3 && entry.tls.iter().any(|tls| u64::from(first + tls.slot.get()) == selector >> 3)
    };
    if cpu.cs.get() != user_cs && !in_ldt(cpu.cs.get()) {
        problems.refuse(kind::CPU, "cs", cpu.cs.get());
    }
    if cpu.ss.get() != user_ds && !in_ldt(cpu.ss.get()) && !in_tls(cpu.ss.get()) {
        problems.refuse(kind::CPU, "ss", cpu.ss.get());
    }
    for (name, selector) in [("ds", cpu.ds.get()), ("es", cpu.es.get()), ("fs", cpu.fs.get()), ("gs", cpu.gs.get())] {
        let known = selector == user_ds || selector == user_cs || in_ldt(selector) || in_tls(selector);
        if selector > 3 && !known {
            problems.refuse(kind::CPU, name, selector);
        }
    }
}

pub fn check_descriptor(entry: &TlsEntry, record: u32, slots: u32, host: &Host, problems: &mut Problems) {
    let flags = entry.flags.get();
    if entry.slot.get() >= slots {
        problems.refuse(record, "slot", entry.slot.get().into());
    }
    let (base, limit) = (entry.base.get(), u64::from(entry.limit.get()));
    let empty = base == 0 && limit == 0 && flags == desc::READ_EXEC_ONLY | desc::SEG_NOT_PRESENT;
    if empty {
        return;
    }
    if flags & !desc::ALL != 0 || (record == kind::THREAD_TLS && flags & desc::SEG_32BIT == 0) {
        problems.refuse(record, "flags", flags.into());
    }
    if base >= host.task_size {
        problems.refuse(record, "base", base);
    }
    if limit > 0xf_ffff {
        problems.refuse(record, "limit", limit);
    }
}

fn check_debug_registers(entry: &ThreadEntry, host: &Host, problems: &mut Problems) {
    let cpu = &entry.cpu;
    let addresses = [cpu.debugreg0.get(), cpu.debugreg1.get(), cpu.debugreg2.get(), cpu.debugreg3.get()];
    for (i, address) in addresses.iter().enumerate() {
        if *address >= host.task_size {
            problems.refuse(kind::CPU, ["debugreg0", "debugreg1", "debugreg2", "debugreg3"][i], *address);
        }
    }
    let dr7 = cpu.debugreg7.get();
    // Reserved bits 10..12, 14, 15 (10 reads as one), general detect (13), and all above 31.
    if dr7 & 0xffff_ffff_0000_f800 != 0 {
        problems.refuse(kind::CPU, "debugreg7", dr7);
        return;
    }
    for (i, address) in addresses.into_iter().enumerate() {
        let enabled = (dr7 >> (2 * i)) & 3 != 0;
        let (kind_bits, len_bits) = ((dr7 >> (16 + 4 * i)) & 3, (dr7 >> (18 + 4 * i)) & 3);
        // An execute breakpoint has length 1; type 2 is for I/O, which programs cannot watch;
        // length code 2 means 8 bytes, for 64-bit programs only; watched data is aligned.
        let size = [1, 2, 8, 4][len_bits as usize];
        let impossible = kind_bits == 2 || (kind_bits == 0 && len_bits != 0) || len_bits == 2;
        if enabled && (impossible || address % size != 0) {
            problems.refuse(kind::CPU, "debugreg7", dr7);
        }
    }
    if cpu.debugreg6.get() >> 32 != 0 {
        problems.refuse(kind::CPU, "debugreg6", cpu.debugreg6.get());
    }
    if cpu.uses_debug.get() > 1 {
        problems.refuse(kind::CPU, "uses_debug", cpu.uses_debug.get().into());
    }
}

fn check_fpu(entry: &ThreadEntry, host: &Host, problems: &mut Problems) {
    let Some(fpu) = &entry.fpu else {
        if entry.cpu.used_math.get() != 0 {
            problems.refuse(kind::CPU, "used_math (no CPU_FPU follows)", entry.cpu.used_math.get().into());
        }
        return;
    };
    let mxcsr = fpu.head.mxcsr.get();
    if mxcsr & !host.cpu.mxcsr_mask != 0 {
        problems.refuse(kind::CPU_FPU, "mxcsr", mxcsr.into());
    }
    let stored = fpu.parts.iter().filter(|part| part.id < 64).fold(0u64, |set, part| set | (1 << part.id));
    if fpu.head.xstate_bv.get() & !(stored | 3) != 0 {
        problems.refuse(kind::CPU_FPU, "xstate_bv", fpu.head.xstate_bv.get());
    }
    let mut seen = 0u64;
    for part in &fpu.parts {
        let size = part.bytes.len() as u32;
        let want = match part.id {
            0 => X87_SIZE,
            1 => SSE_SIZE,
            id => host.cpu.extents.get(id as usize).map_or(0, |extent| extent.size),
        };
        if part.id >= 32 || seen & (1 << part.id) != 0 {
            problems.refuse(kind::CPU_FPU, "component id", part.id.into());
            continue;
        }
        seen |= 1 << part.id;
        if want == 0 {
            problems.fatal(format!(
                "the program uses {} state ({}), which this CPU does not have",
                component_name(part.id),
                part.name
            ));
        } else if size != want {
            problems.refuse(kind::CPU_FPU, "component size", size.into());
        }
    }
    if seen & 3 != 3 {
        problems.refuse(kind::CPU_FPU, "components (x87 and SSE must be there)", seen);
    }
}
