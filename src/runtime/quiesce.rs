//! [SIGNAL] Stopping the program: every thread but the leader, which runs the handler of the trigger, is
//! sent the stop signal and parks in its handler until the checkpoint is over.
//!
//! The stop signal is 33, which glibc keeps for itself (SIGSETXID) and therefore never lets a program
//! block. Its action is replaced for the moment of stopping alone; one that comes from glibc meanwhile is
//! passed on to glibc's handler.
#![allow(unsafe_code)] // A signal handler; memory that all threads share.

use crate::arch::entry;
use crate::capture::failure::{Failure, fail, refuse, unreadable};
use crate::capture::scratch::{MAX_THREADS, MAX_TID, PendingSlot, Scratch};
use crate::capture::threads::{Frame, ThreadSlot, WaitedCall, stage};
use crate::capture::{signals, waits};
use crate::sys::abi::{KernelSigaction, SA_ONSTACK, SA_RESTART, SA_RESTORER, SA_SIGINFO, SI_QUEUE, Siginfo};
use crate::sys::lines::{Cursor, field, parse_dec, parse_hex};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, process, text::text};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// SIGSETXID of glibc.
const STOP_SIGNAL: u32 = 33;
/// `si_value` of our stop signals, by which they are told from glibc's.
const MARK: u32 = 0x5e1f_5709;
/// How long a thread may take to arrive in the handler.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What leader and parked threads share. Lies in the scratch memory.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Shared {
    threads: usize,
    count: usize,
    /// Where a thread that is told to leaves its pending signals: table and text buffer.
    pending: (usize, usize),
    buf: (usize, usize),
    own_signals: u64,
    taken: usize,
    /// The thread has failed to take or requeue them.
    failed: bool,
}

/// Parked threads, and threads that have left the scratch memory again. Futexes.
static PARKED: AtomicU32 = AtomicU32::new(0);
static LEFT: AtomicU32 = AtomicU32::new(0);
/// The leader's [`Shared`] while threads are being stopped; 0 otherwise.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
/// Threads in the handler that have not told yet which slot is theirs.
static ENTERING: AtomicU32 = AtomicU32::new(0);
/// The action of the stop signal before ours; meaningful while ours is in place.
static OLD_ACTION: OldAction =
    OldAction(UnsafeCell::new(KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: [0; 2] }));
static INSTALLED: AtomicU32 = AtomicU32::new(0);

struct OldAction(UnsafeCell<KernelSigaction>);
// SAFETY: written by the leader before our handler is installed, read by the handler.
unsafe impl Sync for OldAction {}

mod wish {
    pub const NOTHING: u32 = 0;
    /// Take the pending signals of the thread, note and queue them again.
    pub const PENDING: u32 = 1;
    pub const GO_ON: u32 = 2;
}

/// Called by `selfckpt_stop_entry`, with all signals blocked.
pub extern "C" fn selfckpt_on_stop(signal: i32, info: *const Siginfo, ucontext: usize) {
    // SAFETY: the kernel passes a siginfo to an SA_SIGINFO handler.
    let told = unsafe { &*info };
    if told.code() != SI_QUEUE || told.value() != MARK {
        pass_on(signal, info, ucontext);
        return;
    }
    ENTERING.fetch_add(1, Ordering::SeqCst);
    let shared = ACTIVE.load(Ordering::SeqCst);
    let slot = if shared == 0 { None } else { claim_slot(shared, told.sender() as usize) };
    ENTERING.fetch_sub(1, Ordering::SeqCst);
    // A signal of a checkpoint that has given up waiting finds nothing and is over.
    let Some(slot) = slot else { return };
    // SAFETY: the kernel passes the ucontext of its frame.
    let frame = unsafe { Frame::new(ucontext) };
    // SAFETY: the slot is this thread's, and the leader waits for PARKED.
    unsafe { slot.state_mut() }.describe_self(&frame);
    slot.stage.store(stage::PARKED, Ordering::Release);
    PARKED.fetch_add(1, Ordering::Release);
    process::futex_wake(&PARKED, 1);
    loop {
        match slot.wish.load(Ordering::Acquire) {
            wish::GO_ON => {
                // SAFETY: the leader touches it no more, and keeps the slot until this thread has LEFT.
                waits::settle(unsafe { slot.state_mut() }, false);
                break;
            }
            wish::PENDING => {
                // SAFETY: the leader set this one up for the wish and waits until it is fulfilled.
                let shared = unsafe { &mut *(ACTIVE.load(Ordering::SeqCst) as *mut Shared) };
                note_pending(shared, slot.tid());
                slot.wish.store(wish::NOTHING, Ordering::Release);
                process::futex_wake(&slot.wish, 1);
            }
            _ => process::futex_wait(&slot.wish, wish::NOTHING, 0),
        }
    }
    // From here on the scratch memory may be gone.
    LEFT.fetch_add(1, Ordering::Release);
    process::futex_wake(&LEFT, 1);
}

/// The slot that the leader made for the calling thread.
fn claim_slot(shared: usize, index: usize) -> Option<&'static ThreadSlot> {
    // SAFETY: ACTIVE is only set while the leader's `Shared` and the table live, and the leader waits
    // for ENTERING to be zero after it has taken ACTIVE back.
    let (threads, count) = unsafe { ((*(shared as *const Shared)).threads, (*(shared as *const Shared)).count) };
    // SAFETY: as above.
    let slots = unsafe { core::slice::from_raw_parts(threads as *const ThreadSlot, count) };
    let slot = slots.get(index).filter(|slot| slot.tid() == process::gettid())?;
    slot.stage.compare_exchange(stage::SENT, stage::ARRIVING, Ordering::AcqRel, Ordering::Acquire).ok()?;
    Some(slot)
}

/// A stop signal that is not ours: what glibc wants with it.
fn pass_on(signal: i32, info: *const Siginfo, ucontext: usize) {
    // SAFETY: see `OldAction`.
    let old = unsafe { *OLD_ACTION.0.get() };
    if old.handler > 1 {
        // SAFETY: the kernel's action held the address of a handler, which gets what the kernel passed.
        unsafe {
            let handler: extern "C" fn(i32, *const Siginfo, usize) = core::mem::transmute(old.handler as usize);
            handler(signal, info, ucontext);
        }
    }
}

/// Apart from the handler, whose stack may be small.
#[inline(never)]
fn note_pending(shared: &mut Shared, tid: u32) {
    let (table, len) = shared.pending;
    // SAFETY: the leader lends its table and buffer until the wish is fulfilled.
    let (table, buf) = unsafe {
        (
            core::slice::from_raw_parts_mut(table as *mut PendingSlot, len),
            core::slice::from_raw_parts_mut(shared.buf.0 as *mut u8, shared.buf.1),
        )
    };
    let free = table.get_mut(shared.taken..).unwrap_or(&mut []);
    match signals::take_private(free, tid, shared.own_signals, buf) {
        Ok(count) => {
            let taken = free.get(..count).unwrap_or(&[]);
            shared.failed = signals::requeue(taken).is_err();
            shared.taken += count;
        }
        Err(_) => shared.failed = true,
    }
}

/// The stopped program. All threads go on when it is dropped.
pub struct Quiesced {
    slots: &'static [ThreadSlot],
    count: usize,
}

impl Quiesced {
    /// Stops every thread but the calling one. `own` are the signals that are requests to the library.
    pub fn stop(frame: Frame, own: u64, scratch: &mut Scratch) -> Result<Quiesced, Failure> {
        let taken: &'static mut [ThreadSlot] = core::mem::take(&mut scratch.threads);
        let slots: &'static [ThreadSlot] = taken;
        let mut stopping = Stopping {
            slots,
            tids: &mut *scratch.tids,
            buf: &mut *scratch.lines,
            shared: Shared { threads: slots.as_ptr() as usize, count: slots.len(), ..Shared::default() },
            quiesced: Quiesced { slots, count: 0 },
            expected: 0,
            deadline: process::now() + PATIENCE_NS,
        };
        stopping.add_self(frame);
        stopping.run()?;
        let Stopping { quiesced, .. } = stopping;
        for slot in quiesced.threads().iter().filter(|slot| slot.state().is_some()) {
            // SAFETY: the thread stands still, and nobody else has a reference.
            unsafe { slot.state_mut() }.own = own;
        }
        Ok(quiesced)
    }

    /// All threads, the leader first.
    pub fn threads(&self) -> &'static [ThreadSlot] {
        self.slots.get(..self.count).unwrap_or(&[])
    }

    /// All but the leader that stand still: others have ended, and tell nothing any more.
    fn others(&self) -> impl Iterator<Item = &'static ThreadSlot> + use<> {
        let me = process::gettid();
        self.threads().iter().filter(move |slot| slot.tid() != me && slot.state().is_some())
    }

    /// Signals that were pending for any thread when it was stopped.
    pub fn pending(&self) -> u64 {
        self.threads().iter().filter_map(ThreadSlot::state).fold(0, |all, state| all | state.pending)
    }

    /// Notes the signals that are pending for single threads, the leader's excepted, without taking them, where that can
    /// be had. Returns how many entries of `pending` are filled.
    pub fn peek_pending(
        &self,
        pending: &mut [PendingSlot],
        not: u64,
        helper_stack_top: usize,
        buf: &mut [u8],
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for slot in self.others() {
            let waiting = slot.state().map_or(0, |state| state.pending) & !not;
            if waiting == 0 {
                continue;
            }
            let free = pending.get_mut(count..).unwrap_or(&mut []);
            let (noted, seen) = match signals::private_pending(slot.tid(), buf)? & !not {
                // All are the process's.
                0 => (0, waiting),
                _ => signals::peek(free, slot.tid(), false, not, helper_stack_top).unwrap_or((0, 0)),
            };
            // SAFETY: the thread stands still, and nobody else has a reference.
            unsafe { slot.state_mut() }.peeked = seen;
            count += noted;
        }
        Ok(count)
    }

    /// Takes, notes and requeues the signals that are pending for single threads, the leader's and what has been peeked at
    /// excepted. `anew`: also those that have come since the threads stand still. Returns how many entries of `pending` are
    /// filled.
    pub fn note_pending(
        &self,
        pending: &mut [PendingSlot],
        own: u64,
        anew: bool,
        buf: &mut [u8],
    ) -> Result<usize, Failure> {
        let mut shared = Shared {
            pending: (pending.as_mut_ptr() as usize, pending.len()),
            buf: (buf.as_mut_ptr() as usize, buf.len()),
            ..Shared::default()
        };
        for slot in self.others() {
            let (waiting, peeked) = slot.state().map_or((0, 0), |state| (state.pending, state.peeked));
            let own = own | peeked;
            let waiting = waiting & !own;
            if (waiting == 0 && !anew) || signals::private_pending(slot.tid(), buf)? & !own == 0 {
                continue;
            }
            shared.own_signals = own;
            ACTIVE.store(&raw mut shared as usize, Ordering::SeqCst);
            slot.wish.store(wish::PENDING, Ordering::Release);
            process::futex_wake(&slot.wish, 1);
            while slot.wish.load(Ordering::Acquire) == wish::PENDING {
                process::futex_wait(&slot.wish, wish::PENDING, 0);
            }
            ACTIVE.store(0, Ordering::SeqCst);
            // The thread wrote through the pointer.
            // SAFETY: `shared` is alive and the thread has finished.
            let failed = unsafe { core::ptr::read_volatile(&raw const shared.failed) };
            if failed {
                return Err(refuse!(Errno(105), "the pending signals of thread {} cannot be taken", slot.tid()));
            }
        }
        // SAFETY: as above.
        Ok(unsafe { core::ptr::read_volatile(&raw const shared.taken) })
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        let me = process::gettid();
        let mut released = 0;
        if let Some(slot) = self.slots.first().filter(|slot| slot.state().is_some()) {
            // SAFETY: the slot is this thread's own, and no reference to it is left.
            waits::settle(unsafe { slot.state_mut() }, true);
        }
        for slot in self.threads() {
            while slot.stage.load(Ordering::Acquire) == stage::ARRIVING {
                process::yield_cpu();
            }
            if slot.tid() != me && slot.stage.load(Ordering::Acquire) == stage::PARKED {
                slot.wish.store(wish::GO_ON, Ordering::Release);
                process::futex_wake(&slot.wish, 1);
                released += 1;
            }
        }
        loop {
            let left = LEFT.load(Ordering::Acquire);
            if left >= released {
                break;
            }
            // A missed wake-up costs a few milliseconds, not the program.
            process::futex_wait(&LEFT, left, 5);
        }
    }
}

struct Stopping<'a> {
    slots: &'static [ThreadSlot],
    tids: &'a mut [u32],
    buf: &'a mut [u8],
    shared: Shared,
    quiesced: Quiesced,
    /// Threads that must arrive.
    expected: u32,
    deadline: u64,
}

impl Stopping<'_> {
    fn add_self(&mut self, frame: Frame) {
        let tid = process::gettid();
        self.is_new(tid);
        let Some(slot) = self.slots.first() else { return };
        slot.tid.store(tid, Ordering::Relaxed);
        // SAFETY: nobody else knows of the slot.
        unsafe { slot.state_mut() }.describe_self(&frame);
        slot.stage.store(stage::PARKED, Ordering::Release);
        self.quiesced.count = 1;
    }

    /// Notes a thread id; false if it was known.
    fn is_new(&mut self, tid: u32) -> bool {
        debug_assert!((tid as usize) < MAX_TID);
        match self.tids.get_mut(tid as usize / 32) {
            Some(word) if *word & (1 << (tid % 32)) == 0 => {
                *word |= 1 << (tid % 32);
                true
            }
            _ => false,
        }
    }

    /// The id of a thread that has ended may be a new thread's.
    fn forget(&mut self, tid: u32) {
        if let Some(word) = self.tids.get_mut(tid as usize / 32) {
            *word &= !(1 << (tid % 32));
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        PARKED.store(0, Ordering::Relaxed);
        LEFT.store(0, Ordering::Relaxed);
        let result = self.stop_all();
        // What was sent has arrived, but after a failure: then the handler stays for what is on its way.
        ACTIVE.store(0, Ordering::SeqCst);
        while ENTERING.load(Ordering::SeqCst) != 0 {
            process::yield_cpu();
        }
        if result.is_ok() {
            self.put_action_back();
        }
        result
    }

    fn stop_all(&mut self) -> Result<(), Failure> {
        // Until nobody new appears: a thread that was still running may have made another.
        while self.send_to_new()? {
            self.await_parked()?;
        }
        Ok(())
    }

    /// Sends the stop signal to threads that were not known. Returns whether there were any.
    fn send_to_new(&mut self) -> Result<bool, Failure> {
        let failed = |errno| unreadable(errno, "/proc/self/task");
        let dir = fs::open(b"/proc/self/task\0", fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0).map_err(failed)?;
        let dir = fs::OwnedFd(dir);
        let before = self.quiesced.count;
        let buf = core::mem::take(&mut self.buf);
        let listed = fs::for_each_name(dir.0, buf, |name| {
            let tid = parse_dec(name).and_then(|tid| u32::try_from(tid).ok()).ok_or(Failed::Kernel(Errno::EIO))?;
            if self.is_new(tid) { self.stop_one(tid).map_err(Failed::Said) } else { Ok(()) }
        });
        self.buf = buf;
        match listed {
            Ok(()) => Ok(self.quiesced.count > before),
            Err(Failed::Kernel(errno)) => Err(failed(errno)),
            Err(Failed::Said(failure)) => Err(failure),
        }
    }

    fn stop_one(&mut self, tid: u32) -> Result<(), Failure> {
        let index = self.quiesced.count;
        let slot = self
            .slots
            .get(index)
            .ok_or_else(|| refuse!(Errno(11), "the program has more than {MAX_THREADS} threads"))?;
        slot.tid.store(tid, Ordering::Relaxed);
        self.quiesced.count = index + 1;
        let pid = process::getpid();
        if tid == pid && has_ended(tid) {
            slot.stage.store(stage::EXITED, Ordering::Release);
            return Ok(());
        }
        if self.expected == 0 {
            self.install()?;
        }
        // SAFETY: the thread does not know of its slot yet.
        unsafe { slot.state_mut() }.call = read_call(tid);
        let info = Siginfo::queued(STOP_SIGNAL, index as u32, MARK);
        match process::queue_signal(pid, Some(tid), &info) {
            Ok(()) => self.expected += 1,
            Err(Errno::ESRCH) => {
                slot.stage.store(stage::GONE, Ordering::Release);
                self.forget(tid);
            }
            Err(errno) => {
                slot.stage.store(stage::GONE, Ordering::Release);
                return Err(fail!(errno, "cannot send the stop signal to thread {tid}"));
            }
        }
        Ok(())
    }

    fn await_parked(&mut self) -> Result<(), Failure> {
        loop {
            let parked = PARKED.load(Ordering::Acquire);
            if parked >= self.expected {
                return Ok(());
            }
            let before = process::now();
            process::futex_wait(&PARKED, parked, 20);
            if PARKED.load(Ordering::Acquire) == parked || process::now() > before + 10_000_000 {
                self.look_for_gone()?;
            }
        }
    }

    /// Threads that will never arrive: they have ended. Fails when one has had its time.
    fn look_for_gone(&mut self) -> Result<(), Failure> {
        let pid = process::getpid();
        let late = process::now() > self.deadline;
        let slots: &'static [ThreadSlot] = self.slots;
        for slot in slots.get(1..self.quiesced.count).unwrap_or(&[]) {
            if slot.stage.load(Ordering::Acquire) != stage::SENT {
                continue;
            }
            let tid = slot.tid();
            let gone = process::tgkill(pid, tid, 0) == Err(Errno::ESRCH);
            if gone || (tid == pid && has_ended(tid)) {
                // One that has just arrived is PARKED by now and counts as such.
                let to = if gone { stage::GONE } else { stage::EXITED };
                if slot.stage.compare_exchange(stage::SENT, to, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    self.expected -= 1;
                    if gone {
                        self.forget(tid);
                    }
                }
            } else if late {
                return Err(describe_stuck(tid, self.buf));
            }
        }
        Ok(())
    }

    fn install(&mut self) -> Result<(), Failure> {
        self.shared.count = self.slots.len();
        ACTIVE.store(&raw const self.shared as usize, Ordering::SeqCst);
        if INSTALLED.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        let failed = |errno| fail!(errno, "cannot install the handler of the stop signal");
        // SAFETY: our handler is not installed, so nobody reads it.
        unsafe { *OLD_ACTION.0.get() = process::sigaction(STOP_SIGNAL, None).map_err(failed)? };
        let action = KernelSigaction {
            handler: entry::stop_entry() as u32,
            flags: SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER,
            restorer: entry::sigreturn() as u32,
            mask: [u32::MAX; 2],
        };
        process::sigaction(STOP_SIGNAL, Some(&action)).map_err(failed)?;
        INSTALLED.store(1, Ordering::Relaxed);
        Ok(())
    }

    fn put_action_back(&mut self) {
        if INSTALLED.swap(0, Ordering::Relaxed) != 0 {
            // SAFETY: written by `install`.
            let old = unsafe { *OLD_ACTION.0.get() };
            // It was in force before.
            let _ = process::sigaction(STOP_SIGNAL, Some(&old));
        }
    }
}

/// Why a walk over the threads ended early.
#[allow(clippy::large_enum_variant)] // There is no heap to put the words on.
enum Failed {
    Kernel(Errno),
    Said(Failure),
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed::Kernel(errno)
    }
}

/// Whether a thread has ended and is only still listed.
fn has_ended(tid: u32) -> bool {
    let path: Text<64> = text!("/proc/self/task/{tid}/stat\0");
    let mut buf = [0u8; 1024];
    let Ok(stat) = fs::read_file(path.as_bytes(), &mut buf) else { return false };
    let after = stat.iter().rposition(|&b| b == b')').and_then(|at| stat.get(at + 2));
    matches!(after, Some(b'Z' | b'X'))
}

/// /proc/self/task/TID/syscall: number, six arguments, stack pointer, program counter; `running` for a
/// thread that is not waiting, -1 for one that waits outside of a system call.
fn read_call(tid: u32) -> WaitedCall {
    const NONE: WaitedCall = WaitedCall { nr: -1, args: [0; 6], sp: 0, pc: 0 };
    let path: Text<64> = text!("/proc/self/task/{tid}/syscall\0");
    let mut buf = [0u8; 256];
    let Ok(line) = fs::read_file(path.as_bytes(), &mut buf) else { return NONE };
    let mut cursor = Cursor(line);
    let Some(nr) = parse_dec(cursor.word()) else { return NONE };
    let mut words = [0u32; 8];
    for word in &mut words {
        match cursor.word().strip_prefix(b"0x").and_then(parse_hex) {
            Some(value) => *word = value as u32,
            None => return NONE,
        }
    }
    let [a, b, c, d, e, f, sp, pc] = words;
    WaitedCall { nr: nr as i32, args: [a, b, c, d, e, f], sp, pc }
}

/// A thread that does not come: its name, what it does and what it blocks.
fn describe_stuck(tid: u32, buf: &mut [u8]) -> Failure {
    let path: Text<64> = text!("/proc/self/task/{tid}/syscall\0");
    let mut call = [0u8; 256];
    let call = fs::read_file(path.as_bytes(), &mut call).unwrap_or(b"?");
    let call: Text<256> = Text::from_bytes(call.strip_suffix(b"\n").unwrap_or(call));
    let path: Text<64> = text!("/proc/self/task/{tid}/status\0");
    let status = fs::read_file(path.as_bytes(), buf).unwrap_or(&[]);
    let of = |name: &[u8]| Bytes(field(status, name).unwrap_or(b"?"));
    refuse!(
        Errno(110), // ETIMEDOUT
        "thread {tid} ({}) does not stop within {} s: state {}, blocked signals {}, system call {}",
        of(b"Name"),
        PATIENCE_NS / 1_000_000_000,
        of(b"State"),
        of(b"SigBlk"),
        Bytes(call.as_bytes())
    )
}

/// Makes the process's /proc files readable to itself for the duration of a checkpoint.
pub struct Dumpable {
    /// What the program had set.
    pub value: u32,
    restore: Option<usize>,
}

impl Dumpable {
    /// A process that is not dumpable may not open its own /proc/self/fd, pagemap or mem.
    pub fn ensure() -> Dumpable {
        match process::prctl(process::PR_GET_DUMPABLE, 0, 0, 0, 0) {
            Ok(0) => {
                let changed = process::prctl(process::PR_SET_DUMPABLE, 1, 0, 0, 0).is_ok();
                Dumpable { value: 0, restore: changed.then_some(0) }
            }
            Ok(value) => Dumpable { value: value as u32, restore: None },
            Err(_) => Dumpable { value: 1, restore: None },
        }
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if let Some(value) = self.restore {
            // The value was in force before; it can be set again.
            let _ = process::prctl(process::PR_SET_DUMPABLE, value, 0, 0, 0);
        }
    }
}
