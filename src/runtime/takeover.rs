//! [NORMAL] A restart from beginning to end, in the process that becomes the program. Called by the
//! constructor; everything that can be checked is checked before anything is changed.
#![allow(unsafe_code)] // Maps the restorer's memory and jumps into it.

use super::startup::{self, Start};
use super::{config, lock};
use crate::capture::attributes as capture_attributes;
use crate::catalog::{self, Chosen};
use crate::format::PAGE;
use crate::format::image::Image;
use crate::format::task::DELETED;
use crate::format::task::RestartInfo;
use crate::restore::aio;
use crate::restore::attributes;
use crate::restore::check::{self, Host};
use crate::restore::clock_front::{self, Behind};
use crate::restore::files::{Files, raise_limit};
use crate::restore::memory::{self, Mapped};
use crate::restore::steps::Steps;
use crate::restore::{absent, ids, ipc, layout, plan, timers, vdso};
use crate::restorer::{self, Step};
use crate::settings;
use crate::sys::log::log;
use crate::sys::text::text;
use crate::sys::{Errno, Text, call, fs as raw, nr, process};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zerocopy::little_endian::U32;

/// Restarts the image, or the newest valid one of the directory, at `path`. Returns only if that
/// cannot be done; then nothing has been changed but, at worst, what the message names. With the message goes the exit
/// status, which tells what may pass from what will not.
pub fn restart(path: &[u8], start: &Start) -> (Text<1300>, i32) {
    // What arrives from here on stays pending until the program is back.
    process::sigprocmask(process::SIG_SETMASK, u64::MAX);
    // SAFETY: the constructor is alone in this process.
    if let Err(message) = startup::read_options(start, unsafe { config::config() }) {
        return (message, startup::EXIT_FAILED);
    }
    let mut unmounted = None;
    let Err(message) = try_restart(Path::new(OsStr::from_bytes(path)), start, &mut unmounted);
    let shown = String::from_utf8_lossy(path);
    if let Some(path) = unmounted {
        let text = text!(
            "cannot restart {shown} now: {message} (is the file system of {path} not mounted yet?); this may pass: \
             try again"
        );
        return (text, settings::MAY_PASS);
    }
    if absent::names_passing_error(&message) {
        return (text!("cannot restart {shown} now: {message}; this may pass: try again"), settings::MAY_PASS);
    }
    (text!("cannot restart {shown}: {message}"), startup::EXIT_FAILED)
}

fn warn(message: String) {
    log!(Warn, "{message}");
}

fn try_restart(path: &Path, start: &Start, unmounted: &mut Option<String>) -> Result<std::convert::Infallible, String> {
    let Chosen { path, image, skipped, .. } = catalog::resolve(path).map_err(|error| error.to_string())?;
    for (path, why) in skipped {
        warn(format!("skipped {}: {why}", path.display()));
    }
    let source = File::open(&path).map_err(|error| format!("cannot open it: {error}"))?;
    *unmounted = absent::find_unmounted(&image);
    check_program(&image)?;
    adopt_layout(&image, start)?;
    let uts = process::uname();
    let release = uts.fields[2].split(|&b| b == 0).next().unwrap_or(&[]);
    let host = Host {
        task_size: own_task_size(),
        gdt_first: crate::arch::tls::first_entry(),
        ..Host::detect(String::from_utf8_lossy(release).into_owned())
    };
    for problem in check::check_image(&image, &host) {
        if problem.fatal {
            return Err(problem.text);
        }
        log!(Info, "{}", problem.text);
    }
    check_credentials(&image, &source)?;

    note_pids(start);
    raise_limit(&image);
    let (dir, lock_fd) = take_name(&path, &image)?;
    let inherit = match start.env(b"SELFCKPT_STDIO") {
        None | Some(b"") => false,
        Some(b"inherit") => true,
        Some(value) => return Err(format!("SELFCKPT_STDIO={}: not `inherit`", String::from_utf8_lossy(value))),
    };
    memory::make_volatile_files(&image, &source, &mut warn)?;
    // Before any time is set: none that is set later may come early by the program's clock.
    let behind = clock_front::find_behind(&image);
    let mut files = Files::open(&image, &source, inherit, &mut warn)?;
    let image_fd = files.raise(source.as_raw_fd())?;
    let nameless = files.nameless_files();
    let mut raise = |fd| files.raise(fd);
    let mapped = memory::map_sources(&image, &source, nameless, &mut raise, &mut warn)?;
    files.finish_nameless();

    let ipc = ipc::find(&image, &mut warn)?;
    let prepared = prepare(&image, &source, &host, mapped, behind)?;
    enter_directory(&image)?;

    // From here on things change, those outside of this process last.
    files.put_in_place(&image, &mut warn)?;
    files.cut_back(&image)?;
    let segments = ipc.put_back(&source, &mut warn)?;
    // SAFETY: takes a number and cannot fail.
    let _ = unsafe { call!(nr::UMASK, image.task.umask.get()) };
    let close = files.close_others(&image, lock_fd)?;
    files.watch_again(&image, &mut warn);
    let info = restart_info(&dir, &image, lock_fd, start)?;
    go(&image, &host, start, prepared, &segments, image_fd, (&close, &files), &info)
}

/// Where the kernel looks for room is settled when a program is executed. A process that was started
/// under another layout than the image's executes itself again under the right one: with the end
/// of user addresses moved down afterwards, every later mmap of the program would fail.
fn adopt_layout(image: &Image, start: &Start) -> Result<(), String> {
    const ADDR_COMPAT_LAYOUT: u32 = 0x0020_0000;
    const ADDR_LIMIT_3GB: u32 = 0x0800_0000;
    const LAYOUT: u32 = ADDR_COMPAT_LAYOUT | ADDR_LIMIT_3GB;
    let (here, there) = (process::personality(), image.task.personality.get());
    if (here ^ there) & LAYOUT == 0 {
        return Ok(());
    }
    let wanted = here & !LAYOUT | there & LAYOUT;
    // SAFETY: takes a number.
    unsafe { call!(nr::PERSONALITY, wanted) }
        .map_err(|errno| format!("cannot set the personality {wanted:#x}: {errno}"))?;
    let (argv, envp) = start.vectors();
    // SAFETY: a path with its NUL and the two vectors that the kernel passed to this process.
    let Err(errno) = (unsafe { call!(nr::EXECVE, c"/proc/self/exe".as_ptr(), argv, envp) }) else {
        return Err("executing the program again returned".to_string());
    };
    Err(format!("cannot execute the program again with personality {wanted:#x}: {errno}"))
}

/// The image must be of the program that this process runs.
fn check_program(image: &Image) -> Result<(), String> {
    let mut buf = [0u8; 4096];
    let here = raw::readlink(raw::AT_FDCWD, b"/proc/self/exe\0", &mut buf)
        .map_err(|errno| format!("cannot read /proc/self/exe: {errno}"))?;
    let there = image.exe.strip_suffix(b" (deleted)").unwrap_or(&image.exe);
    if here == there {
        return Ok(());
    }
    Err(format!(
        "the image is of the program {}, this process runs {}",
        String::from_utf8_lossy(there),
        String::from_utf8_lossy(here)
    ))
}

/// An image holds another process's memory and what it may do: it is taken from its owner only.
fn check_credentials(image: &Image, source: &File) -> Result<(), String> {
    let (here, there) = (process::geteuid(), image.task.euid.get());
    if here != there {
        return Err(format!("the image was taken as user {there}, this is user {here}"));
    }
    let meta = source.metadata().map_err(|error| format!("cannot look at it: {error}"))?;
    if meta.uid() != here && meta.uid() != 0 {
        return Err(format!("the image belongs to user {}, this is user {here}", meta.uid()));
    }
    Ok(())
}

/// End of what a 32-bit task of this kernel can map, personality aside.
fn own_task_size() -> u64 {
    if crate::arch::tls::first_entry() == 6 { 0xc000_0000 } else { 0xffff_e000 }
}

/// The command tells which pid this process has outside of its pid namespace.
fn note_pids(start: &Start) {
    let outside = start.env(b"SELFCKPT_PID_OUTSIDE").and_then(crate::settings::parse_number);
    // SAFETY: the constructor is alone in this process.
    let config = unsafe { config::config() };
    config.pid = process::getpid();
    config.outside_pid = outside.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
}

/// Takes the lock of the image's name in the image's directory.
fn take_name(path: &Path, image: &Image) -> Result<(PathBuf, i32), String> {
    let path = path.canonicalize().map_err(|error| format!("cannot resolve its path: {error}"))?;
    let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    // SAFETY: the constructor is alone in this process.
    let config = unsafe { config::config() };
    config.dir = Text::from_bytes(dir.as_os_str().as_bytes());
    config.name = Text::from_bytes(&image.name);
    lock::acquire(config).map_err(|failure| String::from_utf8_lossy(failure.text.as_bytes()).into_owned())?;
    // The number that it had, if the program does not use it.
    let wanted = image.runtime.lock_fd.get();
    let free = wanted > 2 && wanted < process::nofile_limit() && !image.fds.iter().any(|fd| fd.fd.get() == wanted);
    if free && wanted as i32 != config.lock_fd {
        // SAFETY: takes numbers; nothing of ours is open there.
        if unsafe { call!(nr::DUP3, config.lock_fd, wanted, raw::O_CLOEXEC) }.is_ok() {
            raw::close(config.lock_fd);
            config.lock_fd = wanted as i32;
        }
    }
    while image.fds.iter().any(|fd| fd.fd.get() as i32 == config.lock_fd) {
        let old = config.lock_fd;
        let above = image.fds.last().map_or(0, |fd| fd.fd.get()) as usize + 1;
        let new = raw::fcntl(old, raw::F_DUPFD_CLOEXEC, above).map_err(|errno| {
            format!(
                "fd {} is open, and no descriptor is free above it ({errno}); raise the limit (ulimit -n)",
                above - 1
            )
        })?;
        raw::close(old);
        config.lock_fd = new as i32;
    }
    Ok((dir, config.lock_fd))
}

fn enter_directory(image: &Image) -> Result<(), String> {
    if let Some(path) = image.cwd.strip_suffix(DELETED) {
        return enter_removed_directory(path);
    }
    change_directory(&image.cwd)
        .map_err(|errno| format!("the working directory {}: {errno}", String::from_utf8_lossy(&image.cwd)))
}

fn change_directory(path: &[u8]) -> Result<(), Errno> {
    let path = [path, b"\0"].concat();
    // SAFETY: NUL-terminated.
    unsafe { call!(nr::CHDIR, path.as_ptr()) }.map(drop)
}

/// The working directory had been removed: so is the one that is made for it.
fn enter_removed_directory(path: &[u8]) -> Result<(), String> {
    let pid = process::getpid();
    let beside = [path, format!(".selfckpt-{pid}").as_bytes()].concat();
    let mut last = Errno::ENOENT;
    for path in [path, &beside, format!("/tmp/.selfckpt-{pid}").as_bytes()] {
        let with_nul = [path, b"\0"].concat();
        let entered = raw::mkdir(&with_nul, 0o700).and_then(|()| {
            let entered = change_directory(path);
            raw::rmdir(&with_nul).and(entered)
        });
        match entered {
            Ok(()) => return Ok(()),
            Err(errno) => last = errno,
        }
    }
    Err(format!("cannot make the removed working directory {} again: {last}", String::from_utf8_lossy(path)))
}

fn restart_info(dir: &Path, image: &Image, lock_fd: i32, start: &Start) -> Result<RestartInfo, String> {
    let dir = dir.as_os_str().as_bytes();
    let mut info = RestartInfo {
        valid: U32::new(1),
        generation: image.runtime.generation,
        gate: U32::new(0),
        lock_fd: U32::new(lock_fd as u32),
        waiting: U32::new(0),
        log_level: U32::new(start.env(b"SELFCKPT_LOG").map_or(0, |_| 1 + crate::sys::log::level())),
        dir_len: U32::new(dir.len() as u32),
        name_len: U32::new(image.name.len() as u32),
        epoch: U32::new(process::now() as u32 | 1),
        // SAFETY: the constructor is alone in this process.
        outside_pid: U32::new(unsafe { config::config() }.outside_pid),
        dir: [0; crate::format::task::RESTART_DIR_MAX],
        name: [0; crate::format::task::RESTART_NAME_MAX],
        keep: U32::new(0),
        stop_code: U32::new(0),
        every_ms: U32::new(0),
        auto_mtbf: U32::new(0),
        children: U32::new(0),
        sockets: U32::new(0),
        reserved_settings: [U32::new(0); 2],
    };
    put_settings(&mut info, start);
    info.dir
        .get_mut(..dir.len())
        .ok_or_else(|| format!("the path {} is too long", String::from_utf8_lossy(dir)))?
        .copy_from_slice(dir);
    info.name[..image.name.len()].copy_from_slice(&image.name);
    Ok(info)
}

/// Settings that this process was started with: they take the place of those in the image.
fn put_settings(info: &mut RestartInfo, start: &Start) {
    // SAFETY: the constructor is alone in this process.
    let config = unsafe { config::config() };
    let given = |name| start.env(name).is_some();
    if given(b"SELFCKPT_KEEP") {
        info.keep = U32::new(config.keep);
    }
    if given(b"SELFCKPT_STOP_CODE") {
        info.stop_code = U32::new(config.stop_code);
    }
    if given(b"SELFCKPT_EVERY") {
        info.every_ms = U32::new(config.period.every);
        info.auto_mtbf = U32::new(u32::try_from(config.period.mtbf / 1000).unwrap_or(u32::MAX));
    }
    if given(b"SELFCKPT_CHILDREN") {
        info.children = U32::new(1 + u32::from(config.ignore_children));
    }
    if given(b"SELFCKPT_SOCKETS") {
        info.sockets = U32::new(1 + u32::from(config.refuse_sockets));
    }
}

/// Milliseconds until the first automatic checkpoint; 0 for none.
fn first_period(image: &Image, info: &RestartInfo) -> u32 {
    let saved = image.runtime.every.get().saturating_mul(1000);
    match (info.every_ms.get(), info.auto_mtbf.get()) {
        (0, _) => saved,
        // What the program has learnt of its checkpoints is in its memory.
        (_, mtbf) if mtbf != 0 && saved != 0 => saved,
        (given, _) => given,
    }
}

/// What is known of the new address space when everything could be opened.
struct Prepared {
    mapped: Vec<Mapped>,
    vdso: vdso::VdsoPlan,
    vdso_temporary: Vec<u64>,
    behind: Behind,
    aio: Vec<aio::Context>,
    mm_map_size: u32,
}

const CODE: u64 = PAGE;
const STACK: u64 = 4 * PAGE;

/// Finds room for the kernel's pages where neither this process nor the image has anything.
fn prepare(image: &Image, source: &File, host: &Host, mapped: Vec<Mapped>, behind: Behind) -> Result<Prepared, String> {
    check_guards(image)?;
    let own = layout::own_mappings()?;
    let vdso = vdso::plan_vdso(image, source, &own, behind.is_any(), &mut |len| reserve(image, host, len).ok())?;
    let mut vdso_temporary = Vec::new();
    let total: u64 = vdso.moves.iter().map(|vdso| vdso.len).sum();
    if total != 0 {
        let mut at = reserve(image, host, total)?;
        for part in &vdso.moves {
            vdso_temporary.push(at);
            at += part.len;
        }
    }
    let aio = aio::find(image, source, &mut warn)?;
    Ok(Prepared { mapped, vdso, vdso_temporary, behind, aio, mm_map_size: mm_map_size()? })
}

/// Whether this kernel has guard regions, if the image has.
fn check_guards(image: &Image) -> Result<(), String> {
    let Some(guard) = image.guards.first() else { return Ok(()) };
    let flags = process::MAP_PRIVATE | process::MAP_ANONYMOUS;
    let len = PAGE as usize;
    // SAFETY: a page of its own, where the kernel likes, advised and given back.
    let advised = unsafe {
        process::mmap(0, len, process::PROT_READ, flags, -1, 0).and_then(|at| {
            let advised = call!(nr::MADVISE, at, len, plan::MADV_GUARD_INSTALL);
            process::munmap(at, len)?;
            advised
        })
    };
    let start = guard.start.get();
    advised.map(drop).map_err(|errno| format!("this kernel cannot make the guard region at {start:#x}: {errno}"))
}

/// Asks the kernel whether, and in which layout, it takes the addresses of heap, stack and arguments.
fn mm_map_size() -> Result<u32, String> {
    let mut size = 0u32;
    let asked = process::prctl(process::PR_SET_MM, process::PR_SET_MM_MAP_SIZE as usize, &raw mut size as usize, 0, 0);
    match (asked, size) {
        (Ok(_), plan::MM_MAP_64 | plan::MM_MAP_32) => Ok(size),
        (Ok(_), size) => Err(format!("this kernel wants {size} bytes for prctl(PR_SET_MM_MAP), which is not known")),
        (Err(errno), _) => {
            Err(format!("this kernel lacks prctl(PR_SET_MM_MAP): {errno}; it needs CONFIG_CHECKPOINT_RESTORE"))
        }
    }
}

/// Maps `len` bytes where neither this process nor the image has anything.
fn reserve(image: &Image, host: &Host, len: u64) -> Result<u64, String> {
    let own = layout::own_mappings()?;
    let at = layout::find_hole(&own, image, len)
        .filter(|at| at + len <= host.task_size)
        .ok_or_else(|| format!("no hole of {len} bytes is free in both address spaces"))?;
    let flags = process::MAP_PRIVATE | process::MAP_ANONYMOUS | process::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping.
    unsafe { process::mmap(at as usize, len as usize, process::PROT_READ | process::PROT_WRITE, flags, -1, 0) }
        .map_err(|errno| format!("cannot map {len} bytes at {at:#x} for the restorer: {errno}"))?;
    Ok(at)
}

/// The restorer's memory: its code, its stack, the main thread's steps, and the bytes that steps refer to.
fn lay_out(inputs: &mut plan::Inputs<'_>, host: &Host) -> Result<plan::Region, String> {
    // The plan's length does not depend on where it lies, but for the holes around it: a first writing
    // measures it.
    const HOLES: usize = 8;
    let mut measured = Steps::new(0);
    plan::write_plan(inputs, &mut measured)?;
    let steps_len = (((measured.steps.len() + HOLES) * size_of::<Step>()) as u64).next_multiple_of(PAGE);
    let len = CODE + STACK + steps_len + (measured.blob().len() as u64 + 4096).next_multiple_of(PAGE);
    let start = reserve(inputs.image, host, len)?;
    let region = plan::Region { start: start as u32, len: len as u32 };
    inputs.region = region;
    let blob_at = start + CODE + STACK + steps_len;
    let mut steps = Steps::new(blob_at as u32);
    plan::write_plan(inputs, &mut steps)?;
    if (steps.steps.len() * size_of::<Step>()) as u64 > steps_len || blob_at + steps.blob().len() as u64 > start + len {
        return Err("internal error: the plan is larger than its memory".to_string());
    }
    let first_step = first_step(region);
    // SAFETY: all ranges lie in the region, which is mapped, writable and used by nothing else; their
    // lengths were checked just now, the code's is less than a page.
    unsafe {
        std::ptr::copy_nonoverlapping(restorer::code().as_ptr(), start as usize as *mut u8, restorer::code().len());
        std::ptr::copy_nonoverlapping(steps.steps.as_ptr(), first_step as *mut Step, steps.steps.len());
        std::ptr::copy_nonoverlapping(steps.blob().as_ptr(), blob_at as usize as *mut u8, steps.blob().len());
    }
    process::protect(start as usize, CODE as usize, process::PROT_READ | process::PROT_EXEC)
        .map_err(|errno| format!("cannot make the restorer executable: {errno}"))?;
    Ok(region)
}

/// Says whose clocks the program has.
fn tell_clocks(behind: Behind, by_front: bool) {
    if !behind.is_any() {
        let whose = if vdso::is_in_time_namespace() { "a time namespace" } else { "this machine" };
        log!(Info, "CLOCK_MONOTONIC and CLOCK_BOOTTIME are those of {whose}");
    }
    for (name, seconds) in behind.describe() {
        if by_front {
            log!(Info, "{name} goes on by a front that adds {seconds:.1} s to it");
        } else {
            warn(format!(
                "{name} goes back by {seconds:.1} s for the program: a time of this clock that it has stored lies in its future"
            ));
        }
    }
}

fn first_step(region: plan::Region) -> usize {
    (u64::from(region.start) + CODE + STACK) as usize
}

const CAP_SYS_ADMIN: u32 = 21;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// Whether threads can get the ids that they had: this process has the image's, and may choose.
fn may_choose_ids(image: &Image) -> bool {
    let Ok([low, high]) = process::capabilities() else { return false };
    let allowed = low[0] & (1 << CAP_SYS_ADMIN) != 0 || high[0] & (1 << (CAP_CHECKPOINT_RESTORE - 32)) != 0;
    allowed && ids::known_pid(image) == Some(process::getpid()) && ids::are_distinct(image)
}

/// The command has given this process the capability to choose ids; the program never had it.
fn without_choosing(start: &Start) -> Option<process::CapSets> {
    start.env(b"SELFCKPT_DROP_CHECKPOINT_RESTORE")?;
    let mut sets = process::capabilities().ok()?;
    let [_, high] = &mut sets;
    for set in high {
        *set &= !(1 << (CAP_CHECKPOINT_RESTORE - 32));
    }
    Some(sets)
}

#[allow(clippy::too_many_arguments)]
fn go(
    image: &Image,
    host: &Host,
    start: &Start,
    prepared: Prepared,
    segments: &ipc::Segments,
    image_fd: i32,
    (close, files): (&[i32], &Files),
    info: &RestartInfo,
) -> Result<std::convert::Infallible, String> {
    let Prepared { mapped, vdso, vdso_temporary, behind, aio, mm_map_size } = prepared;
    let timer_ids = timers::find_timer_ids().map_err(|errno| format!("cannot make a timer: {errno}"))?;
    tell_clocks(behind, vdso.front.is_some());
    for lost in timers::find_lost(image, timer_ids) {
        warn(lost);
    }
    let here = attributes::look_around(capture_attributes::own_inherited(), capture_attributes::timer_slack());
    attributes::tell_missing_cpus(image, &here, &mut warn);
    attributes::restore_process(image, &mut warn);
    let every = first_period(image, info);
    let same_ids = may_choose_ids(image);
    if !same_ids {
        ids::tell_what_needs_them(image, &mut warn);
    }
    let mut inputs = plan::Inputs {
        image,
        host: &host.cpu,
        mapped: &mapped,
        aio: &aio,
        segments,
        vdso: &vdso,
        vdso_temporary: &vdso_temporary,
        image_fd,
        close,
        posix_locks: &files.posix_locks,
        seals: &files.late_seals,
        region: plan::Region { start: 0, len: 0 },
        info,
        clock_front: vdso.front.map(|functions| behind.front(functions, info.epoch)),
        task_size: host.task_size,
        same_ids,
        capabilities: without_choosing(start),
        mm_map_size,
        attributes: &here,
        timer_ids,
        expirations: timers::count_expirations(image),
        period: (every != 0).then_some((every, image.runtime.trigger.get())),
    };
    let region = lay_out(&mut inputs, host)?;
    let rseq = startup::find_rseq();
    if rseq.len != 0 {
        let addr = crate::arch::entry::thread_pointer().wrapping_add_signed(rseq.offset);
        const UNREGISTER: u32 = 1;
        // The kernel would write into memory that is about to go.
        // SAFETY: unregisters what libc registered; libc is not used any more.
        let _ = unsafe { call!(nr::RSEQ, addr, rseq.len, UNREGISTER, rseq.sig) };
    }
    // SAFETY: as above: libc's list is not used any more.
    let _ = unsafe { call!(nr::SET_ROBUST_LIST, 0, 12) };
    // SAFETY: the region holds the code and the plan, the plan leaves it alone until its last step,
    // all signals are blocked.
    unsafe { restorer::run(region.start as usize, first_step(region), first_step(region)) }
}
