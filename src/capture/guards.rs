//! [SIGNAL] Guard regions: pages inside a mapping that madvise(MADV_GUARD_INSTALL) has made inaccessible. No line of
//! /proc tells them; the page table does.
#![allow(unsafe_code)] // PAGEMAP_SCAN.

use super::Stream;
use super::failure::{Failure, fail, refuse};
use crate::format::kind;
use crate::format::memory::{GuardRange, Guards};
use crate::sys::abi::{PAGE_IS_GUARD, PAGEMAP_SCAN, PageRegion, PmScanArg};
use crate::sys::{Errno, call, fs, nr};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// Ranges of one record.
const RANGES: usize = 4096;

/// Finds them all, in order of address. Kernels before 6.15 do not tell.
pub fn find_guards<'a>(
    table: &'a mut [GuardRange],
    regions: &mut [PageRegion],
    task_size: u64,
) -> Result<&'a [GuardRange], Failure> {
    let pagemap = fs::open(b"/proc/thread-self/pagemap\0", fs::O_RDONLY | fs::O_CLOEXEC, 0)
        .map_err(|errno| fail!(errno, "cannot open /proc/thread-self/pagemap"))?;
    let pagemap = fs::OwnedFd(pagemap);
    let mut found = 0;
    let mut at = 0;
    while at < task_size {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start: at,
            end: task_size,
            vec: regions.as_mut_ptr() as usize as u64,
            vec_len: regions.len() as u64,
            category_mask: PAGE_IS_GUARD,
            return_mask: PAGE_IS_GUARD,
            ..PmScanArg::default()
        };
        // SAFETY: `arg` describes `regions` with its length.
        let count = match unsafe { call!(nr::IOCTL, pagemap.0, PAGEMAP_SCAN, &raw mut arg) } {
            Ok(count) => count,
            Err(Errno(25) | Errno::EINVAL | Errno::ENOSYS) => break,
            Err(errno) => return Err(fail!(errno, "cannot scan the page table for guard regions")),
        };
        for region in regions.iter().take(count) {
            let room = table.len();
            let slot = table
                .get_mut(found)
                .ok_or_else(|| refuse!(Errno::ENOMEM, "the program has more than {room} guard regions"))?;
            *slot = GuardRange { start: U64::new(region.start), end: U64::new(region.end) };
            found += 1;
        }
        // The kernel stops at a full array.
        if count < regions.len() {
            break;
        }
        at = regions.last().map_or(task_size, |last| last.end);
    }
    Ok(table.get(..found).unwrap_or(&[]))
}

pub fn write_guards(stream: &mut Stream<'_>, guards: &[GuardRange]) -> Result<(), Failure> {
    for part in guards.chunks(RANGES) {
        let head = Guards { count: U32::new(part.len() as u32), reserved: U32::new(0) };
        stream.record(kind::GUARDS, 0, &head, &[part.as_bytes()])?;
    }
    Ok(())
}

/// Whether a page lies in one of them.
pub fn is_guarded(guards: &[GuardRange], page: usize) -> bool {
    let after = guards.partition_point(|range| range.start.get() <= page as u64);
    after.checked_sub(1).and_then(|at| guards.get(at)).is_some_and(|range| (page as u64) < range.end.get())
}
