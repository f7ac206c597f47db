//! [SIGNAL] Which pages go into the image: a batch of runs at a time, in order of address.
//!
//! The choice is kept apart from the writing, so that it can become incremental.
#![allow(unsafe_code)] // PAGEMAP_SCAN, and looking at resident memory for zeros.

use super::excluded;
use super::failure::{Failure, fail};
use super::guards::is_guarded;
use super::vmas::VmaSlot;
use crate::format::memory::{GuardRange, PageRun, vma_flag, vma_kind};
use crate::sys::abi::{PAGE_IS_FILE, PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGEMAP_SCAN};
use crate::sys::abi::{PageRegion, PmScanArg};
use crate::sys::{Errno, call, fs, nr, process};
use zerocopy::little_endian::{U32, U64};

const PAGE: usize = 4096;
/// Pages of one batch at most: 16 MiB of data.
const BATCH_PAGES: usize = 4096;
/// A private mapping of a file without code whose untouched pages are left in the file when it is
/// larger than this; they come from the file again, which must not have changed.
pub const LARGE_DATA_FILE: usize = 16 << 20;

/// How the pages of a mapping are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// None: kernel pages, devices, untouchable.
    Nothing,
    /// Resident and not zero.
    Resident,
    /// Resident ones that the program has changed; the rest comes from the file.
    Changed,
    /// All that the file backs, so that a changed file does no harm.
    All,
    /// Shared memory: what the kernel holds, mapped here or not, and not zero; of a file that may be changed before a
    /// restart, zeros as well.
    Shared,
}

/// Which mappings are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those whose contents change with others, and those that a fork does not get.
    Shared,
    /// The rest.
    Private,
}

/// Walks over the mappings.
pub struct Selector<'a> {
    vmas: &'a [VmaSlot],
    index: usize,
    /// Next address to look at; 0 before a mapping is started.
    at: usize,
    pagemap: fs::OwnedFd,
    regions: &'a mut [PageRegion],
    /// PAGEMAP_SCAN is there (Linux 6.7).
    scan: bool,
    /// Names of the mappings.
    names: &'a [u8],
    /// Pages that the program watches by debug registers, and last the one that the kernel writes to; 0 for none.
    watched: [usize; 5],
    guards: &'a [GuardRange],
    part: Part,
}

/// A batch: runs, and which mapping each run lies in is found by its address.
pub struct Batch {
    pub runs: usize,
    pub pages: usize,
}

impl<'a> Selector<'a> {
    pub fn new(
        vmas: &'a [VmaSlot],
        names: &'a [u8],
        regions: &'a mut [PageRegion],
        watched: [usize; 5],
        guards: &'a [GuardRange],
        part: Part,
    ) -> Result<Self, Failure> {
        let pagemap = fs::open(b"/proc/thread-self/pagemap\0", fs::O_RDONLY | fs::O_CLOEXEC, 0)
            .map_err(|errno| fail!(errno, "cannot open /proc/thread-self/pagemap"))?;
        let pagemap = fs::OwnedFd(pagemap);
        Ok(Selector { vmas, index: 0, at: 0, pagemap, regions, scan: true, names, watched, guards, part })
    }

    /// Fills `runs` with the next batch. A batch without runs is the end.
    pub fn next_batch(&mut self, runs: &mut [PageRun]) -> Result<Batch, Failure> {
        let mut batch = Batch { runs: 0, pages: 0 };
        while let Some(vma) = self.vmas.get(self.index).copied() {
            if batch.runs == runs.len() || batch.pages >= BATCH_PAGES {
                break;
            }
            if self.at == 0 {
                self.at = vma.start;
            }
            let policy = self.policy(&vma);
            if policy == Policy::Nothing || self.part != self.part_of(&vma, policy) || self.at >= vma.end {
                self.index += 1;
                self.at = 0;
                continue;
            }
            match policy {
                Policy::All => self.take_all(&vma, runs, &mut batch),
                Policy::Shared => self.take_shared(&vma, runs, &mut batch)?,
                Policy::Changed | Policy::Resident => self.take_resident(&vma, policy, runs, &mut batch)?,
                Policy::Nothing => {}
            }
        }
        Ok(batch)
    }

    /// Pages that must not be looked at in the handler: it would set off a watchpoint of the program.
    fn watchpoints(&self) -> impl Iterator<Item = usize> + '_ {
        self.watched.iter().copied().take(4).filter(|page| *page != 0)
    }

    /// Whether the handler may look at all of `start..end`, which lies in `vma`.
    fn may_read(&self, vma: &VmaSlot, start: usize, end: usize) -> bool {
        readable(vma) && !self.watchpoints().any(|page| (start..end).contains(&page))
    }

    /// Whether `start..end` can be written from where it lies. What the kernel writes to meanwhile (restartable
    /// sequences) would not have the checksum that was taken of it.
    pub fn is_steady(&self, vma: &VmaSlot, start: usize, end: usize) -> bool {
        self.may_read(vma, start, end) && !self.watched.iter().skip(4).any(|page| (start..end).contains(page))
    }

    fn policy(&self, vma: &VmaSlot) -> Policy {
        if vma.flags & vma_flag::DEVICE != 0 && vma.kind != vma_kind::VDSO {
            return Policy::Nothing;
        }
        match vma.kind {
            vma_kind::ANON => Policy::Resident,
            // The file is gone: all of it that can be read must be kept.
            vma_kind::FILE_GONE if vma.prot & process::PROT_READ != 0 => Policy::All,
            vma_kind::FILE_GONE => Policy::Changed,
            vma_kind::FILE_PRIVATE if vma.prot == process::PROT_NONE => Policy::Changed,
            vma_kind::FILE_PRIVATE if self.keeps_clean_pages(vma) => Policy::All,
            vma_kind::FILE_PRIVATE => Policy::Changed,
            vma_kind::SEGMENT if self.is_attached_below(vma) => Policy::Nothing,
            vma_kind::ANON_SHARED | vma_kind::SEGMENT => Policy::Shared,
            // Compared at a restart: another kernel has another.
            vma_kind::VDSO => Policy::All,
            vma_kind::FILE_SHARED if vma.flags & vma_flag::VOLATILE != 0 => Policy::Shared,
            vma_kind::FILE_SHARED if vma.prot & process::PROT_WRITE != 0 => Policy::Changed,
            _ => Policy::Nothing,
        }
    }

    /// The contents of a segment are kept once.
    fn is_attached_below(&self, vma: &VmaSlot) -> bool {
        let start = |vma: &VmaSlot| vma.start as u64 - vma.offset;
        self.vmas
            .iter()
            .any(|other| other.kind == vma_kind::SEGMENT && other.ino == vma.ino && start(other) < start(vma))
    }

    fn part_of(&self, vma: &VmaSlot, policy: Policy) -> Part {
        const NOT_FORKED: u64 = vma_flag::MADV_DONTFORK
            | vma_flag::MADV_WIPEONFORK
            | vma_flag::HUGETLB
            | vma_flag::DEVICE
            | vma_flag::USERFAULT;
        // A page of a file that the program has not changed is the file's, which somebody may write to.
        let data_file = vma.kind == vma_kind::FILE_GONE
            || vma.kind == vma_kind::FILE_PRIVATE && policy == Policy::All && !self.has_code(vma);
        let shared = matches!(vma.kind, vma_kind::ANON_SHARED | vma_kind::SEGMENT | vma_kind::FILE_SHARED);
        if shared || data_file || vma.flags & NOT_FORKED != 0 { Part::Shared } else { Part::Private }
    }

    /// Whether a mapping is of a file that has an executable mapping, too.
    fn has_code(&self, vma: &VmaSlot) -> bool {
        self.vmas
            .iter()
            .any(|other| other.prot & process::PROT_EXEC != 0 && other.name(self.names) == vma.name(self.names))
    }

    /// Code and small data files are kept whole.
    fn keeps_clean_pages(&self, vma: &VmaSlot) -> bool {
        vma.len() <= LARGE_DATA_FILE || self.has_code(vma)
    }

    /// Adds pages to the batch; joins them with the last run where they continue it. Returns how
    /// many were taken.
    fn push(&self, addr: usize, pages: usize, runs: &mut [PageRun], batch: &mut Batch) -> usize {
        let pages = pages.min(BATCH_PAGES.saturating_sub(batch.pages));
        if pages == 0 {
            return 0;
        }
        // A run never crosses from one mapping into the next: they may be read differently.
        let starts_mapping = self.vmas.get(self.index).is_some_and(|vma| addr == vma.start);
        let last = batch.runs.checked_sub(1).and_then(|last| runs.get_mut(last)).filter(|last| {
            !starts_mapping && last.addr.get() + u64::from(last.pages.get()) * PAGE as u64 == addr as u64
        });
        match last {
            Some(last) => last.pages = U32::new(last.pages.get() + pages as u32),
            None => {
                let Some(slot) = runs.get_mut(batch.runs) else { return 0 };
                *slot = PageRun { addr: U64::new(addr as u64), pages: U32::new(pages as u32), reserved: U32::new(0) };
                batch.runs += 1;
            }
        }
        batch.pages += pages;
        pages
    }

    /// End of what the file behind a mapping fills: beyond it lies SIGBUS.
    fn file_end(vma: &VmaSlot) -> usize {
        // Shared anonymous memory is as long as its mapping; what was a file has a size.
        if matches!(vma.kind, vma_kind::FILE_GONE | vma_kind::VDSO | vma_kind::SEGMENT)
            || vma.kind == vma_kind::ANON_SHARED && vma.file_size == 0
        {
            return vma.end;
        }
        let bytes = vma.file_size.saturating_sub(vma.offset).next_multiple_of(PAGE as u64);
        vma.start + (vma.len() as u64).min(bytes) as usize
    }

    fn take_all(&mut self, vma: &VmaSlot, runs: &mut [PageRun], batch: &mut Batch) {
        let end = Self::file_end(vma);
        if self.at >= end {
            self.at = vma.end;
            return;
        }
        if self.at == vma.start && !populate(vma.start, end - vma.start) {
            // Part of it cannot be read (a deleted file that was cut, a bad disk): what is resident
            // is what the program can have seen.
            self.at = end;
            for page in (vma.start..end).step_by(PAGE) {
                if populate(page, PAGE) && self.push(page, 1, runs, batch) == 0 {
                    self.at = page;
                    break;
                }
            }
            return;
        }
        let taken = self.push(self.at, (end - self.at) / PAGE, runs, batch);
        self.at += taken * PAGE;
    }

    fn take_resident(
        &mut self,
        vma: &VmaSlot,
        policy: Policy,
        runs: &mut [PageRun],
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        // A shared file's pages count as file pages, and are what is wanted.
        let skip_file = vma.kind != vma_kind::FILE_SHARED;
        let end = if vma.kind == vma_kind::FILE_SHARED { Self::file_end(vma) } else { vma.end };
        if self.at >= end {
            self.at = vma.end;
            return Ok(());
        }
        let (count, walked) = self.scan(self.at, end, skip_file)?;
        let skip_zeros = policy == Policy::Resident && self.may_read(vma, self.at, end);
        for i in 0..count {
            let Some(region) = self.regions.get(i).copied() else { break };
            let (start, stop) = (region.start as usize, region.end as usize);
            let mut at = start;
            while at < stop {
                // What need not be saved comes back as zeros where there is no file behind it.
                let wanted =
                    if policy == Policy::Resident { excluded::next_wanted(at, stop) } else { Some((at, stop)) };
                let Some((wanted_at, wanted_stop)) = wanted else { break };
                let next = if region.categories & PAGE_IS_PRESENT == 0 {
                    self.unguarded_run(vma, wanted_at, wanted_stop)
                } else if skip_zeros {
                    nonzero_run(wanted_at, wanted_stop)
                } else {
                    Some((wanted_at, wanted_stop))
                };
                let Some((from, to)) = next else {
                    at = wanted_stop;
                    continue;
                };
                let taken = self.push(from, (to - from) / PAGE, runs, batch);
                at = from + taken * PAGE;
                if at < to {
                    // The batch is full: go on here next time.
                    self.at = at;
                    return Ok(());
                }
            }
        }
        self.at = walked;
        Ok(())
    }

    /// The next pages of `at..stop`, which are not in memory, that lie in no guard region: the page table shows those as
    /// swapped out, too. Kernels from 6.13 to 6.14 have them but do not tell: there it is tried.
    fn unguarded_run(&self, vma: &VmaSlot, mut at: usize, stop: usize) -> Option<(usize, usize)> {
        let guarded = |page| is_guarded(self.guards, page) || readable(vma) && !populate(page, PAGE);
        while at < stop && guarded(at) {
            at += PAGE;
        }
        let start = at;
        while at < stop && !guarded(at) {
            at += PAGE;
        }
        (start < at).then_some((start, at))
    }

    fn take_shared(&mut self, vma: &VmaSlot, runs: &mut [PageRun], batch: &mut Batch) -> Result<(), Failure> {
        const STEP: usize = 1024;
        let mut core = [0u8; STEP];
        let end = Self::file_end(vma);
        if self.at >= end {
            self.at = vma.end;
            return Ok(());
        }
        let stop = end.min(self.at + STEP * PAGE);
        // Swapped-out shared memory does not show in mincore: then every page is looked at.
        let all = vma.swap_kb != 0 || process::mincore(self.at, stop - self.at, &mut core).is_err();
        let start = self.at;
        while self.at < stop {
            let resident = all || core.get((self.at - start) / PAGE).is_some_and(|byte| byte & 1 != 0);
            // What is not there must not be looked at: it would come into being.
            let wanted = resident
                && excluded::next_wanted(self.at, self.at + PAGE).is_some()
                && !is_guarded(self.guards, self.at)
                && !(vma.kind != vma_kind::FILE_SHARED
                    && readable(vma)
                    && !self.watchpoints().any(|page| page == self.at)
                    && is_zero_page(self.at));
            if wanted && self.push(self.at, 1, runs, batch) == 0 {
                return Ok(());
            }
            self.at += PAGE;
        }
        Ok(())
    }

    /// Finds regions of resident, non-zero pages in `start..end`. Returns how many regions were
    /// stored and up to where the walk came.
    fn scan(&mut self, start: usize, end: usize, skip_file: bool) -> Result<(usize, usize), Failure> {
        if self.scan {
            let unwanted = PAGE_IS_PFNZERO | if skip_file { PAGE_IS_FILE } else { 0 };
            let mut arg = PmScanArg {
                size: size_of::<PmScanArg>() as u64,
                start: start as u64,
                end: end as u64,
                vec: self.regions.as_mut_ptr() as usize as u64,
                vec_len: self.regions.len() as u64,
                category_inverted: unwanted,
                category_mask: unwanted,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT,
                ..PmScanArg::default()
            };
            // SAFETY: `arg` describes `regions` with its length.
            match unsafe { call!(nr::IOCTL, self.pagemap.0, PAGEMAP_SCAN, &raw mut arg) } {
                Ok(count) => {
                    // The kernel stops at a full array, at times before the end of the last region.
                    let last = count.checked_sub(1).and_then(|last| self.regions.get(last));
                    let seen = last.map_or(start + PAGE, |last| last.end as usize);
                    let walked = if arg.walk_end == 0 { end } else { arg.walk_end as usize };
                    return Ok((count, walked.max(seen).min(end)));
                }
                Err(Errno(25) | Errno::EINVAL | Errno::ENOSYS) => self.scan = false,
                Err(errno) => return Err(fail!(errno, "cannot scan the page table of {start:#x}-{end:#x}")),
            }
        }
        self.read_pagemap(start, end, skip_file)
    }

    /// The same by reading /proc/thread-self/pagemap, for older kernels. It does not tell zero pages.
    fn read_pagemap(&mut self, start: usize, end: usize, skip_file: bool) -> Result<(usize, usize), Failure> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE: u64 = 1 << 61;
        const ENTRIES: usize = 1024;
        let mut buf = [0u8; ENTRIES * 8];
        let pages = ((end - start) / PAGE).min(ENTRIES.min(self.regions.len()));
        let bytes = buf.get_mut(..pages * 8).unwrap_or(&mut []);
        let n = fs::pread(self.pagemap.0, bytes, (start / PAGE * 8) as u64)
            .map_err(|errno| fail!(errno, "cannot read /proc/thread-self/pagemap"))?;
        let mut count = 0usize;
        for (i, entry) in bytes.get(..n).unwrap_or(&[]).chunks_exact(8).enumerate() {
            let entry = crate::arch::frame::u64_at(entry, 0);
            if entry & (PRESENT | SWAPPED) == 0 || (skip_file && entry & FILE != 0) {
                continue;
            }
            let categories = if entry & PRESENT != 0 { PAGE_IS_PRESENT } else { 0 };
            let at = (start + i * PAGE) as u64;
            let previous = count.checked_sub(1);
            match previous.and_then(|last| self.regions.get_mut(last)) {
                Some(last) if last.end == at && last.categories == categories => last.end += PAGE as u64,
                _ => {
                    if let Some(slot) = self.regions.get_mut(count) {
                        *slot = PageRegion { start: at, end: at + PAGE as u64, categories };
                        count += 1;
                    }
                }
            }
        }
        Ok((count, start + (n / 8).max(1) * PAGE))
    }
}

/// Whether the handler itself may read the memory of a mapping.
fn readable(vma: &VmaSlot) -> bool {
    vma.prot & process::PROT_READ != 0 && vma.pkey == 0
}

/// Brings pages of a file into memory; says whether all of them can be read, where touching them
/// would raise SIGBUS.
pub fn populate(start: usize, len: usize) -> bool {
    const MADV_POPULATE_READ: u32 = 22;
    // SAFETY: reads the mapping, changes nothing.
    match unsafe { call!(nr::MADVISE, start, len, MADV_POPULATE_READ) } {
        Ok(_) => true,
        // Before Linux 5.14 nobody can say.
        Err(Errno::EINVAL | Errno::ENOSYS) => true,
        Err(_) => false,
    }
}

/// The next pages of `at..stop` that are not all zero.
fn nonzero_run(mut at: usize, stop: usize) -> Option<(usize, usize)> {
    while at < stop && is_zero_page(at) {
        at += PAGE;
    }
    let start = at;
    while at < stop && !is_zero_page(at) {
        at += PAGE;
    }
    (start < at).then_some((start, at))
}

/// Looks at a page that is resident and readable.
fn is_zero_page(addr: usize) -> bool {
    // SAFETY: the page table says that the page is there, its mapping that it may be read, and the
    // program is stopped.
    let words: &[u64; PAGE / 8] = unsafe { &*(addr as *const [u64; PAGE / 8]) };
    words.chunks_exact(16).all(|chunk| chunk.iter().fold(0, |all, word| all | word) == 0)
}
