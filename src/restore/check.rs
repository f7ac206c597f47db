//! [NORMAL] Whether an image makes sense, and whether this machine can take it. Pure: looks at the
//! image and at a description of the host, touches nothing.

use super::check_files::check_files;
use super::check_ipc::check_ipc;
use super::check_threads::{check_descriptor, check_thread};
use super::check_timers::check_timers;
use crate::arch::cpu::Cpu as HostCpu;
use crate::format::attributes::{CPUS, Inherited};
use crate::format::header::FEATURE_NAMES;
use crate::format::ids::{TableHead, Translation, uses};
use crate::format::image::{Image, VmaEntry};
use crate::format::memory::{vma_flag, vma_kind};
use crate::format::task::{FrontInfo, RestartInfo};
use crate::format::thread::flag;
use crate::format::{PAGE, kind};

/// The machine that is to take the image.
pub struct Host {
    pub cpu: HostCpu,
    /// End of user addresses of a 32-bit task.
    pub task_size: u64,
    /// GDT index of the first TLS entry: 12 on a 64-bit kernel, 6 on a 32-bit one.
    pub gdt_first: u32,
    /// Kernel release.
    pub release: String,
}

impl Host {
    /// This machine, for a 32-bit task on a 64-bit kernel.
    pub fn detect(release: String) -> Host {
        Host { cpu: HostCpu::detect(), task_size: 0xffff_e000, gdt_first: 12, release }
    }
}

/// Something that is wrong or worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The image cannot be restarted here.
    pub fatal: bool,
    pub text: String,
}

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn refuse(&mut self, record: u32, field: &str, value: u64) {
        let text = format!("{} record: {field} cannot be {value:#x}", kind::name(record));
        self.0.push(Problem { fatal: true, text });
    }

    pub(super) fn fatal(&mut self, text: String) {
        self.0.push(Problem { fatal: true, text });
    }

    fn warn(&mut self, text: String) {
        self.0.push(Problem { fatal: false, text });
    }
}

/// Everything that is wrong with `image` on `host`.
pub fn check_image(image: &Image, host: &Host) -> Vec<Problem> {
    let mut problems = Problems::default();
    check_machine(image, host, &mut problems);
    check_vmas(image, host, &mut problems);
    check_runs(image, &mut problems);
    check_guards(image, &mut problems);
    check_ipc(image, &mut problems);
    check_files(image, &mut problems);
    check_places(image, host, &mut problems);
    for entry in &image.ldt {
        check_descriptor(entry, kind::LDT, 8192, host, &mut problems);
    }
    for thread in &image.threads {
        check_thread(thread, image, host, &mut problems);
    }
    for pending in &image.pending {
        if !(1..=64).contains(&pending.signo.get()) {
            problems.refuse(kind::SIGPENDING, "signo", pending.signo.get().into());
        }
    }
    check_timers(image, &mut problems);
    check_attributes(image, &mut problems);
    check_identities(image, &mut problems);
    problems.0
}

/// Where a restart writes; what the kernel is told it checks itself.
fn check_attributes(image: &Image, problems: &mut Problems) {
    if let Some(attributes) = &image.attributes {
        let at = attributes.inherited.get();
        if !inside(image, at, size_of::<Inherited>() as u64, READ | WRITE) {
            problems.refuse(kind::ATTRIBUTES, "inherited", at);
        }
    }
    for (attr, _) in image.threads.iter().filter_map(|entry| entry.attr.as_ref()) {
        if attr.cpus_len.get() as usize > CPUS {
            problems.refuse(kind::THREAD_ATTR, "cpus_len", attr.cpus_len.get().into());
        }
    }
}

/// The main thread comes first, no id stands twice, and what refers to a thread refers to one of the image.
fn check_identities(image: &Image, problems: &mut Problems) {
    if image.threads.first().is_none_or(|main| main.thread.tid != image.task.pid) {
        problems.refuse(
            kind::THREAD,
            "tid of the main thread",
            image.threads.first().map_or(0, |t| t.thread.tid.get().into()),
        );
    }
    let mut tids: Vec<u32> = image.threads.iter().map(|entry| entry.thread.tid.get()).collect();
    tids.sort_unstable();
    if let Some(twice) = tids.windows(2).find(|pair| pair[0] == pair[1]) {
        problems.refuse(kind::THREAD, "tid (it stands twice)", twice[0].into());
    }
    for pending in &image.pending {
        let tid = pending.tid.get();
        if tid != 0 && tids.binary_search(&tid).is_err() {
            problems.refuse(kind::SIGPENDING, "tid", tid.into());
        }
    }
    for entry in image.threads.iter().filter(|entry| entry.thread.flags.get() != 0) {
        let (flags, alone) = (entry.thread.flags.get(), image.threads.len() == 1);
        if flags != flag::EXITED || entry.thread.tid != image.task.pid || alone {
            problems.refuse(kind::THREAD, "flags", flags.into());
        }
    }
}

/// Guard regions are ordered and lie in mappings that continue each other.
fn check_guards(image: &Image, problems: &mut Problems) {
    let mut last_end = 0;
    for range in &image.guards {
        let (start, end) = (range.start.get(), range.end.get());
        if start % PAGE != 0 || end % PAGE != 0 || start < last_end || end <= start {
            problems.refuse(kind::GUARDS, "start", start);
            continue;
        }
        last_end = end;
        let mut at = start;
        let first = image.vmas.partition_point(|entry| entry.vma.end.get() <= start);
        for entry in image.vmas.get(first..).unwrap_or(&[]) {
            if entry.vma.start.get() > at || at >= end {
                break;
            }
            at = entry.vma.end.get();
        }
        if at < end {
            problems.refuse(kind::GUARDS, "end (it lies in no mapping)", end);
        }
    }
}

fn check_machine(image: &Image, host: &Host, problems: &mut Problems) {
    if image.release != host.release {
        problems.warn(format!("taken on kernel {}, this one is {}", image.release, host.release));
    }
    let missing: Vec<&str> = FEATURE_NAMES
        .iter()
        .filter(|(word, bit, _)| {
            let had = image.arch.features[*word].get() & (1 << bit) != 0;
            had && host.cpu.features[*word] & (1 << bit) == 0
        })
        .map(|(_, _, name)| *name)
        .collect();
    if !missing.is_empty() {
        problems.warn(format!(
            "this CPU lacks {}, which the CPU of the checkpoint had: the program may have chosen code that uses it",
            missing.join(", ")
        ));
    }
}

fn check_vmas(image: &Image, host: &Host, problems: &mut Problems) {
    let mut last_end = 0;
    for entry in &image.vmas {
        let vma = &entry.vma;
        let (start, end) = (vma.start.get(), vma.end.get());
        if start % PAGE != 0 || start < last_end || start == 0 {
            problems.refuse(kind::VMA, "start", start);
        }
        if end % PAGE != 0 || end <= start || end > 1 << 32 {
            problems.refuse(kind::VMA, "end", end);
        } else if end > host.task_size {
            problems.fatal(format!(
                "the mapping {start:#x}-{end:#x} lies above {:#x}, where this kernel's user addresses end",
                host.task_size
            ));
        }
        if vma.prot.get() & !7 != 0 {
            problems.refuse(kind::VMA, "prot", vma.prot.get().into());
        }
        if vma_kind::name(vma.kind.get()) == "unknown" {
            problems.refuse(kind::VMA, "kind", vma.kind.get().into());
        }
        if vma.flags.get() & !vma_flag::ALL != 0 {
            problems.refuse(kind::VMA, "flags", vma.flags.get());
        }
        let shown = vma.offset.get().saturating_add(end.saturating_sub(start));
        if vma.kind.get() == vma_kind::ANON_SHARED && vma.file_size.get() > shown {
            problems.refuse(kind::VMA, "file_size", vma.file_size.get());
        }
        if vma.offset.get() % PAGE != 0
            && matches!(vma.kind.get(), vma_kind::FILE_PRIVATE | vma_kind::FILE_SHARED | vma_kind::ANON_SHARED)
        {
            problems.refuse(kind::VMA, "offset", vma.offset.get());
        }
        last_end = end.max(last_end);
    }
    let mm = &image.mm;
    for (name, value) in [
        ("start_code", mm.start_code.get()),
        ("end_code", mm.end_code.get()),
        ("start_data", mm.start_data.get()),
        ("end_data", mm.end_data.get()),
        ("start_brk", mm.start_brk.get()),
        ("brk", mm.brk.get()),
        ("start_stack", mm.start_stack.get()),
        ("arg_start", mm.arg_start.get()),
        ("arg_end", mm.arg_end.get()),
        ("env_start", mm.env_start.get()),
        ("env_end", mm.env_end.get()),
    ] {
        if !(0x10000..host.task_size).contains(&value) {
            problems.refuse(kind::MM, name, value);
        }
    }
    for (name, start, end) in [
        ("end_code", mm.start_code.get(), mm.end_code.get()),
        ("end_data", mm.start_data.get(), mm.end_data.get()),
        ("brk", mm.start_brk.get(), mm.brk.get()),
        ("arg_end", mm.arg_start.get(), mm.arg_end.get()),
        ("env_end", mm.env_start.get(), mm.env_end.get()),
    ] {
        if end < start {
            problems.refuse(kind::MM, name, end);
        }
    }
}

fn check_runs(image: &Image, problems: &mut Problems) {
    let mut last_end = 0;
    for run in &image.runs {
        if run.addr < last_end {
            problems.refuse(kind::PAGES, "run address (it overlaps another run)", run.addr);
        }
        last_end = run.end();
        let inside = vma_at(image, run.addr).is_some_and(|entry| run.end() <= entry.vma.end.get());
        if !inside {
            problems.refuse(kind::PAGES, "run address (it lies in no mapping)", run.addr);
        }
        if run.offset + run.bytes > image.bytes {
            problems.refuse(kind::PAGES, "run offset", run.offset);
        }
    }
}

/// The mapping that holds an address.
pub fn vma_at(image: &Image, addr: u64) -> Option<&VmaEntry> {
    image.vmas.iter().find(|entry| (entry.vma.start.get()..entry.vma.end.get()).contains(&addr))
}

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const EXEC: u32 = 4;

pub fn inside(image: &Image, addr: u64, len: u64, prot: u32) -> bool {
    vma_at(image, addr).is_some_and(|entry| addr + len <= entry.vma.end.get() && entry.vma.prot.get() & prot == prot)
}

/// Places in the saved memory that the restart itself uses.
fn check_places(image: &Image, _host: &Host, problems: &mut Problems) {
    let runtime = &image.runtime;
    let (info, size) = (runtime.restart_info.get(), u64::from(runtime.restart_info_size.get()));
    if size != size_of::<RestartInfo>() as u64 || !inside(image, info, size, READ | WRITE) {
        problems.refuse(kind::RUNTIME, "restart_info", info);
    }
    if let Some(ids) = image.ids {
        let size = ids.capacity.get() as usize * size_of::<Translation>() + size_of::<TableHead>();
        if !inside(image, ids.table.get(), size as u64, READ | WRITE) {
            problems.refuse(kind::IDS, "table", ids.table.get());
        }
        if ids.uses.get() & !uses::ALL != 0 {
            problems.refuse(kind::IDS, "uses", ids.uses.get().into());
        }
        if image.threads.len() > ids.capacity.get() as usize {
            problems.refuse(kind::IDS, "capacity", ids.capacity.get().into());
        }
    }
    if let Some(front) = image.clock_front {
        let (info, size) = (front.info.get(), front.info_size.get());
        if size as usize != size_of::<FrontInfo>() || !inside(image, info, size.into(), READ | WRITE) {
            problems.refuse(kind::CLOCK_FRONT, "info", info);
        }
        for function in [front.clock_gettime.get(), front.clock_gettime64.get(), front.vsyscall.get()] {
            if !inside(image, function, 16, EXEC) {
                problems.refuse(kind::CLOCK_FRONT, "function", function);
            }
        }
        if front.in_use.get() > 1 {
            problems.refuse(kind::CLOCK_FRONT, "in_use", front.in_use.get().into());
        }
    }
    if !inside(image, runtime.leave.get(), 16, EXEC) {
        problems.refuse(kind::RUNTIME, "leave", runtime.leave.get());
    }
    if image.name.is_empty() || image.name.contains(&b'/') || image.name.len() > 250 {
        problems.refuse(kind::RUNTIME, "name length", image.name.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::resume::Resume;
    use crate::format::reader::PageData;
    use crate::format::thread::{RestartBlock, desc};
    use crate::format::timers::ClockFront;
    use zerocopy::little_endian::{U32, U64};

    /// The committed golden image, on the CPU that it says it was taken on.
    fn sample() -> (Image, Host) {
        let bytes: &[u8] = include_bytes!("../../tests/data/golden-2.ckpt");
        let image = Image::read(bytes, PageData::Check).expect("the golden image");
        let mut cpu = HostCpu::detect();
        for component in &image.components {
            let extent = &mut cpu.extents[component.id.get() as usize];
            extent.offset = component.offset.get();
            extent.size = component.size.get();
        }
        cpu.mxcsr_mask = image.arch.mxcsr_mask.get();
        cpu.features = image.arch.features.map(|word| word.get());
        let host = Host { cpu, task_size: 0xffff_e000, gdt_first: 12, release: image.release.clone() };
        (image, host)
    }

    fn fatal(image: &Image, host: &Host) -> Vec<String> {
        check_image(image, host).into_iter().filter(|problem| problem.fatal).map(|problem| problem.text).collect()
    }

    #[test]
    fn golden_image_is_fine() {
        let (image, host) = sample();
        assert_eq!(check_image(&image, &host), []);
    }

    /// Breaks one field of the golden image and expects a refusal that holds all of `words`.
    fn refused(words: &[&str], spoil: impl FnOnce(&mut Image)) {
        let (mut image, host) = sample();
        spoil(&mut image);
        let texts = fatal(&image, &host);
        assert!(texts.iter().any(|text| words.iter().all(|word| text.contains(word))), "{words:?} not in {texts:?}");
    }

    #[test]
    fn flags() {
        for flags in [0x1_3202u64, 0x2202, 0x8_0202, 0x2, 0x200, 0x10_0202, 0x1_0000_0202] {
            let value = format!("{flags:#x}");
            refused(&["CPU", "flags", &value], |image| image.threads[0].cpu.flags = U64::new(flags));
        }
        for flags in [0x202u64, 0x246, 0x4_0602, 0x20_0302, 0x1_4ed7] {
            let (mut image, host) = sample();
            image.threads[0].cpu.flags = U64::new(flags);
            assert_eq!(fatal(&image, &host), Vec::<String>::new(), "{flags:#x}");
        }
    }

    #[test]
    fn selectors() {
        // Null, kernel code, 64-bit code, data, a TLS slot that is not set, RPL 0, an LDT slot that is not set.
        for cs in [0u64, 0x10, 0x33, 0x2b, 0x73, 0x20, 0x4f] {
            refused(&["CPU", "cs"], |image| image.threads[0].cpu.cs = U64::new(cs));
        }
        for ss in [0u64, 0x18, 0x23, 0x28] {
            refused(&["CPU", "ss"], |image| image.threads[0].cpu.ss = U64::new(ss));
        }
        for value in [0x10u64, 0x18, 0x28, 0x7f7, 0x83, 0x1_0000] {
            refused(&["CPU", "ds"], |image| image.threads[0].cpu.ds = U64::new(value));
            refused(&["CPU", "es"], |image| image.threads[0].cpu.es = U64::new(value));
            refused(&["CPU", "fs"], |image| image.threads[0].cpu.fs = U64::new(value));
            refused(&["CPU", "gs"], |image| image.threads[0].cpu.gs = U64::new(value));
        }
    }

    #[test]
    fn places() {
        refused(&["CPU", "ip"], |image| image.threads[0].cpu.ip = U64::new(0x1000));
        refused(&["CPU", "sp"], |image| image.threads[0].cpu.sp = U64::new(0x1000));
        refused(&["CPU", "bx"], |image| image.threads[0].cpu.bx = U64::new(1 << 32));
        refused(&["CPU", "r8"], |image| image.threads[0].cpu.r8 = U64::new(1));
        refused(&["THREAD", "frame_addr"], |image| image.threads[0].thread.frame_addr = U64::new(0x1000));
        let wait = |nr: u32, left: u64, resume: u64| RestartBlock {
            nr: U32::new(nr),
            resume_size: U32::new(size_of::<Resume>() as u32),
            left: U64::new(left),
            resume: U64::new(resume),
            fd: U32::new(0),
            place: U32::new(0),
        };
        const NANOSLEEP: u32 = 162;
        for (field, wait) in [
            ("nr", wait(1, 1, 0)),
            ("left", wait(NANOSLEEP, u64::MAX, 0)),
            ("resume", wait(NANOSLEEP, 1, 0x1000)),
            ("place", RestartBlock { place: U32::new(0x1000), ..wait(NANOSLEEP, 1, 0) }),
            ("resume_size", RestartBlock { resume_size: U32::new(1), ..wait(NANOSLEEP, 1, 0) }),
        ] {
            refused(&["RESTART_BLOCK", field], |image| image.threads[0].wait = Some(wait));
        }
        refused(&["RUNTIME", "leave"], |image| image.runtime.leave = U64::new(0x1000));
        refused(&["RUNTIME", "restart_info"], |image| image.runtime.restart_info = U64::new(0x1000));
        let (mut image, host) = sample();
        let front = ClockFront {
            info: image.runtime.restart_info,
            info_size: U32::new(size_of::<FrontInfo>() as u32),
            clock_gettime: image.runtime.leave,
            clock_gettime64: image.runtime.leave,
            vsyscall: image.runtime.leave,
            ..ClockFront::default()
        };
        image.clock_front = Some(front);
        assert_eq!(fatal(&image, &host), Vec::<String>::new());
        for (field, front) in [
            ("info", ClockFront { info: front.clock_gettime, ..front }),
            ("info", ClockFront { info_size: U32::new(1), ..front }),
            ("function", ClockFront { clock_gettime: front.info, ..front }),
            ("function", ClockFront { clock_gettime64: U64::new(0x1000), ..front }),
            ("function", ClockFront { vsyscall: front.info, ..front }),
            ("in_use", ClockFront { in_use: U32::new(2), ..front }),
        ] {
            refused(&["CLOCK_FRONT", field], |image| image.clock_front = Some(front));
        }
    }

    #[test]
    fn descriptors() {
        refused(&["THREAD_TLS", "flags"], |image| image.threads[0].tls[0].flags = U32::new(0x80));
        refused(&["THREAD_TLS", "flags"], |image| image.threads[0].tls[0].flags = U32::new(desc::USEABLE));
        refused(&["THREAD_TLS", "slot"], |image| image.threads[0].tls[0].slot = U32::new(3));
        refused(&["THREAD_TLS", "base"], |image| image.threads[0].tls[0].base = U64::new(1 << 32));
        refused(&["THREAD_TLS", "limit"], |image| image.threads[0].tls[0].limit = U32::new(0x10_0000));
        refused(&["32-bit and a 64-bit kernel"], |image| image.threads[0].thread.gdt_first = U32::new(6));
    }

    #[test]
    fn debug_registers() {
        fn set(image: &mut Image, address: u64, dr7: u64) {
            let cpu = &mut image.threads[0].cpu;
            cpu.debugreg0 = U64::new(address);
            cpu.debugreg7 = U64::new(dr7);
        }
        refused(&["CPU", "debugreg0"], |image| set(image, 0xffff_f000, 0));
        // General detect, a reserved bit, an I/O breakpoint, execution of two bytes, eight bytes, unaligned.
        for dr7 in [0x2000u64, 0x8000, 0x2_0001, 0x4_0001, 0x9_0001, 0xd_0001, 1 << 32] {
            refused(&["CPU", "debugreg7"], |image| set(image, 0x1001, dr7));
        }
        let (mut image, host) = sample();
        set(&mut image, 0x1000, 0xd_0401);
        assert_eq!(fatal(&image, &host), Vec::<String>::new());
    }

    #[test]
    fn extended_state() {
        fn fpu(image: &mut Image) -> &mut crate::format::image::Fpu {
            image.threads[0].fpu.as_mut().expect("the golden image has FPU state")
        }
        refused(&["CPU_FPU", "mxcsr"], |image| fpu(image).head.mxcsr = U32::new(0x8000_1f80));
        refused(&["CPU_FPU", "xstate_bv"], |image| fpu(image).head.xstate_bv = U64::new(1 << 40));
        refused(&["CPU_FPU", "component size"], |image| fpu(image).parts[1].bytes.truncate(100));
        refused(&["CPU_FPU", "components"], |image| fpu(image).parts.truncate(1));
        let (image, mut host) = sample();
        host.cpu.extents = [Default::default(); 32];
        assert!(fatal(&image, &host).iter().any(|text| text.contains("AVX")), "a CPU without AVX takes it");
    }

    #[test]
    fn mappings() {
        refused(&["VMA", "start"], |image| image.vmas[0].vma.start = U64::new(0x1001));
        refused(&["VMA", "end"], |image| image.vmas[0].vma.end = image.vmas[0].vma.start);
        refused(&["VMA", "prot"], |image| image.vmas[0].vma.prot = U32::new(8));
        refused(&["VMA", "kind"], |image| image.vmas[0].vma.kind = U32::new(99));
        refused(&["VMA", "flags"], |image| image.vmas[0].vma.flags = U64::new(1 << 60));
        refused(&["VMA", "start"], |image| image.vmas.swap(0, 1));
        refused(&["PAGES", "lies in no mapping"], |image| {
            let addr = image.runs[0].addr;
            image.vmas.retain(|entry| !(entry.vma.start.get()..entry.vma.end.get()).contains(&addr));
        });
        refused(&["PAGES", "overlaps"], |image| {
            let run = image.runs[0];
            image.runs.insert(0, run);
        });
        for (start, end) in [(0x1000u64, 0x2001u64), (0x1000, 0x1000), (0x7000_0000, 0x7000_1000)] {
            let range = crate::format::memory::GuardRange { start: U64::new(start), end: U64::new(end) };
            refused(&["GUARDS"], |image| image.guards.push(range));
        }
        refused(&["MM", "brk"], |image| image.mm.brk = U64::new(0));
        let (image, mut host) = sample();
        host.task_size = 0x2000;
        assert!(!fatal(&image, &host).is_empty(), "a smaller address space takes it");
    }
}
