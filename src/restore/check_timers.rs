//! [NORMAL] Whether the timers of an image make sense. What notifies or counts a thread that is not there is none
//! of its business: threads end.

use super::check::Problems;
use crate::format::image::Image;
use crate::format::kind;
use crate::format::timers::{clock, notify};
use std::collections::HashSet;

/// Some 146 years: less than what a kernel takes, and what adds up without an overflow.
const LONGEST_NS: u64 = i64::MAX as u64 / 2;

pub(super) fn check_timers(image: &Image, problems: &mut Problems) {
    for itimer in &image.itimers {
        for (name, value) in [("left_us", itimer.left_us.get()), ("every_us", itimer.every_us.get())] {
            // Seconds are 31 bits to a 32-bit task.
            if value >= 1_000_000 << 31 {
                problems.refuse(kind::ITIMERS, name, value);
            }
        }
    }
    let mut ids = HashSet::new();
    for timer in &image.timers {
        let id = timer.id.get();
        if id > i32::MAX as u32 || !ids.insert(id) {
            problems.refuse(kind::TIMER, "id", id.into());
        }
        if !matches!(timer.notify.get(), notify::SIGNAL | notify::NONE | notify::THREAD | notify::THREAD_ID) {
            problems.refuse(kind::TIMER, "notify", timer.notify.get().into());
        }
        if timer.notify.get() != notify::NONE && !(1..=64).contains(&timer.signo.get()) {
            problems.refuse(kind::TIMER, "signo", timer.signo.get().into());
        }
        if clock::name(timer.clock.get()) == "unknown" {
            problems.refuse(kind::TIMER, "clock", timer.clock.get().into());
        }
        for (name, value) in [("left_ns", timer.left_ns.get()), ("every_ns", timer.every_ns.get())] {
            if value > LONGEST_NS {
                problems.refuse(kind::TIMER, name, value);
            }
        }
    }
}
