//! [SIGNAL] Which descriptors share an open file description (dup(2), fork(2)), as kcmp(2) tells.

use super::{FdSlot, fs, process};
use core::cmp::Ordering;

/// Gives descriptors of one open file description the same number, in the order of their lowest descriptors. Returns how
/// many there are. Two share one if kcmp(2) says so, which also tells an order of the kernel's own: so those that agree in
/// all that a description holds are sorted, and nothing here is quadratic. `order` and `spare` are for that.
pub fn find_sharing(fds: &mut [FdSlot], order: &mut [u32], spare: &mut [u32]) -> u32 {
    let order = order.get_mut(..fds.len()).unwrap_or(&mut []);
    for ((place, number), slot) in order.iter_mut().zip(0..).zip(fds.iter_mut()) {
        *place = number;
        slot.leader = number;
    }
    let key = |fds: &[FdSlot], at: u32| fds.get(at as usize).map(|slot| (slot.dev, slot.ino, slot.pos, slot.flags));
    order.sort_unstable_by_key(|&at| (key(fds, at), at));
    let this = process::gettid();
    let mut rest = order;
    while let Some(&first) = rest.first() {
        let alike = rest.iter().take_while(|&&at| key(fds, at) == key(fds, first)).count();
        let (group, others) = rest.split_at_mut(alike);
        sort_distinct(this, fds, group, spare);
        rest = others;
    }
    let mut files = 0;
    for at in 0..fds.len() {
        let (before, rest) = fds.split_at_mut(at);
        let Some(slot) = rest.first_mut() else { break };
        match before.get(slot.leader as usize) {
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

/// Sorts ascending places of descriptors by the kernel's order of their descriptions. Of those that are the same the first
/// one stays, as leader of the others. Returns how many stay, at the front. Merging asks least often. `this` is the thread
/// that has them: a process whose main one has ended tells nothing.
fn sort_distinct(this: u32, fds: &mut [FdSlot], places: &mut [u32], spare: &mut [u32]) -> usize {
    if places.len() < 2 {
        return places.len();
    }
    let (left, right) = places.split_at_mut(places.len() / 2);
    let (ends, starts) = (sort_distinct(this, fds, left, spare), sort_distinct(this, fds, right, spare));
    let (mut left, mut right) = (left.get(..ends).unwrap_or(&[]), right.get(..starts).unwrap_or(&[]));
    let mut count = 0;
    loop {
        let next = match (left.split_first(), right.split_first()) {
            (Some((&a, more)), Some((&b, others))) => {
                let fd = |at: u32| fds.get(at as usize).map_or(-1, |slot| slot.fd);
                // Where the kernel does not tell, each is one of its own.
                match fs::kcmp_file(this, fd(a), fd(b)).unwrap_or(Ordering::Less) {
                    Ordering::Greater => {
                        right = others;
                        b
                    }
                    order => {
                        if order.is_eq() {
                            if let Some(slot) = fds.get_mut(b as usize) {
                                slot.leader = a;
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
