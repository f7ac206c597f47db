//! [SIGNAL] The registers and the kernel state of the threads into THREAD, THREAD_TLS, LDT, CPU, CPU_FPU.
//!
//! A thread that is stopped tells of itself what only it can ask for (`ThreadState::describe_self`), the
//! leader does the rest once all stand still.
#![allow(unsafe_code)] // Reads the signal frame that the kernel put on the thread's stack.

use super::Stream;
use super::attributes;
use super::failure::Failure;
use super::notices::{Notices, notice};
use super::waits;
use crate::arch::cpu::Cpu as HostCpu;
use crate::arch::debug_registers::{DebugRegisters, Look, Traced};
use crate::arch::{debug_registers, entry, frame, resume, tls};
use crate::format::thread::{Cpu, RestartBlock, Thread, TlsEntry, flag};
use crate::format::{FLAG_OPTIONAL, kind, notice::code};
use crate::sys::text::{Bytes, text};
use crate::sys::{Errno, Text, ids, process};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

/// The signal frame of a stopped thread.
#[derive(Clone, Copy)]
pub struct Frame {
    ucontext: usize,
}

impl Frame {
    /// # Safety
    /// `ucontext` is the third argument of a signal handler that has not returned.
    pub unsafe fn new(ucontext: usize) -> Frame {
        Frame { ucontext }
    }

    pub fn ucontext(&self) -> &[u8] {
        // SAFETY: by the contract of `new`, the kernel's ucontext lies there.
        unsafe { core::slice::from_raw_parts(self.ucontext as *const u8, frame::UCONTEXT_SIZE) }
    }

    /// First byte of the whole frame.
    pub fn start(&self) -> usize {
        self.ucontext - frame::UCONTEXT
    }

    /// Floating-point state, as long as it says it is; empty if there is none.
    fn fpstate(&self) -> &[u8] {
        let at = frame::u32_at(self.ucontext(), frame::uc::FPSTATE) as usize;
        if at == 0 {
            return &[];
        }
        const FIXED: usize = frame::fp::XSAVE + 512;
        // SAFETY: the kernel stores at least the FSAVE part and the legacy area.
        let fixed = unsafe { core::slice::from_raw_parts(at as *const u8, FIXED) };
        // SAFETY: the kernel wrote the length that these bytes tell.
        unsafe { core::slice::from_raw_parts(at as *const u8, frame::fpstate_size(fixed)) }
    }

    /// Bytes from the start of the frame to the end of its floating-point state.
    pub fn size(&self) -> usize {
        let fpstate = self.fpstate();
        let end = if fpstate.is_empty() {
            self.start() + frame::FRAME_SIZE
        } else {
            fpstate.as_ptr() as usize + fpstate.len()
        };
        end - self.start()
    }

    pub fn sigmask(&self) -> u64 {
        frame::u64_at(self.ucontext(), frame::uc::SIGMASK)
    }

    /// Makes the interrupted code see `value` in eax when the handler returns.
    pub fn set_eax(&self, value: u32) {
        self.set_register(frame::uc::EAX, value);
    }

    /// Sets a general register of the interrupted code, by its offset in ucontext.
    pub fn set_register(&self, at: usize, value: u32) {
        debug_assert!(at <= frame::uc::EIP);
        let place = (self.ucontext + at) as *mut u32;
        // SAFETY: inside the frame; the kernel reads it at sigreturn.
        unsafe { place.write_unaligned(value) };
    }
}

/// A registration of restartable sequences.
#[derive(Clone, Copy, Default)]
pub struct Rseq {
    pub addr: usize,
    pub len: u32,
    pub sig: u32,
}

/// The system call that a thread was waiting in just before it was stopped, as
/// /proc/self/task/TID/syscall told. `nr` is negative where it told none.
#[derive(Clone, Copy, Default)]
pub struct WaitedCall {
    pub nr: i32,
    pub args: [u32; 6],
    pub sp: u32,
    pub pc: u32,
}

/// Where a thread is on its way to a stop and back.
pub mod stage {
    /// The stop signal is on its way.
    pub const SENT: u32 = 0;
    /// It is in the handler and describes itself.
    pub const ARRIVING: u32 = 4;
    /// It stands in the handler; its [`super::ThreadState`] is complete.
    pub const PARKED: u32 = 1;
    /// It ended before the signal reached it.
    pub const GONE: u32 = 2;
    /// The main thread has ended by pthread_exit; the others run.
    pub const EXITED: u32 = 3;
}

/// A thread of the program during a checkpoint. Lies in the scratch memory, zeroed when it is made.
#[repr(C)]
pub struct ThreadSlot {
    pub tid: AtomicU32,
    /// One of [`stage`].
    pub stage: AtomicU32,
    /// What the leader wants of the parked thread. A futex.
    pub wish: AtomicU32,
    state: UnsafeCell<ThreadState>,
}

// SAFETY: the state is written by the thread that the slot is for before it is PARKED, and by the
// leader alone afterwards; `stage` orders the two.
unsafe impl Sync for ThreadSlot {}

/// What a thread tells of itself, and what the leader finds out about it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct ThreadState {
    ucontext: usize,
    tls: [TlsEntry; tls::ENTRIES as usize],
    ntls: usize,
    robust_head: usize,
    robust_len: usize,
    clear_child_tid: usize,
    name: [u8; 16],
    /// Real, effective, saved user and group ids.
    pub ids: [u32; 6],
    /// Signals that wait for the thread or the process.
    pub pending: u64,
    /// Those of them that are noted already, by the leader.
    pub peeked: u64,
    /// Timer slack, and the signal at the parent's death.
    slack: u32,
    death_signal: u32,
    /// Filled in by the leader before it sends the stop signal.
    pub call: WaitedCall,
    /// One of [`super::waits::wait`]: the system call that the stop has interrupted; its number, and whether
    /// the frame issues it again.
    pub wait: u32,
    pub number: u32,
    pub rewound: bool,
    /// The kernel would do the call by itself, whatever signal comes.
    pub by_kernel: bool,
    /// The rest of a wait with a time limit.
    pub rest: waits::Rest,
    /// Signals that are requests to the library and interrupt nothing.
    pub own: u64,
    /// CLOCK_MONOTONIC when it came to stand still, nanoseconds.
    pub stopped: u64,
}

impl ThreadSlot {
    /// # Safety
    /// The caller is the one that may write now: see the type.
    #[allow(clippy::mut_from_ref)] // That is what the cell is for.
    pub unsafe fn state_mut(&self) -> &mut ThreadState {
        // SAFETY: by the contract above.
        unsafe { &mut *self.state.get() }
    }

    /// The state of a thread that stands still; `None` of one that does not.
    pub fn state(&self) -> Option<&ThreadState> {
        // SAFETY: once PARKED, the thread itself writes no more, and the leader has no other reference.
        (self.stage.load(Ordering::Acquire) == stage::PARKED).then(|| unsafe { &*self.state.get() })
    }

    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }
}

impl ThreadState {
    /// Fills in what only the thread itself can ask the kernel for. Called by it, in the handler.
    pub fn describe_self(&mut self, frame: &Frame) {
        self.stopped = process::now();
        self.ucontext = frame.ucontext;
        (self.tls, self.ntls) = tls::capture_tls(tls::first_entry());
        (self.robust_head, self.robust_len) = process::robust_list();
        self.clear_child_tid = process::clear_child_tid();
        self.name = process::comm();
        self.ids = process::user_and_group_ids();
        self.pending = process::sigpending();
        self.slack = attributes::timer_slack();
        self.death_signal = attributes::death_signal();
    }

    /// As far as the interrupted call of a thread is concerned.
    pub fn of_wait(frame: Frame, own: u64) -> ThreadState {
        ThreadState { ucontext: frame.ucontext, own, stopped: process::now(), ..ThreadState::default() }
    }

    pub fn frame(&self) -> Frame {
        Frame { ucontext: self.ucontext }
    }

    /// Where glibc registers restartable sequences for this thread: relative to its thread pointer.
    fn rseq_of_libc(&self, libc: LibcRseq, gdt_first: u32) -> Rseq {
        let slot = (frame::u32_at(self.frame().ucontext(), frame::uc::GS) & 0xffff) >> 3;
        let base = self.tls.iter().take(self.ntls).find(|entry| gdt_first + entry.slot.get() == slot);
        match base {
            Some(base) if libc.len != 0 => {
                let addr = (base.base.get() as usize).wrapping_add_signed(libc.offset);
                Rseq { addr, len: libc.len, sig: libc.sig }
            }
            _ => Rseq::default(),
        }
    }
}

/// How glibc registers restartable sequences; a length of 0 where it does not.
#[derive(Clone, Copy, Default)]
pub struct LibcRseq {
    /// Distance from the thread pointer.
    pub offset: isize,
    pub len: u32,
    pub sig: u32,
}

/// Looks at all threads from outside: the debug registers, and what they registered. Returns how many
/// entries of `looks` it filled, ordered by tid, and the pages that the leader watches.
pub fn look_at_threads(
    threads: &[ThreadSlot],
    leader: u32,
    looks: &mut [Look],
    helper_stack_top: usize,
    libc: LibcRseq,
    notices: &mut Notices<'_>,
) -> (usize, [usize; 5]) {
    let mut count = 0;
    for slot in threads.iter().filter(|slot| slot.state().is_some()) {
        if let Some(look) = looks.get_mut(count) {
            *look = Look { tid: slot.tid(), found: Err(Errno::EIO) };
            count += 1;
        }
    }
    let looks = looks.get_mut(..count).unwrap_or(&mut []);
    looks.sort_unstable_by_key(|look| look.tid);
    // SAFETY: the scratch memory sets this stack aside for the helper; all threads stand still.
    if let Err(errno) = unsafe { debug_registers::look_at_threads(helper_stack_top, looks) } {
        for look in looks.iter_mut() {
            look.found = Err(errno);
        }
    }
    let failed = looks.iter().filter(|look| look.found.is_err()).count();
    if let Some((tid, errno)) = looks.iter().find_map(|look| Some((look.tid, look.found.err()?))) {
        let more: Text<40> = if failed > 1 { text!(" and {} others", failed - 1) } else { Text::new() };
        notice!(
            notices,
            code::DEBUG_REGISTERS,
            tid.into(),
            "the debug registers of thread {tid}{} cannot be read ({errno}); watchpoints and restartable sequences that libc has not registered are not restored",
            Bytes(more.as_bytes())
        );
    }
    let own = looks.iter().find(|look| look.tid == leader).and_then(|look| look.found.ok());
    let [a, b, c, d] = own.map_or([0; 4], |own| own.debug.address.map(|address| address as usize & !4095));
    // The kernel writes there whenever the leader moves to another processor.
    let first = crate::arch::tls::first_entry();
    let of_libc = threads.iter().find(|slot| slot.tid() == leader).and_then(ThreadSlot::state);
    let of_libc = of_libc.map_or(0, |state| state.rseq_of_libc(libc, first).addr);
    let rseq = own.and_then(|own| own.rseq).map_or(of_libc, |(addr, ..)| addr as usize);
    (count, [a, b, c, d, rseq & !4095])
}

/// What threads usually share, and a thread may have taken for its own: a restart makes all threads share what the
/// leader has.
pub fn note_what_is_unshared(threads: &[ThreadSlot], notices: &mut Notices<'_>) {
    note_credentials(threads, notices);
    let Some(leader) = threads.first().map(ThreadSlot::tid) else { return };
    for slot in threads.iter().skip(1).filter(|slot| slot.state().is_some()) {
        let (files, directory) = process::share_files_and_directory(leader, slot.tid());
        for (shared, what) in [(files, "open descriptors"), (directory, "a working directory and umask")] {
            if !shared {
                notice!(
                    notices,
                    code::STATE_NOT_SAVED,
                    slot.tid().into(),
                    "thread {} has {what} of its own (unshare or clone), which are not saved",
                    slot.tid()
                );
            }
        }
    }
}

fn note_credentials(threads: &[ThreadSlot], notices: &mut Notices<'_>) {
    let Some(leader) = threads.first().and_then(ThreadSlot::state) else { return };
    for slot in threads {
        let Some(state) = slot.state().filter(|state| state.ids != leader.ids) else { continue };
        let [ru, eu, su, rg, eg, sg] = state.ids;
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            slot.tid().into(),
            "thread {} has credentials of its own (users {ru} {eu} {su}, groups {rg} {eg} {sg}), which are not restored",
            slot.tid()
        );
    }
}

/// Writes the records of all threads, the main thread's first.
pub fn capture_threads(
    stream: &mut Stream<'_>,
    threads: &[ThreadSlot],
    looks: &[Look],
    rseq: LibcRseq,
    cpu: &HostCpu,
    ldt_buf: &mut [u8],
) -> Result<(), Failure> {
    let pid = process::getpid();
    let first = tls::first_entry();
    let mut ldt = Some(ldt_buf);
    let main = threads.iter().filter(|slot| slot.tid() == pid);
    for slot in main.chain(threads.iter().filter(|slot| slot.tid() != pid)) {
        if slot.stage.load(Ordering::Acquire) == stage::EXITED {
            write_exited(stream, slot.tid(), first)?;
            continue;
        }
        let Some(state) = slot.state() else { continue };
        let traced = find_look(looks, slot.tid());
        capture_thread(stream, slot.tid(), state, traced, state.rseq_of_libc(rseq, first), cpu, first, &mut ldt)?;
    }
    Ok(())
}

/// The id that the program knows, where it is another.
fn known_tid(tid: u32, tid_address: usize) -> U32 {
    let known = ids::known_tid(tid, tid_address);
    U32::new(if known == tid { 0 } else { known })
}

fn find_look(looks: &[Look], tid: u32) -> Option<Traced> {
    let at = looks.binary_search_by_key(&tid, |look| look.tid).ok()?;
    looks.get(at)?.found.ok()
}

fn write_exited(stream: &mut Stream<'_>, tid: u32, gdt_first: u32) -> Result<(), Failure> {
    let thread = Thread {
        gdt_tls_entries: U32::new(tls::ENTRIES),
        tls_entry_size: U32::new(size_of::<TlsEntry>() as u32),
        gdt_first: U32::new(gdt_first),
        tid: U32::new(tid),
        flags: U32::new(flag::EXITED),
        known_tid: known_tid(tid, 0),
        ..Thread::new_zeroed()
    };
    stream.record(kind::THREAD, 0, &thread, &[])?;
    stream.record(kind::CPU, 0, &Cpu::new_zeroed(), &[])?;
    Ok(())
}

/// Writes the records of one thread. The first one takes `ldt`, which is the process's.
#[allow(clippy::too_many_arguments)]
fn capture_thread(
    stream: &mut Stream<'_>,
    tid: u32,
    state: &ThreadState,
    traced: Option<Traced>,
    libc_rseq: Rseq,
    cpu: &HostCpu,
    gdt_first: u32,
    ldt: &mut Option<&mut [u8]>,
) -> Result<(), Failure> {
    let stopped = state.frame();
    let rest = Some(&state.rest).filter(|rest| rest.is_kept);
    let rseq = match traced.and_then(|traced| traced.rseq) {
        Some((addr, len, sig)) => Rseq { addr: addr as usize, len, sig },
        None => libc_rseq,
    };
    // In the handler the alternate stack reads as in use when the frame lies on it; the frame's own
    // record of it is what the thread had.
    let altstack = |i: usize| frame::u32_at(stopped.ucontext(), frame::uc::STACK + 4 * i);
    let thread = Thread {
        gdt_tls_entries: U32::new(tls::ENTRIES),
        tls_entry_size: U32::new(size_of::<TlsEntry>() as u32),
        ntls: U32::new(state.ntls as u32),
        gdt_first: U32::new(gdt_first),
        tid: U32::new(tid),
        flags: U32::new(0),
        sigmask: U64::new(stopped.sigmask()),
        altstack_sp: U64::new(altstack(0).into()),
        altstack_flags: U32::new(altstack(1)),
        altstack_size: U64::new(altstack(2).into()),
        robust_len: U32::new(state.robust_len as u32),
        robust_head: U64::new(state.robust_head as u64),
        clear_child_tid: U64::new(state.clear_child_tid as u64),
        rseq_addr: U64::new(rseq.addr as u64),
        rseq_len: U32::new(rseq.len),
        rseq_sig: U32::new(rseq.sig),
        frame_addr: U64::new(stopped.start() as u64),
        frame_size: U32::new(rest.map_or(stopped.size() as u32, |rest| rest.frame_end - stopped.start() as u32)),
        known_tid: known_tid(tid, state.clear_child_tid),
        name: state.name,
    };
    stream.record(kind::THREAD, 0, &thread, &[])?;
    if state.ntls != 0 {
        stream.begin(kind::THREAD_TLS)?;
        stream.put(state.tls.get(..state.ntls).unwrap_or(&[]).as_bytes());
        stream.end(0)?;
    }
    if let Some(buf) = ldt.take() {
        capture_ldt(stream, buf)?;
    }
    let mut regs = frame::read_cpu(stopped.ucontext());
    if let Some(debug) = traced.map(|traced| traced.debug).filter(DebugRegisters::in_use) {
        let [a0, a1, a2, a3] = debug.address.map(|address| U64::new(address.into()));
        regs.debugreg0 = a0;
        regs.debugreg1 = a1;
        regs.debugreg2 = a2;
        regs.debugreg3 = a3;
        regs.debugreg6 = U64::new(debug.dr6.into());
        regs.debugreg7 = U64::new(debug.dr7.into());
        regs.uses_debug = U32::new(1);
    }
    let fpstate = stopped.fpstate();
    regs.used_math = U32::new((!fpstate.is_empty()).into());
    stream.record(kind::CPU, 0, &regs, &[])?;
    if !fpstate.is_empty() {
        capture_fpu(stream, fpstate, cpu)?;
    }
    if let Some(rest) = rest {
        let block = RestartBlock {
            nr: U32::new(state.number),
            resume_size: U32::new(size_of::<resume::Resume>() as u32),
            left: U64::new(rest.left),
            resume: U64::new(entry::resume().0 as u64),
            fd: U32::new(rest.fd),
            place: U32::new(rest.place_apart()),
        };
        stream.record(kind::RESTART_BLOCK, FLAG_OPTIONAL, &block, &[])?;
    }
    attributes::capture_thread_attributes(stream, tid, state.slack, state.death_signal)
}

fn capture_fpu(stream: &mut Stream<'_>, fpstate: &[u8], cpu: &HostCpu) -> Result<(), Failure> {
    let fpu = frame::read_fpu(fpstate, cpu);
    stream.begin(kind::CPU_FPU)?;
    stream.put_struct(&fpu.head);
    let mut offset = 0;
    for part in fpu.parts.iter().flatten() {
        stream.put_struct(&frame::component_entry(part, offset));
        offset += part.bytes.len();
    }
    for part in fpu.parts.iter().flatten() {
        stream.put(part.bytes);
    }
    stream.end(0)?;
    Ok(())
}

fn capture_ldt(stream: &mut Stream<'_>, buf: &mut [u8]) -> Result<(), Failure> {
    // A kernel without modify_ldt has no LDT to save.
    let Ok(raw) = tls::read_ldt(buf.get_mut(..tls::LDT_BYTES).unwrap_or(&mut [])) else { return Ok(()) };
    let entries = raw
        .chunks_exact(8)
        .enumerate()
        .filter_map(|(i, bytes)| tls::ldt_entry(i as u32, bytes.try_into().unwrap_or([0; 8])));
    let mut open = false;
    for entry in entries {
        if !open {
            stream.begin(kind::LDT)?;
            open = true;
        }
        stream.put_struct(&entry);
    }
    if open {
        stream.end(0)?;
    }
    Ok(())
}
