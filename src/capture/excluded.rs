//! [SIGNAL, NORMAL] Memory that the program does not want saved (`ckpt_exclude`): whole pages, in a table of its own.

use core::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4096;
pub const MAX_RANGES: usize = 256;

/// Ranges `start..end`, ascending, apart from each other. Changed by one thread at a time that no checkpoint
/// interrupts.
static RANGES: [[AtomicUsize; 2]; MAX_RANGES] = [const { [const { AtomicUsize::new(0) }; 2] }; MAX_RANGES];
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn range(index: usize) -> Option<(usize, usize)> {
    let [start, end] = RANGES.get(..COUNT.load(Ordering::Relaxed))?.get(index)?;
    Some((start.load(Ordering::Relaxed), end.load(Ordering::Relaxed)))
}

/// The next part of `at..stop` that is to be saved.
pub fn next_wanted(mut at: usize, stop: usize) -> Option<(usize, usize)> {
    let mut index = 0;
    while let Some((start, end)) = range(index).filter(|(start, _)| *start < stop) {
        if at < start {
            return Some((at, start));
        }
        at = at.max(end);
        index += 1;
    }
    (at < stop).then_some((at, stop))
}

/// A table while it is changed.
struct Change {
    ranges: [(usize, usize); MAX_RANGES + 1],
    count: usize,
}

impl Change {
    /// All ranges without what lies in `start..end`.
    fn without(start: usize, end: usize) -> Change {
        let mut change = Change { ranges: [(0, 0); MAX_RANGES + 1], count: 0 };
        let mut index = 0;
        while let Some((from, to)) = range(index) {
            change.push(from, to.min(start));
            change.push(from.max(end), to);
            index += 1;
        }
        change
    }

    fn push(&mut self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        if let Some(place) = self.ranges.get_mut(self.count) {
            *place = (start, end);
        }
        self.count += 1;
    }

    /// Puts the ranges into the table, in order and joined where they touch; false if they are too many.
    fn commit(&mut self) -> bool {
        let Some(ranges) = self.ranges.get_mut(..self.count) else { return false };
        ranges.sort_unstable();
        let mut joined = 0usize;
        for index in 0..ranges.len() {
            let Some(&next) = ranges.get(index) else { break };
            match joined.checked_sub(1).and_then(|last| ranges.get_mut(last)) {
                Some(last) if last.1 >= next.0 => last.1 = last.1.max(next.1),
                _ => {
                    if let Some(place) = ranges.get_mut(joined) {
                        *place = next;
                    }
                    joined += 1;
                }
            }
        }
        if joined > MAX_RANGES {
            return false;
        }
        for ([to_start, to_end], (start, end)) in RANGES.iter().zip(ranges.iter().take(joined)) {
            to_start.store(*start, Ordering::Relaxed);
            to_end.store(*end, Ordering::Relaxed);
        }
        COUNT.store(joined, Ordering::Relaxed);
        true
    }
}

/// Leaves the whole pages of `start..end` out of images; false if the table is full.
pub fn exclude(start: usize, end: usize) -> bool {
    let (start, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
    let mut change = Change::without(start, end.max(start));
    change.push(start, end);
    change.commit()
}

/// Takes every page of `start..end` into images again; false if the table is full.
pub fn include(start: usize, end: usize) -> bool {
    Change::without(start & !(PAGE - 1), end.saturating_add(PAGE - 1) & !(PAGE - 1)).commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_and_go() {
        let wanted = |at, stop| next_wanted(at * PAGE, stop * PAGE).map(|(a, b)| (a / PAGE, b / PAGE));
        assert_eq!(wanted(0, 100), Some((0, 100)));
        assert!(exclude(10 * PAGE + 1, 20 * PAGE + 5)); // pages 11 to 19
        assert_eq!(wanted(0, 100), Some((0, 11)));
        assert_eq!(wanted(11, 100), Some((20, 100)));
        assert_eq!(wanted(12, 18), None);
        assert!(exclude(20 * PAGE, 30 * PAGE) && exclude(5 * PAGE, 6 * PAGE));
        assert_eq!((wanted(5, 100), wanted(11, 100)), (Some((6, 11)), Some((30, 100))));
        assert_eq!(COUNT.load(Ordering::Relaxed), 2);
        assert!(include(15 * PAGE + 1, 15 * PAGE + 2)); // page 15
        assert_eq!((wanted(11, 100), wanted(16, 100)), (Some((15, 16)), Some((30, 100))));
        assert!(exclude(7 * PAGE + 1, 7 * PAGE + 5)); // no whole page
        assert_eq!(wanted(6, 100), Some((6, 11)));
        assert!(include(0, 100 * PAGE));
        assert_eq!(wanted(0, 100), Some((0, 100)));
        for page in 0..MAX_RANGES {
            assert!(exclude(2 * page * PAGE, (2 * page + 1) * PAGE));
        }
        assert!(!exclude(9000 * PAGE, 9001 * PAGE));
        assert!(include(0, 9000 * PAGE));
    }
}
