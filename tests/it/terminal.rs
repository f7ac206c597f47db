//! A restarted program and its command as a job at a terminal: what is typed reaches the program, and once.

use crate::common::{NOBODY, Spec, TempDir, assert_success, is_root, kill, library, program, run_selfckpt, wait_until};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

cycles! { pty_session, pty_long }

/// A program with a session and a controlling terminal of its own, restarted by a command that leads its process group, as in
/// a shell: signals to the command reach it.
#[test]
fn session_of_its_own() {
    let Some(mut job) = Spec::new("pty_session").start() else { return };
    let (image, _) = job.checkpoint_without_notices();
    for pid in ["same", "new"] {
        job.sigkill();
        job.rewind(1);
        job.restart_from(&image.path, &["setsid"], &["--pid", pid]);
        job.go(pid);
        job.checkpoint();
    }
    assert!(kill(job.pid(), libc::SIGTERM));
    assert_eq!(job.wait_exit().signal(), Some(libc::SIGTERM));
}

/// A new pseudo-terminal: the test's end, and the job's.
fn open_terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: two descriptors are written, nothing else is asked for.
    let result =
        unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) };
    assert_eq!(result, 0, "openpty");
    for fd in [ours, theirs] {
        // SAFETY: takes numbers.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: both are open and owned by nobody else.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// A command under `terminal_shell`.
struct Terminal {
    input: File,
    seen: Arc<Mutex<String>>,
    shell: Child,
}

impl Terminal {
    fn run(uid: u32, env: &[(&str, &Path)], words: &[&Path]) -> Terminal {
        let (ours, theirs) = open_terminal();
        let copy = || theirs.try_clone().expect("dup");
        let mut command = Command::new(program("terminal_shell"));
        // For the job alone.
        command.arg(uid.to_string()).arg("env");
        command.args(env.iter().map(|(name, value)| format!("{name}={}", value.display())));
        command.args(words).current_dir("/");
        let shell = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("terminal_shell");
        drop(command);
        drop(theirs);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut output, into) = (ours.try_clone().expect("dup"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buf = [0; 256];
            while let Ok(len @ 1..) = output.read(&mut buf) {
                into.lock().expect("text").push_str(&String::from_utf8_lossy(&buf[..len]));
            }
        });
        Terminal { input: ours, seen, shell }
    }

    fn count(&self, words: &str) -> usize {
        self.seen.lock().expect("text").matches(words).count()
    }

    #[track_caller]
    fn expect(&self, words: &str, times: usize) {
        let found = wait_until(|| (self.count(words) >= times).then_some(()));
        let seen = self.seen.lock().expect("text");
        assert!(found.is_some() && seen.matches(words).count() == times, "{times} times {words}: {seen}");
    }

    fn enter(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).expect("write");
    }

    /// The process that the shell has started.
    fn job(&self) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let child = wait_until(|| std::fs::read_to_string(&path).ok()?.split_whitespace().next()?.parse().ok());
        child.expect("a child of terminal_shell")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// What the program has open of its controlling terminal is that of the command, in whose job it is.
#[test]
fn controlling_terminal() {
    const ALL: &str = "terminal 1 1 foreground 1 1 session 1>";
    for uid in [0, NOBODY] {
        let Some(job) = Carried::take(uid, "terminal_control") else { return };
        let mut first = job.start();
        first.expect("<begins>", 1);
        first.enter("one\n");
        first.expect(&format!("<one: {ALL}"), 1);
        job.checkpoint_and_kill(&first);
        let mut again = job.restart();
        again.enter("two\n");
        again.expect(&format!("<two: {ALL}"), 1);
        again.enter("\x03");
        again.expect("<signal 2>", 1);
        again.enter("\x1a");
        again.expect("<stopped>", 1);
        again.enter("three\n");
        again.expect(&format!("<three: {ALL}"), 1);
        // Another terminal once more.
        job.checkpoint_and_kill(&again);
        let mut last = job.restart();
        last.enter("quit\n");
        last.expect(&format!("<quit: {ALL}"), 1);
        last.expect("<ended 3 0>", 1);
    }
}

#[test]
fn job_at_a_terminal() {
    carry(0);
    carry(NOBODY);
}

/// A program that a user takes from terminal to terminal, with copies of all that he has to reach.
struct Carried {
    uid: u32,
    temp: TempDir,
    library: PathBuf,
    program: PathBuf,
    command: PathBuf,
}

impl Carried {
    /// `None` if the tests run as a user who can be nobody else.
    fn take(uid: u32, name: &str) -> Option<Carried> {
        if !is_root() {
            return None;
        }
        let temp = TempDir::new("terminal");
        let take = |from: PathBuf| {
            let to = temp.path().join(from.file_name().expect("a name"));
            std::fs::copy(&from, &to).expect("copy");
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).expect("chmod");
            to
        };
        let (library, program) = (take(library()), take(program(name)));
        let command = take(PathBuf::from(env!("CARGO_BIN_EXE_selfckpt")));
        chown(temp.path(), Some(uid), Some(uid)).expect("chown");
        Some(Carried { uid, temp, library, program, command })
    }

    fn images(&self) -> PathBuf {
        self.temp.path().join("images")
    }

    fn start(&self) -> Terminal {
        let env: [(&str, &Path); 2] = [("LD_PRELOAD", &self.library), ("SELFCKPT_DIR", &self.images())];
        Terminal::run(self.uid, &env, &[&self.program])
    }

    fn checkpoint_and_kill(&self, terminal: &Terminal) {
        assert_success(&run_selfckpt(&["checkpoint", &terminal.job().to_string()]));
        assert!(kill(terminal.job(), libc::SIGKILL));
        terminal.expect("<ended -1 9>", 1);
    }

    fn restart(&self) -> Terminal {
        let (path, images) = (|text: &'static str| Path::new(text), self.images());
        let words = [self.command.as_path(), path("restart"), path("--pid"), path("same"), &images];
        Terminal::run(self.uid, &[("SELFCKPT_LIBRARY", &self.library)], &words)
    }
}

fn carry(uid: u32) {
    let Some(job) = Carried::take(uid, "terminal_job") else { return };
    let first = job.start();
    first.expect("<begins>", 1);
    job.checkpoint_and_kill(&first);
    let mut again = job.restart();
    again.enter("one\n");
    again.expect("<read one>", 1);
    again.enter("\x03");
    again.expect("<signal 2>", 1);
    for round in 1..=5 {
        again.enter("\x1a");
        again.expect("<stopped>", round);
        again.enter(&format!("round {round}\n"));
        again.expect(&format!("<read round {round}>"), 1);
        again.expect(&format!("<signal {}>", libc::SIGCONT), round);
    }
    let size = libc::winsize { ws_row: 30, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: one structure of that size.
    assert_eq!(unsafe { libc::ioctl(again.input.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
    again.expect(&format!("<signal {}>", libc::SIGWINCH), 1);
    again.enter("quit\n");
    again.expect("<ended 3 0>", 1);
    assert_eq!(again.count("<begins>"), 0);
    assert_eq!(again.count("<signal 2>"), 1);
}
