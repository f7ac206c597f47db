//! [NORMAL] `selfckpt inspect`: shows what is in an image. It changes nothing and needs neither the
//! program nor its files; of a damaged image it shows what comes before the damage.

use crate::decode::{self, X87};
use crate::failure::{FAILED, Failure, Outcome};
use crate::verb::{Arguments, Operands, Opt, Verb};
use crate::{inspect_attributes, inspect_json};
use selfckpt::catalog::{self, CatalogError, Target};
use selfckpt::format::files::file_kind;
use selfckpt::format::header::{FEATURE_NAMES, component_name};
use selfckpt::format::image::{FileEntry, Fpu, Image, ThreadEntry, VmaEntry};
use selfckpt::format::memory::{vma_flag, vma_kind};
use selfckpt::format::reader::PageData;
use selfckpt::format::timers::{Timer, clock, notify};
use selfckpt::format::{REV, kind, notice};
use selfckpt::settings::signal_name;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb {
    name: "inspect",
    synopsis: "[--json] [--records] IMAGE|DIR",
    summary: "shows what is in an image",
    description: &[
        "Shows the program that the image was taken of, when and where, the CPU and kernel, each thread with all its \
         registers, the memory map with what is stored of each mapping, open files, signals, and notices: what could \
         not be saved faithfully. A directory stands for its newest image, DIR/NAME for the newest of that job.",
        "The contents of the memory are not read; 'selfckpt verify' reads and checks them too. Of a damaged image \
         everything before the damage is shown.",
    ],
    options: &[
        Opt {
            short: None,
            long: "json",
            value: None,
            help: "Print one JSON object with everything that is in the image but the contents of the memory. \
                   Addresses and registers are strings with a hexadecimal number, sizes and counts are numbers; bytes \
                   of names that are not UTF-8 are replaced.",
        },
        Opt {
            short: None,
            long: "records",
            value: None,
            help: "Print one line for each record of the stream instead: offset, type, name, length. With --json, an \
                   array of objects.",
        },
    ],
    operands: Operands { least: 1, most: 1, rest_is_raw: false },
    exit_status: &["0    the image could be read", "125  it could not, or only in part"],
    examples: &["selfckpt inspect ckpt/app.000003.ckpt", "selfckpt inspect --json ckpt | jq .threads[0].registers"],
    run,
};

fn run(arguments: &Arguments) -> Outcome {
    let path = newest_path(Path::new(&arguments.operands[0]))?;
    let file =
        File::open(&path).map_err(|error| Failure::failed(format!("cannot open image {}: {error}", path.display())))?;
    let (image, error) = Image::salvage(&file, PageData::Skip);
    let error = error.map(|error| format!("{}: {error}", path.display()));
    let json = arguments.has("json");
    let output = match arguments.has("records") {
        true if json => inspect_json::records(&image),
        true => records(&image),
        // Nothing at all could be read: the message alone says more than an empty page.
        false if image.records.is_empty() => String::new(),
        false if json => inspect_json::page(&path, &image, error.as_deref()),
        false => page(&path, &image),
    };
    crate::print(&output)?;
    match error {
        None => Ok(0),
        Some(error) => Err(Failure::new(FAILED, error)),
    }
}

/// The image that an argument stands for, valid or not: the newest one of a directory.
pub fn newest_path(path: &Path) -> Result<PathBuf, Failure> {
    let fail = |error: CatalogError| Failure::failed(error.to_string());
    let (dir, name) = match catalog::target(path).map_err(fail)? {
        Target::Image(path) => return Ok(path),
        Target::Newest { dir, name } => (dir, name),
    };
    let mut entries = catalog::scan(&dir).map_err(fail)?;
    if let Some(name) = &name {
        entries.retain(|entry| entry.name == *name);
    }
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    names.dedup();
    if names.len() > 1 {
        return Err(fail(CatalogError::SeveralNames { dir, names }));
    }
    match entries.into_iter().next() {
        Some(entry) => Ok(entry.path),
        None => Err(fail(CatalogError::Empty { dir, name })),
    }
}

fn records(image: &Image) -> String {
    let mut out = String::new();
    for line in &image.records {
        let optional = if line.optional { " optional" } else { "" };
        let _ = writeln!(
            out,
            "{:>12} {:>5} {:<12} {:>10}{optional}",
            line.offset,
            line.kind,
            kind::name(line.kind),
            line.len
        );
    }
    out
}

/// Bytes of page data that lie inside a mapping.
pub fn stored(image: &Image, vma: &VmaEntry) -> u64 {
    let (start, end) = (vma.vma.start.get(), vma.vma.end.get());
    let first = image.runs.partition_point(|run| run.end() <= start);
    image.runs[first..]
        .iter()
        .take_while(|run| run.addr < end)
        .map(|run| run.end().min(end).saturating_sub(run.addr.max(start)))
        .sum()
}

/// Text up to the first NUL.
pub fn padded_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    decode::text(bytes[..end].trim_ascii())
}

/// Names of the CPU's features.
pub fn features(image: &Image) -> Vec<&'static str> {
    let has = |&&(word, bit, _): &&(usize, u32, &str)| (image.arch.features[word].get() >> bit) & 1 == 1;
    FEATURE_NAMES.iter().filter(has).map(|&(_, _, name)| name).collect()
}

/// Names of the set attributes of a mapping.
pub fn vma_flags(flags: u64) -> Vec<&'static str> {
    vma_flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|&(_, name)| name).collect()
}

/// A labelled line.
fn line(out: &mut String, label: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{label:<12} {value}");
}

/// The page for people.
fn page(path: &Path, image: &Image) -> String {
    let mut out = String::new();
    line(&mut out, "image", path.display());
    line(&mut out, "size", format!("{} in {} records", decode::size(image.bytes), image.records.len()));
    line(&mut out, "taken", decode::date(image.header.time.get()));
    if image.has(kind::RUNTIME) {
        line(&mut out, "job", format!("{}, generation {}", decode::text(&image.name), image.runtime.generation.get()));
        line(&mut out, "directory", decode::text(&image.dir));
        let signal = signal_name(image.runtime.trigger.get());
        let period = match image.runtime.every.get() {
            0 => String::new(),
            seconds => format!(" and every {seconds} s"),
        };
        line(&mut out, "checkpoints", format!("on signal {signal}{period}"));
        line(&mut out, "library", decode::text(&image.library));
    }
    program(&mut out, image);
    machine(&mut out, image);
    for notice in &image.notices {
        let code = notice.notice.code.get();
        line(&mut out, "notice", format!("{}: {}", notice::code::name(code), decode::text(notice.text.as_bytes())));
    }
    for thread in &image.threads {
        thread_page(&mut out, thread);
    }
    for entry in &image.ldt {
        let (slot, base, limit) = (entry.slot.get(), entry.base.get(), entry.limit.get());
        let what = decode::descriptor(entry);
        let _ = writeln!(out, "  LDT entry {slot}: base {base:#010x}, limit {limit:#x}, {what}");
    }
    memory(&mut out, image);
    files(&mut out, image);
    signals(&mut out, image);
    out
}

fn program(out: &mut String, image: &Image) {
    if image.has(kind::PROGRAM) {
        line(out, "program", decode::text(&image.exe));
        line(out, "command", decode::command_line(&image.args()));
        line(out, "in", decode::text(&image.cwd));
        line(out, "environment", format!("{} variables", image.env().len()));
    }
    if image.has(kind::TASK) {
        let t = &image.task;
        line(
            out,
            "process",
            format!(
                "{} pid {} parent {} group {} session {} threads {}",
                decode::text(&image.comm),
                t.pid,
                t.ppid,
                t.pgid,
                t.sid,
                t.threads
            ),
        );
        line(out, "user", format!("uid {} euid {} gid {} egid {}", t.uid, t.euid, t.gid, t.egid));
        line(
            out,
            "attributes",
            format!(
                "umask {:03o} personality {:#x} dumpable {} exit signal {}",
                t.umask.get(),
                t.personality.get(),
                t.dumpable,
                signal_name(t.exit_signal.get())
            ),
        );
    }
}

fn machine(out: &mut String, image: &Image) {
    let h = &image.header;
    line(out, "kernel", format!("{} {} {}", padded(&image.release), padded(&image.machine), padded(&image.version)));
    line(
        out,
        "format",
        format!(
            "x86_32, revision {} (this program reads {REV}), kernel {}.{}.{}",
            h.rev, h.kernel_major, h.kernel_minor, h.kernel_patch
        ),
    );
    if image.has(kind::HEADER_ARCH) {
        let a = &image.arch;
        line(out, "CPU", format!("{} ({})", padded_text(&a.brand), padded_text(&a.vendor)));
        line(out, "features", features(image).join(" "));
        line(
            out,
            "state",
            format!(
                "fxsr {} xsave {} xcr0 {:#x} area {} bytes, MXCSR mask {:#x}",
                a.has_fxsr,
                a.has_xsave,
                a.xcr0.get(),
                a.xstate_size,
                a.mxcsr_mask.get()
            ),
        );
        for c in &image.components {
            let name = component_name(c.id.get());
            line(out, "", format!("component {} {name}: {} bytes at {}", c.id, c.size, c.offset));
        }
    }
}

fn padded(text: &str) -> String {
    padded_text(text.as_bytes())
}

fn thread_page(out: &mut String, entry: &ThreadEntry) {
    let t = &entry.thread;
    let c = &entry.cpu;
    let first = t.gdt_first.get();
    let known = t.known_tid.get();
    let known = if known == 0 { String::new() } else { format!(", known to the program as {known}") };
    let _ = writeln!(out, "\nthread {} {}{known}", t.tid, padded_text(&t.name));
    for row in [
        [("eax", c.ax), ("ebx", c.bx), ("ecx", c.cx), ("edx", c.dx)],
        [("esi", c.si), ("edi", c.di), ("ebp", c.bp), ("esp", c.sp)],
    ] {
        let cells = row.map(|(name, value)| format!("{name} {:08x}", value.get()));
        let _ = writeln!(out, "  {}", cells.join("  "));
    }
    let flags = c.flags.get();
    let _ = writeln!(
        out,
        "  eip {:08x}  eflags {flags:08x} ({})  orig_eax {:08x}",
        c.ip.get(),
        decode::eflags(flags),
        c.orig_ax.get()
    );
    if let Some(wait) = &entry.wait {
        let (seconds, ns) = (wait.left.get() / 1_000_000_000, wait.left.get() % 1_000_000_000);
        let _ = writeln!(out, "  waits in system call {}, {seconds}.{ns:09} s left", wait.nr);
    }
    for (name, value) in [("cs", c.cs), ("ss", c.ss), ("ds", c.ds), ("es", c.es), ("fs", c.fs), ("gs", c.gs)] {
        let _ = writeln!(out, "  {name} {:04x}  {}", value.get(), decode::selector(value.get(), first));
    }
    for tls in &entry.tls {
        let _ = writeln!(
            out,
            "  TLS slot {} (GDT {}): base {:#010x}, limit {:#x}, {}",
            tls.slot,
            u64::from(first) + u64::from(tls.slot.get()),
            tls.base.get(),
            tls.limit.get(),
            decode::descriptor(tls)
        );
    }
    if c.uses_debug.get() != 0 {
        let _ = writeln!(
            out,
            "  dr0 {:08x}  dr1 {:08x}  dr2 {:08x}  dr3 {:08x}  dr6 {:08x}  dr7 {:08x}",
            c.debugreg0.get(),
            c.debugreg1.get(),
            c.debugreg2.get(),
            c.debugreg3.get(),
            c.debugreg6.get(),
            c.debugreg7.get()
        );
        for watch in decode::watchpoints(c.debugreg7.get()) {
            let _ = writeln!(out, "  {watch}");
        }
    } else {
        let _ = writeln!(out, "  debug registers not in use");
    }
    inspect_attributes::thread_lines(out, entry);
    let _ = writeln!(out, "  blocked signals: {}", decode::signal_set(t.sigmask.get()));
    let _ = writeln!(
        out,
        "  alternate stack {:#x}, {} bytes, {}",
        t.altstack_sp.get(),
        t.altstack_size,
        decode::altstack_flags(t.altstack_flags.get())
    );
    let _ = writeln!(
        out,
        "  robust list {:#x} ({} bytes), clear tid {:#x}, rseq {:#x} ({} bytes, signature {:#x})",
        t.robust_head.get(),
        t.robust_len,
        t.clear_child_tid.get(),
        t.rseq_addr.get(),
        t.rseq_len,
        t.rseq_sig.get()
    );
    let _ = writeln!(out, "  checkpoint's frame {:#x}, {} bytes", t.frame_addr.get(), t.frame_size);
    match &entry.fpu {
        Some(fpu) => fpu_page(out, fpu),
        None => out.push_str("  floating point not in use\n"),
    }
}

/// Components of the extended state that are shown register by register.
pub mod component {
    pub const X87: u32 = 0;
    pub const SSE: u32 = 1;
    pub const AVX: u32 = 2;
    pub const OPMASK: u32 = 5;
    pub const ZMM: u32 = 6;
    pub const PKRU: u32 = 9;
}
/// Vector registers that a 32-bit program has.
pub const VECTORS: usize = 8;

/// One register of `size` bytes in a component.
pub fn register(fpu: &Fpu, id: u32, i: usize, size: usize) -> Option<&[u8]> {
    fpu.part(id)?.get(i * size..(i + 1) * size)
}

/// The widest stored form of vector register `i`: its name and bytes.
pub fn vector(fpu: &Fpu, i: usize) -> Option<(String, Vec<u8>)> {
    let mut name = "xmm";
    let mut bytes = register(fpu, component::SSE, i, 16)?.to_vec();
    if let Some(high) = register(fpu, component::AVX, i, 16) {
        name = "ymm";
        bytes.extend_from_slice(high);
        if let Some(high) = register(fpu, component::ZMM, i, 32) {
            name = "zmm";
            bytes.extend_from_slice(high);
        }
    }
    Some((format!("{name}{i}"), bytes))
}

fn fpu_page(out: &mut String, fpu: &Fpu) {
    let head = &fpu.head;
    let _ = writeln!(out, "  xstate_bv {:#x}, stored of {:#x}:", head.xstate_bv.get(), head.xfeatures.get());
    for part in &fpu.parts {
        let initial = if part.id < 64 && (head.xstate_bv.get() >> part.id) & 1 == 0 { ", initial" } else { "" };
        let _ = writeln!(
            out,
            "    {} {} ({}), {} bytes{initial}",
            part.id,
            component_name(part.id),
            decode::text(part.name.as_bytes()),
            part.bytes.len()
        );
    }
    if let Some(x87) = fpu.part(component::X87).and_then(X87::new) {
        let (control, status) = (x87.control(), x87.status());
        let _ = writeln!(out, "  x87 control {control:04x}  {}", decode::x87_control(control));
        let _ = writeln!(out, "  x87 status  {status:04x}  {}", decode::x87_status(status));
        let _ = writeln!(out, "  x87 tags    {:04x}", x87.tags());
        let (address, selector, opcode) = x87.instruction();
        let (operand, operand_selector) = x87.operand();
        let _ = writeln!(
            out,
            "  x87 last instruction {selector:04x}:{address:08x} opcode {opcode:03x}, operand {operand_selector:04x}:{operand:08x}"
        );
        for i in 0..8 {
            let bytes = x87.st(i);
            let hex = decode::register_hex(&bytes);
            let _ = writeln!(out, "  st{i} {hex}  {:<7}  {}", x87.tag(i), decode::extended(bytes));
        }
    }
    let mxcsr = head.mxcsr.get();
    let _ = writeln!(out, "  mxcsr {mxcsr:08x}  {}", decode::mxcsr(mxcsr));
    for i in 0..VECTORS {
        if let Some((name, bytes)) = vector(fpu, i) {
            let _ = writeln!(out, "  {name} {}", decode::register_hex(&bytes));
        }
    }
    for i in 0..VECTORS {
        if let Some(bytes) = register(fpu, component::OPMASK, i, 8) {
            let _ = writeln!(out, "  k{i} {}", decode::register_hex(bytes));
        }
    }
    if let Some(bytes) = register(fpu, component::PKRU, 0, 4) {
        let _ = writeln!(out, "  pkru {}", decode::register_hex(bytes));
    }
}

fn memory(out: &mut String, image: &Image) {
    if image.has(kind::MM) {
        let m = &image.mm;
        let _ = writeln!(
            out,
            "\nmemory: {} mappings, {} of {} stored",
            image.vmas.len(),
            decode::size(image.stored_bytes()),
            decode::size(image.vmas.iter().map(|e| e.vma.end.get().saturating_sub(e.vma.start.get())).sum())
        );
        for (name, from, to) in [
            ("code", m.start_code, m.end_code),
            ("data", m.start_data, m.end_data),
            ("heap", m.start_brk, m.brk),
            ("arguments", m.arg_start, m.arg_end),
            ("environment", m.env_start, m.env_end),
        ] {
            let _ = writeln!(out, "  {name:<12} {:08x}-{:08x}", from.get(), to.get());
        }
        let _ = writeln!(out, "  {:<12} {:08x}", "stack", m.start_stack.get());
        let _ = writeln!(out, "  {:<12} {:08x}", "end", m.task_size.get());
        for (number, value) in decode::auxv(&image.auxv) {
            let _ = writeln!(out, "  {:<20} {value:#x}", aux_label(number));
        }
    }
    for entry in &image.vmas {
        let v = &entry.vma;
        let (start, end) = (v.start.get(), v.end.get());
        let flags = vma_flags(v.flags.get());
        let mut more = String::new();
        if matches!(v.kind.get(), vma_kind::FILE_PRIVATE | vma_kind::FILE_SHARED) {
            let _ = write!(more, " +{:#x}", v.offset.get());
        }
        if !entry.name.is_empty() {
            let _ = write!(more, " {}", decode::text(&entry.name));
        }
        if !flags.is_empty() {
            let _ = write!(more, " ({})", flags.join(" "));
        }
        let _ = writeln!(
            out,
            "  {start:08x}-{end:08x} {} {:>10} stored {:>10}  {}{more}",
            decode::protection(v.prot.get()),
            decode::size(end.saturating_sub(start)),
            decode::size(stored(image, entry)),
            vma_kind::name(v.kind.get())
        );
    }
}

/// Name of an auxiliary vector entry, with its number where it has none.
pub fn aux_label(number: u32) -> String {
    match decode::aux_name(number) {
        "AT_?" => format!("AT_{number}"),
        name => name.to_string(),
    }
}

fn files(out: &mut String, image: &Image) {
    if image.fds.is_empty() {
        return;
    }
    out.push_str("\nfiles:\n");
    let mut first_fds = HashMap::new();
    for fd in &image.fds {
        let Some(entry) = image.files.get(fd.file.get() as usize) else { continue };
        let mut more = String::new();
        if fd.flags.get() & 1 != 0 {
            more.push_str(" close-on-exec");
        }
        match first_fds.entry(fd.file.get()) {
            Entry::Occupied(first) => more.push_str(&format!(" same as {}", first.get())),
            Entry::Vacant(place) => drop(place.insert(fd.fd.get())),
        }
        file(out, &fd.fd.to_string(), entry, &more);
    }
    for entry in image.files.iter().filter(|entry| !first_fds.contains_key(&entry.file.id.get())) {
        file(out, "-", entry, " in a message that waits");
    }
}

fn file(out: &mut String, number: &str, entry: &FileEntry, more: &str) {
    let f = &entry.file;
    let place = match f.kind.get() {
        file_kind::REGULAR => format!(" at {} of {}", f.pos, f.size),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "  {number:>3} {:<10} {} {}{place}{more}",
        file_kind::name(f.kind.get()),
        Path::new(OsStr::new(&decode::text(&entry.path))).display(),
        decode::open_flags(f.flags.get())
    );
}

fn signals(out: &mut String, image: &Image) {
    if !image.has(kind::SIGACTIONS) {
        return;
    }
    out.push_str("\nsignals:\n");
    let mut defaults = 0;
    for (i, action) in image.actions.iter().enumerate() {
        if action.handler.get() == 0 && action.flags.get() == 0 {
            defaults += 1;
            continue;
        }
        let _ = writeln!(
            out,
            "  {:<9} {:<10} {} mask {}",
            signal_name(i as u32 + 1).to_string(),
            decode::handler(action.handler.get()),
            decode::action_flags(action.flags.get()),
            decode::signal_set(action.mask.get())
        );
    }
    let _ = writeln!(out, "  {defaults} others default");
    for pending in &image.pending {
        let whom = if pending.tid.get() == 0 { "the process".to_string() } else { format!("thread {}", pending.tid) };
        let _ = writeln!(out, "  pending: {} for {whom}", signal_name(pending.signo.get()));
    }
    if image.pending.is_empty() {
        out.push_str("  none pending\n");
    }
    timers(out, image);
    inspect_attributes::page(out, image);
}

/// Names of the interval timers, in the order of ITIMERS.
pub const ITIMERS: [&str; 3] = ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"];

/// Whom a timer tells.
pub fn notified(timer: &Timer) -> String {
    match timer.notify.get() {
        notify::NONE => "nobody".to_string(),
        notify::THREAD_ID => format!("thread {}", timer.tid),
        _ => "the process".to_string(),
    }
}

fn timers(out: &mut String, image: &Image) {
    if let Some(clocks) = &image.clocks {
        let (monotonic, boottime) = (clocks.monotonic.get() as f64 / 1e9, clocks.boottime.get() as f64 / 1e9);
        let _ = writeln!(out, "\nclocks: CLOCK_MONOTONIC {monotonic:.6} s, CLOCK_BOOTTIME {boottime:.6} s");
        if let Some(offsets) = &image.clock_offsets {
            let [monotonic, boottime] =
                [offsets.monotonic, offsets.boottime].map(|offset| offset.get() as i64 as f64 / 1e9);
            let _ =
                writeln!(out, "  of a time namespace, by which they have gone on: {monotonic:+.3} s, {boottime:+.3} s");
        }
        let added = image.clock_front.map(|front| [front.monotonic.get(), front.boottime.get()]);
        if let Some([monotonic, boottime]) = added.filter(|added| *added != [0, 0]) {
            let (monotonic, boottime) = (monotonic as f64 / 1e9, boottime as f64 / 1e9);
            let _ = writeln!(out, "  by a front that adds to the kernel's: {monotonic:+.3} s, {boottime:+.3} s");
        }
    }
    let running: Vec<_> = image.itimers.iter().zip(ITIMERS).filter(|(itimer, _)| itimer.left_us.get() != 0).collect();
    if running.is_empty() && image.timers.is_empty() {
        return;
    }
    out.push_str("\ntimers:\n");
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut line = |what: String, left_ns: u64, every_ns: u64| {
        let left = if left_ns == 0 { "does not run".to_string() } else { format!("{:.6} s left", seconds(left_ns)) };
        let every = if every_ns == 0 { String::new() } else { format!(", every {:.6} s", seconds(every_ns)) };
        let _ = writeln!(out, "  {what}: {left}{every}");
    };
    for (itimer, name) in running {
        let ns = |us: u64| us.saturating_mul(1000);
        line(name.to_string(), ns(itimer.left_us.get()), ns(itimer.every_us.get()));
    }
    for timer in &image.timers {
        let (id, clock) = (timer.id.get(), clock::name(timer.clock.get()));
        let signal = signal_name(timer.signo.get());
        let what = match timer.notify.get() {
            notify::NONE => format!("{id}, {clock}, tells nobody"),
            _ => format!("{id}, {clock}, sends {signal} to {}", notified(timer)),
        };
        line(what, timer.left_ns.get(), timer.every_ns.get());
    }
}
