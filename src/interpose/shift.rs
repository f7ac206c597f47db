//! [NORMAL] System calls with times of clocks that a restart has [moved](clock_front): the kernel gets and tells those of
//! its own. Only such programs come here, by the front of the [kernel's entry](crate::arch::vsyscall).
//!
//! Makes raw system calls alone: libc is in the middle of one, in whatever state.
#![allow(unsafe_code)] // Called by assembly; makes the program's system calls, and writes what they tell.

use crate::arch::vsyscall::{Shifted, shift};
use crate::sys::lines::{Lines, field, parse_dec};
use crate::sys::process::{self, CLOCK_BOOTTIME, CLOCK_MONOTONIC};
use crate::sys::text::text;
use crate::sys::{Errno, Text, clock_front, fs, nr, syscall};

/// The calls that are looked at.
pub const WITH_TIMES: [u32; 12] = [
    nr::SYSINFO,
    nr::FUTEX,
    nr::FUTEX_TIME64,
    nr::FUTEX_WAITV,
    nr::TIMER_SETTIME,
    nr::TIMER_SETTIME64,
    nr::TIMERFD_SETTIME,
    nr::TIMERFD_SETTIME64,
    nr::CLOCK_GETTIME,
    nr::CLOCK_GETTIME64,
    nr::CLOCK_NANOSLEEP,
    nr::CLOCK_NANOSLEEP_TIME64,
];

/// How the call goes on, one of [`shift`]. None that depends on how the clocks are moved goes on as it is: a restart may be
/// on its way.
pub extern "C" fn selfckpt_shift(call: &mut Shifted) -> u32 {
    call.args = call.given();
    let [first, second, ..] = call.args;
    let result = match call.nr {
        nr::CLOCK_GETTIME | nr::CLOCK_GETTIME64 if !clock_front::may_move(first) => return shift::AS_IT_IS,
        nr::CLOCK_GETTIME => make(call).and_then(|()| tell_clock(Form::Time32, first, second)),
        nr::CLOCK_GETTIME64 => make(call).and_then(|()| tell_clock(Form::Time64, first, second)),
        nr::SYSINFO => make(call).and_then(|()| tell_uptime(first)),
        // What cannot be read or understood is the kernel's to refuse.
        _ => return move_moment(call).map_or(shift::AS_IT_IS, |()| shift::MOVED),
    };
    let [first, ..] = &mut call.args;
    *first = result.map_or_else(|errno| errno.0.wrapping_neg() as u32, |()| 0);
    shift::MADE
}

fn make(call: &Shifted) -> Result<(), Errno> {
    // SAFETY: the program's own call. Where it writes to is the kernel's to check.
    unsafe { syscall(call.nr, call.args.map(|argument| argument as usize)) }.map(drop)
}

const SECOND: i64 = 1_000_000_000;

/// The forms that a time has: both of its words have 32, or 64 bits.
#[derive(Clone, Copy)]
enum Form {
    Time32,
    Time64,
}

/// `struct timespec`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Time {
    sec: i64,
    nsec: i64,
}

impl Time {
    fn is_valid(self) -> bool {
        self.sec >= 0 && (0..SECOND).contains(&self.nsec)
    }

    /// What the clock of `self` shows when the one shows zero that is `offset` behind it. Never zero, which is no moment
    /// for a timer.
    fn less(self, offset: i64) -> Time {
        let (sec, nsec) = (offset.div_euclid(SECOND), self.nsec - offset.rem_euclid(SECOND));
        let sec = self.sec.saturating_sub(sec).saturating_sub(i64::from(nsec < 0));
        let moved = Time { sec, nsec: nsec.rem_euclid(SECOND) };
        if sec < 0 || moved == (Time { sec: 0, nsec: 0 }) { Time { sec: 0, nsec: 1 } } else { moved }
    }
}

impl Form {
    fn size(self) -> usize {
        match self {
            Form::Time32 => 8,
            Form::Time64 => 16,
        }
    }

    fn read(self, at: u32) -> Result<Time, Errno> {
        let mut bytes = [0u8; 16];
        let bytes = bytes.get_mut(..self.size()).ok_or(Errno::EFAULT)?;
        process::read_memory(at as usize, bytes)?;
        let (sec, nsec) = bytes.split_at(bytes.len() / 2);
        let word = |bytes: &[u8]| match bytes.try_into() {
            Ok(word) => i64::from_le_bytes(word),
            Err(_) => bytes.try_into().map_or(0, |word| i64::from(i32::from_le_bytes(word))),
        };
        // Of the nanoseconds the kernel reads 32 bits, too, of a task of 32.
        Ok(Time { sec: word(sec), nsec: word(nsec) & 0xffff_ffff })
    }

    /// # Safety
    /// There is memory for a time.
    unsafe fn write(self, at: *mut u8, time: Time) {
        // SAFETY: by the contract above.
        unsafe {
            match self {
                Form::Time32 => at.cast::<[i32; 2]>().write_unaligned([time.sec as i32, time.nsec as i32]),
                Form::Time64 => at.cast::<[i64; 2]>().write_unaligned([time.sec, time.nsec]),
            }
        }
    }
}

/// What the kernel has said its clock shows, as the program's.
fn tell_clock(form: Form, clock: u32, at: u32) -> Result<(), Errno> {
    let shown = form.read(at)?.less(-clock_front::offset_of(clock));
    // SAFETY: where the kernel has written one.
    unsafe { form.write(at as *mut u8, shown) };
    Ok(())
}

/// `struct sysinfo` begins with the seconds since the boot, as a time namespace counts them.
fn tell_uptime(at: u32) -> Result<(), Errno> {
    let uptime = at as *mut i32;
    // SAFETY: where the kernel has written it.
    unsafe {
        uptime.write_unaligned(uptime.read_unaligned() + (clock_front::offset_of(CLOCK_BOOTTIME) / SECOND) as i32)
    };
    Ok(())
}

/// Gives the call a moment of the kernel's clock in place of that of the program's, if it has one; else an error.
fn move_moment(call: &mut Shifted) -> Result<(), Errno> {
    /// TIMER_ABSTIME, TFD_TIMER_ABSTIME.
    const ABSTIME: u32 = 1;
    let [first, flags, _, _, fifth, _] = call.args;
    let is_absolute = flags & ABSTIME != 0;
    match call.nr {
        nr::CLOCK_NANOSLEEP if is_absolute => move_time(call, Form::Time32, 2, first),
        nr::CLOCK_NANOSLEEP_TIME64 if is_absolute => move_time(call, Form::Time64, 2, first),
        nr::FUTEX if waits_until_a_moment(flags) => move_time(call, Form::Time32, 3, CLOCK_MONOTONIC),
        nr::FUTEX_TIME64 if waits_until_a_moment(flags) => move_time(call, Form::Time64, 3, CLOCK_MONOTONIC),
        nr::FUTEX_WAITV => move_time(call, Form::Time64, 3, fifth),
        nr::TIMER_SETTIME if is_absolute => move_timer(call, Form::Time32, clock_of_timer(first)?),
        nr::TIMER_SETTIME64 if is_absolute => move_timer(call, Form::Time64, clock_of_timer(first)?),
        nr::TIMERFD_SETTIME if is_absolute => move_timer(call, Form::Time32, clock_of_timerfd(first)?),
        nr::TIMERFD_SETTIME64 if is_absolute => move_timer(call, Form::Time64, clock_of_timerfd(first)?),
        _ => Err(Errno::EINVAL),
    }
}

/// FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2, without FUTEX_CLOCK_REALTIME.
fn waits_until_a_moment(op: u32) -> bool {
    matches!(op & 0x7f, 9 | 11 | 13) && op & 0x100 == 0
}

/// That `argument` points to.
fn move_time(call: &mut Shifted, form: Form, argument: usize, clock: u32) -> Result<(), Errno> {
    let pointer = call.args.get_mut(argument).filter(|pointer| **pointer != 0).ok_or(Errno::EINVAL)?;
    let time = form.read(*pointer)?;
    if !time.is_valid() || !clock_front::may_move(clock) {
        return Err(Errno::EINVAL);
    }
    let place = call.times.as_mut_ptr();
    // SAFETY: there is room for more than one.
    unsafe { form.write(place.cast(), time.less(clock_front::offset_of(clock))) };
    *pointer = place as u32;
    Ok(())
}

/// `struct itimerspec`, that the third argument points to: an interval, and a moment, unless that is zero.
fn move_timer(call: &mut Shifted, form: Form, clock: u32) -> Result<(), Errno> {
    let [_, _, pointer, ..] = &mut call.args;
    let (interval, moment) = (form.read(*pointer)?, form.read(pointer.wrapping_add(form.size() as u32))?);
    if !moment.is_valid() || moment == (Time { sec: 0, nsec: 0 }) || !clock_front::may_move(clock) {
        return Err(Errno::EINVAL);
    }
    let place = call.times.as_mut_ptr();
    // SAFETY: there is room for two.
    unsafe {
        form.write(place.cast(), interval);
        form.write(place.cast::<u8>().add(form.size()), moment.less(clock_front::offset_of(clock)));
    }
    *pointer = place as u32;
    Ok(())
}

/// Of a timer of timer_create(2), by the kernel's id.
#[inline(never)] // A small stack is enough for the other calls.
fn clock_of_timer(id: u32) -> Result<u32, Errno> {
    let file = fs::OwnedFd(fs::open(b"/proc/self/timers\0", fs::O_RDONLY | fs::O_CLOEXEC, 0)?);
    let mut buf = [0; 512];
    let mut lines = Lines::new(file.0, &mut buf);
    let mut is_it = false;
    while let Some(line) = lines.next_line()? {
        if let Some(found) = field(line, b"ID") {
            is_it = parse_dec(found) == Some(u64::from(id));
        }
        if let Some(clock) = field(line, b"ClockID").filter(|_| is_it) {
            return parse_dec(clock).map(|clock| clock as u32).ok_or(Errno::EINVAL);
        }
    }
    Err(Errno::EINVAL)
}

#[inline(never)] // As above.
fn clock_of_timerfd(fd: u32) -> Result<u32, Errno> {
    let path: Text<64> = text!("/proc/thread-self/fdinfo/{fd}\0");
    let mut buf = [0; 512];
    let clock = field(fs::read_file(path.as_bytes(), &mut buf)?, b"clockid").and_then(parse_dec);
    clock.map(|clock| clock as u32).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn time(sec: i64, nsec: i64) -> Time {
        Time { sec, nsec }
    }

    #[test]
    fn moments_are_moved() {
        assert_eq!(time(10, 100).less(3 * SECOND + 50), time(7, 50));
        assert_eq!(time(10, 100).less(3 * SECOND + 200), time(6, SECOND - 100));
        assert_eq!(time(10, 999_999_999).less(-(3 * SECOND) - 1), time(14, 0));
        assert_eq!(time(i64::MAX, 0).less(-SECOND), time(i64::MAX, 0));
    }

    #[test]
    fn a_moment_of_before_is_past_and_no_zero() {
        assert_eq!(time(3, 0).less(5 * SECOND), time(0, 1));
        assert_eq!(time(3, 0).less(3 * SECOND), time(0, 1));
    }

    #[test]
    fn both_forms_are_read_as_written() {
        for form in [Form::Time32, Form::Time64] {
            let mut place = [0u64; 2];
            // SAFETY: room for the longer one.
            unsafe { form.write(place.as_mut_ptr().cast(), time(77, 999_999_999)) };
            assert_eq!(form.read(place.as_ptr() as u32), Ok(time(77, 999_999_999)));
        }
        assert!(Form::Time64.read(8).is_err());
    }

    #[test]
    fn locks_of_a_time_of_day_are_not_moved() {
        assert!(waits_until_a_moment(0x89) && waits_until_a_moment(13));
        assert!(!waits_until_a_moment(0x189) && !waits_until_a_moment(0) && !waits_until_a_moment(6));
    }
}
