//! [SIGNAL] Which descriptors share an open file description (dup(2), fork(2)), as kcmp(2) tells.
#![allow(unsafe_code)] // A helper that sorts one half.

use super::{FdSlot, fs, process};
use crate::arch::helper::{self, Outcome};
use core::cmp::Ordering;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// From so many alike on a helper is worth its start.
const MANY: usize = 512;

/// Gives descriptors of one open file description the same number, in the order of their lowest descriptors. Returns how
/// many there are. `leaders`, `order` and `spare` are for that; `beside` ends memory for a helper's stack, if there may be
/// one.
pub fn find_sharing(
    fds: &mut [FdSlot],
    leaders: &mut [AtomicU32],
    order: &mut [u32],
    spare: &mut [u32],
    beside: Option<usize>,
) -> u32 {
    let order = order.get_mut(..fds.len()).unwrap_or(&mut []);
    if find_leaders(fds, leaders, order, spare, beside).is_none() {
        // The helper has left a table that is half sorted.
        let _ = find_leaders(fds, leaders, order, spare, None);
    }
    let mut files = 0;
    for (at, leader) in (0..fds.len()).zip(leaders) {
        let (before, rest) = fds.split_at_mut(at);
        let Some(slot) = rest.first_mut() else { break };
        match before.get(*leader.get_mut() as usize) {
            Some(leader) => slot.file = leader.file,
            None => {
                slot.first = true;
                slot.file = files;
                files += 1;
            }
        }
    }
    files
}

/// Two share a description if kcmp(2) says so, which also tells an order of the kernel's own: so those that agree in all
/// that a description holds are sorted, and nothing here is quadratic. `None` if the helper has not done its work.
fn find_leaders(
    fds: &[FdSlot],
    leaders: &[AtomicU32],
    order: &mut [u32],
    spare: &mut [u32],
    beside: Option<usize>,
) -> Option<()> {
    for ((place, leader), number) in order.iter_mut().zip(leaders).zip(0..) {
        *place = number;
        leader.store(number, Relaxed);
    }
    let key = |at: u32| {
        let slot = fds.get(at as usize)?;
        // The kernel's number of an eventfd: all of them have the same inode.
        Some((slot.dev, slot.ino, slot.pos, slot.flags, slot.eventfd.map(|found| found.id)))
    };
    order.sort_unstable_by_key(|&at| (key(at), at));
    let sorter = Sorter { fds, leaders };
    let this = process::gettid();
    let mut rest = order;
    while let Some(&first) = rest.first() {
        let alike = rest.iter().take_while(|&&at| key(at) == key(first)).count();
        let (group, others) = rest.split_at_mut(alike);
        match beside.filter(|_| alike >= MANY) {
            Some(stack_top) => sorter.sort_by_two(this, group, spare, stack_top)?,
            None => sorter.sort(this, group, spare),
        };
        rest = others;
    }
    Some(())
}

#[derive(Clone, Copy)]
struct Sorter<'a> {
    fds: &'a [FdSlot],
    leaders: &'a [AtomicU32],
}

impl Sorter<'_> {
    /// Sorts ascending places of descriptors by the kernel's order of their descriptions. Of those that are the same the
    /// first one stays, as leader of the others. Returns how many stay, at the front. Merging asks least often. `this` is
    /// the calling thread, which has them: a process whose main one has ended tells nothing.
    fn sort(self, this: u32, places: &mut [u32], spare: &mut [u32]) -> usize {
        if places.len() < 2 {
            return places.len();
        }
        let (left, right) = places.split_at_mut(places.len() / 2);
        let stay = (self.sort(this, left, spare), self.sort(this, right, spare));
        self.merge(this, places, stay, spare)
    }

    /// The same with a helper that sorts one half. `None` if it has not done so.
    fn sort_by_two(self, this: u32, places: &mut [u32], spare: &mut [u32], stack_top: usize) -> Option<usize> {
        let middle = places.len() / 2;
        let mut stay = (0, 0);
        let (left, right) = places.split_at_mut(middle);
        let (spare_left, spare_right) = spare.split_at_mut(middle);
        // SAFETY: the scratch memory sets this stack aside for a helper, of which there is one at a time; each of the two
        // has its own part of both tables.
        let outcome = unsafe {
            helper::beside(stack_top, &mut || stay.1 = self.sort(process::gettid(), right, spare_right), &mut || {
                stay.0 = self.sort(this, left, spare_left)
            })
        };
        match outcome {
            Outcome::Done => {}
            Outcome::NotStarted => stay.1 = self.sort(this, right, spare),
            Outcome::Broken => return None,
        }
        Some(self.merge(this, places, stay, spare))
    }

    /// Merges both halves of `places`, of which so many at the front of either are sorted.
    fn merge(self, this: u32, places: &mut [u32], stay: (usize, usize), spare: &mut [u32]) -> usize {
        let (left, right) = places.split_at_mut(places.len() / 2);
        let (mut left, mut right) = (left.get(..stay.0).unwrap_or(&[]), right.get(..stay.1).unwrap_or(&[]));
        let mut count = 0;
        loop {
            let next = match (left.split_first(), right.split_first()) {
                (Some((&a, more)), Some((&b, others))) => {
                    let fd = |at: u32| self.fds.get(at as usize).map_or(-1, |slot| slot.fd);
                    // Where the kernel does not tell, each is one of its own.
                    match fs::kcmp_file(this, fd(a), fd(b)).unwrap_or(Ordering::Less) {
                        Ordering::Greater => {
                            right = others;
                            b
                        }
                        order => {
                            if order.is_eq() {
                                if let Some(leader) = self.leaders.get(b as usize) {
                                    leader.store(a, Relaxed);
                                }
                                right = others;
                            }
                            left = more;
                            a
                        }
                    }
                }
                (Some((&a, more)), None) => {
                    left = more;
                    a
                }
                (None, Some((&b, others))) => {
                    right = others;
                    b
                }
                (None, None) => break,
            };
            if let Some(place) = spare.get_mut(count) {
                *place = next;
            }
            count += 1;
        }
        for (place, next) in places.iter_mut().zip(spare.iter().take(count)) {
            *place = *next;
        }
        count
    }
}
