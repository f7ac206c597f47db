//! [SIGNAL, NORMAL] When a wait with a time limit began, which the kernel does not tell: what stands in front of libc's
//! function (`interpose`) or of the kernel's entry (`vsyscall`) notes it on the stack, where a checkpoint finds it above
//! the stack pointer of the call.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A note. Words that are left of one in memory that is used for something else are told by what it says of itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Began {
    pub magic: [u32; 2],
    /// Its own address.
    pub at: u32,
    /// The clock below is that of this one.
    pub epoch: u32,
    /// Two arguments of the call.
    pub call: [u32; 2],
    /// CLOCK_MONOTONIC, nanoseconds: its low half, its high half.
    pub start: [u32; 2],
}

pub const MAGIC: [u32; 2] = [0x6b63_6c73, 0x6e67_6562];

impl Began {
    /// How far above the stack pointer one is looked for: more than libc's functions take, and less than the signal frame
    /// that lies between a handler of the program and the wait that it has interrupted.
    pub const REACH: usize = 512;

    /// For the address `at`.
    pub fn new(at: u32, epoch: u32, call: [u32; 2], start: u64) -> Began {
        Began { magic: MAGIC, at, epoch, call, start: [start as u32, (start >> 32) as u32] }
    }

    /// When the call with these arguments began, from the part of the stack that lies at `at`.
    pub fn find(stack: &[u8], at: u32, epoch: u32, args: &[u32]) -> Option<u64> {
        let found = stack.windows(size_of::<Began>()).enumerate().step_by(4).find_map(|(offset, bytes)| {
            let note = Began::read_from_bytes(bytes).ok()?;
            let is_one = note.magic == MAGIC && note.at == at.wrapping_add(offset as u32);
            is_one.then_some(note)
        })?;
        let [low, high] = found.start;
        let is_its = found.epoch == epoch && found.call.iter().all(|argument| args.contains(argument));
        is_its.then_some(u64::from(low) | (u64::from(high) << 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: [u32; 6] = [4, 77, 1, 0, 0xffff_0000, 5];
    const START: u64 = 0x1_2345_6789;

    fn found(note_at: u32, epoch: u32, call: [u32; 2], stack_at: u32) -> Option<u64> {
        let mut stack = [0xaa; Began::REACH];
        stack[40..40 + size_of::<Began>()].copy_from_slice(Began::new(note_at, epoch, call, START).as_bytes());
        Began::find(&stack, stack_at, 3, &ARGS)
    }

    #[test]
    fn the_note_of_this_call_is_found() {
        assert_eq!(found(0x1028, 3, [77, 0xffff_0000], 0x1000), Some(START));
    }

    #[test]
    fn what_is_left_of_another_is_not() {
        assert_eq!(found(0x1028, 3, [77, 0xffff_0000], 0x1004), None);
        assert_eq!(found(0x1028, 2, [77, 0xffff_0000], 0x1000), None);
        assert_eq!(found(0x1028, 3, [78, 0xffff_0000], 0x1000), None);
        assert_eq!(Began::find(&[0; 8], 0x1000, 3, &ARGS), None);
    }
}
