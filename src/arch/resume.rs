//! [SIGNAL, NORMAL] Waits with a time limit that go on for what was left of it: which argument holds the
//! limit, and what the code in the library (`selfckpt_resume`) finds at its stack pointer. Plain code over
//! numbers.

use crate::format::timers::clock::cpu_time_of;
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a call takes its time limit from, by number of the argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Milliseconds(usize),
    /// Pointer to two 32-bit words.
    Time32(usize),
    /// Pointer to two 64-bit words.
    Time64(usize),
    /// SO_RCVTIMEO or SO_SNDTIMEO of a socket; what poll waits for in its place.
    Socket(u32),
}

/// The time limit of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    pub place: Place,
    /// Clock that the rest is measured on.
    pub clock: u32,
    /// A moment on that clock, not a length of time.
    pub absolute: bool,
    /// Argument that tells where the kernel leaves the rest of an interrupted sleep.
    pub rest: Option<usize>,
}

impl Timeout {
    /// Whether nothing of the call tells how much of its time has gone by, but when it began on CLOCK_MONOTONIC would.
    pub fn is_told_by_start(&self) -> bool {
        !self.absolute && self.rest.is_none() && self.passes_on() == MONOTONIC
    }

    /// It is a property of a socket, where the call itself may have none.
    pub fn is_of_socket(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    /// The clock by which the time that is left grows less while nobody waits for it.
    pub fn passes_on(&self) -> u32 {
        if counts_cpu_time(self.clock) { self.clock } else { MONOTONIC }
    }
}

/// poll(2)'s events.
pub const POLLIN: u32 = 1;
const POLLOUT: u32 = 4;

const MONOTONIC: u32 = 1;
const PROCESS_CPUTIME: u32 = 2;
const BOOTTIME: u32 = 7;
/// International atomic time: CLOCK_REALTIME without its leap seconds.
pub const TAI: u32 = 11;

fn counts_cpu_time(clock: u32) -> bool {
    clock == PROCESS_CPUTIME || cpu_time_of(clock).is_some()
}

/// The time limit of a call of i386 that can be issued again with another one. `None` where there is none, or is a
/// moment that means the same everywhere (CLOCK_REALTIME).
pub fn timeout(nr: u32, args: [u32; 6]) -> Option<Timeout> {
    use Place::{Milliseconds, Socket, Time32, Time64};
    let [a, b, c, d, e, f] = args;
    let relative = |place| Some(Timeout { place, clock: MONOTONIC, absolute: false, rest: None });
    let found = match nr {
        // nanosleep
        162 => sleep(Time32(0), MONOTONIC, b, 1),
        // clock_nanosleep: clock, flags (TIMER_ABSTIME), request, rest
        267 | 407 => {
            let place = if nr == 267 { Time32(2) } else { Time64(2) };
            match (b & 1, a) {
                (0, 0 | MONOTONIC | BOOTTIME | TAI) => sleep(place, MONOTONIC, d, 3),
                (0, clock) if counts_cpu_time(clock) => sleep(place, clock, d, 3),
                (1, clock) if matches!(clock, MONOTONIC | BOOTTIME) || counts_cpu_time(clock) => {
                    Some(Timeout { place, clock: a, absolute: true, rest: None })
                }
                _ => None,
            }
        }
        // poll
        168 if (c as i32) > 0 => relative(Milliseconds(2)),
        // epoll_wait, epoll_pwait; epoll_pwait2
        256 | 319 if (d as i32) > 0 => relative(Milliseconds(3)),
        441 => relative(Time64(3)),
        // rt_sigtimedwait
        177 => relative(Time32(2)),
        421 => relative(Time64(2)),
        // semtimedop: by ipc, and with a number of its own
        117 if a & 0xffff == 4 => relative(Time32(5)),
        420 => relative(Time64(3)),
        // io_getevents, io_pgetevents
        247 | 385 => relative(Time32(4)),
        416 => relative(Time64(4)),
        // read, readv, recvfrom, recvmsg, recvmmsg, accept4; write, writev, sendto, sendmsg, sendmmsg
        3 | 145 | 371 | 372 | 337 | 417 | 364 => relative(Socket(POLLIN)),
        4 | 146 | 369 | 370 | 345 => relative(Socket(POLLOUT)),
        // connect, also by socketcall
        CONNECT => relative(Socket(POLLOUT)),
        SOCKETCALL if a == CONNECT_BY_SOCKETCALL => relative(Socket(POLLOUT)),
        // socketcall: accept, recv, recvfrom, recvmsg, accept4, recvmmsg; send, sendto, sendmsg, sendmmsg
        SOCKETCALL if matches!(a, 5 | 10 | 12 | 17 | 18 | 19) => relative(Socket(POLLIN)),
        SOCKETCALL if matches!(a, 9 | 11 | 16 | 20) => relative(Socket(POLLOUT)),
        // futex
        240 => futex(Time32(3), b),
        422 => futex(Time64(3), b),
        // futex_waitv: until a moment
        449 if e == MONOTONIC => Some(Timeout { place: Time64(3), clock: MONOTONIC, absolute: true, rest: None }),
        _ => None,
    };
    // Without a limit there is none to change.
    found.filter(|found| match found.place {
        Milliseconds(_) | Socket(_) => true,
        Time32(at) | Time64(at) => [a, b, c, d, e, f].get(at).is_some_and(|pointer| *pointer != 0),
    })
}

/// Its arguments lie where the second one points to; the descriptor is the first of them.
pub const SOCKETCALL: u32 = 102;
const CONNECT: u32 = 362;
const CONNECT_BY_SOCKETCALL: u32 = 3;

/// What a call on a socket says when its time has run out before the socket is ready, as it returns it.
fn expired(nr: u32, args: [u32; 6]) -> u32 {
    const EAGAIN: i32 = 11;
    const EINPROGRESS: i32 = 115;
    let connects = nr == CONNECT || nr == SOCKETCALL && args[0] == CONNECT_BY_SOCKETCALL;
    (if connects { -EINPROGRESS } else { -EAGAIN }) as u32
}

fn sleep(place: Place, clock: u32, rest: u32, rest_at: usize) -> Option<Timeout> {
    Some(Timeout { place, clock, absolute: false, rest: (rest != 0).then_some(rest_at) })
}

/// FUTEX_WAIT takes a length of time; FUTEX_WAIT_BITSET and FUTEX_LOCK_PI2 a moment, of CLOCK_REALTIME with a flag.
fn futex(place: Place, op: u32) -> Option<Timeout> {
    match (op & 0x7f, op & 0x100) {
        (0, 0) => Some(Timeout { place, clock: MONOTONIC, absolute: false, rest: None }),
        (9 | 13, 0) => Some(Timeout { place, clock: MONOTONIC, absolute: true, rest: None }),
        _ => None,
    }
}

/// Longest rest that is kept, nanoseconds: a limit of more than 34 years becomes one of 34 years, so that a
/// moment fits the 32-bit seconds of the old calls.
pub const LONGEST: u64 = (1 << 30) * SECOND;
const SECOND: u64 = 1_000_000_000;

/// What `selfckpt_resume` works with: it lies at the stack pointer, below all that the program uses.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resume {
    pub nr: u32,
    /// Where the program goes on, and a word below its stack pointer that holds this at the end.
    pub ip: u32,
    pub return_at: u32,
    pub clock: u32,
    /// One of [`how`].
    pub how: u32,
    /// End of the stack memory that a restart may use.
    pub frame_end: u32,
    /// ebx, ecx, edx, esi, edi, ebp of the program.
    pub saved: [u32; 6],
    /// The same for the call.
    pub args: [u32; 6],
    /// Seconds and nanoseconds that were left at `start`.
    pub left: [u32; 2],
    /// The clock when the call was issued, as clock_gettime64 tells it; zero before that.
    pub start: [u32; 4],
    /// The limit in both forms. For poll, [`Resume::EXPIRED`] is among it.
    pub time64: [u32; 4],
    pub time32: [u32; 2],
    /// For poll: descriptor, events.
    pub pollfd: [u32; 2],
}
/// What the unwinder is told of these in `selfckpt_resume` has one byte for the place.
const _: () = assert!(offset_of!(Resume, saved) + 20 < 64 && offset_of!(Resume, return_at) < 64);
const _: () = assert!(Resume::IN_FRAME + size_of::<Resume>() <= super::frame::UCONTEXT);

/// How a limit is given to the call.
pub mod how {
    /// It is `left`.
    pub const RELATIVE: u32 = 0;
    /// It is a moment: `start` and `left` added.
    pub const ABSOLUTE: u32 = 1;
    /// poll waits for the socket, then the program's own call is issued; `expired` if poll waits in vain.
    pub const POLL: u32 = 2;
}

/// A wait that was interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    pub nr: u32,
    pub args: [u32; 6],
    pub ip: u32,
    pub sp: u32,
    pub frame_end: u32,
    /// Nanoseconds.
    pub left: u64,
    /// Of a socket that has the time limit.
    pub fd: u32,
}

impl Resume {
    /// Where in a signal frame it can lie: over the siginfo, which sigreturn does not read.
    pub const IN_FRAME: usize = 16;

    /// With [`how::POLL`], where it says what the call returns if poll waits in vain.
    pub const EXPIRED: usize = offset_of!(Resume, time32);

    /// Where it can lie below a stack pointer, if the signal frame is elsewhere.
    pub fn place_below(stack_pointer: u32) -> Option<u32> {
        // The word below the stack pointer is for the address to return to.
        Some(stack_pointer.checked_sub(size_of::<Resume>() as u32 + 8)? & !15)
    }

    /// The first address behind one that lies at `at`.
    pub fn end_at(at: u32) -> u32 {
        at.wrapping_add(size_of::<Resume>() as u32)
    }

    /// For the address `at`.
    pub fn compose(wait: &Interrupted, timeout: &Timeout, at: u32) -> Resume {
        let left = wait.left.min(LONGEST);
        let [seconds, nanoseconds] = [(left / SECOND) as u32, (left % SECOND) as u32];
        // Rounded up: nothing ends early.
        let milliseconds = left.div_ceil(1_000_000).min(i32::MAX as u64) as u32;
        let mut args = wait.args;
        let mut set = |argument: usize, value: u32| {
            if let Some(place) = args.get_mut(argument) {
                *place = value;
            }
        };
        match timeout.place {
            Place::Milliseconds(argument) => set(argument, milliseconds),
            Place::Time32(argument) => set(argument, at + offset_of!(Resume, time32) as u32),
            Place::Time64(argument) => set(argument, at + offset_of!(Resume, time64) as u32),
            Place::Socket(_) => args = [at + offset_of!(Resume, pollfd) as u32, 1, milliseconds, 0, 0, 0],
        }
        let limit = [seconds, nanoseconds];
        let (how, pollfd, time32) = match timeout.place {
            Place::Socket(events) => (how::POLL, [wait.fd, events], [expired(wait.nr, wait.args), 0]),
            _ if timeout.absolute => (how::ABSOLUTE, [0; 2], limit),
            _ => (how::RELATIVE, [0; 2], limit),
        };
        Resume {
            nr: wait.nr,
            ip: wait.ip,
            return_at: wait.sp.wrapping_sub(4),
            clock: timeout.clock,
            how,
            frame_end: wait.frame_end,
            saved: wait.args,
            args,
            left: limit,
            start: [0; 4],
            time64: [seconds, 0, nanoseconds, 0],
            time32,
            pollfd,
        }
    }

    /// Nanoseconds that are left when the clock shows `now`.
    pub fn left_at(&self, now: u64) -> u64 {
        let [seconds, nanoseconds] = self.left;
        let left = u64::from(seconds) * SECOND + u64::from(nanoseconds);
        let [seconds, high, nanoseconds, _] = self.start;
        let start = (u64::from(seconds) | (u64::from(high) << 32)).saturating_mul(SECOND) + u64::from(nanoseconds);
        if start == 0 { left } else { left.saturating_sub(now.saturating_sub(start)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Interrupted = Interrupted {
        nr: 168,
        args: [1, 2, 3000, 4, 5, 6],
        ip: 0x1000,
        sp: 0x2000,
        frame_end: 0x1ff0,
        left: 1_500_001,
        fd: 7,
    };

    #[test]
    fn milliseconds_are_rounded_up() {
        let limit = timeout(WAIT.nr, WAIT.args).unwrap();
        let resume = Resume::compose(&WAIT, &limit, 0x1800);
        assert_eq!((resume.args, resume.saved), ([1, 2, 2, 4, 5, 6], WAIT.args));
        assert_eq!(resume.return_at, 0x1ffc);
    }

    #[test]
    fn it_fits_below_a_stack_pointer() {
        for stack_pointer in 0x2000..0x2010 {
            let place = Resume::place_below(stack_pointer).unwrap();
            assert!(place % 16 == 0 && Resume::end_at(place) + 4 <= stack_pointer);
        }
        assert_eq!(Resume::place_below(16), None);
    }

    #[test]
    fn a_socket_is_polled_first() {
        let wait = Interrupted { nr: 372, ..WAIT };
        let resume = Resume::compose(&wait, &timeout(wait.nr, wait.args).unwrap(), 0x1800);
        assert_eq!((resume.how, resume.nr, resume.pollfd), (how::POLL, 372, [7, POLLIN]));
        assert_eq!(resume.args, [0x1800 + offset_of!(Resume, pollfd) as u32, 1, 2, 0, 0, 0]);
        assert_eq!(resume.time32[0] as i32, -11);
        for (nr, args) in [(362, [7, 1, 1, 0, 0, 0]), (102, [3, 1, 0, 0, 0, 0])] {
            let wait = Interrupted { nr, args, ..WAIT };
            let resume = Resume::compose(&wait, &timeout(nr, args).unwrap(), 0x1800);
            assert_eq!(resume.time32[0] as i32, -115);
        }
    }

    #[test]
    fn what_is_left_is_counted_from_the_start() {
        let limit = timeout(WAIT.nr, WAIT.args).unwrap();
        let mut resume = Resume::compose(&Interrupted { left: 5 * SECOND, ..WAIT }, &limit, 0);
        assert_eq!(resume.left_at(77 * SECOND), 5 * SECOND);
        resume.start = [70, 0, 0, 0];
        assert_eq!(resume.left_at(72 * SECOND), 3 * SECOND);
        assert_eq!(resume.left_at(80 * SECOND), 0);
    }

    #[test]
    fn cpu_time_is_counted_by_its_own_clock() {
        let own = -6i32 as u32;
        for (clock, flags, counted) in [(own, 0, own), (own, 1, own), (2, 0, 2), (0, 0, 1), (7, 1, 1)] {
            let limit = timeout(407, [clock, flags, 1, 0, 0, 0]).unwrap();
            assert_eq!(limit.passes_on(), counted);
            assert_eq!(limit.is_told_by_start(), clock == 0);
        }
    }

    #[test]
    fn limits_are_found_where_they_are() {
        let place = |nr, args| timeout(nr, args).map(|found| (found.place, found.absolute, found.rest));
        assert_eq!(place(162, [1, 9, 0, 0, 0, 0]), Some((Place::Time32(0), false, Some(1))));
        assert_eq!(place(407, [0, 0, 1, 0, 0, 0]), Some((Place::Time64(2), false, None)));
        assert_eq!(place(407, [1, 1, 1, 0, 0, 0]), Some((Place::Time64(2), true, None)));
        // CLOCK_REALTIME's moment, no limit.
        for (nr, args) in [(407, [0, 1, 1, 0, 0, 0]), (422, [1, 0, 0, 0, 0, 0])] {
            assert_eq!(place(nr, args), None);
        }
        assert_eq!(place(168, [1, 1, u32::MAX, 0, 0, 0]), None);
        assert_eq!(place(240, [1, 0x80, 0, 1, 0, 0]), Some((Place::Time32(3), false, None)));
        assert_eq!(place(240, [1, 0x89, 0, 1, 0, 0]), Some((Place::Time32(3), true, None)));
        assert_eq!(place(240, [1, 0x189, 0, 1, 0, 0]), None);
        assert_eq!(place(449, [1, 1, 0, 1, 1, 0]), Some((Place::Time64(3), true, None)));
        assert_eq!(place(449, [1, 1, 0, 1, 0, 0]), None);
    }
}
