//! [NORMAL] The constructor: reads the environment, takes the name, installs the handler, or
//! restarts an image.
//!
//! It runs before any other library's constructor and before libc's own (`-z initfirst`), so it
//! uses what the dynamic linker passes and raw system calls; only a restart, which throws the whole
//! address space away, uses std.
#![allow(unsafe_code)] // Walks the vectors that the kernel put on the stack.

use super::period::{self, Period};
use super::{config, lock};
use crate::interpose::{clock, guard, next};
use crate::placeholders::{self, Surroundings};
use crate::settings;
use crate::sys::log::{Level, log};
use crate::sys::text::{Bytes, text};
use crate::sys::{Errno, Text, fs, process};
use core::ffi::{CStr, c_char};
use core::sync::atomic::Ordering;

/// Exit code when selfckpt itself fails.
pub const EXIT_FAILED: i32 = 125;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(i32, *const *const c_char, *const *const c_char) = constructor;

extern "C" fn constructor(_argc: i32, argv: *const *const c_char, envp: *const *const c_char) {
    // A second copy of the library in one process (a restored one beside the preloaded one) never
    // runs its constructor again; the flag guards against dlopen.
    // The program of the unit tests wants no checkpoints.
    if cfg!(test) || config::READY.swap(1, Ordering::Relaxed) == 1 {
        return;
    }
    const AT_SYSINFO: libc::c_ulong = 32;
    // SAFETY: the kernel's own entry; the constructor is alone in this process.
    unsafe { crate::sys::set_kernel_entry(libc::getauxval(AT_SYSINFO) as usize) };
    // SAFETY: the dynamic linker passes the vectors of the process.
    let start = unsafe { Start::new(argv, envp) };
    if let Err((message, status)) = run_or_restart(&start) {
        crate::sys::log::write(Level::Error, message.as_bytes());
        process::exit_group(status);
    }
}

pub type Message = Text<1300>;

/// What the kernel passed to the process.
pub struct Start {
    argv: *const *const c_char,
    envp: *const *const c_char,
}

impl Start {
    /// # Safety
    /// Both are NULL-terminated vectors of strings; the auxiliary vector follows `envp`.
    unsafe fn new(argv: *const *const c_char, envp: *const *const c_char) -> Start {
        Start { argv, envp }
    }

    fn string(vector: *const *const c_char, index: usize) -> Option<&'static [u8]> {
        // SAFETY: callers stop at the NULL that ends the vector.
        let entry = unsafe { *vector.add(index) };
        // SAFETY: strings of the process's start live as long as it does.
        (!entry.is_null()).then(|| unsafe { CStr::from_ptr(entry) }.to_bytes())
    }

    /// Arguments and environment as the kernel passed them.
    pub fn vectors(&self) -> (*const *const c_char, *const *const c_char) {
        (self.argv, self.envp)
    }

    /// Value of an environment variable.
    pub fn env(&self, name: &[u8]) -> Option<&'static [u8]> {
        let mut i = 0;
        while let Some(entry) = Start::string(self.envp, i) {
            if let Some(value) = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
                return Some(value);
            }
            i += 1;
        }
        None
    }

    /// AT_EXECFN: the path that was executed, as it was given.
    fn execfn(&self) -> Option<&'static [u8]> {
        const AT_EXECFN: usize = 31;
        let mut i = 0;
        while Start::string(self.envp, i).is_some() {
            i += 1;
        }
        // SAFETY: the auxiliary vector follows the NULL that ends the environment.
        let mut entry = unsafe { self.envp.add(i + 1) } as *const [usize; 2];
        loop {
            // SAFETY: the vector ends with AT_NULL, where the loop ends.
            let [kind, value] = unsafe { *entry };
            match kind {
                0 => return None,
                // SAFETY: the kernel stored the string on the stack.
                AT_EXECFN => return Some(unsafe { CStr::from_ptr(value as *const c_char) }.to_bytes()),
                // SAFETY: not at the end yet.
                _ => entry = unsafe { entry.add(1) },
            }
        }
    }

    /// Base name of the program as the user called it.
    fn base_name<'a>(&self, exe: &'a [u8]) -> &'a [u8] {
        fn last(path: &[u8]) -> &[u8] {
            path.rsplit(|&b| b == b'/').next().unwrap_or(path)
        }
        match self.execfn().map(last) {
            // Started through the dynamic linker by name: the program is its argument.
            Some(name) if name.starts_with(b"ld-linux") || name.starts_with(b"ld.so") => {
                Start::string(self.argv, 0).map_or(name, last)
            }
            // A link of /proc says nothing: where it leads does.
            Some(_) if self.execfn().is_some_and(|path| path.starts_with(b"/proc/")) => last(exe),
            Some(name) if !name.is_empty() => name,
            _ => last(exe),
        }
    }
}

/// An error is a message and an exit status.
fn run_or_restart(start: &Start) -> Result<(), (Message, i32)> {
    let failed = |message| (message, EXIT_FAILED);
    set_up_log(start).map_err(failed)?;
    if fs::stat(b"/proc/self/maps\0").is_err() {
        return Err(failed(text!(
            "/proc is not mounted here; neither a checkpoint nor a restart is possible without it"
        )));
    }
    if let Some(image) = start.env(b"SELFCKPT_RESTART").filter(|image| !image.is_empty()) {
        return Err(super::takeover::restart(image, start));
    }
    set_up(start).map_err(failed)
}

fn set_up(start: &Start) -> Result<(), Message> {
    // SAFETY: the constructor runs before the program has a second thread or a handler of ours.
    let config = unsafe { config::config() };
    // SAFETY: as above.
    unsafe { config::keep_started() };
    read_settings(start, config)?;
    find_library(config);
    config.rseq = find_rseq();
    crate::capture::attributes::note_inherited();
    config.pid = process::getpid();
    config.owner_pid = config.pid;
    config.passive = descends_from_a_job();
    if config.passive {
        let base = config.base;
        config.name = text!("{}-{}", Bytes(base.as_bytes()), config.pid);
    } else {
        take_name(config)?;
    }
    announce(config);
    config::TRIGGER.store(config.triggers.trailing_zeros() + 1, Ordering::Relaxed);
    next::choose_versions();
    next::resolve();
    clock::resolve();
    guard::hold(config.triggers | config.stops)
        .map_err(|errno| -> Message { text!("cannot install the signal handlers: {errno}") })?;
    if config.period.every != 0 && !config.passive {
        period::start_with_children(&config.period, config.triggers.trailing_zeros() + 1)
            .map_err(|errno| -> Message { text!("cannot start the timer of SELFCKPT_EVERY: {errno}") })?;
    }
    Ok(())
}

fn set_up_log(start: &Start) -> Result<(), Message> {
    let Some(value) = start.env(b"SELFCKPT_LOG") else { return Ok(()) };
    let mut parts = value.splitn(2, |&b| b == b':');
    let level = match parts.next().unwrap_or(&[]) {
        b"error" => Level::Error,
        b"warn" | b"" => Level::Warn,
        b"info" => Level::Info,
        b"debug" => Level::Debug,
        _ => {
            return Err(text!(
                "SELFCKPT_LOG={}: not a level; use error, warn, info or debug, and :FILE after it for a file",
                Bytes(value)
            ));
        }
    };
    crate::sys::log::set_level(level as u32);
    let Some(file) = parts.next() else { return Ok(()) };
    let path = absolute(file).ok_or_else(|| text!("SELFCKPT_LOG={}: the path is too long", Bytes(value)))?;
    let mut terminated = path;
    let opened = terminated
        .as_path()
        .ok_or(Errno::ENAMETOOLONG)
        .and_then(|path| fs::open(path, fs::O_WRONLY | fs::O_APPEND | fs::O_CREAT | fs::O_CLOEXEC, 0o600));
    match opened {
        Ok(fd) => fs::close(fd),
        Err(errno) => return Err(text!("SELFCKPT_LOG={}: cannot open the file: {errno}", Bytes(value))),
    }
    // SAFETY: the constructor is alone.
    unsafe { crate::sys::log::set_file(path.as_bytes()) };
    Ok(())
}

/// A path from the working directory at start, since the program may change it.
fn absolute(path: &[u8]) -> Option<Text<4096>> {
    if path.starts_with(b"/") {
        return (path.len() < 4096).then(|| Text::from_bytes(path));
    }
    let mut buf = [0u8; 4096];
    let cwd = fs::readlink(fs::AT_FDCWD, b"/proc/self/cwd\0", &mut buf).ok()?;
    let mut out = Text::from_bytes(cwd);
    if path != b"." && !path.is_empty() {
        if cwd != b"/" {
            out.push(b"/");
        }
        out.push(path);
    }
    (out.len() < 4096).then_some(out)
}

fn bad(name: &str, value: &[u8], why: &str) -> Message {
    text!("{name}={}: {why}", Bytes(value))
}

/// What `%j` and its like are filled in from.
struct Given<'a> {
    start: &'a Start,
    program: &'a [u8],
}

impl Surroundings for Given<'_> {
    fn variable(&self, name: &str) -> Option<&[u8]> {
        self.start.env(name.as_bytes())
    }

    fn program(&self) -> Option<&[u8]> {
        Some(self.program)
    }

    fn job_ad(&self, attribute: &str) -> Option<u64> {
        let mut path: Text<4096> = Text::from_bytes(self.start.env(b"_CONDOR_JOB_AD")?);
        let fd = fs::OwnedFd(fs::open(path.as_path()?, fs::O_RDONLY | fs::O_CLOEXEC, 0).ok()?);
        let mut buf = [0u8; 8192];
        let mut lines = crate::sys::lines::Lines::new(fd.0, &mut buf);
        while let Some(line) = lines.next_line().ok()? {
            if let Some(number) = placeholders::job_ad_number(line, attribute) {
                return Some(number);
            }
        }
        None
    }
}

fn expand(start: &Start, variable: &str, given: &[u8], program: &[u8]) -> Result<Text<4096>, Message> {
    let mut out = Text::new();
    placeholders::expand(given, &Given { start, program }, &mut |part| out.push(part))
        .map_err(|problem| text!("{variable}={}: {problem}", Bytes(given)))?;
    Ok(out)
}

fn read_period(start: &Start, value: &[u8]) -> Result<Period, Message> {
    match settings::parse_period(value) {
        Some(settings::Period::Every(seconds)) => Ok(Period::fixed(seconds)),
        Some(settings::Period::Auto) => {
            let mtbf = start.env(b"SELFCKPT_MTBF").map_or(Some(settings::DEFAULT_MTBF), settings::parse_duration);
            let given = start.env(b"SELFCKPT_MTBF").unwrap_or(&[]);
            mtbf.map(Period::auto).ok_or_else(|| bad("SELFCKPT_MTBF", given, "not a duration (90, 90s, 10m, 2h, 3d)"))
        }
        None => Err(bad("SELFCKPT_EVERY", value, "neither a duration of 1 s to 24 days (90, 90s, 10m, 2h) nor `auto`")),
    }
}

fn read_settings(start: &Start, config: &mut config::Config) -> Result<(), Message> {
    let mut exe = [0u8; 4096];
    let exe = fs::readlink(fs::AT_FDCWD, b"/proc/self/exe\0", &mut exe).unwrap_or(b"program");
    config.base = Text::from_bytes(start.base_name(exe));
    config.name = config.base;
    if let Some(given) = start.env(b"SELFCKPT_NAME") {
        let expanded = expand(start, "SELFCKPT_NAME", given, config.base.as_bytes())?;
        let name = expanded.as_bytes();
        if name.is_empty() || name.contains(&b'/') || name.len() > 200 || name == b"." || name == b".." {
            return Err(bad("SELFCKPT_NAME", given, "not a file name of at most 200 bytes"));
        }
        config.name = Text::from_bytes(name);
    }
    let given = start.env(b"SELFCKPT_DIR").unwrap_or(b".");
    let dir = expand(start, "SELFCKPT_DIR", given, config.base.as_bytes())?;
    config.dir = absolute(dir.as_bytes())
        .ok_or_else(|| bad("SELFCKPT_DIR", given, "the path is too long, or /proc is missing"))?;
    read_options(start, config)
}

/// All but directory and name.
pub fn read_options(start: &Start, config: &mut config::Config) -> Result<(), Message> {
    if let Some(value) = start.env(b"SELFCKPT_KEEP") {
        config.keep = settings::parse_number(value)
            .and_then(|keep| u32::try_from(keep).ok())
            .filter(|&keep| keep > 0)
            .ok_or_else(|| bad("SELFCKPT_KEEP", value, "not a number of generations of at least 1"))?;
    }
    if let Some(value) = start.env(b"SELFCKPT_EVERY") {
        config.period = read_period(start, value)?;
    }
    if let Some(value) = start.env(b"SELFCKPT_SIGNAL") {
        let signal = settings::parse_signal(value)
            .ok_or_else(|| bad("SELFCKPT_SIGNAL", value, "not a signal that a program can catch"))?;
        config.triggers = 1 << (signal - 1);
    }
    if let Some(value) = start.env(b"SELFCKPT_STOP_SIGNAL") {
        config.stops = settings::parse_signal_list(value).ok_or_else(|| {
            bad("SELFCKPT_STOP_SIGNAL", value, "not a comma list of signals that a program can catch")
        })?;
    }
    if let Some(value) = start.env(b"SELFCKPT_STOP_CODE") {
        config.stop_code = settings::parse_number(value)
            .filter(|code| (1..=255).contains(code))
            .ok_or_else(|| bad("SELFCKPT_STOP_CODE", value, "not an exit code from 1 to 255"))?
            as u32;
    }
    match start.env(b"SELFCKPT_CHILDREN") {
        None | Some(b"" | b"fail") => {}
        Some(b"ignore") => config.ignore_children = true,
        Some(value) => return Err(bad("SELFCKPT_CHILDREN", value, "not `ignore` or `fail`")),
    }
    match start.env(b"SELFCKPT_SOCKETS") {
        None | Some(b"" | b"reset") => {}
        Some(b"fail") => config.refuse_sockets = true,
        Some(value) => return Err(bad("SELFCKPT_SOCKETS", value, "not `reset` or `fail`")),
    }
    Ok(())
}

/// Creates the directory, takes the lock.
fn take_name(config: &mut config::Config) -> Result<(), Message> {
    make_directory(config)?;
    lock::acquire(config).map_err(|failure| text!("{}", Bytes(failure.text.as_bytes())))
}

fn make_directory(config: &mut config::Config) -> Result<(), Message> {
    let path = config.dir.as_bytes();
    // Parents as well, each 0700.
    for end in (1..=path.len()).filter(|&end| end == path.len() || path.get(end) == Some(&b'/')) {
        let mut part: Text<4100> = Text::from_bytes(path.get(..end).unwrap_or(&[]));
        let Some(part) = part.as_path() else { continue };
        match fs::mkdir(part, 0o700) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(_) if fs::stat(part).is_ok() => {}
            Err(errno) => return Err(text!("cannot create the directory {}: {errno}", Bytes(path))),
        }
    }
    Ok(())
}

/// Path of this library, from the mapping that this code lies in.
fn find_library(config: &mut config::Config) {
    let here = entry_address();
    let mut buf = [0u8; 8192];
    let Ok(fd) = fs::open(b"/proc/self/maps\0", fs::O_RDONLY | fs::O_CLOEXEC, 0) else { return };
    let fd = fs::OwnedFd(fd);
    let mut lines = crate::sys::lines::Lines::new(fd.0, &mut buf);
    while let Ok(Some(line)) = lines.next_line() {
        let mut cursor = crate::sys::lines::Cursor(line);
        let start = cursor.until(b'-').and_then(crate::sys::lines::parse_hex).unwrap_or(0) as usize;
        let end = crate::sys::lines::parse_hex(cursor.word()).unwrap_or(0) as usize;
        if (start..end).contains(&here) {
            for _ in 0..4 {
                cursor.word();
            }
            cursor.skip_spaces();
            config.library = Text::from_bytes(cursor.0);
        }
    }
}

fn entry_address() -> usize {
    crate::arch::entry::signal_entry()
}

/// How glibc registers restartable sequences.
pub fn find_rseq() -> crate::capture::threads::LibcRseq {
    const SIGNATURE: u32 = 0x5305_3053;
    let (offset, size) = crate::interpose::rseq_of_libc();
    // The registered length is the original 32 bytes whatever `__rseq_size` says of features.
    let len = if size == 0 { 0 } else { 32 };
    crate::capture::threads::LibcRseq { offset, len, sig: SIGNATURE }
}

/// Whether an ancestor runs the library: then this process is a descendant of a job, not its owner.
fn descends_from_a_job() -> bool {
    let mut pid = process::getppid();
    for _ in 0..64 {
        if pid <= 1 {
            return false;
        }
        match runs_library(pid) {
            Some(true) => return true,
            Some(false) => {}
            // Another user's process: no job of ours lies behind it.
            None => return false,
        }
        let Some(parent) = parent_of(pid) else { return false };
        pid = parent;
    }
    false
}

fn runs_library(pid: u32) -> Option<bool> {
    let path: Text<40> = text!("/proc/{pid}/maps\0");
    let fd = fs::OwnedFd(fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0).ok()?);
    let mut buf = [0u8; 8192];
    let mut lines = crate::sys::lines::Lines::new(fd.0, &mut buf);
    while let Some(line) = lines.next_line().ok()? {
        if line.ends_with(b"/libselfckpt.so") {
            return Some(true);
        }
    }
    Some(false)
}

fn parent_of(pid: u32) -> Option<u32> {
    let path: Text<40> = text!("/proc/{pid}/stat\0");
    let mut buf = [0u8; 1024];
    let stat = fs::read_file(path.as_bytes(), &mut buf).ok()?;
    crate::capture::vmas::stat_field(stat, 4).map(|parent| parent as u32)
}

/// Logs that the library is there, for `debug`.
fn announce(config: &config::Config) {
    log!(Debug, "pid {}: images go to {}/{}", config.pid, Bytes(config.dir.as_bytes()), Bytes(config.name.as_bytes()));
}
