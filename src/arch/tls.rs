//! [SIGNAL] Segment descriptors of a thread: the TLS entries of the GDT, and the LDT.

use crate::format::thread::{TlsEntry, desc};
use crate::sys::{Errno, process};
use zerocopy::little_endian::{U32, U64};

/// TLS entries of the GDT.
pub const ENTRIES: u32 = 3;
/// Index of the first one: on a 64-bit kernel, on a 32-bit one.
const FIRST_64: u32 = 12;
const FIRST_32: u32 = 6;
/// How an entry that was never set reads back.
const EMPTY: u32 = desc::READ_EXEC_ONLY | desc::SEG_NOT_PRESENT;

/// GDT index of the first TLS entry of this kernel.
pub fn first_entry() -> u32 {
    if process::get_thread_area(FIRST_64).is_ok() { FIRST_64 } else { FIRST_32 }
}

/// The thread's TLS entries that are set, and how many.
pub fn capture_tls(first: u32) -> ([TlsEntry; ENTRIES as usize], usize) {
    let mut out = [TlsEntry::default(); ENTRIES as usize];
    let mut n = 0;
    for slot in 0..ENTRIES {
        let Ok(found) = process::get_thread_area(first + slot) else { continue };
        if found.base_addr == 0 && found.limit == 0 && found.flags & desc::ALL == EMPTY {
            continue;
        }
        if let Some(place) = out.get_mut(n) {
            *place = TlsEntry {
                slot: U32::new(slot),
                flags: U32::new(found.flags & desc::ALL),
                base: U64::new(found.base_addr.into()),
                limit: U32::new(found.limit),
                reserved: U32::new(0),
            };
            n += 1;
        }
    }
    (out, n)
}

/// Bytes of the largest LDT.
pub const LDT_BYTES: usize = 8192 * 8;

/// The LDT as raw descriptors; empty if the process has none.
pub fn read_ldt(buf: &mut [u8]) -> Result<&[u8], Errno> {
    let n = process::read_ldt(buf)?;
    Ok(buf.get(..n.min(buf.len())).unwrap_or(&[]))
}

/// A raw descriptor as `user_desc` fields; `None` for an empty one. Intel SDM, volume 3, 3.4.5.
pub fn ldt_entry(index: u32, raw: [u8; 8]) -> Option<TlsEntry> {
    if raw == [0; 8] {
        return None;
    }
    let [l0, l1, b0, b1, b2, access, high, b3] = raw;
    let base = u32::from_le_bytes([b0, b1, b2, b3]);
    let limit = u32::from(l0) | (u32::from(l1) << 8) | (u32::from(high & 0xf) << 16);
    let bit = |set: bool, flag: u32| if set { flag } else { 0 };
    // Type bits: 3 code, 2 expand-down or conforming, 1 writable or readable, 0 accessed.
    let flags = bit(high & 0x40 != 0, desc::SEG_32BIT)
        | (u32::from((access >> 2) & 3) << 1)
        | bit(access & 2 == 0, desc::READ_EXEC_ONLY)
        | bit(high & 0x80 != 0, desc::LIMIT_IN_PAGES)
        | bit(access & 0x80 == 0, desc::SEG_NOT_PRESENT)
        | bit(high & 0x10 != 0, desc::USEABLE);
    Some(TlsEntry {
        slot: U32::new(index),
        flags: U32::new(flags),
        base: U64::new(base.into()),
        limit: U32::new(limit),
        reserved: U32::new(0),
    })
}
