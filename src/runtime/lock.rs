//! [NORMAL, SIGNAL] Whose name it is: the lock file, and what becomes of it in forked children.
//!
//! The lock is an flock(2) on DIR/NAME.lock, held through a descriptor that forked children share:
//! when a program goes into the background, the child that goes on still holds it.

use super::config::Config;
use crate::capture::failure::{Failure, fail, refuse};
use crate::sys::abi::Utsname;
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
///
/// Where the file system has no locks (NFS without a lock daemon), the file itself is the lock: whoever creates it has
/// it, and a holder that has ended is found out by what the file says.
pub fn acquire(config: &mut Config) -> Result<(), Failure> {
    let path = lock_path(config);
    let shown = Bytes(path.as_bytes().strip_suffix(b"\0").unwrap_or(&[]));
    // Commands look at the lock for a moment, and a job that has ended removes the file.
    const TRIES: u32 = 20;
    let mut holder = Holder::NONE;
    for _ in 0..TRIES {
        let (fd, created) =
            open_or_create(path.as_bytes()).map_err(|errno| fail!(errno, "cannot create the lock file {shown}"))?;
        let low = fs::OwnedFd(fd);
        let locked = match fs::flock(low.0, fs::LOCK_EX_NB) {
            Ok(()) => is_same_file(low.0, path.as_bytes()),
            Err(Errno::EAGAIN) => {
                holder = Holder::read(low.0);
                false
            }
            Err(errno) if HAS_NO_LOCKS.contains(&errno) => {
                holder = Holder::read(low.0);
                let ours = created || holder.is_us(config);
                if !ours && holder.has_ended(config) {
                    remove_stale(config, &holder);
                }
                ours
            }
            Err(errno) => return Err(fail!(errno, "cannot lock {shown}")),
        };
        if locked {
            let fd = fs::fcntl(low.0, fs::F_DUPFD_CLOEXEC, hidden_fd_floor())
                .map_err(|errno| fail!(errno, "no descriptor is free for the lock file"))?;
            config.lock_fd = fd as i32;
            return write_holder(config);
        }
        process::pause_ms(10);
    }
    let (name, dir) = (Bytes(config.name.as_bytes()), Bytes(config.dir.as_bytes()));
    if !holder.is_here() {
        return Err(refuse!(
            Errno::EBUSY,
            "a program on host {} (pid {}) holds the name {name} in {dir}; choose another SELFCKPT_NAME or SELFCKPT_DIR, \
             or remove {shown} if it has ended",
            Bytes(holder.host.as_bytes()),
            holder.pid
        ));
    }
    Err(refuse!(
        Errno::EBUSY,
        "another running program (pid {}) holds the name {name} in {dir}; choose another SELFCKPT_NAME or SELFCKPT_DIR",
        holder.pid
    ))
}

/// What flock(2) says on a file system without locks: ENOLCK, ENOSYS, EOPNOTSUPP.
const HAS_NO_LOCKS: [Errno; 3] = [Errno(37), Errno::ENOSYS, Errno::EOPNOTSUPP];

/// Also tells whether it was this call that created it.
fn open_or_create(path: &[u8]) -> Result<(i32, bool), Errno> {
    const FLAGS: u32 = fs::O_RDWR | fs::O_CLOEXEC | fs::O_NOFOLLOW;
    loop {
        match fs::open(path, FLAGS, 0) {
            Err(Errno::ENOENT) => {}
            opened => return opened.map(|fd| (fd, false)),
        }
        match fs::open(path, FLAGS | fs::O_CREAT | fs::O_EXCL, 0o600) {
            Err(Errno::EEXIST) => {}
            opened => return opened.map(|fd| (fd, true)),
        }
    }
}

/// What the first line of a lock file says.
struct Holder {
    /// 0: it says nothing.
    pid: u32,
    host: Text<65>,
    boot: Text<64>,
}

impl Holder {
    const NONE: Holder = Holder { pid: 0, host: Text::new(), boot: Text::new() };

    fn read(fd: i32) -> Holder {
        let mut buf = [0u8; 256];
        let n = fs::pread(fd, &mut buf, 0).unwrap_or(0);
        let mut cursor = Cursor(buf.get(..n).unwrap_or(&[]));
        let mut field = |name: &[u8]| if cursor.word() == name { cursor.word() } else { b"" };
        let pid = parse_dec(field(b"pid")).map_or(0, |pid| pid as u32);
        Holder { pid, host: Text::from_bytes(field(b"host")), boot: Text::from_bytes(field(b"boot")) }
    }

    fn is_here(&self) -> bool {
        self.host.as_bytes().is_empty() || self.host.as_bytes() == host(&process::uname())
    }

    fn is_us(&self, config: &Config) -> bool {
        self.pid == config.shown_pid() && self.is_here() && self.boot.as_bytes() == boot(&mut [0; 64])
    }

    /// For certain: it was a process of this host, which has been booted since or has no such process any more. An
    /// empty file may be one that was created just now. From a pid namespace of its own nobody sees other processes:
    /// the command looks before it starts one.
    fn has_ended(&self, config: &Config) -> bool {
        let is_gone = || config.outside_pid == 0 && is_gone(self.pid);
        self.pid != 0 && self.is_here() && (self.boot.as_bytes() != boot(&mut [0; 64]) || is_gone())
    }
}

/// Takes the lock file of a holder that has ended out of the way. Two may do so at a time: the one who finds that it has
/// got hold of a new holder's file puts it back.
fn remove_stale(config: &Config, holder: &Holder) {
    let path = lock_path(config);
    let aside: Path =
        text!("{}/.{}.lock.{}\0", Bytes(config.dir.as_bytes()), Bytes(config.name.as_bytes()), process::getpid());
    if fs::renameat(fs::AT_FDCWD, path.as_bytes(), aside.as_bytes()).is_err() {
        return;
    }
    let found = fs::open(aside.as_bytes(), fs::O_RDONLY | fs::O_CLOEXEC, 0).map(fs::OwnedFd);
    let found = found.map_or(Holder::NONE, |fd| Holder::read(fd.0));
    if (found.pid, found.boot.as_bytes()) == (holder.pid, holder.boot.as_bytes()) {
        let _ = fs::remove(aside.as_bytes());
    } else {
        let _ = fs::renameat(fs::AT_FDCWD, aside.as_bytes(), path.as_bytes());
    }
}

fn is_same_file(fd: i32, path: &[u8]) -> bool {
    match (fs::fstat(fd), fs::stat(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino) == (there.dev(), there.ino),
        _ => false,
    }
}

/// First line of the lock file: `pid PID host HOST boot BOOTID`.
pub fn write_holder(config: &Config) -> Result<(), Failure> {
    let (uts, mut buf) = (process::uname(), [0u8; 64]);
    let line: Text<256> =
        text!("pid {} host {} boot {}\n", config.shown_pid(), Bytes(host(&uts)), Bytes(boot(&mut buf)));
    let failed = |errno| fail!(errno, "cannot write the lock file of {}", Bytes(config.name.as_bytes()));
    fs::seek_to(config.lock_fd, 0, 0).map_err(failed)?;
    fs::ftruncate(config.lock_fd, 0).map_err(failed)?;
    fs::write_all(config.lock_fd, line.as_bytes()).map_err(failed)
}

fn host(uts: &Utsname) -> &[u8] {
    uts.fields[1].split(|&b| b == 0).next().unwrap_or(&[])
}

/// Differs from boot to boot.
fn boot(buf: &mut [u8; 64]) -> &[u8] {
    let id = fs::read_file(b"/proc/sys/kernel/random/boot_id\0", buf).unwrap_or(b"unknown");
    id.strip_suffix(b"\n").unwrap_or(id)
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
    let unclaimed = config.lock_fd >= 0 && Holder::read(config.lock_fd).pid == told;
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
