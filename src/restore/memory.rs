//! [NORMAL] What each mapping is made from: fresh memory, a file, or the image; and which pages are
//! read from the image.
//!
//! The pages of a mapped file were stored with the image unless the file is large data. Where the
//! file is still there, it is mapped again, for its name and to share its memory, and only pages
//! that differ from it are read from the image: the proof that a library is unchanged is its
//! content, and one that was upgraded in between comes back as it was.
#![allow(unsafe_code)] // memfd_create(2).

use super::huge;
use crate::format::image::{Image, VmaEntry};
use crate::format::memory::{is_nameless_file, vma_flag, vma_kind};
use crate::format::reader::StoredRun;
use crate::format::task::DELETED;
use crate::format::{PAGE, ReadAt};
use crate::sys::fs::OwnedFd;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, SystemTime};

/// What a mapping is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Anonymous,
    /// Shared memory; `continues` means that it is the next part of the mapping before.
    SharedAnonymous {
        continues: bool,
    },
    /// Shared memory that is mapped elsewhere as well: the same memory as at address `same_as`.
    SharedAlias {
        same_as: u64,
    },
    /// `fd` is the descriptor that the restorer maps from.
    File {
        fd: RawFd,
        shared: bool,
    },
    /// System V shared memory, which is full already; `continues` as above.
    Segment {
        continues: bool,
    },
    /// The kernel's own pages, moved there instead of mapped.
    Kernel,
    /// Cannot be brought back: inaccessible.
    Nothing,
}

/// Pages that are read from the image: address, bytes, offset in the image.
pub type Read = (u64, u64, u64);

/// A mapping and how it is filled.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub index: usize,
    pub source: Source,
    pub reads: Vec<Read>,
}

/// A file that mappings refer to, opened once.
struct Opened {
    file: File,
    fd: RawFd,
    size: u64,
    mtime: (i64, i64),
}

/// Files that lived in memory and that a boot has taken away, as POSIX shared memory and named semaphores: made again with
/// what the program's mappings showed of them, before anything else looks for them.
pub fn make_volatile_files(image: &Image, source: &File, warn: &mut dyn FnMut(String)) -> Result<(), String> {
    let is_volatile = |entry: &&VmaEntry| {
        entry.vma.kind.get() == vma_kind::FILE_SHARED && entry.vma.flags.get() & vma_flag::VOLATILE != 0
    };
    let mut made: HashMap<&[u8], File> = HashMap::new();
    for entry in image.vmas.iter().filter(is_volatile) {
        let (vma, path) = (&entry.vma, std::path::Path::new(OsStr::from_bytes(&entry.name)));
        let failed = |error: std::io::Error| format!("cannot make {} again: {error}", path.display());
        if !made.contains_key(entry.name.as_slice()) {
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(path) {
                Ok(file) => {
                    file.set_len(vma.file_size.get()).map_err(failed)?;
                    file.set_permissions(std::fs::Permissions::from_mode(mode_of(image, entry))).map_err(failed)?;
                    warn(format!("{} is gone; it is made again from the memory of the program", path.display()));
                    made.insert(&entry.name, file);
                }
                // It is there, or whoever opens it says why it cannot be.
                Err(_) => continue,
            }
        }
        for run in runs_of(image, entry) {
            let mut bytes = vec![0; run.bytes as usize];
            fill(source, &mut bytes, run.offset).map_err(|error| format!("cannot read the image: {error}"))?;
            let at = run.addr - vma.start.get() + vma.offset.get();
            bytes.truncate(vma.file_size.get().saturating_sub(at) as usize);
            made[entry.name.as_slice()].write_all_at(&bytes, at).map_err(failed)?;
        }
        let changed = Duration::new(vma.file_mtime.get(), vma.file_mtime_nsec.get().min(999_999_999));
        let _ = made[entry.name.as_slice()].set_modified(SystemTime::UNIX_EPOCH + changed);
    }
    Ok(())
}

/// Permissions of a mapped file, if the program had it open as well.
fn mode_of(image: &Image, entry: &VmaEntry) -> u32 {
    let key = (entry.vma.dev.get(), entry.vma.ino.get());
    let open = image.files.iter().find(|open| (open.file.dev.get(), open.file.ino.get()) == key);
    open.map_or(0o600, |open| open.file.mode.get() & 0o7777)
}

/// Decides for every mapping. `raise` moves an opened file to a descriptor that is not the
/// program's and keeps it open. `open_nameless` are deleted files and memfds that the program has open, by device
/// and inode at the checkpoint, and whether they are sealed against writing.
pub fn map_sources(
    image: &Image,
    source: &File,
    open_nameless: HashMap<(u64, u64), (RawFd, bool)>,
    raise: &mut dyn FnMut(RawFd) -> Result<RawFd, String>,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Mapped>, String> {
    let mut sources = Sources {
        image,
        source,
        raise,
        warn,
        opened: HashMap::new(),
        open_nameless,
        objects: HashMap::new(),
        sizes: nameless_sizes(image),
    };
    let mut out: Vec<Mapped> = Vec::with_capacity(image.vmas.len());
    for (index, entry) in image.vmas.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|previous| image.vmas.get(previous));
        out.push(sources.decide(index, entry, previous)?);
    }
    find_aliases(image, &mut out);
    Ok(out)
}

/// Part of a shared memory object that one mapping, or several that continue each other, shows.
struct Window {
    object: (u64, u64),
    from: u64,
    to: u64,
    start: u64,
    first: usize,
    last: usize,
}

/// Finds shared memory that is mapped more than once: the widest window onto it is mapped, the
/// others become aliases of it.
fn find_aliases(image: &Image, mapped: &mut [Mapped]) {
    let mut windows: Vec<Window> = Vec::new();
    for (index, entry) in image.vmas.iter().enumerate() {
        let Source::SharedAnonymous { continues } = mapped[index].source else { continue };
        let vma = &entry.vma;
        let (from, len) = (vma.offset.get(), vma.end.get() - vma.start.get());
        match windows.last_mut() {
            Some(window) if continues => {
                window.to = from + len;
                window.last = index;
            }
            _ => windows.push(Window {
                object: (vma.dev.get(), vma.ino.get()),
                from,
                to: from + len,
                start: vma.start.get(),
                first: index,
                last: index,
            }),
        }
    }
    windows.sort_by_key(|window| std::cmp::Reverse(window.to - window.from));
    for (i, window) in windows.iter().enumerate() {
        let wider = windows[..i]
            .iter()
            .find(|wider| wider.object == window.object && wider.from <= window.from && window.to <= wider.to);
        let Some(wider) = wider else { continue };
        for part in &mut mapped[window.first..=window.last] {
            let offset = image.vmas[part.index].vma.offset.get();
            part.source = Source::SharedAlias { same_as: wider.start + (offset - wider.from) };
            part.reads.clear();
        }
    }
}

struct Sources<'a> {
    image: &'a Image,
    source: &'a File,
    raise: &'a mut dyn FnMut(RawFd) -> Result<RawFd, String>,
    warn: &'a mut dyn FnMut(String),
    opened: HashMap<(Vec<u8>, bool), Result<Opened, String>>,
    /// Deleted files and memfds that the program has open as well, by device and inode at the checkpoint, and whether
    /// they are sealed against writing.
    open_nameless: HashMap<(u64, u64), (RawFd, bool)>,
    /// All files without a name, on descriptors for the restorer.
    objects: HashMap<(u64, u64), RawFd>,
    /// How long each of them is.
    sizes: HashMap<(u64, u64), u64>,
}

impl Sources<'_> {
    fn decide(&mut self, index: usize, entry: &VmaEntry, previous: Option<&VmaEntry>) -> Result<Mapped, String> {
        let runs = runs_of(self.image, entry);
        let all = |runs: &[StoredRun]| runs.iter().map(|run| (run.addr, run.bytes, run.offset)).collect::<Vec<_>>();
        if entry.vma.flags.get() & vma_flag::DEVICE != 0
            && !matches!(entry.vma.kind.get(), vma_kind::VDSO | vma_kind::VVAR)
        {
            return Ok(Mapped { index, source: Source::Nothing, reads: Vec::new() });
        }
        let (source, reads) = match entry.vma.kind.get() {
            // Needed only where this kernel's differs.
            vma_kind::VDSO | vma_kind::VVAR => (Source::Kernel, all(runs)),
            vma_kind::FILE_PRIVATE => self.private_file(entry, runs)?,
            vma_kind::FILE_SHARED => self.shared_file(entry, runs)?,
            vma_kind::SEGMENT => (Source::Segment { continues: entry.vma.offset.get() != 0 }, Vec::new()),
            // It is full already, and cannot be written to.
            vma_kind::ANON_SHARED if self.is_sealed(entry) => (self.nameless_file(entry)?, Vec::new()),
            vma_kind::ANON_SHARED if is_nameless_file(&entry.name) => (self.nameless_file(entry)?, all(runs)),
            vma_kind::ANON_SHARED => {
                let continues = previous.is_some_and(|previous| continues_shared(previous, entry));
                (Source::SharedAnonymous { continues }, all(runs))
            }
            _ => (Source::Anonymous, all(runs)),
        };
        Ok(Mapped { index, source, reads })
    }

    /// Opens a mapped file once for each way of access.
    fn open(&mut self, path: &[u8], write: bool) -> Result<&Opened, String> {
        let raise = &mut self.raise;
        let entry = self.opened.entry((path.to_vec(), write)).or_insert_with(|| {
            let shown = String::from_utf8_lossy(path);
            let file = File::options()
                .read(true)
                .write(write)
                .open(OsStr::from_bytes(path))
                .map_err(|error| format!("cannot open the mapped file {shown}: {error}"))?;
            let meta = file.metadata().map_err(|error| format!("cannot look at {shown}: {error}"))?;
            let fd = raise(file.as_raw_fd())?;
            Ok(Opened { file, fd, size: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) })
        });
        match entry {
            Ok(opened) => Ok(opened),
            Err(message) => Err(message.clone()),
        }
    }

    fn private_file(&mut self, entry: &VmaEntry, runs: &[StoredRun]) -> Result<(Source, Vec<Read>), String> {
        let vma = &entry.vma;
        let complete = is_complete(entry, runs);
        let unreadable = vma.prot.get() == 0;
        let source = self.source;
        let opened = self.open(&entry.name, false);
        let Opened { file, fd, size, mtime } = match opened {
            Ok(opened) => opened,
            // All of it is in the image: the file is not needed.
            Err(_) if complete || unreadable => return Ok((Source::Anonymous, whole(runs))),
            Err(message) => return Err(message),
        };
        let (fd, size, mtime) = (*fd, *size, *mtime);
        let same =
            size == vma.file_size.get() && mtime == (vma.file_mtime.get() as i64, i64::from(vma.file_mtime_nsec.get()));
        if !complete && !unreadable && !same {
            return Err(format!(
                "the mapped file {} has changed since the checkpoint, and parts that were not in memory are needed",
                String::from_utf8_lossy(&entry.name)
            ));
        }
        // A file that has become shorter would give SIGBUS where the image has pages.
        let needed = runs.last().map_or(0, |run| run.end() - vma.start.get() + vma.offset.get());
        if size.next_multiple_of(PAGE) < needed {
            return Ok((Source::Anonymous, whole(runs)));
        }
        let mut reads = Vec::new();
        for run in runs {
            differing(source, file, run, run.addr - vma.start.get() + vma.offset.get(), &mut reads)?;
        }
        Ok((Source::File { fd, shared: false }, reads))
    }

    fn shared_file(&mut self, entry: &VmaEntry, runs: &[StoredRun]) -> Result<(Source, Vec<Read>), String> {
        let vma = &entry.vma;
        let shown = String::from_utf8_lossy(&entry.name).into_owned();
        let write = vma.prot.get() & 2 != 0;
        // A mapping that can only be read now may be made writable later if the file allowed it.
        let writable = write || self.open(&entry.name, true).is_ok();
        let source = self.source;
        let Opened { file, fd, size, mtime } = self.open(&entry.name, writable)?;
        let (fd, size, mtime) = (*fd, *size, *mtime);
        if size < vma.file_size.get() {
            return Err(format!(
                "the mapped file {shown} is shorter than at the checkpoint: {size} bytes instead of {}",
                vma.file_size.get()
            ));
        }
        let mut reads = Vec::new();
        // A file that the program only reads is whatever others make of it.
        for run in runs.iter().filter(|_| write) {
            differing(source, file, run, run.addr - vma.start.get() + vma.offset.get(), &mut reads)?;
        }
        if !write && mtime != (vma.file_mtime.get() as i64, i64::from(vma.file_mtime_nsec.get())) {
            (self.warn)(format!("the mapped file {shown} has changed since the checkpoint"));
        }
        Ok((Source::File { fd, shared: true }, reads))
    }
}

/// The farthest end that a mapping shows of each file without a name.
fn nameless_sizes(image: &Image) -> HashMap<(u64, u64), u64> {
    let mut sizes = HashMap::new();
    for entry in image.vmas.iter().filter(|entry| entry.vma.kind.get() == vma_kind::ANON_SHARED) {
        let size = sizes.entry((entry.vma.dev.get(), entry.vma.ino.get())).or_insert(0);
        *size = entry.vma.file_size.get().max(*size);
    }
    sizes
}

impl Sources<'_> {
    /// A new file in the place of one that has lost its name, made once for all mappings of it, which so show the same
    /// memory, however they overlap.
    fn nameless_file(&mut self, entry: &VmaEntry) -> Result<Source, String> {
        let key = (entry.vma.dev.get(), entry.vma.ino.get());
        if let Some(fd) = self.objects.get(&key) {
            return Ok(Source::File { fd: *fd, shared: true });
        }
        if let Some((fd, sealed)) = self.open_nameless.get(&key) {
            let fd = if *sealed {
                let opened = File::open(format!("/proc/self/fd/{fd}"));
                let reader = opened.map_err(|error| format!("cannot open a sealed memfd again: {error}"))?;
                (self.raise)(reader.as_raw_fd())?
            } else {
                (self.raise)(*fd)?
            };
            self.objects.insert(key, fd);
            return Ok(Source::File { fd, shared: true });
        }
        let size = self.sizes.get(&key).copied().unwrap_or(0);
        let shown = String::from_utf8_lossy(&entry.name).into_owned();
        let huge =
            if entry.vma.flags.get() & vma_flag::HUGETLB == 0 { None } else { self.huge_memfd(key, size, entry) };
        let fd = match huge {
            Some(fd) => (self.raise)(fd.0)?,
            None => {
                let file =
                    make_nameless_file(&entry.name).map_err(|error| format!("cannot make {shown} again: {error}"))?;
                file.set_len(size).map_err(|error| format!("cannot give {shown} its {size} bytes: {error}"))?;
                (self.raise)(file.as_raw_fd())?
            }
        };
        self.objects.insert(key, fd);
        Ok(Source::File { fd, shared: true })
    }

    fn is_sealed(&self, entry: &VmaEntry) -> bool {
        let key = (entry.vma.dev.get(), entry.vma.ino.get());
        self.open_nameless.get(&key).is_some_and(|(_, sealed)| *sealed)
    }

    fn huge_memfd(&mut self, key: (u64, u64), size: u64, entry: &VmaEntry) -> Option<OwnedFd> {
        let log2 = (entry.vma.flags.get() & vma_flag::HUGE_SIZE) >> vma_flag::HUGE_SHIFT;
        let made = huge::memfd(self.image, key, &memfd_name(&entry.name), size, log2 as u32);
        if made.is_err() {
            (self.warn)(format!("the memory of {} {}", String::from_utf8_lossy(&entry.name), huge::NONE_FREE));
        }
        made.ok()
    }
}

/// Of shared anonymous memory of huge pages, which the kernel makes as a file of its own.
const HUGE_ANONYMOUS: &[u8] = b"/anon_hugepage";

/// For memfd_create(2), of a mapping's name.
fn memfd_name(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(DELETED).unwrap_or(name);
    let memory = name.strip_prefix(b"/memfd:").or_else(|| (name == HUGE_ANONYMOUS).then(|| &name[1..]));
    let mut name = memory.unwrap_or(b"selfckpt").to_vec();
    name.truncate(200);
    name.push(0);
    name
}

/// Under the old name where it is free, for /proc/self/maps and because it may have been on a file system of a certain
/// kind; else in memory.
fn make_nameless_file(name: &[u8]) -> std::io::Result<File> {
    let memory = memfd_name(name);
    let path = name.strip_suffix(DELETED).unwrap_or(name);
    if !path.starts_with(b"/memfd:") && path != HUGE_ANONYMOUS {
        let path = std::path::Path::new(OsStr::from_bytes(path));
        let made = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
        if let Ok(file) = made {
            std::fs::remove_file(path)?;
            return Ok(file);
        }
    }
    const CLOEXEC: u32 = 1;
    // SAFETY: a name with its NUL.
    let fd = unsafe { crate::sys::call!(crate::sys::nr::MEMFD_CREATE, memory.as_ptr(), CLOEXEC) };
    let fd = fd.map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd as RawFd) })
}

fn whole(runs: &[StoredRun]) -> Vec<Read> {
    runs.iter().map(|run| (run.addr, run.bytes, run.offset)).collect()
}

/// Runs inside a mapping. The image's runs are sorted and none crosses a mapping.
pub(super) fn runs_of<'a>(image: &'a Image, entry: &VmaEntry) -> &'a [StoredRun] {
    let first = image.runs.partition_point(|run| run.addr < entry.vma.start.get());
    let last = image.runs.partition_point(|run| run.addr < entry.vma.end.get());
    &image.runs[first..last]
}

/// Whether every page that the file filled is in the image.
fn is_complete(entry: &VmaEntry, runs: &[StoredRun]) -> bool {
    let vma = &entry.vma;
    let filled = vma.file_size.get().saturating_sub(vma.offset.get()).next_multiple_of(PAGE);
    let want = filled.min(vma.end.get() - vma.start.get());
    runs.iter().map(|run| run.bytes).sum::<u64>() >= want
}

fn continues_shared(previous: &VmaEntry, entry: &VmaEntry) -> bool {
    let (a, b) = (&previous.vma, &entry.vma);
    a.kind.get() == vma_kind::ANON_SHARED
        && a.end == b.start
        && (a.dev, a.ino) == (b.dev, b.ino)
        && a.offset.get() + (a.end.get() - a.start.get()) == b.offset.get()
}

/// Adds the pages of a run that differ from the file's.
fn differing(image: &File, file: &File, run: &StoredRun, file_offset: u64, out: &mut Vec<Read>) -> Result<(), String> {
    const CHUNK: usize = 256 << 10;
    let mut ours = vec![0; CHUNK];
    let mut theirs = vec![0; CHUNK];
    let mut done = 0;
    while done < run.bytes {
        let n = (run.bytes - done).min(CHUNK as u64) as usize;
        fill(image, &mut ours[..n], run.offset + done).map_err(|error| format!("cannot read the image: {error}"))?;
        theirs[..n].fill(0);
        fill(file, &mut theirs[..n], file_offset + done)
            .map_err(|error| format!("cannot read a mapped file: {error}"))?;
        for page in (0..n).step_by(PAGE as usize) {
            let range = page..page + PAGE as usize;
            if ours[range.clone()] == theirs[range] {
                continue;
            }
            let (addr, offset) = (run.addr + done + page as u64, run.offset + done + page as u64);
            match out.last_mut() {
                // A run may end there and the next one begin: their pages do not stand together in the image.
                Some((last, len, at)) if *last + *len == addr && *at + *len == offset => *len += PAGE,
                _ => out.push((addr, PAGE, offset)),
            }
        }
        done += n as u64;
    }
    Ok(())
}

/// Reads as much as there is.
fn fill(file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match ReadAt::read_at(file, &mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of the image's memory from `start` to `end`; what is not stored is zero.
pub fn read_pages(image: &Image, source: &File, start: u64, end: u64) -> Result<Vec<u8>, String> {
    let mut out = vec![0; (end - start) as usize];
    for run in image.runs.iter().filter(|run| run.addr >= start && run.end() <= end) {
        let at = (run.addr - start) as usize;
        let mut done = 0;
        while done < run.bytes as usize {
            let part = &mut out[at + done..at + run.bytes as usize];
            match ReadAt::read_at(source, part, run.offset + done as u64) {
                Ok(0) => return Err("the image ends in the middle of its pages".to_string()),
                Ok(n) => done += n,
                Err(error) => return Err(format!("cannot read the image: {error}")),
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of pages, each filled with its byte.
    fn file_of(name: &str, pages: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("selfckpt-memory-{name}-{}", std::process::id()));
        let content: Vec<u8> = pages.iter().flat_map(|byte| vec![*byte; PAGE as usize]).collect();
        std::fs::write(&path, content).expect("write");
        let file = File::open(&path).expect("open");
        std::fs::remove_file(&path).expect("remove");
        file
    }

    #[test]
    fn runs_that_continue_each_other_are_read_from_two_places() {
        let image = file_of("image", &[1, 2, 77, 3, 4]);
        let file = file_of("file", &[0, 0, 0, 4]);
        let runs = [(0x10000, 2, 0), (0x12000, 2, 3)];
        let mut reads = Vec::new();
        for (addr, pages, place) in runs {
            let run = StoredRun { addr, bytes: pages * PAGE, offset: place * PAGE };
            differing(&image, &file, &run, addr - 0x10000, &mut reads).expect("pages");
        }
        assert_eq!(reads, [(0x10000, 2 * PAGE, 0), (0x12000, PAGE, 3 * PAGE)]);
    }
}
