//! [NORMAL] The threads' part of the plan: the main thread makes the others, each walks a list of its own in
//! the restorer, and all wait in the restored library until the last one is there and the restorer gone.

use super::attributes;
use super::check_threads;
use super::files::owned_by_threads;
use super::plan::Inputs;
use super::steps::Steps;
use super::timers::{self, NewIds};
use crate::arch::debug_registers as debug;
use crate::arch::frame;
use crate::arch::resume::{Interrupted, Resume};
use crate::format::files::owner;
use crate::format::image::ThreadEntry;
use crate::format::memory::vma_flag;
use crate::format::task::RestartInfo;
use crate::format::thread::{desc, flag};
use crate::sys::abi::SS_DISABLE;
use crate::sys::process::{CLONE_FILES, CLONE_VM};
use crate::sys::{fs, nr, process};
use std::mem::offset_of;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

/// What glibc's threads share; the ids and the TLS are set by the thread's own list.
const CLONE_FLAGS: u32 = CLONE_VM
    | CLONE_FILES
    | 0x200 // CLONE_FS
    | 0x800 // CLONE_SIGHAND
    | 0x1_0000 // CLONE_THREAD
    | 0x4_0000; // CLONE_SYSVSEM

/// All threads. The main thread, which is the one that runs the plan, comes last.
pub fn restore_threads(inputs: &Inputs<'_>, steps: &mut Steps) -> Result<(), String> {
    let (main, others) = inputs.image.threads.split_first().ok_or("the image has no thread")?;
    restore_ldt(inputs, steps);
    let owned = owned_by_threads(inputs.image);
    timers::begin(inputs, steps);
    let mut ids = NewIds::new();
    let slots = super::ids::write_table(inputs, steps);
    for entry in others {
        let fds = owned.get(&entry.thread.tid.get()).map_or(&[][..], Vec::as_slice);
        let tid = start_thread(inputs, entry, fds, steps)?;
        if let Some(slot) = slots.get(&entry.thread.tid.get()) {
            steps.copy_variable(tid, *slot);
        }
        ids.insert(entry.thread.tid.get(), tid);
    }
    let tid = steps.variable(process::gettid());
    ids.insert(main.thread.tid.get(), tid);
    let end = if main.thread.flags.get() & flag::EXITED != 0 {
        // It ends again, as it had, when the others are there.
        steps.explain("cannot restore the main thread");
        steps.call(nr::SET_TID_ADDRESS, &[0]);
        End { esp: 0, eflags: IF_AND_FIXED }
    } else {
        restore_thread(inputs, main, tid, steps)?
    };
    let info = inputs.image.runtime.restart_info.get() as u32;
    steps.wait_for(info + offset_of!(RestartInfo, waiting) as u32, others.len() as u32);
    attributes::restore_limits(inputs, steps);
    timers::restore_timers(inputs, &ids, steps)?;
    let region = (inputs.region.start, inputs.region.len);
    steps.leave(region, info, end.esp, inputs.image.runtime.leave.get() as u32, end.eflags);
    Ok(())
}

/// Starts a thread that walks a list of its own; signals of the descriptors `fds` go to it. Returns the variable
/// that then holds its new id.
fn start_thread(inputs: &Inputs<'_>, entry: &ThreadEntry, fds: &[u32], steps: &mut Steps) -> Result<u32, String> {
    let tid = entry.thread.tid.get();
    let new_tid = steps.variable(tid);
    let stack = steps.list(|list| {
        let own_tid = list.variable(0);
        list.explain(&format!("cannot restore thread {tid}"));
        list.store(own_tid).call(nr::GETTID, &[]);
        if !fds.is_empty() {
            let owner = list.bytes([owner::THREAD, 0].as_bytes());
            list.store(owner + size_of::<u32>() as u32).call(nr::GETTID, &[]);
            for &fd in fds {
                list.explain(&format!("cannot send the signals of fd {fd} to thread {tid}"));
                list.call(nr::FCNTL64, &[fd, fs::F_SETOWN_EX, owner]);
            }
        }
        let end = restore_thread(inputs, entry, own_tid, list)?;
        timers::restore_timers_of(inputs, tid, own_tid, list);
        let info = inputs.image.runtime.restart_info.get() as u32;
        list.leave((0, 0), info, end.esp, inputs.image.runtime.leave.get() as u32, end.eflags);
        Ok::<(), String>(())
    })?;
    if !inputs.same_ids {
        steps.explain(&format!("cannot start thread {tid} (raise ulimit -u)"));
        steps.store(new_tid).call(nr::CLONE, &[CLONE_FLAGS, stack, 0, 0, 0]);
        return Ok(new_tid);
    }
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup; all u64. The kernel adds the size to the stack.
    let known = entry.thread.known();
    let set_tid = steps.variable(known);
    const ROOM: u64 = 64;
    let args: [u64; 11] = [CLONE_FLAGS.into(), 0, 0, 0, 0, u64::from(stack) - ROOM, ROOM, 0, u64::from(set_tid), 1, 0];
    let at = steps.bytes(args.as_bytes());
    steps.explain(&format!("cannot start thread {known} with the id that it had"));
    steps.store(new_tid);
    steps.expect(nr::CLONE3, &[at, size_of_val(&args) as u32], known);
    Ok(new_tid)
}

/// Where a thread leaves the restorer: the stack pointer for rt_sigreturn, and eflags.
struct End {
    esp: u32,
    eflags: u32,
}

// The kernel restores from the frame all that a handler may change; these two it does not.
const ID_AND_NT: u32 = 0x20_0000 | 0x4000;
const IF_AND_FIXED: u32 = 0x202;

/// What a thread does for itself; `own_tid` is the variable with its id.
fn restore_thread(inputs: &Inputs<'_>, entry: &ThreadEntry, own_tid: u32, steps: &mut Steps) -> Result<End, String> {
    let thread = &entry.thread;
    if let Some(sets) = inputs.capabilities {
        let header = steps.bytes(process::CAP_HEADER.as_bytes());
        let sets = steps.bytes(sets.as_flattened().as_bytes());
        steps.explain("cannot give up the capability to choose thread ids");
        steps.call(nr::CAPSET, &[header, sets]);
    }
    restore_tls(entry, steps);
    steps.explain(&format!("cannot restore the kernel state of thread {}", thread.tid.get()));
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
    let pid = process::getpid();
    for pending in inputs.image.pending.iter().filter(|pending| pending.tid == thread.tid) {
        if timers::sends_again(inputs, pending) {
            continue;
        }
        let info = steps.bytes(&pending.siginfo);
        let signal = pending.signo.get();
        steps.explain(&format!("cannot queue the pending signal {signal} of thread {}", thread.tid.get()));
        steps.load(own_tid, 1).call(nr::RT_TGSIGQUEUEINFO, &[pid, 0, signal, info]);
    }
    let esp = place_frame(inputs, entry, altstack, steps)?;
    restore_debug_registers(entry, own_tid, steps);
    attributes::restore_thread(inputs, entry, steps);
    Ok(End { esp, eflags: entry.cpu.flags.get() as u32 & ID_AND_NT | IF_AND_FIXED })
}

fn restore_tls(entry: &ThreadEntry, steps: &mut Steps) {
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
}

fn restore_ldt(inputs: &Inputs<'_>, steps: &mut Steps) {
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
    let mut cpu = entry.cpu;
    if let Some((place, resume)) = resume_wait(entry, at as u32) {
        cpu.ip = entry.wait.map_or(cpu.ip, |block| block.resume);
        cpu.sp = U64::new(place.into());
        if place == at as u32 + Resume::IN_FRAME as u32 {
            bytes[Resume::IN_FRAME..Resume::IN_FRAME + size_of::<Resume>()].copy_from_slice(resume.as_bytes());
        } else if u64::from(Resume::end_at(place)) <= at || end <= u64::from(place) {
            steps.copy(resume.as_bytes(), place);
        } else {
            return Err(format!("the signal frame at {at:#x} does not leave room for a wait to go on at {place:#x}"));
        }
    }
    let frame_parts = frame::FrameParts {
        cpu: &cpu,
        sigmask: entry.thread.sigmask.get(),
        fpu: entry.fpu.as_ref().map(|fpu| (fpu.head.mxcsr.get(), parts.as_slice())),
        altstack,
    };
    frame::build(&mut bytes, at as u32, inputs.host, &frame_parts);
    steps.copy(&bytes, at as u32);
    // rt_sigreturn looks for the frame 4 bytes below the stack pointer.
    Ok(at as u32 + 4)
}

/// For a wait to go on in a thread whose frame lies at `at`: where its stack pointer begins, and what lies there.
fn resume_wait(entry: &ThreadEntry, at: u32) -> Option<(u32, Resume)> {
    let (block, timeout) = (entry.wait?, check_threads::timeout_of(entry)?);
    let cpu = &entry.cpu;
    let frame_end = (entry.thread.frame_addr.get() + u64::from(entry.thread.frame_size.get())) as u32;
    let (place, frame_end) = match block.place.get() {
        0 => (at + Resume::IN_FRAME as u32, frame_end),
        place => (place, Resume::end_at(place)),
    };
    let interrupted = Interrupted {
        nr: block.nr.get(),
        args: check_threads::arguments(cpu),
        ip: cpu.ip.get() as u32,
        sp: cpu.sp.get() as u32,
        frame_end,
        left: block.left.get(),
        fd: block.fd.get(),
    };
    Some((place, Resume::compose(&interrupted, &timeout, place)))
}

/// Sets the debug registers of the calling thread by a helper process that shares our memory: addresses,
/// then dr7, then dr6, which is sticky.
fn restore_debug_registers(entry: &ThreadEntry, own_tid: u32, steps: &mut Steps) {
    let cpu = &entry.cpu;
    if cpu.uses_debug.get() == 0 {
        return;
    }
    let status = steps.bytes(&[0; 8]);
    let written = steps.list(|helper| {
        // Where the helper is not allowed, the program goes on without its watchpoints, and the log
        // says so: the helper ends, not the program.
        helper.say("watchpoints are not restored (ptrace is not allowed)");
        let mut ptrace = |request: u32, addr: usize, data: u64| {
            helper.load(own_tid, 1).call(nr::PTRACE, &[request, 0, addr as u32, data as u32]);
        };
        ptrace(debug::PTRACE_SEIZE, 0, 0);
        ptrace(debug::PTRACE_INTERRUPT, 0, 0);
        helper.load(own_tid, 0).call(nr::WAIT4, &[0, status, process::WALL, 0]);
        let mut poke = |index: usize, value: u64| {
            let at = (debug::USER_DEBUGREG + 4 * index) as u32;
            helper.load(own_tid, 1).call(nr::PTRACE, &[debug::PTRACE_POKEUSER, 0, at, value as u32]);
        };
        let addresses = [cpu.debugreg0, cpu.debugreg1, cpu.debugreg2, cpu.debugreg3];
        for (i, address) in addresses.iter().enumerate().filter(|(_, address)| address.get() != 0) {
            poke(i, address.get());
        }
        poke(7, cpu.debugreg7.get());
        poke(6, cpu.debugreg6.get());
        helper.load(own_tid, 1).call(nr::PTRACE, &[debug::PTRACE_DETACH, 0, 0, 0]);
        helper.call(nr::EXIT, &[0]);
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(stack) = written;
    const ANY: u32 = u32::MAX;
    steps.attempt(nr::PRCTL, &[process::PR_SET_PTRACER, ANY]);
    steps.explain("cannot start the helper for debug registers");
    let child = steps.variable(0);
    steps.store(child).call(nr::CLONE, &[process::CLONE_VM | process::CLONE_UNTRACED, stack, 0, 0, 0]);
    steps.load(child, 0).attempt(nr::WAIT4, &[0, 0, process::WCLONE, 0]);
    steps.attempt(nr::PRCTL, &[process::PR_SET_PTRACER, 0]);
}
