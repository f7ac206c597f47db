//! [SIGNAL] Interrupted system calls: a wait that the checkpoint's signal has ended with EINTR is issued
//! again, so that the program sees nothing of it.
//!
//! Only what is certain: the number of the call must be proven, and doing the same call again must be right.
//! A wait with a time limit goes on in the library's own code (`selfckpt_resume`) with what is left. Where neither the
//! kernel nor a note on the stack ([`Began`]) tells when such a wait began, it has its whole time once more, counted from
//! the first checkpoint; later ones know the start.
#![allow(unsafe_code)] // Reads and writes what lies at the stack pointer of `selfckpt_resume`.

use super::call_number::{
    INT80, arguments, behind_call, ends_call, is_done_again, may_follow_a_handler, number, number_in_code,
    read_what_is_there, read_word, register, told_number,
};
use super::scratch::PendingSlot;
use super::threads::{Frame, ThreadSlot, ThreadState};
use crate::arch::began::Began;
use crate::arch::entry;
use crate::arch::frame::{self, uc};
use crate::arch::resume::{Interrupted, LONGEST, POLLIN, Place, Resume, SOCKETCALL, TAI, Timeout, how, timeout};
use crate::arch::vsyscall;
use crate::sys::abi::{KernelSigaction, SA_RESTART};
use crate::sys::log::log;
use crate::sys::{nr, process, restarted, socket};
use zerocopy::IntoBytes;

/// What is known of a stopped thread's call. Zero in a fresh [`ThreadState`].
pub mod wait {
    pub const NOT_LOOKED_AT: u32 = 0;
    /// No interrupted wait, or one that cannot be done again.
    pub const NONE: u32 = 1;
    /// Can be done again, also after a restart.
    pub const AGAIN: u32 = 2;
    /// Until a moment on a clock of this boot: can be done again by this process; a restart needs the rest.
    pub const AGAIN_HERE: u32 = 3;
    /// Goes on for the rest of its time.
    pub const REST: u32 = 4;
}

/// The rest of a wait. Zero in a fresh [`ThreadState`].
#[derive(Clone, Copy, Default)]
pub struct Rest {
    /// Nanoseconds that were left when `clock` was `seen`.
    pub left: u64,
    seen: u64,
    clock: u32,
    /// Where the [`Resume`] lies: below everything that the program uses. 0: there is no place for one.
    place: u32,
    /// It lies apart from the signal frame, which is on an alternate stack.
    is_apart: bool,
    /// End of the stack memory that a restart may use.
    pub frame_end: u32,
    /// Of a socket that has the time limit.
    pub fd: u32,
    /// It is in the image.
    pub is_kept: bool,
}

impl Rest {
    /// Where a restart puts the [`Resume`]; 0: into the new signal frame.
    pub fn place_apart(&self) -> u32 {
        if self.is_apart { self.place } else { 0 }
    }

    fn now(&self) -> u64 {
        process::clock(self.clock).nanoseconds()
    }
}

const EINTR: u32 = (-4i32) as u32;
const EAGAIN: u32 = (-11i32) as u32;
const SECOND: u64 = 1_000_000_000;

/// Before the registers are written into the image, whose pending signals are `pending`; all threads stand
/// still, the leader is the first.
pub fn prepare_all(threads: &[ThreadSlot], pending: &[PendingSlot]) {
    for (index, slot) in threads.iter().enumerate().filter(|(_, slot)| slot.state().is_some()) {
        let own = pending.iter().filter(|signal| signal.tid == 0 || signal.tid == slot.tid());
        let set = own.fold(0, |set, signal| set | 1u64 << (signal.info.signo().wrapping_sub(1) & 63));
        // SAFETY: the thread stands still, and nobody else has a reference.
        prepare(unsafe { slot.state_mut() }, index == 0, set);
    }
}

fn prepare(state: &mut ThreadState, leader: bool, pending: u64) {
    look(state, leader);
    // A restart queues them before the thread goes on.
    if let Some(handler) = first_handler(state.frame(), pending, state.own) {
        interrupt(state, leader, &handler);
        return;
    }
    match state.wait {
        wait::AGAIN => issue_again(state),
        wait::AGAIN_HERE | wait::REST => state.rest.is_kept = state.rest.place != 0,
        _ => (),
    }
}

/// Before the thread goes on, called by itself or, for the leader, by the leader: signals that have come
/// meanwhile are not in the image, but interrupt the wait here.
pub fn settle(state: &mut ThreadState, leader: bool) {
    look(state, leader);
    match (first_handler(state.frame(), process::sigpending(), state.own), state.wait) {
        (Some(handler), _) => interrupt(state, leader, &handler),
        (None, wait::AGAIN | wait::AGAIN_HERE) => {
            let passed = process::now().saturating_sub(state.stopped);
            let _ = pass_written_rest(state.number, arguments(state.frame()), passed);
            issue_again(state);
        }
        (None, wait::REST) => {
            give_eintr(state);
            wait_for_rest(state);
        }
        _ => (),
    }
}

/// A signal of the program's own will run this handler as soon as the thread goes on: the wait would not have outlived
/// it, or have begun anew behind it.
fn interrupt(state: &mut ThreadState, leader: bool, handler: &KernelSigaction) {
    let ends = |nr, frame| handler.flags & SA_RESTART == 0 && ends_by_handlers(nr, arguments(frame));
    let frame = state.frame();
    match state.wait {
        wait::AGAIN | wait::AGAIN_HERE => give_eintr(state),
        wait::REST if state.by_kernel && ends(state.number, frame) => give_eintr(state),
        wait::REST if state.by_kernel => issue_again(state),
        wait::NONE if ends(register(frame, uc::EAX), frame) && is_done_again(state, leader) => end_with_eintr(frame),
        _ => (),
    }
}

/// The call that a request has interrupted whose checkpoint is taken further down on this stack, between the functions
/// of `ckpt_on()`.
pub struct Outer(ThreadState);

impl Outer {
    pub fn begin(frame: Frame, own: u64) -> Outer {
        let mut state = ThreadState::of_wait(frame, own);
        look(&mut state, true);
        Outer(state)
    }

    /// The checkpoint is over, or this is the restarted program.
    pub fn end(mut self, restarted: bool) {
        if restarted {
            self.0.rest.seen = self.0.rest.now();
            self.0.stopped = process::now();
        }
        settle(&mut self.0, true);
    }
}

/// A request that was refused, ignored or put off, or whose checkpoint has failed before the threads were stopped,
/// leaves no trace in the call that its signal has interrupted either. `own` as for the others; does no harm to a
/// frame that is settled already.
#[inline(never)]
pub fn settle_alone(frame: Frame, own: u64) {
    let mut state = ThreadState::of_wait(frame, own);
    settle(&mut state, true);
}

fn look(state: &mut ThreadState, leader: bool) {
    if state.wait != wait::NOT_LOOKED_AT {
        return;
    }
    state.wait = wait::NONE;
    let (resume, _, resumed) = entry::resume();
    if (resume..=resumed).contains(&(register(state.frame(), uc::EIP) as usize)) {
        leave_resume(state, leader);
        return;
    }
    if let Some(anew) = vsyscall::shift_again(register(state.frame(), uc::EIP)) {
        state.frame().set_register(uc::EIP, anew);
        return;
    }
    end_restarted_call(state.frame());
    if ends_at_a_moment(state) {
        return;
    }
    let frame = state.frame();
    if register(frame, uc::EAX) != EINTR {
        return;
    }
    let Some(nr) = number(state, leader) else {
        log!(Debug, "a system call ends with EINTR: its number cannot be proven");
        return;
    };
    state.number = nr;
    state.wait = can_repeat(nr, arguments(frame));
    if matches!(state.wait, wait::REST | wait::AGAIN_HERE) {
        let found = timeout(nr, arguments(frame)).and_then(|timeout| measure_rest(frame, nr, &timeout));
        match found {
            Some(rest) => state.rest = rest,
            None if state.wait == wait::REST => state.wait = wait::NONE,
            None => (),
        }
    }
    if state.wait == wait::NONE {
        log!(Debug, "the system call {nr} ends with EINTR");
    }
}

/// A call that the kernel is about to go on with by restart_syscall(2): a signal has woken the thread, another thread
/// has taken it, and ours came before the next instruction. After any handler that call is EINTR, so it is made the
/// interrupted call that it was.
fn end_restarted_call(frame: Frame) {
    // The code has another number for eax.
    let is_other = || number_in_code(frame, behind_call(frame)).is_some_and(|number| number != nr::RESTART_SYSCALL);
    if register(frame, uc::EAX) == nr::RESTART_SYSCALL && is_other() {
        end_with_eintr(frame);
    }
}

/// A call that the kernel does again by itself, or that is about to be done, until a moment that means nothing on another
/// machine: it goes on for what is left until then, as if it had been interrupted.
fn ends_at_a_moment(state: &mut ThreadState) -> bool {
    let frame = state.frame();
    let nr = register(frame, uc::EAX);
    let Some(timeout) = timeout(nr, arguments(frame)).filter(|timeout| timeout.absolute) else { return false };
    if !ends_call(behind_call(frame)) {
        return false;
    }
    let Some(rest) = measure_rest(frame, nr, &timeout) else { return false };
    (state.number, state.rest, state.wait, state.by_kernel) = (nr, rest, wait::REST, true);
    end_with_eintr(frame);
    true
}

/// Calls that end with EINTR by a handler without SA_RESTART, and begin anew with it. Those that end in any case are seen
/// to have ended; a mutex with priority inheritance does not end.
fn ends_by_handlers(nr: u32, args: [u32; 6]) -> bool {
    let [_, operation, ..] = args;
    match nr {
        // read, readv, write, writev; open, openat (of a FIFO); waitpid, wait4, waitid
        3 | 145 | 4 | 146 | 5 | 295 | 7 | 114 | 284 => true,
        // ioctl (tcdrain); fcntl, fcntl64 (F_SETLKW), flock; mq_timedsend, mq_timedreceive and their 64-bit forms
        54 | 55 | 221 | 143 | 279 | 280 | 418 | 419 => true,
        // connect, accept4, sendto, sendmsg, recvfrom, recvmsg; recvmmsg, sendmmsg
        SOCKETCALL | 362 | 364 | 369 | 370 | 371 | 372 | 337 | 417 | 345 => true,
        // futex_waitv; futex: FUTEX_WAIT, FUTEX_WAIT_BITSET
        449 => true,
        240 | 422 => matches!(operation & 0x7f, 0 | 9),
        _ => false,
    }
}

/// Whether the signal frame lies right below the stack pointer of the program, not on an alternate stack.
fn is_below(frame: Frame, stack_pointer: u32) -> bool {
    const ALIGNMENT: u32 = 256;
    let end = (frame.start() + frame.size()) as u32;
    stack_pointer.checked_sub(end).is_some_and(|between| between <= ALIGNMENT)
}

/// How much is left of a wait that the program has begun itself. `None` where that cannot be told, or where there is
/// no room on the program's stack.
fn measure_rest(frame: Frame, nr: u32, timeout: &Timeout) -> Option<Rest> {
    let args = arguments(frame);
    let [first, second, ..] = args;
    let fd = if nr == SOCKETCALL { read_word(second)? } else { first };
    let mut left = match timeout.place {
        Place::Socket(events) => socket_limit(fd, events)?,
        Place::Milliseconds(at) => u64::from(*args.get(at)?) * 1_000_000,
        place => read_time(place, args)?,
    };
    if timeout.absolute {
        left = left.saturating_sub(process::clock(timeout.clock).nanoseconds());
    } else if let Some(rest) = timeout.rest {
        // As the kernel has just written it there.
        let place = if matches!(timeout.place, Place::Time32(_)) { Place::Time32(rest) } else { Place::Time64(rest) };
        left = read_time(place, args)?;
    }
    // Not before the clock of a moment was read: what lies in between would be missing in the end.
    let clock = timeout.passes_on();
    let seen = process::clock(clock).nanoseconds();
    if timeout.is_told_by_start() {
        left = left.saturating_sub(began(frame, nr).map_or(0, |began| seen.saturating_sub(began)));
    }
    let frame_end = (frame.start() + frame.size()) as u32;
    let stack_pointer = register(frame, uc::ESP);
    let is_apart = !is_below(frame, stack_pointer);
    let mut place = (frame.start() + Resume::IN_FRAME) as u32;
    if is_apart {
        place = Resume::place_below(stack_pointer)?;
        // There is stack: both ends of it can be read.
        read_word(place)?;
        read_word(stack_pointer.checked_sub(4)?)?;
    }
    Some(Rest { left: left.min(LONGEST), seen, clock, place, is_apart, frame_end, fd, is_kept: false })
}

/// When the wait began, CLOCK_MONOTONIC, where somebody has noted it.
fn began(frame: Frame, nr: u32) -> Option<u64> {
    let stack_pointer = register(frame, uc::ESP);
    let mut stack = [0; Began::REACH];
    let stack = read_what_is_there(stack_pointer, &mut stack)?;
    let args = arguments(frame);
    let find = |args: &[u32]| Began::find(stack, stack_pointer, restarted::epoch(), args);
    // Who stands in front of libc's function knows the arguments that socketcall(2) has in memory.
    let find_by_memory = || {
        let [_, pointer, ..] = args;
        find(&[read_word(pointer)?, read_word(pointer.checked_add(4)?)?])
    };
    find(&args).or_else(|| if nr == SOCKETCALL { find_by_memory() } else { None })
}

/// The time limit that a socket has for receiving or sending, nanoseconds; `None` where it has none, or is no
/// socket.
fn socket_limit(fd: u32, events: u32) -> Option<u64> {
    const SOL_SOCKET: u32 = 1;
    // The forms with 32-bit times, which a 32-bit task can always ask for.
    const SO_RCVTIMEO: u32 = 20;
    const SO_SNDTIMEO: u32 = 21;
    let option = if events == POLLIN { SO_RCVTIMEO } else { SO_SNDTIMEO };
    let mut limit = [0u8; 8];
    let read = socket::get_option(fd as i32, SOL_SOCKET, option, &mut limit).ok()?;
    let (seconds, microseconds) = (frame::u32_at(&limit, 0), frame::u32_at(&limit, 4));
    let limit = u64::from(seconds) * SECOND + u64::from(microseconds) * 1000;
    (read == 8 && limit != 0).then_some(limit)
}

/// A time that an argument points to, nanoseconds.
fn read_time(place: Place, args: [u32; 6]) -> Option<u64> {
    let (seconds, nanoseconds) = match place {
        Place::Time32(at) => {
            let at = *args.get(at)?;
            (i64::from(read_word(at)? as i32), read_word(at.checked_add(4)?)?)
        }
        Place::Time64(at) => {
            let at = *args.get(at)?;
            let (low, high) = (read_word(at)?, read_word(at.checked_add(4)?)?);
            ((u64::from(low) | (u64::from(high) << 32)) as i64, read_word(at.checked_add(8)?)?)
        }
        Place::Milliseconds(_) | Place::Socket(_) => return None,
    };
    let seconds = u64::try_from(seconds).ok()?.min(LONGEST / SECOND * 4);
    (u64::from(nanoseconds) < SECOND).then_some(seconds * SECOND + u64::from(nanoseconds))
}

/// What is left of a call that is issued again with what the kernel has written there grows less while the program stands
/// still. `None` where nothing is written, or cannot be.
fn pass_written_rest(nr: u32, args: [u32; 6], passed: u64) -> Option<()> {
    let [first, _, third, _, fifth, _] = args;
    // Of select and _newselect, microseconds.
    let (at, is_wide, unit) = match nr {
        82 => (read_word(first.checked_add(16)?)?, false, 1000),
        142 => (fifth, false, 1000),
        // pselect6, ppoll
        308 => (fifth, false, 1),
        413 => (fifth, true, 1),
        309 => (third, false, 1),
        414 => (third, true, 1),
        _ => return None,
    };
    let place = if is_wide { Place::Time64(0) } else { Place::Time32(0) };
    let written = read_time(place, [at, 0, 0, 0, 0, 0])?;
    let left = (written - written % SECOND + written % SECOND * unit).saturating_sub(passed);
    // Rounded up: nothing ends early.
    let left = left.next_multiple_of(unit);
    let (seconds, parts) = (left / SECOND, left % SECOND / unit);
    let wide = [seconds, parts];
    let narrow = wide.map(|number| number as u32);
    let bytes = if is_wide { wide.as_bytes() } else { narrow.as_bytes() };
    // SAFETY: where the kernel has just written the same for the thread, which stands still or is this one.
    unsafe { process::write_memory(at as usize, bytes) }.ok()
}

/// A thread that is already in `selfckpt_resume`, and has no result yet: gives it the program's registers
/// back, as if the first call had just been interrupted.
fn leave_resume(state: &mut ThreadState, leader: bool) {
    let frame = state.frame();
    let place = register(frame, uc::ESP);
    // SAFETY: in this code the stack pointer is the address of a `Resume` that `wait_for_rest` or a restart
    // has put there, and the thread stands still.
    let resume = unsafe { (place as *const Resume).read_unaligned() };
    let eip = register(frame, uc::EIP) as usize;
    let (_, first, second) = entry::resume();
    if eip >= first {
        let number = match eip == first && resume.how == how::POLL {
            true => nr::POLL,
            false => resume.nr,
        };
        let told = told_number(state, leader);
        let proven = told == Some(number) || told == Some(nr::RESTART_SYSCALL) || !may_follow_a_handler(state, leader);
        // Elsewhere it has a result, and brings it to the program by itself.
        let returned = eip == first || eip == second;
        if !returned || register(frame, uc::EAX) != EINTR || !proven {
            return;
        }
    }
    let Some(timeout) = timeout(resume.nr, resume.saved) else { return };
    let left = resume.left_at(process::clock(resume.clock).nanoseconds());
    if eip == second && left == 0 {
        // The socket was ready, and the call waits all the same: it would have its whole time with each checkpoint.
        frame.set_register(uc::EAX, EAGAIN);
        return;
    }
    let clock = timeout.passes_on();
    let seen = process::clock(clock).nanoseconds();
    let [resume_fd, _] = resume.pollfd;
    let is_apart = !is_below(frame, place);
    let frame_end = if is_apart { (frame.start() + frame.size()) as u32 } else { resume.frame_end };
    state.rest = Rest { left, seen, clock, place, is_apart, frame_end, fd: resume_fd, is_kept: false };
    state.number = resume.nr;
    state.wait = wait::REST;
    let registers = [uc::EBX, uc::ECX, uc::EDX, uc::ESI, uc::EDI, uc::EBP];
    for (at, value) in registers.into_iter().zip(resume.saved) {
        frame.set_register(at, value);
    }
    frame.set_register(uc::EIP, resume.ip);
    frame.set_register(uc::ESP, resume.return_at.wrapping_add(4));
    frame.set_register(uc::EAX, EINTR);
}

/// Sends the thread into `selfckpt_resume`.
fn wait_for_rest(state: &mut ThreadState) {
    let frame = state.frame();
    let args = arguments(frame);
    let Some(timeout) = timeout(state.number, args) else { return };
    let rest = &state.rest;
    let interrupted = Interrupted {
        nr: state.number,
        args,
        ip: register(frame, uc::EIP),
        sp: register(frame, uc::ESP),
        frame_end: if rest.is_apart { Resume::end_at(rest.place) } else { rest.frame_end },
        left: rest.left.saturating_sub(rest.now().saturating_sub(rest.seen)),
        fd: rest.fd,
    };
    let resume = Resume::compose(&interrupted, &timeout, rest.place);
    // SAFETY: the place is the siginfo of this frame, which nobody reads any more, or stack below all that the program
    // uses, which `measure_rest` has looked at, or that of an earlier one where the thread's `Resume` has been since.
    unsafe { (rest.place as *mut Resume).write_unaligned(resume) };
    frame.set_register(uc::EIP, entry::resume().0 as u32);
    frame.set_register(uc::ESP, rest.place);
}

fn issue_again(state: &mut ThreadState) {
    if !state.rewound {
        state.rewound = true;
        let frame = state.frame();
        frame.set_register(uc::EIP, register(frame, uc::EIP).wrapping_sub(INT80.len() as u32));
        frame.set_register(uc::EAX, state.number);
    }
}

fn give_eintr(state: &mut ThreadState) {
    if state.rewound {
        state.rewound = false;
        end_with_eintr(state.frame());
    }
}

/// The call before which a thread stands has been interrupted.
fn end_with_eintr(frame: Frame) {
    frame.set_register(uc::EIP, behind_call(frame));
    frame.set_register(uc::EAX, EINTR);
}

/// The action of the first signal of the program's own that waits and will run a handler as soon as the thread goes on.
fn first_handler(frame: Frame, pending: u64, own: u64) -> Option<KernelSigaction> {
    let set = pending & !frame.sigmask() & !own;
    let signals = (1..=64u32).filter(|signal| set & (1 << (signal - 1)) != 0);
    signals.filter_map(|signal| process::sigaction(signal, None).ok()).find(|action| action.handler > 1)
}

/// What the same call would do a second time, by number (i386) and arguments.
fn can_repeat(nr: u32, args: [u32; 6]) -> u32 {
    const STICKY_TIMEOUTS: u32 = 0x0400_0000;
    let [b, c, d, si, di, _] = args;
    let else_rest = if timeout(nr, args).is_some_and(|timeout| !timeout.absolute) { wait::REST } else { wait::NONE };
    let again_if = |condition: bool| if condition { wait::AGAIN } else { else_rest };
    let by_clock = |realtime: bool| if realtime { wait::AGAIN } else { wait::AGAIN_HERE };
    match nr {
        // pause, sigsuspend, rt_sigsuspend; msgsnd, msgrcv
        29 | 72 | 179 | 400 | 401 => wait::AGAIN,
        // select, _newselect, pselect6, ppoll and their 64-bit forms: the kernel has written what is left.
        82 | 142 | 308 | 309 | 413 | 414 => again_if(process::personality() & STICKY_TIMEOUTS == 0),
        // poll: no limit
        168 => again_if((d as i32) < 0),
        // epoll_wait, epoll_pwait; epoll_pwait2; semtimedop_time64
        256 | 319 => again_if((si as i32) < 0),
        441 | 420 => again_if(si == 0),
        // rt_sigtimedwait
        177 | 421 => again_if(d == 0),
        // io_getevents, io_pgetevents
        247 | 385 | 416 => again_if(di == 0),
        // ipc: SEMOP, MSGSND, MSGRCV; SEMTIMEDOP
        117 => again_if(matches!(b & 0xffff, 1 | 11 | 12) || b & 0xffff == 4 && args[5] == 0),
        // clock_nanosleep until a moment (TIMER_ABSTIME)
        267 | 407 if c & 1 != 0 => by_clock(matches!(b, 0 | TAI)),
        // futex: FUTEX_WAIT_BITSET until a moment, FUTEX_CLOCK_REALTIME
        240 | 422 if c & 0x7f == 9 => by_clock(si == 0 || c & 0x100 != 0),
        _ => else_rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_are_not_repeated() {
        assert_eq!(can_repeat(168, [0, 0, 2000, 0, 0, 0]), wait::REST);
        assert_eq!(can_repeat(168, [0, 0, u32::MAX, 0, 0, 0]), wait::AGAIN);
        assert_eq!(can_repeat(407, [1, 0, 1, 0, 0, 0]), wait::REST);
        assert_eq!(can_repeat(407, [1, 1, 1, 0, 0, 0]), wait::AGAIN_HERE);
        assert_eq!(can_repeat(407, [2, 0, 1, 0, 0, 0]), wait::REST);
        assert_eq!(can_repeat(422, [0, 0x189, 0, 1, 0, 0]), wait::AGAIN);
        assert_eq!(can_repeat(240, [0, 0x80, 0, 1, 0, 0]), wait::REST);
        assert_eq!(can_repeat(117, [4, 0, 0, 0, 0, 1]), wait::REST);
        assert_eq!(can_repeat(117, [4, 0, 0, 0, 0, 0]), wait::AGAIN);
    }
}
