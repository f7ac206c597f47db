//! [NORMAL] What /proc tells about another process, and who holds a job's lock.

use crate::program::{self, FileKind, LIBRARY};
use crate::system::{self, Lock};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a lock file says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// 0 if the file does not tell.
    pub pid: u32,
    pub host: String,
    pub boot: String,
}

impl Owner {
    /// For certain: see `runtime::lock` of the library.
    fn has_ended(&self) -> bool {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let is_here = self.pid != 0 && self.host == this_host();
        is_here && (self.boot != boot.trim() || Process::find(self.pid).is_none())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.host.as_str()) {
            (0, _) => f.write_str("yes"),
            (pid, host) if host.is_empty() || host == this_host() => write!(f, "{pid}"),
            (pid, host) => write!(f, "{pid} on {host}"),
        }
    }
}

fn this_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}

/// First line of a lock file: `pid PID host HOST boot BOOTID`.
pub fn parse_owner(text: &str) -> Option<Owner> {
    let mut words = text.lines().next()?.split_whitespace();
    let mut owner = Owner { pid: 0, host: String::new(), boot: String::new() };
    if words.next()? != "pid" {
        return None;
    }
    owner.pid = words.next()?.parse().ok()?;
    if words.next() == Some("host") {
        owner.host = words.next().unwrap_or_default().to_string();
    }
    if words.next() == Some("boot") {
        owner.boot = words.next().unwrap_or_default().to_string();
    }
    Some(owner)
}

/// Who holds the lock, if anybody does.
pub fn lock_owner(path: &Path) -> Option<Owner> {
    let mut file = File::open(path).ok()?;
    let locked = system::try_lock(&file, Lock::Shared);
    if locked.as_ref().is_ok_and(|&free| free) {
        return None;
    }
    let mut text = String::new();
    // A holder that has not written its line yet is a holder all the same.
    let _ = (&mut file).take(4096).read_to_string(&mut text);
    let owner = parse_owner(&text);
    // A file system without locks: the file itself tells.
    if locked.is_err() && owner.as_ref().is_none_or(Owner::has_ended) {
        return None;
    }
    Some(owner.unwrap_or(Owner { pid: 0, host: String::new(), boot: String::new() }))
}

/// Whether a process is not quite gone yet: while its memory is taken down, it has no program any more.
pub fn is_dying(pid: u32) -> bool {
    let process = Process { pid, dir: PathBuf::from(format!("/proc/{pid}")) };
    let exe = std::fs::read_link(process.dir.join("exe"));
    !process.has_ended() && exe.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Removes the lock file of a holder that has ended, where the file system has no locks. A program that is restarted in
/// a pid namespace of its own cannot tell whether others have ended.
pub fn clear_stale_lock(path: &Path) {
    let Ok(mut file) = File::open(path) else { return };
    let mut text = String::new();
    let has_no_locks = system::try_lock(&file, Lock::Shared).is_err();
    let read = (&mut file).take(4096).read_to_string(&mut text);
    if has_no_locks && read.is_ok() && parse_owner(&text).is_some_and(|owner| owner.has_ended()) {
        let _ = std::fs::remove_file(path);
    }
}

/// A process.
pub struct Process {
    pub pid: u32,
    dir: PathBuf,
}

impl Process {
    /// `None` if there is no such process, or only what its parent has not collected yet.
    pub fn find(pid: u32) -> Option<Process> {
        let process = Process { pid, dir: PathBuf::from(format!("/proc/{pid}")) };
        // /proc also answers for the ids of threads.
        let is_process = process.status("Tgid").is_some_and(|tgid| tgid == pid.to_string());
        if process.has_ended() {
            // The main thread may have ended alone: a thread that is left tells the same.
            let tasks = std::fs::read_dir(process.dir.join("task")).ok()?;
            let left = tasks.flatten().map(|task| Process { pid, dir: task.path() }).find(|task| !task.has_ended())?;
            return is_process.then_some(left);
        }
        is_process.then_some(process)
    }

    fn has_ended(&self) -> bool {
        self.status("State").is_none_or(|state| state.starts_with(['Z', 'X']))
    }

    /// A field of /proc/PID/status.
    pub fn status(&self, field: &str) -> Option<String> {
        let text = std::fs::read(self.dir.join("status")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_string())
    }

    /// Real user id.
    pub fn uid(&self) -> Option<u32> {
        self.status("Uid")?.split_whitespace().next()?.parse().ok()
    }

    /// Signals that it has a handler for.
    pub fn caught(&self) -> u64 {
        self.signal_set("SigCgt")
    }

    /// Signals that its first thread blocks; bit n-1 for signal n.
    pub fn blocked(&self) -> u64 {
        self.signal_set("SigBlk")
    }

    fn signal_set(&self, field: &str) -> u64 {
        self.status(field).and_then(|set| u64::from_str_radix(&set, 16).ok()).unwrap_or(0)
    }

    /// A variable of the environment that it was started with.
    pub fn variable(&self, name: &str) -> Option<Vec<u8>> {
        let environ = std::fs::read(self.dir.join("environ")).ok()?;
        environ
            .split(|&b| b == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .map(<[u8]>::to_vec)
    }

    /// Whether nothing can be read where the environment was: so it is for a moment of a restart.
    pub fn has_no_environment(&self) -> bool {
        std::fs::read(self.dir.join("environ")).map_or(true, |environ| environ.is_empty())
    }

    pub fn exe(&self) -> Option<PathBuf> {
        std::fs::read_link(self.dir.join("exe")).ok()
    }

    pub fn is_64_bit(&self) -> bool {
        File::open(self.dir.join("exe"))
            .and_then(|file| program::file_kind(&file))
            .is_ok_and(|kind| kind == FileKind::Elf64)
    }

    /// Whether the library is loaded: by its mapping, or by the lock that it holds.
    pub fn runs_library(&self) -> io::Result<bool> {
        let maps = std::fs::read(self.dir.join("maps"))?;
        let maps_library = maps.split(|&b| b == b'\n').any(|line| {
            let line = line.strip_suffix(b" (deleted)").unwrap_or(line);
            line.rsplit(|&b| b == b'/').next() == Some(LIBRARY.as_bytes())
        });
        Ok(maps_library || self.holds_lock())
    }

    fn holds_lock(&self) -> bool {
        let fds = std::fs::read_dir(self.dir.join("fd")).into_iter().flatten().flatten();
        fds.map(|fd| fd.path()).any(|fd| {
            let is_lock = std::fs::read_link(&fd).is_ok_and(|path| path.as_os_str().as_bytes().ends_with(b".lock"));
            let mut text = String::new();
            is_lock
                && File::open(&fd).and_then(|file| file.take(4096).read_to_string(&mut text)).is_ok()
                && parse_owner(&text).is_some()
        })
    }

    pub fn children(&self) -> Vec<u32> {
        let path = self.dir.join(format!("task/{}/children", self.pid));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Its name, for messages.
    pub fn name(&self) -> String {
        self.status("Name").unwrap_or_else(|| "?".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lines() {
        let owner = parse_owner("pid 42 host node7 boot 0-1\nmore\n").expect("ours");
        assert_eq!((owner.pid, owner.host.as_str(), owner.boot.as_str()), (42, "node7", "0-1"));
        assert_eq!(owner.to_string(), "42 on node7");
        assert_eq!(parse_owner("pid 42"), Some(Owner { pid: 42, host: String::new(), boot: String::new() }));
        assert_eq!(parse_owner(""), None);
        assert_eq!(parse_owner("42\n"), None);
        assert_eq!(parse_owner("pid x"), None);
    }

    #[test]
    fn this_process() {
        let me = Process::find(std::process::id()).expect("alive");
        assert_eq!(me.uid(), Some(system::real_uid()));
        assert!(!me.runs_library().expect("own maps"));
        assert!(me.exe().is_some());
        assert!(Process::find(u32::MAX).is_none());
    }
}
