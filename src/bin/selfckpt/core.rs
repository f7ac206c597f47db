//! [NORMAL] `selfckpt core`: writes what is in an image as an ELF core file, for debuggers.
//!
//! ```text
//!  | ELF header | program headers | (section header) | notes | zeros up to a page | contents of the mappings |
//! ```
//! The notes are those that the kernel writes for a 32-bit program, in its order.

use crate::decode::{self, X87};
use crate::failure::{Failure, Outcome};
use crate::inspect::component;
use crate::verb::{Arguments, Operands, Opt, Verb};
use selfckpt::catalog;
use selfckpt::format::image::{Fpu, Image, ThreadEntry, VmaEntry};
use selfckpt::format::memory::vma_kind;
use selfckpt::format::reader::StoredRun;
use selfckpt::format::{FormatError, PAGE};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb {
    name: "core",
    synopsis: "IMAGE|DIR [-o FILE]",
    summary: "makes a core file of an image, for a debugger",
    description: &[
        "Writes an ELF core file that 'gdb PROG FILE' opens: threads with their registers, and the memory. The image \
         is checked and stays as it is. A directory stands for its newest image that is whole, DIR/NAME for the \
         newest of that job.",
        "The core file holds what the program had in its memory, so only its owner can read it. Pages that the image \
         leaves to a mapped file are left to it here too. Stretches of zeros take no space on disk.",
    ],
    options: &[Opt {
        short: Some('o'),
        long: "output",
        value: Some("FILE"),
        help: "Where to write; a file that is there is replaced. Default: NAME.GENERATION.core in the current \
               directory. It cannot be a pipe or a terminal.",
    }],
    operands: Operands { least: 1, most: 1, rest_is_raw: false },
    exit_status: &["0    the core file is written", "125  it is not"],
    examples: &["selfckpt core ckpt/app.000003.ckpt -o app.core && gdb ./app app.core"],
    run,
};

fn run(arguments: &Arguments) -> Outcome {
    let wanted = arguments.value("output");
    if wanted == Some(OsStr::new("-")) {
        return Err(Failure::failed("a core file cannot be written to standard output; name a file after -o"));
    }
    let chosen =
        catalog::resolve(Path::new(&arguments.operands[0])).map_err(|error| Failure::failed(error.to_string()))?;
    for (path, reason) in &chosen.skipped {
        crate::complain(format!("{}: {reason}; an older image is taken", path.display()));
    }
    let image = &chosen.image;
    let output = match wanted {
        Some(path) => PathBuf::from(path),
        None => default_output(image)?,
    };
    let target = replaceable(&output, &chosen.file)?;
    let core = Core::new(image).map_err(|reason| Failure::failed(format!("{}: {reason}", chosen.path.display())))?;
    let fail = |error: io::Error| Failure::failed(format!("cannot write {}: {error}", output.display()));
    let temporary = Temporary::new(&target).map_err(fail)?;
    core.write(&temporary.file, &chosen.file, &image.runs).map_err(|error| match error {
        CopyError::Read(error) => Failure::failed(format!("{}: {error}", chosen.path.display())),
        CopyError::Write(error) => fail(error),
    })?;
    temporary.commit(&target).map_err(fail)?;
    crate::print(&format!(
        "{}: core file, generation {} of {}, {} bytes\n",
        output.display(),
        image.runtime.generation,
        decode::text(&image.name),
        core.size
    ))
}

/// `NAME.000001.core`.
fn default_output(image: &Image) -> Result<PathBuf, Failure> {
    if !catalog::valid_name(&image.name) {
        let name = decode::text(&image.name);
        return Err(Failure::failed(format!("'{name}' cannot be a file's name; name a file with -o")));
    }
    let file = catalog::image_file_name(&image.name, image.runtime.generation.get()).into_vec();
    let stem = file.strip_suffix(catalog::SUFFIX).unwrap_or(&file);
    Ok(PathBuf::from(OsString::from_vec([stem, b".core"].concat())))
}

/// The path that is to be written: that of a regular file other than the image, or of none yet.
/// Links are followed, so that what they point to is replaced and not they.
fn replaceable(path: &Path, image: &File) -> Result<PathBuf, Failure> {
    let fail = |error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let path_is = |what: &str| Failure::failed(format!("cannot write {}: it is {what}", path.display()));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_path_buf()),
        Err(error) => return Err(fail(error)),
        Ok(_) => {}
    }
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(path_is("no regular file"));
    }
    let of_image = image.metadata().map_err(fail)?;
    if (meta.dev(), meta.ino()) == (of_image.dev(), of_image.ino()) {
        return Err(path_is("the image itself"));
    }
    std::fs::canonicalize(path).map_err(fail)
}

/// A file next to the one that it becomes; removed if it does not.
struct Temporary {
    file: File,
    path: PathBuf,
    committed: bool,
}

impl Temporary {
    fn new(target: &Path) -> io::Result<Temporary> {
        let path = target.with_file_name(format!(".selfckpt-{}.core.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Temporary { file, path, committed: false })
    }

    fn commit(mut self, target: &Path) -> io::Result<()> {
        // Some file systems tell only now that there is no space.
        self.file.sync_all()?;
        std::fs::rename(&self.path, target)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

const ELF_HEADER: u64 = 52;
const PROGRAM_HEADER: u64 = 32;
const SECTION_HEADER: u64 = 40;
/// From this number of program headers on, the first section header holds the number.
const PN_XNUM: usize = 0xffff;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Part of a mapping, as a program header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    start: u64,
    end: u64,
    prot: u32,
    /// Its contents are in the core file; else they are in a mapped file, or nowhere.
    filled: bool,
}

/// A core file that is laid out; `data` is the offset of the first segment's contents.
struct Core {
    head: Vec<u8>,
    segments: Vec<Segment>,
    data: u64,
    size: u64,
}

/// What goes wrong while pages are copied.
enum CopyError {
    Read(FormatError),
    Write(io::Error),
}

impl Core {
    fn new(image: &Image) -> Result<Core, String> {
        let mut segments = Vec::new();
        for entry in &image.vmas {
            add_segments(&mut segments, entry, &image.runs)?;
        }
        let notes = notes(image);
        let count = segments.len() + 1;
        let headers = ELF_HEADER + PROGRAM_HEADER * count as u64;
        let section = if count >= PN_XNUM { SECTION_HEADER } else { 0 };
        let notes_at = headers + section;
        let data = (notes_at + notes.len() as u64).next_multiple_of(PAGE);
        let filled = segments.iter().filter(|segment| segment.filled);
        let size = data + filled.map(|segment| segment.end - segment.start).sum::<u64>();
        let Ok(_) = u32::try_from(size) else {
            let shown = decode::size(size);
            return Err(format!("the core file would have {shown}; a 32-bit one ends at 4 GiB"));
        };

        let mut head = Bytes::default();
        head.0.extend_from_slice(b"\x7fELF\x01\x01\x01");
        head.0.resize(16, 0);
        // ET_CORE, EM_386
        head.u16(4).u16(3).u32(1).u32(0).u32(ELF_HEADER as u32);
        head.u32(if section == 0 { 0 } else { headers as u32 }).u32(0);
        head.u16(ELF_HEADER as u16).u16(PROGRAM_HEADER as u16).u16(count.min(PN_XNUM) as u16);
        head.u16(if section == 0 { 0 } else { SECTION_HEADER as u16 }).u16(u16::from(section != 0)).u16(0);
        head.u32(PT_NOTE).u32(notes_at as u32).u32(0).u32(0).u32(notes.len() as u32).u32(0).u32(0).u32(4);
        let mut at = data;
        for segment in &segments {
            let length = segment.end - segment.start;
            let in_file = if segment.filled { length } else { 0 };
            head.u32(PT_LOAD).u32(at as u32).u32(segment.start as u32).u32(0).u32(in_file as u32).u32(length as u32);
            head.u32(elf_protection(segment.prot)).u32(PAGE as u32);
            at += in_file;
        }
        if section != 0 {
            head.words([0, 0, 0, 0, 0, 0, 0, count as u32, 0, 0]);
        }
        head.0.extend_from_slice(&notes);
        Ok(Core { head: head.0, segments, data, size })
    }

    /// Writes all of it into an empty file; what is zero stays a hole.
    fn write(&self, out: &File, image: &File, runs: &[StoredRun]) -> Result<(), CopyError> {
        out.set_len(self.size).and_then(|()| out.write_all_at(&self.head, 0)).map_err(CopyError::Write)?;
        let mut chunk = vec![0; 256 << 10];
        let mut at = self.data;
        for segment in self.segments.iter().filter(|segment| segment.filled) {
            for run in within(runs, segment.start, segment.end) {
                let mut from = run.addr.max(segment.start);
                let to = run.end().min(segment.end);
                while from < to {
                    let part = (to - from).min(chunk.len() as u64) as usize;
                    let offset = run.offset + (from - run.addr);
                    image.read_exact_at(&mut chunk[..part], offset).map_err(|error| {
                        CopyError::Read(match error.kind() {
                            io::ErrorKind::UnexpectedEof => FormatError::Torn { offset },
                            _ => FormatError::Io { what: "read", offset, error },
                        })
                    })?;
                    write_sparsely(out, &chunk[..part], at + (from - segment.start)).map_err(CopyError::Write)?;
                    from += part as u64;
                }
            }
            at += segment.end - segment.start;
        }
        Ok(())
    }
}

/// Writes the pages that are not zero.
fn write_sparsely(out: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let page = PAGE as usize;
    let zero = |at: usize| bytes[at..bytes.len().min(at + page)].iter().all(|&byte| byte == 0);
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && !zero(at) {
            at += page;
        }
        out.write_all_at(&bytes[start..at.min(bytes.len())], offset + start as u64)?;
        while at < bytes.len() && zero(at) {
            at += page;
        }
    }
    Ok(())
}

/// Runs that lie at least in part between two addresses.
fn within(runs: &[StoredRun], start: u64, end: u64) -> impl Iterator<Item = &StoredRun> {
    let first = runs.partition_point(|run| run.end() <= start);
    runs[first..].iter().take_while(move |run| run.addr < end)
}

/// Segments of a mapping. Where what is not stored is zero, that is one; else the stored stretches
/// are segments of their own.
fn add_segments(out: &mut Vec<Segment>, entry: &VmaEntry, runs: &[StoredRun]) -> Result<(), String> {
    let vma = &entry.vma;
    let (start, end, prot) = (vma.start.get(), vma.end.get(), vma.prot.get());
    if start >= end || end > 1 << 32 || start % PAGE != 0 || end % PAGE != 0 {
        return Err(format!("a mapping cannot lie at {start:#x}-{end:#x}"));
    }
    let zero_filled = matches!(vma.kind.get(), vma_kind::ANON | vma_kind::ANON_SHARED);
    // Nobody has read or written reserved addresses; they need no room in the file.
    if zero_filled && (prot != 0 || within(runs, start, end).next().is_some()) {
        out.push(Segment { start, end, prot, filled: true });
        return Ok(());
    }
    let mut at = start;
    for run in within(runs, start, end) {
        let (from, to) = (run.addr.max(at), run.end().min(end));
        if from >= to {
            continue;
        }
        if at < from {
            out.push(Segment { start: at, end: from, prot, filled: false });
        }
        match out.last_mut() {
            Some(last) if at == from && from > start && last.filled => last.end = to,
            _ => out.push(Segment { start: from, end: to, prot, filled: true }),
        }
        at = to;
    }
    if at < end {
        out.push(Segment { start: at, end, prot, filled: false });
    }
    Ok(())
}

/// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4 as PF_R 4, PF_W 2, PF_X 1.
fn elf_protection(prot: u32) -> u32 {
    ((prot & 1) << 2) | (prot & 2) | ((prot & 4) >> 2)
}

/// Little-endian numbers, one after the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Bytes {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Bytes {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn words<const N: usize>(&mut self, values: [u32; N]) -> &mut Bytes {
        for value in values {
            self.u32(value);
        }
        self
    }

    /// Text in a field of `N` bytes, the last of which is zero.
    fn padded<const N: usize>(&mut self, text: &[u8]) -> &mut Bytes {
        let mut field = [0; N];
        let length = text.len().min(N - 1);
        field[..length].copy_from_slice(&text[..length]);
        self.0.extend_from_slice(&field);
        self
    }

    fn note(&mut self, name: &str, kind: u32, bytes: &[u8]) {
        self.u32(name.len() as u32 + 1).u32(bytes.len() as u32).u32(kind);
        for part in [name.as_bytes(), b"\0", bytes] {
            self.0.extend_from_slice(part);
            if part != name.as_bytes() {
                self.0.resize(self.0.len().next_multiple_of(4), 0);
            }
        }
    }
}

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_386_TLS: u32 = 0x200;
const NT_X86_XSTATE: u32 = 0x202;
const NT_FILE: u32 = 0x4649_4c45;
const NT_PRXFPREG: u32 = 0x46e6_2b7f;

fn notes(image: &Image) -> Vec<u8> {
    let mut out = Bytes::default();
    for (i, thread) in image.threads.iter().enumerate() {
        out.note("CORE", NT_PRSTATUS, &status(image, thread));
        if i == 0 {
            out.note("CORE", NT_PRPSINFO, &process(image));
            out.note("CORE", NT_AUXV, &image.auxv);
            out.note("CORE", NT_FILE, &mapped_files(image));
        }
        if let Some(fpu) = &thread.fpu {
            if let Some(bytes) = fpu.part(component::X87).and_then(|bytes| bytes.get(..FPREGSET)) {
                out.note("CORE", NT_FPREGSET, bytes);
            }
            let legacy = fxsave(image, fpu);
            out.note("LINUX", NT_PRXFPREG, &legacy);
            if let Some(area) = xsave(image, fpu, &legacy) {
                out.note("LINUX", NT_X86_XSTATE, &area);
            }
        }
        let tls = tls(thread);
        if !tls.is_empty() {
            out.note("LINUX", NT_386_TLS, &tls);
        }
    }
    out.0
}

/// `struct elf_prstatus`.
fn status(image: &Image, thread: &ThreadEntry) -> Vec<u8> {
    let (task, c) = (&image.task, &thread.cpu);
    let mut out = Bytes::default();
    // No signal has ended it; none is told as pending.
    out.words([0, 0, 0, 0, 0, thread.thread.sigmask.get() as u32]);
    out.words([thread.thread.tid, task.ppid, task.pgid, task.sid].map(|id| id.get()));
    out.words([0; 8]); // times
    let registers =
        [c.bx, c.cx, c.dx, c.si, c.di, c.bp, c.ax, c.ds, c.es, c.fs, c.gs, c.orig_ax, c.ip, c.cs, c.flags, c.sp, c.ss];
    out.words(registers.map(|register| register.get() as u32));
    out.u32(thread.fpu.is_some().into());
    out.0
}

/// `struct elf_prpsinfo`.
fn process(image: &Image) -> Vec<u8> {
    let task = &image.task;
    // As the kernel tells those that do not fit.
    let short = |id: u32| u16::try_from(id).unwrap_or(65534);
    let arguments: Vec<u8> = image.cmdline.strip_suffix(b"\0").unwrap_or(&image.cmdline).to_vec();
    let arguments: Vec<u8> = arguments.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
    let mut out = Bytes(vec![0, b'R', 0, 0]);
    out.u32(0).u16(short(task.uid.get())).u16(short(task.gid.get()));
    out.words([task.pid, task.ppid, task.pgid, task.sid].map(|id| id.get()));
    out.padded::<16>(&image.comm).padded::<80>(&arguments);
    out.0
}

/// Which file is mapped where: for what the core file does not hold.
fn mapped_files(image: &Image) -> Vec<u8> {
    let is_file = |entry: &&VmaEntry| {
        matches!(entry.vma.kind.get(), vma_kind::FILE_PRIVATE | vma_kind::FILE_SHARED | vma_kind::FILE_GONE)
    };
    let files: Vec<&VmaEntry> = image.vmas.iter().filter(is_file).collect();
    let mut out = Bytes::default();
    out.u32(files.len() as u32).u32(PAGE as u32);
    for entry in &files {
        let vma = &entry.vma;
        out.words([vma.start.get(), vma.end.get(), vma.offset.get() / PAGE].map(|number| number as u32));
    }
    for entry in &files {
        out.0.extend(entry.name.iter().copied().filter(|&byte| byte != 0));
        out.0.push(0);
    }
    out.0
}

/// `struct user_desc` per TLS entry, from the first slot on.
fn tls(thread: &ThreadEntry) -> Vec<u8> {
    let mut out = Bytes::default();
    for slot in 0..thread.thread.gdt_tls_entries.get().min(3) {
        let entry = thread.tls.iter().find(|entry| entry.slot.get() == slot);
        if entry.is_none() && thread.tls.iter().all(|entry| entry.slot.get() < slot) {
            break;
        }
        out.u32(thread.thread.gdt_first.get().wrapping_add(slot));
        match entry {
            Some(entry) => out.words([entry.base.get() as u32, entry.limit.get(), entry.flags.get()]),
            // An empty one: read_exec_only and seg_not_present.
            None => out.words([0, 0, 0x28]),
        };
    }
    out.0
}

const FPREGSET: usize = 108;
const FXSAVE: usize = 512;
/// Where the kernel tells in the legacy area which components the program may use.
const XCR0_AT: usize = 464;
/// Legacy area and header of an xsave area.
const XSAVE_LEAST: usize = FXSAVE + 64;
/// x87, SSE, AVX, MPX, AVX-512, PKRU: what debuggers know the places of.
const XFEATURES: u64 = 0x2ff;
/// No CPU has a component that ends there or later.
const XSAVE_MOST: usize = 64 << 10;

/// The state as FXSAVE has it.
fn fxsave(image: &Image, fpu: &Fpu) -> [u8; FXSAVE] {
    let mut out = [0; FXSAVE];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0x37fu16.to_le_bytes());
    if let Some(x87) = fpu.part(component::X87).and_then(X87::new) {
        let (ip, cs, opcode) = x87.instruction();
        let (operand, ds) = x87.operand();
        let used = (0..8).filter(|i| (x87.tags() >> (2 * i)) & 3 != 3).fold(0u8, |set, i| set | (1 << i));
        put(0, &x87.control().to_le_bytes());
        put(2, &x87.status().to_le_bytes());
        put(4, &[used]);
        put(6, &opcode.to_le_bytes());
        put(8, &ip.to_le_bytes());
        put(12, &cs.to_le_bytes());
        put(16, &operand.to_le_bytes());
        put(20, &ds.to_le_bytes());
        for i in 0..8 {
            put(32 + 16 * i, &x87.st(i));
        }
    }
    put(24, &fpu.head.mxcsr.get().to_le_bytes());
    put(28, &image.arch.mxcsr_mask.get().to_le_bytes());
    if let Some(xmm) = fpu.part(component::SSE) {
        put(160, &xmm[..xmm.len().min(256)]);
    }
    out
}

/// The state as XSAVE has it, if the CPU's has more than [`fxsave`].
fn xsave(image: &Image, fpu: &Fpu, legacy: &[u8; FXSAVE]) -> Option<Vec<u8>> {
    let xcr0 = image.arch.xcr0.get() & XFEATURES;
    let places: Vec<(u32, usize, usize)> = image
        .components
        .iter()
        .map(|c| (c.id.get(), c.offset.get() as usize, c.size.get() as usize))
        .filter(|&(id, offset, size)| {
            let end = offset.saturating_add(size);
            (2..64).contains(&id) && (xcr0 >> id) & 1 == 1 && offset >= XSAVE_LEAST && end <= XSAVE_MOST
        })
        .collect();
    if image.arch.has_xsave.get() == 0 || !places.iter().any(|&(id, ..)| id == component::AVX) {
        return None;
    }
    let length = places.iter().map(|&(_, offset, size)| offset + size).max().unwrap_or(0).max(XSAVE_LEAST);
    let mut out = vec![0; length];
    out[..FXSAVE].copy_from_slice(legacy);
    out[XCR0_AT..XCR0_AT + 8].copy_from_slice(&xcr0.to_le_bytes());
    let mut stored = 3u64;
    for (id, offset, size) in places {
        let in_use = (fpu.head.xstate_bv.get() >> id) & 1 == 1;
        let Some(bytes) = fpu.part(id).filter(|bytes| in_use && bytes.len() <= size) else { continue };
        out[offset..offset + bytes.len()].copy_from_slice(bytes);
        stored |= 1 << id;
    }
    out[FXSAVE..FXSAVE + 8].copy_from_slice(&stored.to_le_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfckpt::format::memory::Vma;
    use zerocopy::FromZeros;
    use zerocopy::little_endian::{U32, U64};

    fn segments(kind: u32, prot: u32, runs: &[(u64, u64)]) -> Vec<(u64, u64, bool)> {
        let mut vma = Vma::new_zeroed();
        (vma.start, vma.end) = (U64::new(0x2000), U64::new(0x8000));
        (vma.kind, vma.prot) = (U32::new(kind), U32::new(prot));
        let entry = VmaEntry { vma, name: Vec::new() };
        let runs: Vec<_> = runs.iter().map(|&(addr, bytes)| StoredRun { addr, bytes, offset: 0 }).collect();
        let mut out = Vec::new();
        add_segments(&mut out, &entry, &runs).expect("a valid mapping");
        out.iter().map(|segment| (segment.start, segment.end, segment.filled)).collect()
    }

    #[test]
    fn what_is_not_stored_is_zero_or_left_to_the_file() {
        let runs = [(0x1000, 0x1000), (0x3000, 0x1000), (0x4000, 0x1000), (0x6000, 0x1000), (0x9000, 0x1000)];
        assert_eq!(segments(vma_kind::ANON, 3, &runs), [(0x2000, 0x8000, true)]);
        assert_eq!(segments(vma_kind::ANON, 3, &[]), [(0x2000, 0x8000, true)]);
        assert_eq!(segments(vma_kind::ANON, 0, &[]), [(0x2000, 0x8000, false)]);
        assert_eq!(segments(vma_kind::VVAR, 1, &[]), [(0x2000, 0x8000, false)]);
        assert_eq!(
            segments(vma_kind::FILE_PRIVATE, 1, &runs),
            [
                (0x2000, 0x3000, false),
                (0x3000, 0x5000, true),
                (0x5000, 0x6000, false),
                (0x6000, 0x7000, true),
                (0x7000, 0x8000, false)
            ]
        );
        assert_eq!(segments(vma_kind::FILE_PRIVATE, 1, &[(0x2000, 0x6000)]), [(0x2000, 0x8000, true)]);
    }

    #[test]
    fn zero_pages_are_not_written() {
        let path = std::env::temp_dir().join(format!("selfckpt-core-sparse-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a fresh file");
        std::fs::remove_file(&path).expect("remove");
        let mut bytes = vec![0u8; 5 * PAGE as usize];
        bytes[PAGE as usize + 7] = 1;
        bytes[3 * PAGE as usize] = 2;
        write_sparsely(&file, &bytes, 0).expect("write");
        // The last page was left out.
        assert_eq!(file.metadata().expect("metadata").len(), 4 * PAGE);
        let mut back = vec![0; 4 * PAGE as usize];
        file.read_exact_at(&mut back, 0).expect("read");
        assert_eq!(back, bytes[..back.len()]);
    }

    #[test]
    fn protection_bits() {
        assert_eq!([0, 1, 3, 5, 7].map(elf_protection), [0, 4, 6, 5, 7]);
    }
}
