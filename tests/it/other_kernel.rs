//! A restart on a kernel whose vdso differs, or that was booted later. There is one kernel here, so the image is changed: one byte
//! of the vdso's build-id, with all checksums made right again, is a kernel that was built elsewhere.

use crate::common::Spec;
use selfckpt::format::image::Image;
use selfckpt::format::kind;
use selfckpt::format::memory::vma_kind;
use selfckpt::format::reader::PageData;
use std::fs;

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes every checksum of an image right.
fn seal(bytes: &mut [u8]) {
    let mut at = 0;
    let mut digest = crc32fast::Hasher::new();
    loop {
        let (kind_of, len) = (word(bytes, at), word(bytes, at + 4));
        let crc_at = at + len - 4;
        if kind_of as u32 == kind::TAIL {
            put(bytes, at + 32, digest.finalize());
            let crc = crc32fast::hash(&bytes[at..crc_at]);
            put(bytes, crc_at, crc);
            return;
        }
        let mut crc = crc32fast::Hasher::new();
        if kind_of as u32 == kind::PAGES {
            let (runs, data, pages) = (word(bytes, at + 8), word(bytes, at + 12), word(bytes, at + 16));
            let after = at + data + pages * 4096;
            let mut page = at + data;
            for run in 0..runs {
                let size = word(bytes, at + 24 + 16 * run + 8) * 4096;
                let value = crc32fast::hash(&bytes[page..page + size]);
                put(bytes, after + 4 * run, value);
                page += size;
            }
            crc.update(&bytes[at..at + data]);
            crc.update(&bytes[after..crc_at]);
        } else {
            crc.update(&bytes[at..crc_at]);
        }
        put(bytes, crc_at, crc.finalize());
        digest.update(&bytes[at + len - 8..at + len]);
        at += len;
    }
}

#[test]
fn vdso_of_another_kernel() {
    let Some(mut job) = Spec::new("vdso_time").arg("moved").start() else { return };
    // The program reads clocks all the time. An image that was taken inside the vdso cannot go on with
    // another one, which the restart says; the test wants one that was not.
    let (taken, mut bytes, image) = loop {
        let taken = job.checkpoint();
        let bytes = fs::read(&taken.path).expect("the image");
        let image = Image::read(bytes.as_slice(), PageData::Check).expect("a good image");
        let vdso = image.vmas.iter().find(|entry| entry.vma.kind.get() == vma_kind::VDSO).expect("a vdso");
        let ip = image.threads[0].cpu.ip.get();
        if !(vdso.vma.start.get()..vdso.vma.end.get()).contains(&ip) {
            break (taken, bytes, image);
        }
    };
    job.sigkill();
    let vdso = image.vmas.iter().find(|entry| entry.vma.kind.get() == vma_kind::VDSO).expect("a vdso");
    let run = image.runs.iter().find(|run| run.addr == vdso.vma.start.get()).expect("its pages");
    let stored = run.offset as usize..(run.offset + run.bytes) as usize;
    // The note: name "GNU\0", then the build-id.
    let note = bytes[stored.clone()].windows(4).position(|name| name == b"GNU\0").expect("a build-id");
    bytes[stored.start + note + 4] ^= 1;
    seal(&mut bytes);
    fs::write(&taken.path, &bytes).expect("the image can be written");

    job.restart_from(&taken.path, &[], &[]);
    job.go("with the vdso of another kernel");
    let maps = fs::read_to_string(format!("/proc/{}/maps", job.program_pid())).expect("maps");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("this kernel's vdso is there");
    let old = format!("{:08x}-", vdso.vma.start.get());
    assert!(!line.starts_with(&old), "it lies where the other kernel's code must stay: {line}");
    assert!(maps.lines().any(|line| line.starts_with(&old) && line.contains("r-xp")), "the old code is gone\n{maps}");

    // And once more, from an image that holds both.
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.go("after a second restart");
    job.end("at the end");
}

/// A machine that was booted a minute ago: the clocks of the image are moved into the future.
#[test]
fn clocks_of_another_boot() {
    let Some(mut job) = Spec::new("timers_posix").start() else { return };
    let taken = job.checkpoint();
    job.sigkill();
    let mut bytes = fs::read(&taken.path).expect("the image");
    let image = Image::read(bytes.as_slice(), PageData::Check).expect("a good image");
    let line = image.records.iter().find(|line| line.kind == kind::CLOCKS).expect("a record of the clocks");
    const DAYS: u64 = 100;
    let later = image.clocks.expect("clocks").monotonic.get() + DAYS * 86_400 * 1_000_000_000;
    let at = line.offset as usize + 8;
    bytes[at..at + 8].copy_from_slice(&later.to_le_bytes());
    seal(&mut bytes);
    fs::write(&taken.path, &bytes).expect("the image can be written");
    // Where no namespace keeps them.
    job.restart_from(&taken.path, &[], &["--pid", "new"]);
    job.go("with clocks that go back");
    let story = job.story();
    assert!(story.contains("CLOCK_MONOTONIC goes back by 86"), "{story}");
    assert!(!story.contains("CLOCK_BOOTTIME goes back"), "{story}");
    job.end("at the end");
}
