//! [NORMAL] A restarted program whose CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they stood at the
//! checkpoint: in a time namespace, where this system allows one.
//!
//! So they do not go back on a machine that was booted later, nor does a time that the program has noted for later
//! come early because a restart was late or the machine has been up for long. Waits and timers are kept the same way.
#![allow(unsafe_code)] // System calls that neither the standard library nor libc wraps.

use selfckpt::format::Image;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

const NANOS: i128 = 1_000_000_000;
const OFFSETS: &str = "/proc/self/timens_offsets";
/// The clocks that a time namespace has of its own: name and number.
const OWN: [(&str, i32); 2] = [("monotonic", libc::CLOCK_MONOTONIC), ("boottime", libc::CLOCK_BOOTTIME)];

/// What the clocks of [`OWN`] showed, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clocks([u64; 2]);

/// The time namespace that this process was in.
pub struct Before(File);

impl Clocks {
    pub fn of(image: &Image) -> Option<Clocks> {
        image.clocks.as_ref().map(|clocks| Clocks([clocks.monotonic.get(), clocks.boottime.get()]))
    }

    /// The children that this process makes from now on have these clocks.
    pub fn begin(self) -> io::Result<Before> {
        let before = Before(File::open("/proc/self/ns/time")?);
        // SAFETY: takes a number only.
        if unsafe { libc::unshare(libc::CLONE_NEWTIME) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Err(error) = self.set() {
            before.put_back();
            return Err(error);
        }
        Ok(before)
    }

    fn set(self) -> io::Result<()> {
        // Those of the namespace that this process is in: what its clocks show holds them already.
        let offsets = fs::read_to_string(OFFSETS)?;
        let mut lines = String::new();
        for ((name, clock), then) in OWN.into_iter().zip(self.0) {
            let offset = offset_of(&offsets, name) + i128::from(then) - now(clock);
            lines += &format!("{name} {} {}\n", offset.div_euclid(NANOS), offset.rem_euclid(NANOS));
        }
        fs::write(OFFSETS, lines)
    }
}

impl Before {
    /// This process goes back; its children stay.
    pub fn put_back(self) {
        // SAFETY: takes numbers only. Whoever may make a namespace may enter that of before; if not, this process
        // goes on with clocks that it hardly looks at.
        unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWTIME) };
    }
}

fn now(clock: i32) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid structure.
    unsafe { libc::clock_gettime(clock, &mut time) };
    i128::from(time.tv_sec) * NANOS + i128::from(time.tv_nsec)
}

/// Nanoseconds that the namespace adds to a clock, as /proc tells.
fn offset_of(offsets: &str, name: &str) -> i128 {
    let line =
        offsets.lines().map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then_some(words));
    let mut numbers = line.into_iter().flatten().map(|word| word.parse().unwrap_or(0i128));
    let (seconds, nanos) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds * NANOS + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_may_be_negative() {
        let text = "monotonic           0         0\nboottime          -12 500000000\n";
        assert_eq!(offset_of(text, "monotonic"), 0);
        assert_eq!(offset_of(text, "boottime"), -11_500_000_000);
        assert_eq!(offset_of("", "boottime"), 0);
    }
}
