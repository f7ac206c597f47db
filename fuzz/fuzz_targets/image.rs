//! Any bytes as an image: the reader and the check before a restart may refuse them, but not panic, overflow, or
//! allocate without a bound.
#![no_main]

use crc32fast::{Hasher, hash};
use libfuzzer_sys::fuzz_target;
use selfckpt::format::memory::{PageRun, Pages};
use selfckpt::format::reader::PageData;
use selfckpt::format::{Image, PAGE, RecordHead, RecordTrailer, Tail, align8, kind};
use selfckpt::restore::check::{Host, check_image};
use std::mem::{offset_of, size_of};

const HEAD: usize = size_of::<RecordHead>();
const TRAILER: usize = size_of::<RecordTrailer>();

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut repaired = bytes.to_vec();
    if repair(&mut repaired).is_some() {
        read(&repaired);
    }
});

fn read(bytes: &[u8]) {
    if let Ok(image) = Image::read(bytes, PageData::Check) {
        let _ = check_image(&image, &Host::detect(image.release.clone()));
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) -> Option<()> {
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// Makes the checksums right, as far as the records can be followed: what lies behind them is to be tested too. A
/// mutated image would hardly ever get past them.
fn repair(bytes: &mut [u8]) -> Option<()> {
    let mut digest = Hasher::new();
    let mut at = 0;
    while at < bytes.len() {
        let (record, len) = (number(bytes, at)? as u32, number(bytes, at + 4)?);
        let end = at.checked_add(len)?;
        if len < HEAD + TRAILER || end > bytes.len() {
            return None;
        }
        if record == kind::TAIL {
            put(bytes, at + HEAD + offset_of!(Tail, digest), digest.clone().finalize())?;
        }
        let crc = if record == kind::PAGES {
            repair_pages(&mut bytes[at..end])?
        } else {
            hash(&bytes[at..end - 4])
        };
        put(bytes, end - 4, crc)?;
        digest.update(&bytes[end - TRAILER..end]);
        at = end;
    }
    Some(())
}

/// The runs' checksums of one PAGES record; gives the record's own.
fn repair_pages(record: &mut [u8]) -> Option<u32> {
    let runs = number(record, HEAD + offset_of!(Pages, runs))?;
    let data = number(record, HEAD + offset_of!(Pages, data_offset))?;
    let crcs = record.len().checked_sub(TRAILER + align8(runs.checked_mul(4)?))?;
    let mut from = data;
    for i in 0..runs {
        let run = HEAD + size_of::<Pages>() + i * size_of::<PageRun>();
        let to = from.checked_add(number(record, run + offset_of!(PageRun, pages))?.checked_mul(PAGE as usize)?)?;
        let crc = hash(record.get(from..to.min(crcs))?);
        put(record, crcs + i * 4, crc)?;
        from = to;
    }
    let mut crc = Hasher::new();
    crc.update(record.get(..data)?);
    crc.update(&record[crcs..record.len() - 4]);
    Some(crc.finalize())
}
