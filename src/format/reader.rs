//! [NORMAL] Reads the record stream, record by record, and checks every checksum.

use super::memory::{PageRun, Pages};
use super::{
    ARCH_X86_32, FormatError, MAGIC_HEAD, MAGIC_TAIL, MAX_PAGES_RECORD, MAX_RECORD, MAX_RECORDS, MAX_RUNS, OVERHEAD,
    PAGE, REV, RecordHead, RecordTrailer, Tail, align8, header::Header, kind,
};
use crc32fast::Hasher;
use zerocopy::FromBytes;

/// Somewhere an image can be read from at any offset.
pub trait ReadAt {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// A run of pages and where it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRun {
    pub addr: u64,
    pub bytes: u64,
    /// Offset of the first page in the file.
    pub offset: u64,
}

impl StoredRun {
    /// First address after the run.
    pub fn end(&self) -> u64 {
        self.addr + self.bytes
    }
}

/// One record.
#[derive(Debug)]
pub struct Record {
    pub kind: u32,
    pub offset: u64,
    /// Of the whole record, bytes.
    pub len: u32,
    pub flags: u32,
    /// Everything between header and trailer, padding included; empty for PAGES.
    pub payload: Vec<u8>,
    /// Of PAGES.
    pub runs: Vec<StoredRun>,
}

impl Record {
    pub fn malformed(&self, field: &'static str, value: u64) -> FormatError {
        FormatError::Malformed { kind: self.kind, offset: self.offset, field, value }
    }
}

/// Whether the pages themselves are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageData {
    /// Read and checked: any flipped bit is found.
    Check,
    /// Left alone; for looking at the rest of a large image quickly.
    Skip,
}

/// Reader of one stream.
pub struct Reader<'a, R: ReadAt + ?Sized> {
    source: &'a R,
    pages: PageData,
    at: u64,
    records: u64,
    digest: Hasher,
    chunk: Vec<u8>,
    finished: bool,
}

const CHUNK: usize = 256 << 10;

impl<'a, R: ReadAt + ?Sized> Reader<'a, R> {
    pub fn new(source: &'a R, pages: PageData) -> Self {
        Reader { source, pages, at: 0, records: 0, digest: Hasher::new(), chunk: Vec::new(), finished: false }
    }

    fn fill(&self, buf: &mut [u8], offset: u64) -> Result<(), FormatError> {
        let mut done = 0;
        while done < buf.len() {
            match self.source.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => return Err(FormatError::Torn { offset: offset + done as u64 }),
                Ok(n) => done += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FormatError::Io { what: "read", offset: offset + done as u64, error }),
            }
        }
        Ok(())
    }

    /// The next record; `None` after TAIL.
    ///
    /// # Errors
    /// Anything that is wrong with the record or, at TAIL, with the stream as a whole.
    pub fn next_record(&mut self) -> Result<Option<Record>, FormatError> {
        if self.finished {
            return Ok(None);
        }
        let offset = self.at;
        let mut head = [0u8; size_of::<RecordHead>()];
        if offset == 0 {
            self.check_start()?;
        }
        self.fill(&mut head, offset)?;
        let head = RecordHead::read_from_bytes(&head).expect("sized by the array");
        let (k, len) = (head.kind.get(), head.len.get());
        let limit = if k == kind::PAGES { MAX_PAGES_RECORD } else { MAX_RECORD };
        if (len as usize) < OVERHEAD || len % 8 != 0 || len > limit {
            return Err(FormatError::Malformed { kind: k, offset, field: "len", value: len.into() });
        }
        if self.records >= MAX_RECORDS {
            return Err(FormatError::Malformed { kind: k, offset, field: "number of records", value: self.records });
        }
        let record = if k == kind::PAGES { self.read_pages(offset, len)? } else { self.read_plain(k, offset, len)? };
        self.at = offset + u64::from(len);
        if k == kind::TAIL {
            self.check_tail(&record)?;
            self.finished = true;
        } else {
            self.records += 1;
        }
        if k == kind::ERROR {
            return Err(self.aborted());
        }
        Ok(Some(record))
    }

    /// Tells a foreign file, architecture or revision from a damaged image.
    fn check_start(&self) -> Result<(), FormatError> {
        const SIZE: usize = size_of::<RecordHead>() + size_of::<Header>();
        let mut start = [0u8; SIZE];
        let got =
            self.source.read_at(&mut start, 0).map_err(|error| FormatError::Io { what: "read", offset: 0, error })?;
        let magic_at = size_of::<RecordHead>();
        if got < magic_at + 8 || start[magic_at..magic_at + 8] != MAGIC_HEAD.to_le_bytes() {
            return Err(FormatError::NotAnImage);
        }
        self.fill(&mut start, 0)?;
        let header = Header::read_from_bytes(&start[magic_at..]).expect("sized by the array");
        if header.arch.get() != ARCH_X86_32 {
            return Err(FormatError::OtherArch { arch: header.arch.get() });
        }
        if header.rev.get() != REV {
            return Err(FormatError::OtherRevision { rev: header.rev.get() });
        }
        Ok(())
    }

    fn finish_record(&mut self, k: u32, offset: u64, trailer: &[u8], crc: u32) -> Result<u32, FormatError> {
        let parsed = RecordTrailer::read_from_bytes(trailer).expect("sized by the caller");
        if parsed.crc.get() != crc {
            return Err(FormatError::Checksum { kind: k, offset });
        }
        if k != kind::TAIL {
            self.digest.update(trailer);
        }
        Ok(parsed.flags.get())
    }

    fn read_plain(&mut self, k: u32, offset: u64, len: u32) -> Result<Record, FormatError> {
        let mut bytes = vec![0u8; len as usize];
        self.fill(&mut bytes, offset)?;
        let crc = crc32fast::hash(&bytes[..bytes.len() - 4]);
        let trailer_at = bytes.len() - size_of::<RecordTrailer>();
        let flags = self.finish_record(k, offset, &bytes[trailer_at..], crc)?;
        let payload = bytes[size_of::<RecordHead>()..trailer_at].to_vec();
        Ok(Record { kind: k, offset, len, flags, payload, runs: Vec::new() })
    }

    fn read_pages(&mut self, offset: u64, len: u32) -> Result<Record, FormatError> {
        let bad = |field, value| FormatError::Malformed { kind: kind::PAGES, offset, field, value };
        const HEAD: usize = size_of::<RecordHead>() + size_of::<Pages>();
        let mut head = [0u8; HEAD];
        if (len as usize) < HEAD {
            return Err(bad("len", len.into()));
        }
        self.fill(&mut head, offset)?;
        let pages = Pages::read_from_bytes(&head[size_of::<RecordHead>()..]).expect("sized by the array");
        let nruns = pages.runs.get();
        let data = pages.data_offset.get();
        if nruns == 0 || nruns > MAX_RUNS {
            return Err(bad("runs", nruns.into()));
        }
        let tables = HEAD + nruns as usize * size_of::<PageRun>();
        let crcs = align8(nruns as usize * 4);
        let data_len = u64::from(pages.pages.get()) * PAGE;
        let whole = u64::from(data) + data_len + crcs as u64 + size_of::<RecordTrailer>() as u64;
        if (data as usize) < tables
            || data as usize >= tables + PAGE as usize
            || (offset + u64::from(data)) % PAGE != 0
            || whole != u64::from(len)
        {
            return Err(bad("data_offset", data.into()));
        }
        let mut before = vec![0u8; data as usize];
        self.fill(&mut before, offset)?;
        let mut after = vec![0u8; crcs + size_of::<RecordTrailer>()];
        let after_at = offset + u64::from(data) + data_len;
        self.fill(&mut after, after_at)?;
        let mut crc = Hasher::new();
        crc.update(&before);
        crc.update(&after[..after.len() - 4]);
        let flags = self.finish_record(kind::PAGES, offset, &after[crcs..], crc.finalize())?;

        let mut runs = Vec::with_capacity(nruns as usize);
        let mut at = offset + u64::from(data);
        for i in 0..nruns as usize {
            let place = HEAD + i * size_of::<PageRun>();
            let run = PageRun::read_from_bytes(&before[place..place + size_of::<PageRun>()]).expect("sized slice");
            let bytes = u64::from(run.pages.get()) * PAGE;
            if run.addr.get() % PAGE != 0 || run.addr.get() > u64::from(u32::MAX) || bytes == 0 {
                return Err(bad("run address", run.addr.get()));
            }
            if at + bytes > after_at {
                return Err(bad("run pages", run.pages.get().into()));
            }
            let stored = StoredRun { addr: run.addr.get(), bytes, offset: at };
            if self.pages == PageData::Check {
                let want = u32::from_le_bytes(after[i * 4..i * 4 + 4].try_into().expect("four bytes"));
                self.check_run(&stored, want)?;
            }
            at += bytes;
            runs.push(stored);
        }
        if at != after_at {
            return Err(bad("pages", pages.pages.get().into()));
        }
        Ok(Record { kind: kind::PAGES, offset, len, flags, payload: Vec::new(), runs })
    }

    fn check_run(&mut self, run: &StoredRun, want: u32) -> Result<(), FormatError> {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(CHUNK, 0);
        let mut crc = Hasher::new();
        let mut done = 0;
        while done < run.bytes {
            let n = (run.bytes - done).min(CHUNK as u64) as usize;
            self.fill(&mut chunk[..n], run.offset + done)?;
            crc.update(&chunk[..n]);
            done += n as u64;
        }
        self.chunk = chunk;
        if crc.finalize() != want {
            return Err(FormatError::PageChecksum { addr: run.addr, offset: run.offset });
        }
        Ok(())
    }

    fn check_tail(&mut self, record: &Record) -> Result<(), FormatError> {
        let tail = Tail::read_from_prefix(&record.payload).map_err(|_| record.malformed("len", record.len.into()))?.0;
        if tail.magic.get() != MAGIC_TAIL {
            return Err(record.malformed("magic", tail.magic.get()));
        }
        if tail.records.get() != self.records {
            return Err(record.malformed("records", tail.records.get()));
        }
        if tail.bytes.get() != record.offset {
            return Err(record.malformed("bytes", tail.bytes.get()));
        }
        if tail.digest.get() != std::mem::take(&mut self.digest).finalize() {
            return Err(FormatError::Checksum { kind: kind::TAIL, offset: record.offset });
        }
        let mut one = [0u8; 1];
        match self.source.read_at(&mut one, self.at) {
            Ok(0) => Ok(()),
            Ok(_) => Err(FormatError::Trailing { offset: self.at }),
            Err(error) => Err(FormatError::Io { what: "read", offset: self.at, error }),
        }
    }

    /// The STRING after ERROR tells why the writer gave up.
    fn aborted(&mut self) -> FormatError {
        match self.next_record() {
            Ok(Some(record)) if record.kind == kind::STRING => {
                let text = record.payload.get(8..).unwrap_or(&[]);
                let text: Vec<u8> = text.iter().copied().filter(|&b| b != 0).collect();
                FormatError::Aborted { reason: String::from_utf8_lossy(&text).into_owned() }
            }
            _ => FormatError::Aborted { reason: "no reason is recorded".to_string() },
        }
    }
}
