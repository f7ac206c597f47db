//! [NORMAL, SIGNAL] The library's settings and state, in statics of its own.
//!
//! Written by the constructor, before the program has a second thread, and afterwards only by the
//! one thread that holds [`BUSY`]. Statics belong to the program's memory: an image carries them, so
//! that a restarted program is set up as it was.
#![allow(unsafe_code)] // Statics with interior mutability; the rule above keeps them exclusive.

use super::period::Period;
use super::status::Newest;
use crate::arch::cpu::Cpu;
use crate::capture::threads::LibcRseq;
use crate::format::task::{RESTART_DIR_MAX, RESTART_NAME_MAX};
use crate::settings;
use crate::sys::{Text, fs, process};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is set by the environment, and what the library knows of its job.
pub struct Config {
    /// Absolute path of the images' directory.
    pub dir: Text<RESTART_DIR_MAX>,
    /// Name of this process's images.
    pub name: Text<RESTART_NAME_MAX>,
    /// Base name of the program, for descendants that get a name of their own.
    pub base: Text<RESTART_NAME_MAX>,
    pub keep: u32,
    pub period: Period,
    /// Signals that take a checkpoint, and that take one and stop; bit n-1 for signal n.
    pub triggers: u64,
    pub stops: u64,
    pub stop_code: u32,
    pub ignore_children: bool,
    /// A connection to another process fails the checkpoint, instead of being reset at the restart.
    pub refuse_sockets: bool,
    /// The process that the name belongs to: pid, and whether it is this process's own.
    pub owner_pid: u32,
    pub passive: bool,
    /// Process that the values above were made for; a forked child differs.
    pub pid: u32,
    /// Its pid outside of the pid namespace that a restart has put it into; 0: the same.
    pub outside_pid: u32,
    /// Descriptor with the lock; -1 if none.
    pub lock_fd: i32,
    /// Newest generation that this process knows to be committed.
    pub generation: u32,
    /// For the status file.
    pub newest: Newest,
    /// The checkpoint that the writer is at.
    pub begun: Option<super::writer::Begun>,
    pub library: Text<RESTART_DIR_MAX>,
    pub rseq: LibcRseq,
    pub cpu: Option<Cpu>,
}

impl Config {
    /// The pid by which others know the program.
    pub fn shown_pid(&self) -> u32 {
        if self.outside_pid != 0 { self.outside_pid } else { self.pid }
    }
}

struct Shared<T>(UnsafeCell<T>);
// SAFETY: access is exclusive by the rule at the top of the file.
unsafe impl<T> Sync for Shared<T> {}

static CONFIG: Shared<Config> = Shared(UnsafeCell::new(Config {
    dir: Text::new(),
    name: Text::new(),
    base: Text::new(),
    keep: settings::DEFAULT_KEEP,
    period: Period::NONE,
    triggers: 1 << (settings::DEFAULT_SIGNAL - 1),
    stops: 0,
    stop_code: settings::DEFAULT_STOP_CODE,
    ignore_children: false,
    refuse_sockets: false,
    owner_pid: 0,
    passive: false,
    pid: 0,
    outside_pid: 0,
    lock_fd: -1,
    generation: 0,
    newest: Newest::NONE,
    begun: None,
    library: Text::new(),
    rseq: LibcRseq { offset: 0, len: 0, sig: 0 },
    cpu: None,
}));

/// Arguments and environment as they were at the start. Programs write other things over them (setproctitle), so that
/// /proc does not tell them later.
pub struct Started {
    cmdline: usize,
    environ: usize,
    bytes: [u8; STARTED_MAX],
}

/// Longer ones are read when a checkpoint is taken.
const STARTED_MAX: usize = 128 << 10;

static STARTED: Shared<Started> = Shared(UnsafeCell::new(Started { cmdline: 0, environ: 0, bytes: [0; STARTED_MAX] }));

/// Keeps arguments and environment.
///
/// # Safety
/// As [`config`].
pub unsafe fn keep_started() {
    // SAFETY: exclusive by the contract above.
    let started = unsafe { &mut *STARTED.0.get() };
    let Ok(cmdline) = fs::read_file(b"/proc/thread-self/cmdline\0", &mut started.bytes) else { return };
    let len = cmdline.len();
    let Some(rest) = started.bytes.get_mut(len..) else { return };
    let Ok(environ) = fs::read_file(b"/proc/thread-self/environ\0", rest) else { return };
    started.environ = environ.len();
    started.cmdline = len;
}

/// Arguments and environment of the start, if they were kept.
///
/// # Safety
/// As [`config`].
pub unsafe fn started() -> Option<(&'static [u8], &'static [u8])> {
    // SAFETY: nobody writes after the constructor.
    let started = unsafe { &*STARTED.0.get() };
    let (cmdline, rest) = started.bytes.split_at_checked(started.cmdline)?;
    rest.get(..started.environ).filter(|_| started.cmdline != 0).map(|environ| (cmdline, environ))
}

/// The process whose thread is at a checkpoint, 0 if none is. The thread that put it there may use
/// [`config`]. A futex.
pub static BUSY: AtomicU32 = AtomicU32::new(0);
/// 1 when the library is set up in this process.
pub static READY: AtomicU32 = AtomicU32::new(0);
/// Newest committed generation, for `ckpt_generation` from any thread.
pub static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Depth of blocked sections, and the signals of requests that came meanwhile; bit n-1 for signal n.
pub static BLOCKED: AtomicU32 = AtomicU32::new(0);
pub static DEFERRED: AtomicU64 = AtomicU64::new(0);

/// The settings.
///
/// # Safety
/// The caller is the constructor, or holds [`BUSY`]; it keeps no two references at a time.
pub unsafe fn config() -> &'static mut Config {
    // SAFETY: by the contract above.
    unsafe { &mut *CONFIG.0.get() }
}

/// Lowest trigger signal, copied by the constructor: readable from any thread.
pub static TRIGGER: AtomicU32 = AtomicU32::new(0);

pub fn trigger_signal() -> Option<u32> {
    match TRIGGER.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Tries to become the one that checkpoints.
pub fn try_begin() -> bool {
    let pid = process::getpid();
    match BUSY.compare_exchange(0, pid, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => true,
        Err(holder) if holder == pid => false,
        // Inherited: another thread of the parent was at it when this process was forked.
        Err(holder) => BUSY.compare_exchange(holder, pid, Ordering::Acquire, Ordering::Relaxed).is_ok(),
    }
}

pub fn end() {
    BUSY.store(0, Ordering::SeqCst);
    process::futex_wake(&BUSY, u32::MAX >> 1);
}

/// Whether a thread of this process is at a checkpoint.
pub fn is_busy() -> bool {
    BUSY.load(Ordering::SeqCst) == process::getpid()
}

/// Waits until no thread of this process is at a checkpoint.
pub fn wait_until_idle() {
    let pid = process::getpid();
    while BUSY.load(Ordering::Acquire) == pid {
        process::futex_wait(&BUSY, pid, 0);
    }
}
