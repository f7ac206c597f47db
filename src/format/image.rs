//! [NORMAL] A whole image, parsed: every record of the stream in its place, counts bounded.

use super::attributes::{Attributes, ThreadAttr};
use super::files::{Fd, File, FileData, data_kind};
use super::header::{Component, Header, HeaderArch};
use super::ids::Ids;
use super::ipc::Ipc;
use super::memory::{GuardRange, Guards, Mm, Vma};
use super::notice::Notice;
use super::reader::{PageData, Record, StoredRun};
use super::signals::{NSIG, SigAction, SigPending};
use super::task::{Program, Runtime, Task};
use super::thread::{Cpu, CpuFpu, FpuComponent, RestartBlock, Thread, TlsEntry};
use super::timers::{ClockFront, ClockOffsets, Clocks, Itimer, Timer};
use super::{FLAG_OPTIONAL, FormatError, MAGIC_HEAD, ReadAt, Reader, RecordHead, kind};
use zerocopy::{FromBytes, FromZeros, Immutable, KnownLayout};

/// A mapping and its name.
#[derive(Clone, Debug)]
pub struct VmaEntry {
    pub vma: Vma,
    pub name: Vec<u8>,
}

/// An open file description, its path and what else is known of it, in the order of the stream.
#[derive(Clone, Debug)]
pub struct FileEntry {
    pub file: File,
    pub path: Vec<u8>,
    pub data: Vec<FileDataEntry>,
}

impl FileEntry {
    /// What is known of one sort, a number of `format::files::data_kind`.
    pub fn data_of(&self, what: u32) -> impl Iterator<Item = &FileDataEntry> {
        self.data.iter().filter(move |item| item.data.what.get() == what)
    }
}

/// A FILE_DATA and its bytes. Those of a file's contents, which may be larger than memory, stay in the image.
#[derive(Clone, Debug)]
pub struct FileDataEntry {
    pub data: FileData,
    /// Empty for CONTENTS.
    pub bytes: Vec<u8>,
    /// Offset of the bytes in the image.
    pub at: u64,
}

/// An object of System V IPC, or a message, and its bytes.
#[derive(Clone, Debug)]
pub struct IpcEntry {
    pub ipc: Ipc,
    pub bytes: Vec<u8>,
}

/// A notice and its text.
#[derive(Clone, Debug)]
pub struct NoticeEntry {
    pub notice: Notice,
    pub text: String,
}

/// A component of the extended state and its bytes.
#[derive(Clone, Debug)]
pub struct FpuPart {
    pub id: u32,
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Floating-point and vector state of a thread.
#[derive(Clone, Debug)]
pub struct Fpu {
    pub head: CpuFpu,
    pub parts: Vec<FpuPart>,
}

impl Fpu {
    /// Bytes of component `id`.
    pub fn part(&self, id: u32) -> Option<&[u8]> {
        self.parts.iter().find(|part| part.id == id).map(|part| part.bytes.as_slice())
    }
}

/// A thread with all its registers.
#[derive(Clone, Debug)]
pub struct ThreadEntry {
    pub thread: Thread,
    pub tls: Vec<TlsEntry>,
    pub cpu: Cpu,
    pub fpu: Option<Fpu>,
    pub wait: Option<RestartBlock>,
    /// And the CPUs that it is bound to.
    pub attr: Option<(ThreadAttr, Vec<u8>)>,
}

/// One line of `inspect --records`.
#[derive(Clone, Copy, Debug)]
pub struct RecordLine {
    pub kind: u32,
    pub offset: u64,
    pub len: u32,
    pub optional: bool,
}

/// Everything of an image but the page data.
#[derive(Clone, Debug)]
pub struct Image {
    pub header: Header,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub arch: HeaderArch,
    pub components: Vec<Component>,
    pub task: Task,
    pub comm: Vec<u8>,
    pub exe: Vec<u8>,
    pub cwd: Vec<u8>,
    pub cmdline: Vec<u8>,
    pub environ: Vec<u8>,
    pub runtime: Runtime,
    pub dir: Vec<u8>,
    pub name: Vec<u8>,
    pub library: Vec<u8>,
    pub attributes: Option<Attributes>,
    pub ids: Option<Ids>,
    pub mm: Mm,
    pub auxv: Vec<u8>,
    pub vmas: Vec<VmaEntry>,
    /// In the order of the stream.
    pub guards: Vec<GuardRange>,
    pub ipc: Vec<IpcEntry>,
    pub files: Vec<FileEntry>,
    pub fds: Vec<Fd>,
    pub actions: Vec<SigAction>,
    pub pending: Vec<SigPending>,
    pub itimers: [Itimer; 3],
    pub timers: Vec<Timer>,
    pub clocks: Option<Clocks>,
    pub clock_offsets: Option<ClockOffsets>,
    pub clock_front: Option<ClockFront>,
    pub threads: Vec<ThreadEntry>,
    pub ldt: Vec<TlsEntry>,
    /// Ordered by address.
    pub runs: Vec<StoredRun>,
    pub notices: Vec<NoticeEntry>,
    pub records: Vec<RecordLine>,
    /// Length of the stream.
    pub bytes: u64,
}

/// Takes a record's payload apart.
struct Fields<'a> {
    record: &'a Record,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(record: &'a Record) -> Self {
        Fields { record, rest: &record.payload }
    }

    fn short(&self) -> FormatError {
        self.record.malformed("len", self.record.len.into())
    }

    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, FormatError> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| self.short())?;
        self.rest = rest;
        Ok(value)
    }

    fn bytes(&mut self, len: u32) -> Result<Vec<u8>, FormatError> {
        if len as usize > self.rest.len() {
            return Err(self.short());
        }
        let (bytes, rest) = self.rest.split_at(len as usize);
        self.rest = rest;
        Ok(bytes.to_vec())
    }

    fn list<T: FromBytes + KnownLayout + Immutable>(&mut self, n: u32) -> Result<Vec<T>, FormatError> {
        if (n as usize).checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > self.rest.len()) {
            return Err(self.short());
        }
        (0..n).map(|_| self.take()).collect()
    }

    /// All that is left must be padding: fewer than 8 bytes, all zero.
    fn end(self) -> Result<(), FormatError> {
        if self.rest.len() >= 8 || self.rest.iter().any(|&b| b != 0) {
            return Err(self.record.malformed("padding", self.rest.len() as u64));
        }
        Ok(())
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One record of the given kind with nothing but a structure.
fn plain<T: FromBytes + KnownLayout + Immutable>(record: &Record) -> Result<T, FormatError> {
    let mut fields = Fields::new(record);
    let value = fields.take()?;
    fields.end()?;
    Ok(value)
}

fn counted_bytes(record: &Record) -> Result<Vec<u8>, FormatError> {
    let mut fields = Fields::new(record);
    let [len, _]: [zerocopy::little_endian::U32; 2] = fields.take()?;
    let bytes = fields.bytes(len.get())?;
    fields.end()?;
    Ok(bytes)
}

/// Puts `value` into `slot`, which must be empty.
fn once<T>(slot: &mut Option<T>, kind: u32, value: T) -> Result<(), FormatError> {
    if slot.replace(value).is_some() {
        return Err(FormatError::Order { kind, what: "stands twice" });
    }
    Ok(())
}

/// For records that are missing.
fn zeroed<T: FromZeros>(slot: Option<T>) -> T {
    slot.unwrap_or_else(T::new_zeroed)
}

/// What has been read so far.
#[derive(Clone, Default)]
struct Parts {
    header: Option<Header>,
    uts: Vec<Vec<u8>>,
    arch: Option<(HeaderArch, Vec<Component>)>,
    task: Option<Task>,
    comm: Option<Vec<u8>>,
    program: Option<[Vec<u8>; 4]>,
    runtime: Option<(Runtime, [Vec<u8>; 3])>,
    attributes: Option<Attributes>,
    ids: Option<Ids>,
    mm: Option<(Mm, Vec<u8>)>,
    vmas: Vec<VmaEntry>,
    guards: Vec<GuardRange>,
    ipc: Vec<IpcEntry>,
    files: Vec<FileEntry>,
    fds: Vec<Fd>,
    actions: Option<Vec<SigAction>>,
    pending: Vec<SigPending>,
    itimers: Option<[Itimer; 3]>,
    clocks: Option<Clocks>,
    clock_offsets: Option<ClockOffsets>,
    clock_front: Option<ClockFront>,
    timers: Vec<Timer>,
    threads: Vec<ThreadEntry>,
    /// The thread whose CPU has not come yet.
    open_thread: Option<(Thread, Vec<TlsEntry>)>,
    ldt: Vec<TlsEntry>,
    runs: Vec<StoredRun>,
    notices: Vec<NoticeEntry>,
    records: Vec<RecordLine>,
}

impl Parts {
    fn add(&mut self, record: Record) -> Result<(), FormatError> {
        self.records.push(RecordLine {
            kind: record.kind,
            offset: record.offset,
            len: record.len,
            optional: record.flags & FLAG_OPTIONAL != 0,
        });
        if self.records.len() == 1 && record.kind != kind::HEADER {
            return Err(FormatError::Order { kind: record.kind, what: "comes before HEADER" });
        }
        let mut fields = Fields::new(&record);
        match record.kind {
            kind::HEADER => {
                let header: Header = plain(&record)?;
                if header.magic.get() != MAGIC_HEAD {
                    return Err(record.malformed("magic", header.magic.get()));
                }
                once(&mut self.header, record.kind, header)?;
            }
            kind::BUFFER => {
                if self.uts.len() == 3 || self.arch.is_some() {
                    return Err(FormatError::Order { kind: record.kind, what: "stands more than three times" });
                }
                self.uts.push(counted_bytes(&record)?);
            }
            kind::HEADER_ARCH => {
                let arch: HeaderArch = fields.take()?;
                let components = fields.list(arch.components.get())?;
                fields.end()?;
                once(&mut self.arch, record.kind, (arch, components))?;
            }
            kind::TASK => once(&mut self.task, record.kind, plain(&record)?)?,
            kind::STRING => {
                if self.task.is_none() {
                    return Err(FormatError::Order { kind: record.kind, what: "comes before TASK" });
                }
                once(&mut self.comm, record.kind, counted_bytes(&record)?)?;
            }
            kind::PROGRAM => {
                let head: Program = fields.take()?;
                let strings = [
                    fields.bytes(head.exe_len.get())?,
                    fields.bytes(head.cwd_len.get())?,
                    fields.bytes(head.cmdline_len.get())?,
                    fields.bytes(head.environ_len.get())?,
                ];
                fields.end()?;
                once(&mut self.program, record.kind, strings)?;
            }
            kind::RUNTIME => {
                let head: Runtime = fields.take()?;
                let strings = [
                    fields.bytes(head.dir_len.get())?,
                    fields.bytes(head.name_len.get())?,
                    fields.bytes(head.library_len.get())?,
                ];
                fields.end()?;
                once(&mut self.runtime, record.kind, (head, strings))?;
            }
            kind::NOTICE => {
                let notice: Notice = fields.take()?;
                let text = text(fields.bytes(notice.text_len.get())?);
                fields.end()?;
                self.notices.push(NoticeEntry { notice, text });
            }
            kind::MM => {
                let mm: Mm = fields.take()?;
                let auxv = fields.bytes(mm.auxv_len.get())?;
                fields.end()?;
                once(&mut self.mm, record.kind, (mm, auxv))?;
            }
            kind::VMA => {
                let vma: Vma = fields.take()?;
                let name = fields.bytes(vma.name_len.get())?;
                fields.end()?;
                self.vmas.push(VmaEntry { vma, name });
            }
            kind::GUARDS => {
                let head: Guards = fields.take()?;
                self.guards.extend(fields.list::<GuardRange>(head.count.get())?);
                fields.end()?;
            }
            kind::IPC => {
                let ipc: Ipc = fields.take()?;
                let bytes = fields.bytes(ipc.len.get())?;
                fields.end()?;
                self.ipc.push(IpcEntry { ipc, bytes });
            }
            kind::PAGES => self.runs.extend_from_slice(&record.runs),
            kind::FILE => {
                let file: File = fields.take()?;
                let path = fields.bytes(file.path_len.get())?;
                fields.end()?;
                if file.id.get() as usize != self.files.len() {
                    return Err(record.malformed("id", file.id.get().into()));
                }
                self.files.push(FileEntry { file, path, data: Vec::new() });
            }
            kind::FILE_DATA => {
                let data: FileData = fields.take()?;
                let bytes = fields.bytes(data.len.get())?;
                fields.end()?;
                let Some(entry) = self.files.get_mut(data.file.get() as usize) else {
                    return Err(record.malformed("file", data.file.get().into()));
                };
                let at = record.offset + (size_of::<RecordHead>() + size_of::<FileData>()) as u64;
                let bytes = if data.what.get() == data_kind::CONTENTS { Vec::new() } else { bytes };
                entry.data.push(FileDataEntry { data, bytes, at });
            }
            kind::FD => {
                let fd: Fd = plain(&record)?;
                if fd.file.get() as usize >= self.files.len() {
                    return Err(record.malformed("file", fd.file.get().into()));
                }
                if self.fds.last().is_some_and(|last| last.fd.get() >= fd.fd.get()) {
                    return Err(record.malformed("fd", fd.fd.get().into()));
                }
                self.fds.push(fd);
            }
            kind::SIGACTIONS => {
                let actions = fields.list(NSIG as u32)?;
                fields.end()?;
                once(&mut self.actions, record.kind, actions)?;
            }
            kind::SIGPENDING => self.pending.push(plain(&record)?),
            kind::ITIMERS => once(&mut self.itimers, record.kind, plain(&record)?)?,
            kind::CLOCKS => once(&mut self.clocks, record.kind, plain(&record)?)?,
            kind::CLOCK_OFFSETS => once(&mut self.clock_offsets, record.kind, plain(&record)?)?,
            kind::CLOCK_FRONT => once(&mut self.clock_front, record.kind, plain(&record)?)?,
            kind::TIMER => self.timers.push(plain(&record)?),
            kind::THREAD => {
                if self.open_thread.is_some() {
                    return Err(FormatError::Order { kind: record.kind, what: "comes before the CPU of the last one" });
                }
                self.open_thread = Some((plain(&record)?, Vec::new()));
            }
            kind::THREAD_TLS => {
                let Some((thread, tls)) = &mut self.open_thread else {
                    return Err(FormatError::Order { kind: record.kind, what: "belongs to no THREAD" });
                };
                *tls = fields.list(thread.ntls.get())?;
                fields.end()?;
            }
            kind::LDT => {
                let n = fields.rest.len() / size_of::<TlsEntry>();
                self.ldt = fields.list(n as u32)?;
                fields.end()?;
            }
            kind::CPU => {
                let Some((thread, tls)) = self.open_thread.take() else {
                    return Err(FormatError::Order { kind: record.kind, what: "belongs to no THREAD" });
                };
                if tls.len() != thread.ntls.get() as usize {
                    return Err(FormatError::Order { kind: kind::THREAD_TLS, what: "is missing" });
                }
                self.threads.push(ThreadEntry { thread, tls, cpu: plain(&record)?, fpu: None, wait: None, attr: None });
            }
            kind::THREAD_ATTR => {
                let attr: ThreadAttr = fields.take()?;
                let cpus = fields.bytes(attr.cpus_len.get())?;
                fields.end()?;
                match self.threads.last_mut() {
                    Some(last) if self.open_thread.is_none() => once(&mut last.attr, record.kind, (attr, cpus))?,
                    _ => return Err(FormatError::Order { kind: record.kind, what: "belongs to no CPU" }),
                }
            }
            kind::ATTRIBUTES => once(&mut self.attributes, record.kind, plain(&record)?)?,
            kind::IDS => once(&mut self.ids, record.kind, plain(&record)?)?,
            kind::CPU_FPU => {
                let head: CpuFpu = fields.take()?;
                let table: Vec<FpuComponent> = fields.list(head.components.get())?;
                let mut parts = Vec::new();
                for entry in &table {
                    let from = entry.offset.get() as usize;
                    let to = from.saturating_add(entry.size.get() as usize);
                    let Some(bytes) = fields.rest.get(from..to) else {
                        return Err(record.malformed("component offset", from as u64));
                    };
                    let name = entry.name.iter().copied().take_while(|&b| b != 0).collect();
                    parts.push(FpuPart { id: entry.id.get(), name: text(name), bytes: bytes.to_vec() });
                }
                match self.threads.last_mut() {
                    Some(last) if self.open_thread.is_none() => {
                        once(&mut last.fpu, record.kind, Fpu { head, parts })?;
                    }
                    _ => return Err(FormatError::Order { kind: record.kind, what: "belongs to no CPU" }),
                }
            }
            kind::RESTART_BLOCK => match self.threads.last_mut() {
                Some(last) if self.open_thread.is_none() => once(&mut last.wait, record.kind, plain(&record)?)?,
                _ => return Err(FormatError::Order { kind: record.kind, what: "belongs to no CPU" }),
            },
            kind::TAIL => {}
            _ if record.flags & FLAG_OPTIONAL != 0 => {}
            _ => return Err(FormatError::UnknownRecord { kind: record.kind, offset: record.offset }),
        }
        Ok(())
    }

    /// Whether every record is there that must be.
    fn check_complete(&self) -> Result<(), FormatError> {
        let missing = |kind| Err(FormatError::Order { kind, what: "is missing" });
        for (there, kind) in [
            (self.header.is_some(), kind::HEADER),
            (self.uts.len() == 3, kind::BUFFER),
            (self.arch.is_some(), kind::HEADER_ARCH),
            (self.task.is_some(), kind::TASK),
            (self.comm.is_some(), kind::STRING),
            (self.program.is_some(), kind::PROGRAM),
            (self.runtime.is_some(), kind::RUNTIME),
            (self.mm.is_some(), kind::MM),
            (self.actions.is_some(), kind::SIGACTIONS),
            (self.open_thread.is_none() && !self.threads.is_empty(), kind::CPU),
        ] {
            if !there {
                return missing(kind);
            }
        }
        let announced = self.mm.as_ref().map_or(0, |(mm, _)| mm.vmas.get());
        if announced as usize != self.vmas.len() {
            return Err(FormatError::Order { kind: kind::VMA, what: "count differs from that in MM" });
        }
        Ok(())
    }

    /// The image; what is missing is empty or zero.
    fn into_image(mut self, bytes: u64) -> Image {
        self.uts.resize(3, Vec::new());
        let machine = text(self.uts.pop().unwrap_or_default());
        let version = text(self.uts.pop().unwrap_or_default());
        let release = text(self.uts.pop().unwrap_or_default());
        let (arch, components) = self.arch.unwrap_or_else(|| (zeroed(None), Vec::new()));
        let [exe, cwd, cmdline, environ] = self.program.unwrap_or_default();
        let (runtime, [dir, name, library]) = self.runtime.unwrap_or_else(|| (zeroed(None), Default::default()));
        let (mm, auxv) = self.mm.unwrap_or_else(|| (zeroed(None), Vec::new()));
        self.runs.sort_by_key(|run| run.addr);
        Image {
            header: zeroed(self.header),
            release,
            version,
            machine,
            arch,
            components,
            task: zeroed(self.task),
            comm: self.comm.unwrap_or_default(),
            exe,
            cwd,
            cmdline,
            environ,
            runtime,
            dir,
            name,
            library,
            attributes: self.attributes,
            ids: self.ids,
            mm,
            auxv,
            vmas: self.vmas,
            guards: self.guards,
            ipc: self.ipc,
            files: self.files,
            fds: self.fds,
            actions: self.actions.unwrap_or_default(),
            pending: self.pending,
            itimers: self.itimers.unwrap_or_default(),
            timers: self.timers,
            clocks: self.clocks,
            clock_offsets: self.clock_offsets,
            clock_front: self.clock_front,
            threads: self.threads,
            ldt: self.ldt,
            runs: self.runs,
            notices: self.notices,
            records: self.records,
            bytes,
        }
    }
}

impl Image {
    /// Reads a whole image. With [`PageData::Check`], every byte of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read<R: ReadAt + ?Sized>(source: &R, pages: PageData) -> Result<Image, FormatError> {
        let mut reader = Reader::new(source, pages);
        let mut parts = Parts::default();
        let mut bytes = 0;
        while let Some(record) = reader.next_record()? {
            bytes = record.offset + u64::from(record.len);
            parts.add(record)?;
        }
        parts.check_complete()?;
        Ok(parts.into_image(bytes))
    }

    /// Reads as much as can be read: of a damaged image all records before the first one that is
    /// wrong. What did not come stays zero or empty; [`Image::has`] tells. For looking only.
    pub fn salvage<R: ReadAt + ?Sized>(source: &R, pages: PageData) -> (Image, Option<FormatError>) {
        let mut reader = Reader::new(source, pages);
        let mut parts = Parts::default();
        let mut bytes = 0;
        let error = loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    bytes = record.offset + u64::from(record.len);
                    if let Err(error) = parts.add(record) {
                        parts.records.pop();
                        break Some(error);
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let error = error.or_else(|| parts.check_complete().err());
        (parts.into_image(bytes), error)
    }

    /// Whether a record of this kind was read.
    pub fn has(&self, kind: u32) -> bool {
        self.records.iter().any(|line| line.kind == kind)
    }

    /// Arguments of the program.
    pub fn args(&self) -> Vec<Vec<u8>> {
        split_nul(&self.cmdline)
    }

    /// Environment of the program.
    pub fn env(&self) -> Vec<Vec<u8>> {
        split_nul(&self.environ)
    }

    /// Bytes of page data.
    pub fn stored_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

fn split_nul(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.strip_suffix(b"\0").map_or_else(Vec::new, |all| all.split(|&b| b == 0).map(<[u8]>::to_vec).collect())
}
