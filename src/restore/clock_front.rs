//! [NORMAL] Clocks of the program that would go back, on a machine that was booted later: what a front adds to them, or
//! what is told.

use super::vdso::KernelFunctions;
use crate::format::image::Image;
use crate::format::task::{FrontInfo, Shift};
use crate::sys::process;
use zerocopy::little_endian::{U32, U64};

/// By how much this kernel's clocks show less than those of the program did at the checkpoint, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    monotonic: u64,
    boottime: u64,
}

/// In a time namespace that keeps the clocks, none is.
pub fn find_behind(image: &Image) -> Behind {
    let Some(clocks) = &image.clocks else { return Behind::default() };
    let behind = |clock: u32, then: U64| then.get().saturating_sub(process::clock(clock).nanoseconds());
    Behind {
        monotonic: behind(process::CLOCK_MONOTONIC, clocks.monotonic),
        boottime: behind(process::CLOCK_BOOTTIME, clocks.boottime),
    }
}

impl Behind {
    pub fn is_any(&self) -> bool {
        *self != Behind::default()
    }

    /// Names of the clocks, and seconds.
    pub fn describe(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let all = [("CLOCK_MONOTONIC", self.monotonic), ("CLOCK_BOOTTIME", self.boottime)];
        all.into_iter()
            .filter(|(_, nanoseconds)| *nanoseconds != 0)
            .map(|(name, nanoseconds)| (name, nanoseconds as f64 / 1e9))
    }

    /// What the front does in the restart that has this epoch.
    pub fn front(&self, functions: KernelFunctions, epoch: U32) -> FrontInfo {
        const SECOND: u64 = 1_000_000_000;
        let shift = |nanoseconds: u64| Shift {
            sec: U64::new(nanoseconds / SECOND),
            nsec: U32::new((nanoseconds % SECOND) as u32),
            reserved: U32::new(0),
        };
        FrontInfo {
            epoch,
            clock_gettime: U32::new(functions.clock_gettime),
            clock_gettime64: U32::new(functions.clock_gettime64),
            vsyscall: U32::new(functions.vsyscall),
            monotonic: shift(self.monotonic),
            boottime: shift(self.boottime),
        }
    }
}
