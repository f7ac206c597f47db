//! [NORMAL, SIGNAL] ITIMERS and TIMER: what goes off later.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ITIMERS: three of these, ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF; microseconds.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Itimer {
    /// Until it goes off; 0 if it does not run.
    pub left_us: U64,
    pub every_us: U64,
}
const _: () = assert!(size_of::<Itimer>() == 16);

/// CLOCKS: what the clocks that count from the boot showed the program at the checkpoint, nanoseconds.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Clocks {
    pub monotonic: U64,
    pub boottime: U64,
}
const _: () = assert!(size_of::<Clocks>() == 16);

/// CLOCK_OFFSETS: the time namespace that the program was in, by the difference of its clocks from the machine's;
/// signed nanoseconds.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ClockOffsets {
    pub monotonic: U64,
    pub boottime: U64,
}
const _: () = assert!(size_of::<ClockOffsets>() == 16);

/// CLOCK_FRONT: what a restart needs to have the clocks go on by a front, and what the front adds already.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ClockFront {
    /// Address of the library's [`FrontInfo`](super::task::FrontInfo), which a restart fills in.
    pub info: U64,
    pub info_size: U32,
    /// 1: a restart has led the vdso of the program to the front.
    pub in_use: U32,
    /// Addresses of the library's functions that take the place of the vdso's.
    pub clock_gettime: U64,
    pub clock_gettime64: U64,
    /// And of its entry for system calls.
    pub vsyscall: U64,
    /// What the clocks show more than the kernel's, nanoseconds.
    pub monotonic: U64,
    pub boottime: U64,
}
const _: () = assert!(size_of::<ClockFront>() == 56);

/// TIMER: a timer of timer_create(2).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Timer {
    pub id: U32,
    /// The clock's number; the CPU-time clocks of processes and threads are negative.
    pub clock: U32,
    /// `sigev_notify`: see [`notify`].
    pub notify: U32,
    pub signo: U32,
    /// `sigev_value` of a 32-bit task.
    pub value: U32,
    /// Thread that is notified, for [`notify::THREAD_ID`].
    pub tid: U32,
    /// Nanoseconds until it goes off; 0 if it does not run.
    pub left_ns: U64,
    /// Nanoseconds from one expiration to the next; 0 if there is one only.
    pub every_ns: U64,
}
const _: () = assert!(size_of::<Timer>() == 40);

/// Values of [`Timer::notify`].
pub mod notify {
    pub const SIGNAL: u32 = 0;
    pub const NONE: u32 = 1;
    /// What glibc makes threads of; to the kernel the same as SIGNAL.
    pub const THREAD: u32 = 2;
    pub const THREAD_ID: u32 = 4;
}

/// Clocks of timers by number.
pub mod clock {
    /// Numbers below 0: the CPU time of a process or thread, whose id stands in the upper bits, inverted;
    /// 0 for the one that asks.
    pub fn cpu_time_of(clock: u32) -> Option<(u32, bool)> {
        const PER_THREAD: u32 = 4;
        ((clock as i32) < 0).then_some((!((clock as i32) >> 3) as u32, clock & PER_THREAD != 0))
    }

    /// The same clock of the process or thread that asks.
    pub fn own_cpu_time(clock: u32) -> u32 {
        clock | !7
    }

    pub fn name(clock: u32) -> &'static str {
        match clock {
            0 => "CLOCK_REALTIME",
            1 => "CLOCK_MONOTONIC",
            7 => "CLOCK_BOOTTIME",
            8 => "CLOCK_REALTIME_ALARM",
            9 => "CLOCK_BOOTTIME_ALARM",
            11 => "CLOCK_TAI",
            _ => match cpu_time_of(clock) {
                Some((_, true)) => "CPU time of a thread",
                Some((_, false)) => "CPU time of the process",
                None => "unknown",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn cpu_clocks() {
        assert_eq!(clock::cpu_time_of(1), None);
        assert_eq!(clock::cpu_time_of(-6i32 as u32), Some((0, false)));
        assert_eq!(clock::cpu_time_of(-2i32 as u32), Some((0, true)));
        let of_thread = (!4711u32 << 3) | 6; // as pthread_getcpuclockid makes it
        assert_eq!(clock::cpu_time_of(of_thread), Some((4711, true)));
        assert_eq!(clock::own_cpu_time(of_thread), -2i32 as u32);
    }
}
