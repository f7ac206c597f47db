//! [SIGNAL] The address space: /proc/thread-self/smaps into a table, the table into MM and VMA records.

use super::Stream;
use super::failure::{Failure, refuse, unreadable};
use super::files::{DELETED, Path, find_link};
use super::notices::{Notices, notice};
use super::select_pages::populate;
use crate::format::memory::{Mm, Vma, is_nameless_file, is_segment, vma_flag, vma_kind};
use crate::format::{kind, notice::code};
use crate::sys::abi::{S_IFMT, S_IFREG, Statx, makedev};
use crate::sys::lines::{Cursor, Lines, parse_dec, parse_hex};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, process};
use zerocopy::little_endian::{U32, U64};

/// A mapping while the checkpoint runs.
#[derive(Clone, Copy, Default)]
pub struct VmaSlot {
    pub start: usize,
    pub end: usize,
    pub prot: u32,
    pub kind: u32,
    pub flags: u64,
    pub offset: u64,
    pub dev: u64,
    pub ino: u64,
    pub file_size: u64,
    pub mtime: u64,
    pub mtime_nsec: u32,
    pub name: usize,
    pub name_len: usize,
    /// Protection key; memory under one cannot be read from the handler.
    pub pkey: u32,
    /// Kilobytes of swap, as smaps has it.
    pub swap_kb: u64,
    /// Kilobytes of pages that are mapped more than once, here or in another process.
    pub shared_kb: u64,
}

impl VmaSlot {
    pub fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        names.get(self.name..self.name + self.name_len).unwrap_or(&[])
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The table of mappings.
pub struct VmaTable<'a> {
    pub slots: &'a mut [VmaSlot],
    pub len: usize,
    pub names: &'a mut [u8],
    names_used: usize,
}

impl<'a> VmaTable<'a> {
    pub fn new(slots: &'a mut [VmaSlot], names: &'a mut [u8]) -> Self {
        VmaTable { slots, len: 0, names, names_used: 0 }
    }

    pub fn as_slice(&self) -> &[VmaSlot] {
        self.slots.get(..self.len).unwrap_or(&[])
    }

    /// The fork that writes the image must not have segments attached, nor files without a name mapped: that would be seen,
    /// and keep the program from sealing a memfd.
    pub fn keep_from_fork(&self, keep: bool) {
        let changed = |vma: &&VmaSlot| {
            let nameless = vma.kind == vma_kind::ANON_SHARED && is_nameless_file(vma.name(self.names));
            (vma.kind == vma_kind::SEGMENT || nameless) && vma.flags & vma_flag::MADV_DONTFORK == 0
        };
        for vma in self.as_slice().iter().filter(changed) {
            // In the fork there is none, which is an error.
            let _ = process::inherit(vma.start, vma.len(), !keep);
        }
    }

    /// Keeps a name; one that repeats the last is kept once.
    fn intern(&mut self, name: &[u8]) -> Option<(usize, usize)> {
        let last = self.len.checked_sub(1).and_then(|last| self.slots.get(last));
        if let Some(last) = last.filter(|last| last.name(self.names) == name) {
            return Some((last.name, last.name_len));
        }
        let start = self.names_used;
        self.names.get_mut(start..start + name.len())?.copy_from_slice(name);
        self.names_used += name.len();
        Some((start, name.len()))
    }

    /// Reads /proc/thread-self/smaps. The range `skip` is the checkpoint's own memory.
    pub fn read(&mut self, skip: (usize, usize), lines: &mut [u8]) -> Result<(), Failure> {
        let failed = |errno| unreadable(errno, "/proc/thread-self/smaps");
        let fd = fs::open(b"/proc/thread-self/smaps\0", fs::O_RDONLY | fs::O_CLOEXEC, 0).map_err(failed)?;
        let fd = fs::OwnedFd(fd);
        let mut lines = Lines::new(fd.0, lines);
        let mut current = false;
        while let Some(line) = lines.next_line().map_err(failed)? {
            // Attribute lines start with a capital letter, mappings with their address.
            if !line.first().is_some_and(u8::is_ascii_uppercase) {
                current = self.add(line, skip)?;
            } else if current {
                self.attribute(line);
            }
        }
        Ok(())
    }

    /// `start-end perms offset major:minor inode   path`
    fn add(&mut self, line: &[u8], skip: (usize, usize)) -> Result<bool, Failure> {
        let bad = || refuse!(Errno::EIO, "cannot understand a line of /proc/thread-self/smaps: {}", Bytes(line));
        let mut cursor = Cursor(line);
        let start = cursor.until(b'-').and_then(parse_hex).ok_or_else(bad)? as usize;
        let end = parse_hex(cursor.word()).ok_or_else(bad)? as usize;
        let perms = cursor.word();
        let offset = parse_hex(cursor.word()).ok_or_else(bad)?;
        let mut dev = Cursor(cursor.word());
        let major = dev.until(b':').and_then(parse_hex).ok_or_else(bad)?;
        let minor = parse_hex(dev.0).ok_or_else(bad)?;
        let ino = parse_dec(cursor.word()).ok_or_else(bad)?;
        cursor.skip_spaces();
        let path = cursor.0;
        let &[r, w, x, shared] = perms else { return Err(bad()) };
        let bit = |set: bool, value: u32| if set { value } else { 0 };
        let prot = bit(r == b'r', process::PROT_READ)
            | bit(w == b'w', process::PROT_WRITE)
            | bit(x == b'x', process::PROT_EXEC);
        let (name, name_len) = self.intern(path).ok_or_else(|| {
            refuse!(Errno::ENOMEM, "the names of the program's mappings take more than {} bytes", self.names.len())
        })?;
        let slot = VmaSlot {
            start,
            end,
            prot,
            kind: bit(shared == b's', 1), // decided in `classify`
            offset,
            dev: makedev(major as u32, minor as u32),
            ino,
            name,
            name_len,
            ..VmaSlot::default()
        };
        // The checkpoint's own memory may be merged with a neighbour on either side.
        let (below, above) = (start.max(skip.1), end.min(skip.0));
        let parts =
            if start >= skip.1 || end <= skip.0 { [(start, end), (0, 0)] } else { [(start, above), (below, end)] };
        let count = self.slots.len();
        let before = self.len;
        for (start, end) in parts.into_iter().filter(|(start, end)| start < end) {
            *self
                .slots
                .get_mut(self.len)
                .ok_or_else(|| refuse!(Errno::ENOMEM, "the program has more than {count} mappings"))? =
                VmaSlot { start, end, ..slot };
            self.len += 1;
        }
        Ok(self.len > before)
    }

    fn attribute(&mut self, line: &[u8]) {
        let Some(slot) = self.len.checked_sub(1).and_then(|last| self.slots.get_mut(last)) else { return };
        if let Some(rest) = line.strip_prefix(b"VmFlags:") {
            let mut cursor = Cursor(rest);
            loop {
                let word = cursor.word();
                if word.is_empty() {
                    break;
                }
                for (name, flag) in vma_flag::SMAPS {
                    if word == *name {
                        slot.flags |= flag;
                    }
                }
            }
        } else if let Some(rest) = line.strip_prefix(b"KernelPageSize:") {
            let size = parse_dec(Cursor(rest).word()).unwrap_or(0) << 10;
            if size > crate::format::PAGE {
                slot.flags |= u64::from(size.trailing_zeros()) << vma_flag::HUGE_SHIFT;
            }
        } else if let Some(rest) = line.strip_prefix(b"Swap:") {
            slot.swap_kb = parse_dec(Cursor(rest).word()).unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix(b"Shared_Clean:").or_else(|| line.strip_prefix(b"Shared_Dirty:")) {
            slot.shared_kb += parse_dec(Cursor(rest).word()).unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix(b"ProtectionKey:") {
            slot.pkey = parse_dec(Cursor(rest).word()).unwrap_or(0) as u32;
        }
    }

    /// Decides what each mapping is, and looks at the files behind them.
    pub fn classify(&mut self, notices: &mut Notices<'_>) {
        let mut last: Option<VmaSlot> = None;
        for i in 0..self.len {
            let Some(mut slot) = self.slots.get(i).copied() else { return };
            let shared = slot.kind == 1;
            if shared {
                self.find_semaphore(&mut slot);
            }
            // The file was looked at for the mapping before. Of one without a name each mapping tells what it shows.
            let same_file = |last: &VmaSlot| {
                slot.name_len != 0
                    && (last.name, last.name_len, last.ino, last.dev) == (slot.name, slot.name_len, slot.ino, slot.dev)
                    && last.kind != vma_kind::ANON_SHARED
                    && shared == (last.kind == vma_kind::FILE_SHARED)
            };
            if let Some(last) = last.filter(same_file) {
                slot.kind = last.kind;
                slot.file_size = last.file_size;
                slot.mtime = last.mtime;
                slot.mtime_nsec = last.mtime_nsec;
                slot.flags |= last.flags & vma_flag::VOLATILE;
            } else {
                classify_one(&mut slot, shared, self.names);
            }
            if slot.flags & vma_flag::DEVICE != 0 && !matches!(slot.kind, vma_kind::VDSO | vma_kind::VVAR) {
                notice!(
                    notices,
                    code::MAPPING_NOT_SAVED,
                    slot.start as u64,
                    "the mapping {:#x}-{:#x} of {} is device memory and cannot be saved; it will be inaccessible \
                     after a restart",
                    slot.start,
                    slot.end,
                    Bytes(slot.name(self.names))
                );
            }
            if slot.flags & vma_flag::USERFAULT != 0 {
                notice!(
                    notices,
                    code::MAPPING_NOT_SAVED,
                    slot.start as u64,
                    "the mapping {:#x}-{:#x} is registered with a userfaultfd, which is not restored; after a restart \
                     its pages that are not there read as zeros and nobody is asked",
                    slot.start,
                    slot.end
                );
            }
            if slot.kind == vma_kind::ANON_SHARED && slot.name(self.names) == AIO_RING {
                slot.flags |= vma_flag::AIO_RING;
                // The kernel does not tell whether there are any.
                notice!(
                    notices,
                    code::STATE_NOT_SAVED,
                    slot.start as u64,
                    "requests of kernel AIO (io_submit) that are under way in context {:#x} do not go on after a restart",
                    slot.start
                );
            }
            let alone = |other: &VmaSlot| other.start == slot.start || (other.dev, other.ino) != (slot.dev, slot.ino);
            let plain = slot.kind == vma_kind::ANON_SHARED && !is_segment(slot.name(self.names));
            if plain && slot.shared_kb != 0 && self.as_slice().iter().all(alone) {
                notice!(
                    notices,
                    code::MAPPING_NOT_SAVED,
                    slot.start as u64,
                    "the shared memory {:#x}-{:#x} is used by another process as well; after a restart it is memory of \
                     this process alone",
                    slot.start,
                    slot.end
                );
            }
            if slot.pkey != 0 {
                notice!(
                    notices,
                    code::MAPPING_NOT_SAVED,
                    slot.start as u64,
                    "the protection key {} of the mapping {:#x}-{:#x} is not restored",
                    slot.pkey,
                    slot.start,
                    slot.end
                );
            }
            if let Some(place) = self.slots.get_mut(i) {
                *place = slot;
            }
            last = Some(slot);
        }
    }

    /// A named semaphore is made under a name that it does not keep (sem_open of glibc): the mapping shows that one. The
    /// file is the one that has its inode now.
    fn find_semaphore(&mut self, slot: &mut VmaSlot) {
        let name = slot.name(self.names);
        if !name.starts_with(b"/dev/shm/sem.") {
            return;
        }
        let Some(first) = name.strip_suffix(DELETED).map(Path::from_bytes) else { return };
        let Some(link) = find_link(&first, slot.dev, slot.ino) else { return };
        let start = self.names_used;
        if let Some(place) = self.names.get_mut(start..start + link.len()) {
            place.copy_from_slice(link.as_bytes());
            self.names_used += link.len();
            (slot.name, slot.name_len) = (start, link.len());
        }
    }

    /// Writes MM and the VMAs.
    pub fn write(&self, stream: &mut Stream<'_>, task_size: u64, auxv: &[u8], stat: &[u8]) -> Result<(), Failure> {
        let mm = read_mm(task_size, self.len, auxv, stat)?;
        stream.record(kind::MM, 0, &mm, &[auxv])?;
        for slot in self.as_slice() {
            let name = slot.name(self.names);
            let vma = Vma {
                start: U64::new(slot.start as u64),
                end: U64::new(slot.end as u64),
                prot: U32::new(slot.prot),
                kind: U32::new(slot.kind),
                flags: U64::new(slot.flags),
                offset: U64::new(slot.offset),
                dev: U64::new(slot.dev),
                ino: U64::new(slot.ino),
                file_size: U64::new(slot.file_size),
                file_mtime: U64::new(slot.mtime),
                file_mtime_nsec: U32::new(slot.mtime_nsec),
                name_len: U32::new(name.len() as u32),
            };
            stream.record(kind::VMA, 0, &vma, &[name])?;
        }
        Ok(())
    }
}

fn classify_one(slot: &mut VmaSlot, shared: bool, names: &[u8]) {
    let name = slot.name(names);
    slot.kind = match name {
        b"[vdso]" => vma_kind::VDSO,
        name if name.starts_with(b"[vvar") => vma_kind::VVAR,
        name if name.starts_with(b"/") => {
            classify_file(slot, shared, name);
            return;
        }
        _ if shared => vma_kind::ANON_SHARED,
        _ => vma_kind::ANON,
    };
}

fn classify_file(slot: &mut VmaSlot, shared: bool, name: &[u8]) {
    let mut path: Text<4100> = Text::from_bytes(name);
    let found = path.as_path().ok_or(Errno::ENAMETOOLONG).and_then(fs::stat);
    // Some file systems show another number in maps. One that has lost its name is told from one that is called so.
    let is_it = |stat: &Statx| !name.ends_with(DELETED) || stat.ino == slot.ino;
    match found {
        Ok(stat) if u32::from(stat.mode) & S_IFMT == S_IFREG && is_it(&stat) => {
            slot.kind = if shared { vma_kind::FILE_SHARED } else { vma_kind::FILE_PRIVATE };
            slot.file_size = stat.size;
            slot.mtime = stat.mtime.sec as u64;
            slot.mtime_nsec = stat.mtime.nsec;
            if shared && path.as_path().is_some_and(fs::is_in_memory) {
                slot.flags |= vma_flag::VOLATILE;
            }
        }
        _ if !shared => slot.kind = vma_kind::FILE_GONE,
        _ => {
            slot.kind = vma_kind::ANON_SHARED;
            if is_nameless_file(name) {
                // Looking for the end would take huge pages, of which there may be no more.
                let huge = slot.flags & vma_flag::HUGETLB != 0;
                let end = if huge { slot.end } else { readable_end(slot) };
                slot.file_size = slot.offset + (end - slot.start) as u64;
            }
        }
    }
}

/// The results of a context of kernel AIO, whose number is the mapping's address.
const AIO_RING: &[u8] = b"/[aio] (deleted)";

/// Where the file behind a mapping without a path ends: beyond it lies SIGBUS. Found by halving, so that the holes
/// of the file stay holes.
fn readable_end(slot: &VmaSlot) -> usize {
    const PAGE: usize = 4096;
    if slot.prot == process::PROT_NONE || populate(slot.end - PAGE, PAGE) {
        return slot.end;
    }
    let (mut good, mut bad) = (slot.start, slot.end - PAGE);
    while good < bad {
        let middle = good + (bad - good) / 2 / PAGE * PAGE;
        if populate(middle, PAGE) {
            good = middle + PAGE;
        } else {
            bad = middle;
        }
    }
    good
}

/// Fields of /proc/thread-self/stat, counted from 1 as proc(5) does; the name may hold anything, so they
/// are counted from its closing parenthesis.
pub fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    let after = stat.iter().rposition(|&b| b == b')')?;
    let mut cursor = Cursor(stat.get(after + 1..)?);
    let mut word: &[u8] = &[];
    for _ in 3..=number {
        word = cursor.word();
    }
    parse_dec(word.strip_suffix(b"\n").unwrap_or(word))
}

fn read_mm(task_size: u64, vmas: usize, auxv: &[u8], stat: &[u8]) -> Result<Mm, Failure> {
    let field = |number| {
        stat_field(stat, number)
            .map(U64::new)
            .ok_or_else(|| refuse!(Errno::EIO, "field {number} of /proc/thread-self/stat is missing"))
    };
    Ok(Mm {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk: U64::new(process::current_brk() as u64),
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        task_size: U64::new(task_size),
        vmas: U32::new(vmas as u32),
        auxv_len: U32::new(auxv.len() as u32),
    })
}
