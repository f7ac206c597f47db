//! [SIGNAL] The program's timers: setitimer(2) and timer_create(2), into ITIMERS and TIMER.
//!
//! Timers go on while the program stands still. What goes off after its time was read and before the
//! pending signals are taken would be in the image twice: [`Read::has_gone_off`] tells.
#![allow(unsafe_code)] // getitimer(2) and timer_gettime(2) with structures.

use super::failure::{Failure, refuse};
use super::notices::{Notices, notice};
use super::{Context, Stream};
use crate::arch::{clock_entry, vsyscall};
use crate::format::notice::code;
use crate::format::task::FrontInfo;
use crate::format::timers::{ClockFront, ClockOffsets, Clocks, Itimer, Timer, clock, notify};
use crate::format::{FLAG_OPTIONAL, kind};
use crate::sys::abi::OWN_MARK;
use crate::sys::lines::{Cursor, Lines, parse_dec, parse_hex};
use crate::sys::{Errno, call, clock_front, fs, nr, process};
use zerocopy::little_endian::{U32, U64};

const SECOND: u64 = 1_000_000_000;

/// What was read, and when. The POSIX timers lie in a table.
#[derive(Clone, Copy)]
pub struct Read {
    pub count: usize,
    pub itimers: [Itimer; 3],
    /// /proc/self/timers is there.
    known: bool,
    /// Some timer notifies a single thread.
    pub for_threads: bool,
    /// CLOCK_MONOTONIC before the first one was read.
    at: u64,
}

/// Reads all timers of the program: ours is left out.
pub fn read_timers(table: &mut [Timer], buf: &mut [u8]) -> Result<Read, Failure> {
    let mut read =
        Read { count: 0, itimers: [Itimer::default(); 3], known: false, for_threads: false, at: process::now() };
    for (which, place) in read.itimers.iter_mut().enumerate() {
        *place = read_itimer(which as u32);
    }
    // Not thread-self: there it is not.
    let Ok(fd) = fs::open(b"/proc/self/timers\0", fs::O_RDONLY | fs::O_CLOEXEC, 0) else { return Ok(read) };
    let fd = fs::OwnedFd(fd);
    read.known = true;
    let room = table.len();
    let mut timer = Timer::default();
    let mut lines = Lines::new(fd.0, buf);
    while let Ok(Some(line)) = lines.next_line() {
        if read_line(line, &mut timer).is_none() {
            return Err(refuse!(Errno::EIO, "cannot understand /proc/self/timers: {}", crate::sys::text::Bytes(line)));
        }
        // The clock stands in the last of a timer's lines.
        if line.starts_with(b"ClockID:") && timer.value.get() != OWN_MARK {
            (timer.left_ns, timer.every_ns) = time_left(timer.id.get());
            read.for_threads |= timer.notify.get() == notify::THREAD_ID;
            let place = table.get_mut(read.count);
            *place.ok_or_else(|| refuse!(Errno(105), "the program has more than {room} timers"))? = timer; // ENOBUFS
            read.count += 1;
        }
    }
    Ok(read)
}

fn read_line(line: &[u8], timer: &mut Timer) -> Option<()> {
    let mut cursor = Cursor(line);
    let name = cursor.until(b':')?;
    cursor.skip_spaces();
    match name {
        b"ID" => *timer = Timer { id: U32::new(parse_dec(cursor.0)? as u32), ..Timer::default() },
        b"signal" => {
            timer.signo = U32::new(parse_dec(cursor.until(b'/')?)? as u32);
            // A pointer of the kernel's size: a 32-bit task's value is its lower half.
            timer.value = U32::new(parse_hex(cursor.0)? as u32);
        }
        b"notify" => {
            let how = match cursor.until(b'/')? {
                b"signal" => notify::SIGNAL,
                b"none" => notify::NONE,
                b"thread" => notify::THREAD,
                _ => return None,
            };
            let for_thread = cursor.until(b'.')? == b"tid";
            timer.notify = U32::new(if for_thread { notify::THREAD_ID } else { how });
            timer.tid = U32::new(if for_thread { parse_dec(cursor.0)? as u32 } else { 0 });
        }
        b"ClockID" => {
            timer.clock = U32::new(match cursor.0.strip_prefix(b"-") {
                Some(digits) => (parse_dec(digits)? as u32).wrapping_neg(),
                None => parse_dec(cursor.0)? as u32,
            });
        }
        _ => {}
    }
    Some(())
}

/// Nanoseconds until a timer goes off, and its period.
fn time_left(id: u32) -> (U64, U64) {
    let mut out = [0u64; 4];
    // SAFETY: `out` takes a struct __kernel_itimerspec.
    let _ = unsafe { call!(nr::TIMER_GETTIME64, id, out.as_mut_ptr()) };
    let [every_sec, every_nsec, sec, nsec] = out;
    let time = |sec: u64, nsec: u64| U64::new(sec.wrapping_mul(SECOND).wrapping_add(nsec));
    (time(sec, nsec), time(every_sec, every_nsec))
}

fn read_itimer(which: u32) -> Itimer {
    let mut out = [0u32; 4];
    // SAFETY: `out` takes a struct itimerval of a 32-bit task: four words.
    let _ = unsafe { call!(nr::GETITIMER, which, out.as_mut_ptr()) };
    let [every_sec, every_usec, sec, usec] = out;
    let time = |sec: u32, usec: u32| U64::new(u64::from(sec) * 1_000_000 + u64::from(usec));
    Itimer { left_us: time(sec, usec), every_us: time(every_sec, every_usec) }
}

impl Read {
    /// The signals that they send, as a set.
    pub fn signals(&self, table: &[Timer]) -> u64 {
        const OF_ITIMERS: [u32; 3] = [14, 26, 27]; // SIGALRM, SIGVTALRM, SIGPROF
        let runs = |itimer: &Itimer| itimer.left_us.get() != 0 || itimer.every_us.get() != 0;
        let itimers = self.itimers.iter().zip(OF_ITIMERS).filter(|(itimer, _)| runs(itimer)).map(|(_, signal)| signal);
        let timers = table.get(..self.count).unwrap_or(&[]).iter().map(|timer| timer.signo.get());
        itimers.chain(timers).fold(0, |set, signal| set | 1u64 << (signal.wrapping_sub(1) & 63))
    }

    /// Whether one of them may have gone off by now. CPU time of the program, whose threads stand still, does
    /// not pass faster than that of the clock.
    pub fn has_gone_off(&self, table: &[Timer]) -> bool {
        let elapsed = process::now().saturating_sub(self.at);
        let due = |left_ns: u64| left_ns != 0 && left_ns <= elapsed;
        // ITIMER_REAL stands still while its signal is pending; it has gone on since that was taken.
        let [real, ..] = &self.itimers;
        let waits = real.left_us.get() == 0 && real.every_us.get() != 0;
        waits
            || table.get(..self.count).unwrap_or(&[]).iter().any(|timer| due(timer.left_ns.get()))
            || self.itimers.iter().any(|itimer| due(itimer.left_us.get().saturating_mul(1000)))
    }
}

/// ITIMERS and the TIMERs.
pub fn capture_timers(
    stream: &mut Stream<'_>,
    context: &Context<'_>,
    table: &mut [Timer],
    notices: &mut Notices<'_>,
) -> Result<(), Failure> {
    let read = &context.timers;
    let clocks = Clocks { monotonic: shown(process::CLOCK_MONOTONIC), boottime: shown(process::CLOCK_BOOTTIME) };
    stream.record(kind::CLOCKS, 0, &clocks, &[])?;
    if let Some(offsets) = clock_offsets() {
        stream.record(kind::CLOCK_OFFSETS, FLAG_OPTIONAL, &offsets, &[])?;
    }
    // Who does not know of a front that is there would leave it as it was.
    let flags = if clock_front::is_in_use() { 0 } else { FLAG_OPTIONAL };
    stream.record(kind::CLOCK_FRONT, flags, &front(), &[])?;
    stream.record(kind::ITIMERS, 0, &read.itimers, &[])?;
    if !read.known {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            0,
            "POSIX timers (timer_create) are not saved: there is no /proc/self/timers (CONFIG_CHECKPOINT_RESTORE)"
        );
    }
    if context.timers_in_motion {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            0,
            "a timer goes off so often that one expiration may be lost or seen twice after a restart"
        );
    }
    for timer in table.get_mut(..read.count).unwrap_or(&mut []) {
        settle(timer, context, notices);
        stream.record(kind::TIMER, 0, &*timer, &[])?;
    }
    Ok(())
}

/// What a restart needs for a front of the clocks.
fn front() -> ClockFront {
    let [clock_gettime, clock_gettime64] = clock_entry::functions().map(|function| U64::new(function as u64));
    ClockFront {
        info: U64::new(clock_front::info_address() as u64),
        info_size: U32::new(size_of::<FrontInfo>() as u32),
        in_use: U32::new(clock_front::is_in_use().into()),
        clock_gettime,
        clock_gettime64,
        vsyscall: U64::new(vsyscall::address() as u64),
        monotonic: U64::new(clock_front::offset_of(process::CLOCK_MONOTONIC) as u64),
        boottime: U64::new(clock_front::offset_of(process::CLOCK_BOOTTIME) as u64),
    }
}

/// What the time namespace adds to the clocks; `None` where it adds nothing.
fn clock_offsets() -> Option<ClockOffsets> {
    let mut buf = [0; 256];
    let text = fs::read_file(b"/proc/self/timens_offsets\0", &mut buf).ok()?;
    let mut offsets = ClockOffsets::default();
    for line in text.split(|&byte| byte == b'\n') {
        let mut cursor = Cursor(line);
        let place = match cursor.word() {
            b"monotonic" => &mut offsets.monotonic,
            b"boottime" => &mut offsets.boottime,
            _ => continue,
        };
        let seconds = cursor.word();
        let (seconds, sign) = seconds.strip_prefix(b"-").map_or((seconds, 1), |digits| (digits, u64::MAX));
        let nanoseconds = parse_dec(cursor.word())?;
        *place = U64::new(parse_dec(seconds)?.wrapping_mul(sign).wrapping_mul(SECOND).wrapping_add(nanoseconds));
    }
    (offsets.monotonic.get() != 0 || offsets.boottime.get() != 0).then_some(offsets)
}

/// What the clock shows to the program.
fn shown(clock: u32) -> U64 {
    U64::new(process::clock(clock).nanoseconds().wrapping_add_signed(clock_front::offset_of(clock)))
}

/// Says what of a timer cannot be as it was.
fn settle(timer: &mut Timer, context: &Context<'_>, notices: &mut Notices<'_>) {
    let Some((of, per_thread)) = clock::cpu_time_of(timer.clock.get()) else { return };
    let (id, pid, notified) = (timer.id.get(), process::getpid(), timer.tid.get());
    // The kernel does not tell whose time a timer of CLOCK_THREAD_CPUTIME_ID counts: as a rule that of the
    // thread that it notifies.
    let counted = if per_thread && of == 0 { notified } else { of };
    let own = U32::new(clock::own_cpu_time(timer.clock.get()));
    if !per_thread && of != 0 && of != pid {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            id.into(),
            "timer {id} counts the CPU time of process {of}; after a restart it does not run"
        );
        (timer.clock, timer.left_ns) = (own, U64::new(0));
    } else if !per_thread || context.threads.len() == 1 || counted == pid {
        timer.clock = own;
    } else if counted == 0 {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            id.into(),
            "timer {id} counts the CPU time of a thread that the kernel does not tell; after a restart, the main thread's"
        );
    } else if notified != 0 && notified != counted {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            id.into(),
            "timer {id} counts the CPU time of thread {counted} and notifies thread {notified}; after a restart it does \
             not run"
        );
        (timer.clock, timer.left_ns) = (own, U64::new(0));
    } else {
        timer.clock = U32::new((!counted << 3) | timer.clock.get() & 7);
    }
}
