//! A restart on a kernel whose vdso differs, or that was booted later. There is one kernel here, so the image is changed: one byte
//! of the vdso's build-id, with all checksums made right again, is a kernel that was built elsewhere.

use crate::common::{self, Job, NOBODY, Spec, skipped};
use selfckpt::format::attributes::ThreadAttr;
use selfckpt::format::image::Image;
use selfckpt::format::kind;
use selfckpt::format::memory::vma_kind;
use selfckpt::format::reader::PageData;
use std::fs;
use std::mem::offset_of;

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

/// The image as one of a kernel that was built elsewhere. Returns where its vdso lies.
fn build_elsewhere(image: &common::Image) -> u64 {
    let mut bytes = fs::read(&image.path).expect("the image");
    let read = Image::read(bytes.as_slice(), PageData::Check).expect("a good image");
    let vdso = read.vmas.iter().find(|entry| entry.vma.kind.get() == vma_kind::VDSO).expect("a vdso");
    let run = read.runs.iter().find(|run| run.addr == vdso.vma.start.get()).expect("its pages");
    let stored = run.offset as usize..(run.offset + run.bytes) as usize;
    // The note: name "GNU\0", then the build-id.
    let note = bytes[stored.clone()].windows(4).position(|name| name == b"GNU\0").expect("a build-id");
    bytes[stored.start + note + 4] ^= 1;
    seal(&mut bytes);
    fs::write(&image.path, &bytes).expect("the image can be written");
    vdso.vma.start.get()
}

#[test]
fn vdso_of_another_kernel() {
    let Some(mut job) = Spec::new("vdso_time").arg("moved").start() else { return };
    // The program reads clocks all the time. An image that was taken inside the vdso cannot go on with
    // another one, which the restart says; the test wants one that was not.
    let taken = job.checkpoint_that(|image| !reads_clock(image));
    job.sigkill();
    let old = build_elsewhere(&taken);
    job.restart_from(&taken.path, &[], &[]);
    job.go("with the vdso of another kernel");
    let maps = fs::read_to_string(format!("/proc/{}/maps", job.program_pid())).expect("maps");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("this kernel's vdso is there");
    let old = format!("{old:08x}-");
    assert!(!line.starts_with(&old), "it lies where the other kernel's code must stay: {line}");
    assert!(maps.lines().any(|line| line.starts_with(&old) && line.contains("r-xp")), "the old code is gone\n{maps}");

    // And once more, from an image that holds both.
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.go("after a second restart");
    job.end("at the end");
}

/// Whether the program was in the code of the kernel's vdso when the image was taken, but in no system call: those are made
/// by its function for them, from behind where another kernel's vdso would put a jump.
pub fn reads_clock(image: &common::Image) -> bool {
    const AT_SYSINFO: usize = 32;
    const AT_SYSINFO_EHDR: usize = 33;
    let file = fs::File::open(&image.path).expect("the image");
    let image = Image::read(&file, PageData::Skip).expect("a good image");
    let known = |name| image.auxv.chunks_exact(8).find(|pair| word(pair, 0) == name).map(|pair| word(pair, 4));
    // Where the program knows a vdso of the same build.
    let call = (known(AT_SYSINFO).expect("AT_SYSINFO") - known(AT_SYSINFO_EHDR).expect("a vdso")) as u64;
    let vdso = image.vmas.iter().find(|entry| entry.vma.kind.get() == vma_kind::VDSO).expect("a vdso");
    let (start, end) = (vdso.vma.start.get(), vdso.vma.end.get());
    let ip = image.threads[0].cpu.ip.get();
    (start..end).contains(&ip) && !(start + call + 5..start + call + 32).contains(&ip)
}

const SECOND: u64 = 1_000_000_000;
const DAYS: u64 = 86_400 * SECOND;

/// Changes a record of an image, whose bytes begin with its type.
fn change(image: &common::Image, record: u32, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(&image.path).expect("the image");
    let read = Image::read(bytes.as_slice(), PageData::Check).expect("a good image");
    let line = read.records.iter().find(|line| line.kind == record).expect("a record of this kind");
    change(&mut bytes[line.offset as usize..(line.offset + u64::from(line.len)) as usize]);
    seal(&mut bytes);
    fs::write(&image.path, &bytes).expect("the image can be written");
}

/// The image as one that was taken when CLOCK_MONOTONIC showed more: this machine was booted later.
fn boot_later(image: &common::Image, by: u64) {
    change(image, kind::CLOCKS, |record| {
        let monotonic = u64::from_le_bytes(record[8..16].try_into().expect("8 bytes"));
        record[8..16].copy_from_slice(&(monotonic + by).to_le_bytes());
    });
}

/// A machine with fewer processors: the thread runs on those that there are, and the restart says so.
#[test]
fn cpus_that_are_not_there() {
    const CPUS: usize = 8 + size_of::<ThreadAttr>();
    let Some(mut job) = Spec::new("attr_thread").start() else { return };
    let taken = job.checkpoint();
    job.sigkill();
    for (only, words) in [(false, "of which there are "), (true, "it may run on ")] {
        let mut last = 0;
        // The main thread's, which is bound to one.
        change(&taken, kind::THREAD_ATTR, |record| {
            let len = word(record, 8 + offset_of!(ThreadAttr, cpus_len));
            let cpus = &mut record[CPUS..CPUS + len];
            last = 8 * len - 1;
            if only {
                cpus.fill(0);
            }
            cpus[len - 1] |= 0x80;
        });
        if fs::exists(format!("/sys/devices/system/cpu/cpu{last}")).expect("a directory of CPUs") {
            return skipped("every CPU that the kernel has a bit for is there");
        }
        job.rewind(1);
        job.restart_from(&taken.path, &[], &[]);
        job.go_without_waiting(true);
        job.wait_exit();
        let story = job.story();
        assert!(story.contains("was bound to the CPUs ") && story.contains(words), "{story}");
    }
}

/// A library that knows nothing of a front would leave it as it was: it must not take such an image.
fn must_know_fronts(image: &common::Image) -> bool {
    let file = fs::File::open(&image.path).expect("the image");
    let image = Image::read(&file, PageData::Skip).expect("a good image");
    !image.records.iter().find(|line| line.kind == kind::CLOCK_FRONT).expect("a record").optional
}

/// Where no namespace keeps the clocks: a front does. Timers run on the kernel's.
#[test]
fn clocks_of_another_boot() {
    let Some(mut job) = Spec::new("timers_posix").start() else { return };
    let taken = job.checkpoint();
    assert!(!must_know_fronts(&taken));
    job.sigkill();
    boot_later(&taken, 100 * DAYS);
    job.restart_from(&taken.path, &[], &["--pid", "new", "--verbose"]);
    job.go("with clocks that would go back");
    assert!(must_know_fronts(&job.checkpoint()));
    let story = job.story();
    assert!(story.contains("CLOCK_MONOTONIC goes on by a front that adds 86"), "{story}");
    assert!(!story.contains("CLOCK_BOOTTIME goes") && !story.contains("goes back"), "{story}");
    job.end("at the end");
}

/// Whether the program was in a function of the front when the image was taken, outside of what that calls.
fn is_in_front(image: &common::Image) -> bool {
    const LENGTH: u64 = 150;
    let file = fs::File::open(&image.path).expect("the image");
    let image = Image::read(&file, PageData::Skip).expect("a good image");
    let front = image.clock_front.expect("a front");
    let ip = image.threads[0].cpu.ip.get();
    [front.clock_gettime, front.clock_gettime64].iter().any(|start| (start.get()..start.get() + LENGTH).contains(&ip))
}

/// The program does nothing but read clocks, so that checkpoints fall into the front and into what it calls: between the
/// kernel's time and what is added to it, which are others after a restart.
fn read_by_a_front(user: Option<u32>) {
    let mut spec = Spec::new("clock_front").arg("spin");
    if let Some(uid) = user {
        spec = spec.user(uid);
    }
    let Some(mut job) = spec.start() else { return };
    let mut image = job.checkpoint_that(|image| !reads_clock(image));
    boot_later(&image, DAYS / 100);
    for generation in 1..=10 {
        job.sigkill();
        job.restart_from(&image.path, &[], &["--pid", "new"]);
        job.go(&format!("after restart {generation}"));
        image = job.checkpoint_that(if generation % 2 == 0 { is_in_front } else { reads_clock });
    }
    let text = job.inspect(&image);
    assert!(text.contains("by a front that adds to the kernel's: +8"), "{text}");
    assert!(!job.story().contains("goes back"), "{}", job.story());
    job.end("at the end");
}

#[test]
fn clocks_read_by_a_front() {
    read_by_a_front(None);
}

#[test]
fn clocks_read_by_a_front_as_another_user() {
    read_by_a_front(Some(NOBODY));
}

/// From kernel to kernel, each of which was booted later.
#[test]
fn clocks_of_other_kernels() {
    let Some(mut job) = Spec::new("clock_front").start() else { return };
    for generation in 1..=4 {
        let image = job.checkpoint_that(|image| !reads_clock(image));
        job.sigkill();
        if generation != 3 {
            build_elsewhere(&image);
        }
        boot_later(&image, DAYS / 1000);
        job.restart_from(&image.path, &[], &["--pid", "new"]);
        job.go(&format!("after restart {generation}"));
    }
    assert!(!job.story().contains("goes back"), "{}", job.story());
    job.end("at the end");
}

/// A handler runs that has interrupted the vdso: the code that it returns to lies where there is no kernel's data any more.
#[test]
fn front_while_the_vdso_is_interrupted() {
    let Some(mut job) = Spec::new("clock_front").arg("handler").start() else { return };
    job.wait_file("interrupted");
    let image = job.checkpoint();
    job.sigkill();
    boot_later(&image, DAYS / 1000);
    job.restart_from(&image.path, &[], &["--pid", "new", "--verbose"]);
    job.go("after a restart");
    assert!(job.story().contains("CLOCK_MONOTONIC goes on by a front"), "{}", job.story());
    job.generations(2);
}

/// Where nothing keeps the clocks, a restart does not fail, it warns.
fn restart_with_a_warning(mut job: Job, image: &common::Image) {
    boot_later(image, 100 * DAYS);
    job.sigkill();
    job.restart_from(&image.path, &[], &["--pid", "new"]);
    job.go("with a clock that goes back");
    let story = job.story();
    assert!(story.contains("CLOCK_MONOTONIC goes back by 86"), "{story}");
    job.end("at the end");
}

/// The library of the image had no front.
#[test]
fn clocks_that_go_back_are_told() {
    let Some(mut job) = Spec::new("timers_posix").start() else { return };
    let image = job.checkpoint();
    const UNKNOWN: u32 = 8999;
    change(&image, kind::CLOCK_FRONT, |record| put(record, 0, UNKNOWN));
    restart_with_a_warning(job, &image);
}

/// A thread was inside of the vdso, which stays as it is then.
#[test]
fn clocks_that_go_back_while_they_are_read_are_told() {
    let Some(mut job) = Spec::new("clock_front").arg("spin").start() else { return };
    let image = job.checkpoint_that(reads_clock);
    restart_with_a_warning(job, &image);
}
