//! [SIGNAL] The writer: a forked copy of the stopped program that writes the image while the program goes on.
//!
//! It is started when all but the private memory is written, and does the rest by itself: pages, commit, status, answers.
//! It ends without a signal and is not seen by the program's wait calls (its exit signal is none); the process
//! collects it at its next checkpoint. No image knows of it: in its own memory, which it writes, it does not exist.
#![allow(unsafe_code)] // clone(2).

use super::commit;
use super::config::Config;
use super::status::{self, Newest, State};
use crate::capture::scratch::FdSlot;
use crate::sys::lines::{field, parse_dec};
use crate::sys::log::log;
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, call, fs, nr, process, text::text};
use core::sync::atomic::{AtomicU32, Ordering};

/// The writer that has not been collected, 0 if there is none.
static WRITER: AtomicU32 = AtomicU32::new(0);

/// What was begun, in the settings until the writer is collected.
#[derive(Clone, Copy)]
pub struct Begun {
    /// The process that has the writer: one that it forks has not.
    pub owner: u32,
    pub newest: Newest,
}

/// Who goes on behind the fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// There was no fork: the program stands still until all is written.
    Stopped,
    /// The program, and its writer.
    Program(u32),
    /// The writer, and the program.
    Writer(u32),
}

/// Forks, if there is memory for it. `fds` are the program's descriptors, which the writer must not hold open. `greet` is
/// the first that the writer does: those who wait for its answer know then who it is.
pub fn start(config: &Config, fds: &[FdSlot], resident: u64, buf: &mut [u8], greet: impl FnOnce()) -> Role {
    if !has_memory(resident, buf) {
        return Role::Stopped;
    }
    let Ok((read, write)) = fs::pipe(fs::O_CLOEXEC) else { return Role::Stopped };
    let program = process::getpid();
    // SAFETY: a fork: the child goes on here on its own copy of the memory, this stack included, which is private.
    match unsafe { call!(nr::CLONE, process::CLONE_UNTRACED, 0, 0, 0, 0) } {
        Ok(0) => {
            // The program waits for a byte from this pipe: it does not go on before its descriptors are its own again.
            for slot in fds.iter().filter(|slot| slot.fd != 2) {
                fs::close(slot.fd);
            }
            fs::close(config.lock_fd);
            drop(read);
            greet();
            let begun = fs::write_all(write.0, &[1]);
            drop(write);
            if begun.is_err() {
                process::exit_group(1);
            }
            let _ = process::prctl(process::PR_SET_NAME, c"selfckpt-writer".as_ptr() as usize, 0, 0, 0);
            // Where memory runs out the copy goes, not the program.
            if let Ok(fd) = fs::open(b"/proc/thread-self/oom_score_adj\0", fs::O_WRONLY | fs::O_CLOEXEC, 0) {
                let fd = fs::OwnedFd(fd);
                let _ = fs::write_all(fd.0, b"1000");
            }
            Role::Writer(program)
        }
        Ok(pid) => {
            drop(write);
            let mut byte = [0u8; 1];
            if fs::read(read.0, &mut byte) == Ok(1) {
                return Role::Program(pid as u32);
            }
            // Nobody would hear of the end of one that is killed so early.
            let _ = wait(pid as u32, 0);
            Role::Stopped
        }
        Err(_) => Role::Stopped,
    }
}

/// Whether all that the program could change while the writer is at work has room.
fn has_memory(resident: u64, buf: &mut [u8]) -> bool {
    let meminfo = fs::read_file(b"/proc/meminfo\0", buf).unwrap_or(&[]);
    let available =
        field(meminfo, b"MemAvailable").and_then(|value| parse_dec(crate::sys::lines::Cursor(value).word()));
    available.is_some_and(|kilobytes| kilobytes * 1024 >= resident)
}

/// The program has begun a checkpoint that its writer finishes.
pub fn begin(config: &mut Config, pid: u32, newest: Newest) {
    config.begun = Some(Begun { owner: process::getpid(), newest });
    WRITER.store(pid, Ordering::Relaxed);
}

/// From ordinary code: collects a writer that has ended, unless a checkpoint is going on.
pub fn look() {
    if WRITER.load(Ordering::Relaxed) != 0 && super::config::try_begin() {
        // SAFETY: BUSY is held.
        let _ = collect(unsafe { super::config::config() }, false);
        super::config::end();
        super::requests::raise_missed();
    }
}

/// The status with which a writer has ended; `None` while it has not.
fn wait(pid: u32, options: u32) -> Option<u32> {
    match process::wait4(pid, process::WALL | options) {
        Ok((0, _)) => None,
        Ok((_, status)) => Some(status),
        // If the program has collected it, it has ended as well.
        Err(_) => Some(0),
    }
}

/// Collects the writer, if it has ended or `wait` is set. Returns the generation that it has committed, or why it has
/// not.
pub fn collect(config: &mut Config, wait: bool) -> Option<Result<u32, Errno>> {
    let pid = WRITER.load(Ordering::Relaxed);
    let begun = config.begun.filter(|_| pid != 0)?;
    let mut status = 0;
    if begun.owner == process::getpid() {
        const WNOHANG: u32 = 1;
        status = self::wait(pid, if wait { 0 } else { WNOHANG })?;
    }
    WRITER.store(0, Ordering::Relaxed);
    config.begun = None;
    if begun.owner != process::getpid() {
        return None;
    }
    let generation = begun.newest.generation;
    let (dir, name) = (Bytes(config.dir.as_bytes()), Bytes(config.name.as_bytes()));
    let path: Text<4400> = text!("{dir}/{name}.{generation:06}.ckpt\0");
    // The image says by being there that it is committed.
    let Ok(stat) = fs::stat(path.as_bytes()) else {
        let (signal, code) = (status & 0x7f, (status >> 8 & 0xff) as i32);
        if signal != 0 {
            // By itself it tells of all else.
            let reason: Text<100> = text!("the process that wrote generation {generation} died of signal {signal}");
            log!(Error, "no checkpoint: {}", Bytes(reason.as_bytes()));
            status::tell(config, &State::Failed(reason.as_bytes()));
            commit::remove_unfinished(config, generation);
        }
        return Some(Err(if code == 0 { Errno::EIO } else { Errno(code) }));
    };
    config.newest = Newest { bytes: stat.size, ..begun.newest };
    config.generation = generation;
    super::config::GENERATION.store(generation, Ordering::Relaxed);
    Some(Ok(generation))
}
