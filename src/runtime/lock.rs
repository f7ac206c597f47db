//! [NORMAL, SIGNAL] Whose name it is: the lock file, and what becomes of it in forked children.
//!
//! The lock is an flock(2) on DIR/NAME.lock, held through a descriptor that forked children share:
//! when a program goes into the background, the child that goes on still holds it.

use super::config::Config;
use crate::capture::failure::{Failure, fail, refuse};
use crate::sys::lines::{Cursor, parse_dec};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, process, text::text};

type Path = Text<4500>;

fn lock_path(config: &Config) -> Path {
    text!("{}/{}.lock\0", Bytes(config.dir.as_bytes()), Bytes(config.name.as_bytes()))
}

/// Lowest number that a descriptor of the library gets: high, so that the program never gets
/// another number than without us, but inside a table of modest size.
fn hidden_fd_floor() -> usize {
    (process::nofile_limit().clamp(64, 1024) - 16) as usize
}

/// Opens and locks the lock file of `config`'s name, and writes who holds it.
pub fn acquire(config: &mut Config) -> Result<(), Failure> {
    let path = lock_path(config);
    let shown = Bytes(path.as_bytes().strip_suffix(b"\0").unwrap_or(&[]));
    // Commands look at the lock for a moment, and a job that has ended removes the file.
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        let fd = fs::open(path.as_bytes(), fs::O_RDWR | fs::O_CREAT | fs::O_CLOEXEC | fs::O_NOFOLLOW, 0o600)
            .map_err(|errno| fail!(errno, "cannot create the lock file {shown}"))?;
        let low = fs::OwnedFd(fd);
        match fs::flock(low.0, fs::LOCK_EX_NB) {
            Ok(()) if is_same_file(low.0, path.as_bytes()) => {
                let fd = fs::fcntl(low.0, fs::F_DUPFD_CLOEXEC, hidden_fd_floor())
                    .map_err(|errno| fail!(errno, "no descriptor is free for the lock file"))?;
                config.lock_fd = fd as i32;
                return write_holder(config);
            }
            Ok(()) | Err(Errno::EAGAIN) => process::pause_ms(10),
            Err(errno) => return Err(fail!(errno, "cannot lock {shown}")),
        }
    }
    let holder = fs::open(path.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0).map(fs::OwnedFd);
    let holder = holder.ok().and_then(|fd| read_holder(fd.0)).unwrap_or(0);
    Err(refuse!(
        Errno::EBUSY,
        "another running program (pid {holder}) holds the name {} in {}; choose another SELFCKPT_NAME or SELFCKPT_DIR",
        Bytes(config.name.as_bytes()),
        Bytes(config.dir.as_bytes())
    ))
}

fn is_same_file(fd: i32, path: &[u8]) -> bool {
    match (fs::fstat(fd), fs::stat(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino) == (there.dev(), there.ino),
        _ => false,
    }
}

/// First line of the lock file: `pid PID host HOST boot BOOTID`.
pub fn write_holder(config: &Config) -> Result<(), Failure> {
    let uts = process::uname();
    let host = uts.fields[1].split(|&b| b == 0).next().unwrap_or(&[]);
    let mut boot = [0u8; 64];
    let boot = fs::read_file(b"/proc/sys/kernel/random/boot_id\0", &mut boot).unwrap_or(b"unknown");
    let boot = boot.strip_suffix(b"\n").unwrap_or(boot);
    let line: Text<256> = text!("pid {} host {} boot {}\n", config.shown_pid(), Bytes(host), Bytes(boot));
    let failed = |errno| fail!(errno, "cannot write the lock file of {}", Bytes(config.name.as_bytes()));
    fs::seek_to(config.lock_fd, 0, 0).map_err(failed)?;
    fs::ftruncate(config.lock_fd, 0).map_err(failed)?;
    fs::write_all(config.lock_fd, line.as_bytes()).map_err(failed)
}

fn read_holder(fd: i32) -> Option<u32> {
    let mut buf = [0u8; 256];
    let n = fs::pread(fd, &mut buf, 0).ok()?;
    let mut cursor = Cursor(buf.get(..n)?);
    (cursor.word() == b"pid").then(|| parse_dec(cursor.word()))?.map(|pid| pid as u32)
}

/// Before a checkpoint: the lock is still ours, or is taken again. A program may close descriptors
/// that it does not know.
pub fn ensure(config: &mut Config) -> Result<(), Failure> {
    if config.passive && config.lock_fd < 0 {
        return acquire(config);
    }
    if is_same_file(config.lock_fd, lock_path(config).as_bytes()) {
        return Ok(());
    }
    // Somebody removed the file: without it the name would not be ours.
    acquire(config)
}

/// Whether a process has ended; one that nobody has waited for yet has ended too.
fn is_gone(pid: u32) -> bool {
    let path: Text<40> = text!("/proc/{pid}/stat\0");
    let mut buf = [0u8; 1024];
    match fs::read_file(path.as_bytes(), &mut buf) {
        Ok(stat) => {
            let after = stat.iter().rposition(|&b| b == b')').and_then(|at| stat.get(at + 2));
            matches!(after, Some(b'Z' | b'X'))
        }
        Err(_) => process::kill(pid, 0) == Err(Errno::ESRCH),
    }
}

/// In a forked child: it goes on under the owner's name when the owner is gone, else under a name of
/// its own.
pub fn adopt_fork(config: &mut Config) {
    let pid = process::getpid();
    if pid == config.pid {
        return;
    }
    let told = if config.outside_pid != 0 { config.outside_pid } else { config.owner_pid };
    config.pid = pid;
    config.outside_pid = 0;
    let owner_gone = is_gone(config.owner_pid);
    // A sibling may have taken the name over already: the lock file says whose it is.
    let unclaimed = config.lock_fd >= 0 && read_holder(config.lock_fd) == Some(told);
    if !config.passive && owner_gone && unclaimed {
        config.owner_pid = pid;
        // A holder that cannot be written is told by the next checkpoint's failure, if it matters.
        let _ = write_holder(config);
        return;
    }
    config.passive = true;
    config.generation = 0;
    let base = config.name;
    config.name = text!("{}-{pid}", Bytes(base.as_bytes()));
    if config.lock_fd >= 0 {
        fs::close(config.lock_fd);
    }
    config.lock_fd = -1;
}
