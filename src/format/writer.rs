//! [SIGNAL, NORMAL] Writes the record stream through a buffer that the caller provides.
//!
//! The stream only grows: no seeking back, so that it can go to a pipe. Small records collect in
//! the buffer; page data goes to the [`Sink`] straight from where it lies.

use super::memory::{PageRun, Pages};
use super::{
    FLAG_OPTIONAL, MAGIC_TAIL, MAX_RECORD, MAX_RUNS, OVERHEAD, PAGE, RecordHead, RecordTrailer, Tail, align8, kind,
};
use crc32fast::Hasher;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// Where the stream goes.
pub trait Sink {
    type Error: Copy;
    /// Writes all of `bytes` before it returns.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Takes `pages` of the program's memory; may write them later, but before any later `write`.
    fn write_memory(&mut self, pages: &'static [u8]) -> Result<(), Self::Error>;
}

/// Why a stream could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError<E> {
    /// A record outgrew the buffer or the format's limit.
    TooLarge {
        kind: u32,
    },
    /// Calls in the wrong order or page data of another length than announced.
    Sequence {
        kind: u32,
    },
    Sink(E),
}

/// Writer of one stream.
pub struct Writer<'a, S: Sink> {
    sink: S,
    buf: &'a mut [u8],
    /// Bytes of `buf` that hold finished records.
    done: usize,
    /// Bytes of `buf` in use, the open record included.
    used: usize,
    /// Kind of the open record, 0 if none.
    open: u32,
    /// The open record does not fit.
    overflow: bool,
    /// Bytes handed to the sink.
    flushed: u64,
    records: u64,
    digest: Hasher,
    pages: OpenPages,
}

/// State of the PAGES record that is being written.
struct OpenPages {
    /// Bytes of data that are still to come.
    left: u64,
    runs: usize,
    runs_done: usize,
    record: Hasher,
    run: Hasher,
}

impl<'a, S: Sink> Writer<'a, S> {
    /// `buf` bounds the size of a record; a few MiB of untouched memory serve.
    pub fn new(sink: S, buf: &'a mut [u8]) -> Self {
        Writer {
            sink,
            buf,
            done: 0,
            used: 0,
            open: 0,
            overflow: false,
            flushed: 0,
            records: 0,
            digest: Hasher::new(),
            pages: OpenPages { left: 0, runs: 0, runs_done: 0, record: Hasher::new(), run: Hasher::new() },
        }
    }

    /// Bytes of the stream so far.
    pub fn position(&self) -> u64 {
        self.flushed + self.done as u64
    }

    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    fn append(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.used..self.used.saturating_add(bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    /// Hands on all that is held back, memory included.
    pub fn sync(&mut self) -> Result<(), WriteError<S::Error>> {
        self.flush()?;
        self.sink.write(&[]).map_err(WriteError::Sink)
    }

    fn flush(&mut self) -> Result<(), WriteError<S::Error>> {
        if self.open != 0 {
            return Err(WriteError::Sequence { kind: self.open });
        }
        let bytes = self.buf.get(..self.done).unwrap_or(&[]);
        if !bytes.is_empty() {
            self.sink.write(bytes).map_err(WriteError::Sink)?;
        }
        self.flushed += self.done as u64;
        self.done = 0;
        self.used = 0;
        Ok(())
    }

    /// Starts a record. Flushes first when the buffer is more than half full.
    pub fn begin(&mut self, kind: u32) -> Result<(), WriteError<S::Error>> {
        if self.done * 2 > self.buf.len() {
            self.flush()?;
        }
        if self.open != 0 {
            return Err(WriteError::Sequence { kind });
        }
        self.open = kind;
        self.overflow = false;
        self.append(RecordHead { kind: U32::new(kind), len: U32::new(0) }.as_bytes());
        Ok(())
    }

    /// Appends payload to the open record.
    pub fn put(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    /// Appends a structure to the open record.
    pub fn put_struct<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.append(value.as_bytes());
    }

    /// Ends the open record. `flags` are the trailer's.
    pub fn end(&mut self, flags: u32) -> Result<(), WriteError<S::Error>> {
        let kind = self.open;
        if kind == 0 {
            return Err(WriteError::Sequence { kind });
        }
        let unpadded = self.used - self.done;
        let padding = align8(unpadded) - unpadded;
        self.append([0u8; 8].get(..padding).unwrap_or(&[]));
        self.append(U32::new(flags).as_bytes());
        let len = self.used - self.done + 4;
        if self.overflow || len > MAX_RECORD as usize {
            return Err(WriteError::TooLarge { kind });
        }
        if let Some(place) = self.buf.get_mut(self.done + 4..self.done + 8) {
            place.copy_from_slice(U32::new(len as u32).as_bytes());
        }
        let mut crc = Hasher::new();
        crc.update(self.buf.get(self.done..self.used).unwrap_or(&[]));
        let crc = U32::new(crc.finalize());
        self.append(crc.as_bytes());
        if self.overflow {
            return Err(WriteError::TooLarge { kind });
        }
        self.digest.update(RecordTrailer { flags: U32::new(flags), crc }.as_bytes());
        self.records += 1;
        self.done = self.used;
        self.open = 0;
        Ok(())
    }

    /// A whole record: `head` and the byte strings that follow it.
    pub fn record<T: IntoBytes + Immutable>(
        &mut self,
        kind: u32,
        flags: u32,
        head: &T,
        tails: &[&[u8]],
    ) -> Result<(), WriteError<S::Error>> {
        self.begin(kind)?;
        self.put_struct(head);
        for tail in tails {
            self.put(tail);
        }
        self.end(flags)
    }

    /// BUFFER or STRING: the length, then the bytes.
    pub fn bytes(&mut self, kind: u32, bytes: &[u8]) -> Result<(), WriteError<S::Error>> {
        self.record(kind, 0, &[U32::new(bytes.len() as u32), U32::new(0)], &[bytes])
    }

    /// A NOTICE.
    pub fn notice(&mut self, code: u32, number: u64, text: &[u8]) -> Result<(), WriteError<S::Error>> {
        let head = super::notice::Notice {
            code: U32::new(code),
            text_len: U32::new(text.len() as u32),
            number: U64::new(number),
        };
        self.record(kind::NOTICE, FLAG_OPTIONAL, &head, &[text])
    }

    /// Starts a PAGES record. For each run, [`Writer::page_bytes`] once or more often, then
    /// [`Writer::end_run`]; at last [`Writer::end_pages`].
    pub fn begin_pages(&mut self, runs: &[PageRun]) -> Result<(), WriteError<S::Error>> {
        let kind = kind::PAGES;
        self.flush()?;
        let tables = size_of::<RecordHead>() + size_of::<Pages>() + size_of_val(runs);
        let start = self.flushed;
        let data = (start + tables as u64).next_multiple_of(PAGE);
        let pages: u64 = runs.iter().map(|run| u64::from(run.pages.get())).sum();
        let crcs = align8(runs.len() * 4) as u64;
        let len = data - start + pages * PAGE + crcs + size_of::<RecordTrailer>() as u64;
        if runs.is_empty() || runs.len() > MAX_RUNS as usize || len > u64::from(super::MAX_PAGES_RECORD) {
            return Err(WriteError::TooLarge { kind });
        }
        self.overflow = false;
        self.append(RecordHead { kind: U32::new(kind), len: U32::new(len as u32) }.as_bytes());
        let head = Pages {
            runs: U32::new(runs.len() as u32),
            data_offset: U32::new((data - start) as u32),
            pages: U32::new(pages as u32),
            reserved: U32::new(0),
        };
        self.append(head.as_bytes());
        self.append(runs.as_bytes());
        let padding = (data - start) as usize - tables;
        match self.buf.get_mut(self.used..self.used + padding) {
            Some(place) => {
                place.fill(0);
                self.used += padding;
            }
            None => self.overflow = true,
        }
        if self.overflow {
            return Err(WriteError::TooLarge { kind });
        }
        self.done = self.used;
        self.pages.record = Hasher::new();
        self.pages.record.update(self.buf.get(..self.done).unwrap_or(&[]));
        self.flush()?;
        // From here on the buffer collects the checksums of the runs.
        self.open = kind;
        self.pages.left = pages * PAGE;
        self.pages.runs = runs.len();
        self.pages.runs_done = 0;
        self.pages.run = Hasher::new();
        Ok(())
    }

    /// Memory of the current run that stays as it is until the stream is finished.
    pub fn page_bytes(&mut self, bytes: &'static [u8]) -> Result<(), WriteError<S::Error>> {
        self.account(bytes)?;
        self.sink.write_memory(bytes).map_err(WriteError::Sink)
    }

    /// A copy of a part of the current run, which the caller is about to reuse.
    pub fn page_copy(&mut self, bytes: &[u8]) -> Result<(), WriteError<S::Error>> {
        self.account(bytes)?;
        self.sink.write(bytes).map_err(WriteError::Sink)
    }

    fn account(&mut self, bytes: &[u8]) -> Result<(), WriteError<S::Error>> {
        let len = bytes.len() as u64;
        if self.open != kind::PAGES || len > self.pages.left {
            return Err(WriteError::Sequence { kind: kind::PAGES });
        }
        self.pages.left -= len;
        self.flushed += len;
        self.pages.run.update(bytes);
        Ok(())
    }

    pub fn end_run(&mut self) -> Result<(), WriteError<S::Error>> {
        if self.open != kind::PAGES || self.pages.runs_done >= self.pages.runs {
            return Err(WriteError::Sequence { kind: kind::PAGES });
        }
        let run = core::mem::take(&mut self.pages.run);
        self.append(U32::new(run.finalize()).as_bytes());
        self.pages.runs_done += 1;
        Ok(())
    }

    pub fn end_pages(&mut self) -> Result<(), WriteError<S::Error>> {
        let kind = kind::PAGES;
        if self.open != kind || self.pages.left != 0 || self.pages.runs_done != self.pages.runs {
            return Err(WriteError::Sequence { kind });
        }
        if self.pages.runs % 2 == 1 {
            self.append(&[0; 4]);
        }
        let flags = U32::new(0);
        self.append(flags.as_bytes());
        let mut crc = core::mem::take(&mut self.pages.record);
        crc.update(self.buf.get(..self.used).unwrap_or(&[]));
        let crc = U32::new(crc.finalize());
        self.append(crc.as_bytes());
        if self.overflow {
            return Err(WriteError::TooLarge { kind });
        }
        self.digest.update(RecordTrailer { flags, crc }.as_bytes());
        self.records += 1;
        self.done = self.used;
        self.open = 0;
        Ok(())
    }

    /// Writes TAIL and all that is left. Returns the length of the stream.
    pub fn finish(&mut self) -> Result<u64, WriteError<S::Error>> {
        let tail = Tail {
            magic: U64::new(MAGIC_TAIL),
            records: U64::new(self.records),
            bytes: U64::new(self.position()),
            digest: U32::new(core::mem::take(&mut self.digest).finalize()),
            reserved: U32::new(0),
        };
        self.record(kind::TAIL, 0, &tail, &[])?;
        self.flush()?;
        // Memory that the sink still holds back goes out before an empty write.
        self.sink.write(&[]).map_err(WriteError::Sink)?;
        Ok(self.flushed)
    }
}

/// Size of the record that holds `payload` bytes.
pub const fn record_size(payload: usize) -> usize {
    align8(payload) + OVERHEAD
}
