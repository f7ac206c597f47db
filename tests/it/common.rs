//! How a test starts a program, checkpoints it, kills it and restarts it.
//!
//! A [`Job`] is one program of tests/programs with a directory of its own, through which the two
//! talk (tests/programs/harness.h says how), and another one inside it for the images. Nothing here
//! sleeps for a fixed time: every wait is for a file, an exit or an answer, with a limit of
//! [`LIMIT`]; a wait that fails panics with all that the program and the commands have said.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Every wait ends after this time.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The unprivileged user of the tests that run as root.
pub const NOBODY: u32 = 65534;

pub use libc::{SIGKILL, SIGUSR1, SIGUSR2};

/// Sends a signal; false if there is no such process (or it is not ours). A negative pid is a group.
pub fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: kill(2) takes two numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Whether a process has ended, all its threads have; one that nobody has waited for yet counts as ended.
pub fn gone(pid: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| match fs::read_to_string(task.path().join("stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    })
}

/// SIGKILL to a process. A restarted program is a child of the command that has restarted it, and dies with it, a
/// moment later: what is returned tells whether all of them have ended.
pub fn kill_with_children(pid: i32) -> impl Fn() -> bool {
    let mut all = vec![pid];
    let mut known = 0;
    while known < all.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", all[known])).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        all.extend(
            children.flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()),
        );
        known += 1;
    }
    let born = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split_whitespace().nth(19).map(str::to_owned)
    };
    let all: Vec<_> = all.into_iter().map(|pid| (pid, born(pid))).collect();
    kill(pid, SIGKILL);
    // A pid may be somebody else's by now.
    move || all.iter().all(|(pid, time)| gone(*pid) || born(*pid) != *time)
}

/// The process that writes an image for this one, while it does.
pub fn writer_of(pid: i32) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut pids = children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    pids.find_map(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        (stat.contains("(selfckpt-writer)") && !stat.contains(") Z")).then(|| child.parse().ok())?
    })
}

pub fn is_root() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Where the Makefile puts libselfckpt.so, programs/ and i386-root/.
pub fn build_dir() -> PathBuf {
    match std::env::var_os("SELFCKPT_BUILD") {
        Some(dir) => fs::canonicalize(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("build"),
    }
}

pub fn library() -> PathBuf {
    build_dir().join("libselfckpt.so")
}

pub fn program(name: &str) -> PathBuf {
    build_dir().join("programs").join(name)
}

fn selfckpt() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_selfckpt"))
}

/// A new directory under the system's temporary one, removed on drop (kept after a failure, so that
/// one can look).
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = fs::canonicalize(std::env::temp_dir()).expect("the temporary directory");
        let path = base.join(format!("selfckpt-{name}-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Commands that give a program another layout of its address space than it would have.
pub const LAYOUTS: &[&[&str]] = &[
    &[],
    &["setarch", "i686", "--addr-no-randomize"],
    &["setarch", "i686", "--addr-compat-layout"],
    &["setarch", "i686", "--3gb"],
    &["sh", "-c", "ulimit -s unlimited; exec \"$@\"", "sh"],
];

/// What is not tested for want of a package. Where all of them can be had (SELFCKPT_MUST_RUN), that is a failure.
pub fn missing_package(why: &str) {
    assert!(std::env::var_os("SELFCKPT_MUST_RUN").is_none(), "not tested: {why}");
    skipped(why);
}

/// Says in one line, past the test runner, that something cannot be tested here.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "selfckpt: not tested: {why}");
}

pub fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// Waits until `ready` gives a value.
pub fn wait_until<T>(ready: impl FnMut() -> Option<T>) -> Option<T> {
    wait_within(LIMIT, ready)
}

pub fn wait_within<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a process is to be started with; `Job` and some tests build on it.
#[derive(Clone)]
pub struct Spec {
    name: String,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    user: Option<u32>,
    pipes: bool,
    preload: bool,
    talks: Talks,
    prefix: Vec<OsString>,
    own_directory: bool,
}

/// Whether the program uses harness.h, and which argument is the directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talks {
    No,
    DirFirst,
    DirLast,
}

/// What the shell or the test runner left open must not become the programs' descriptors.
fn close_inherited_on_exec() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: sets a flag on descriptors.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    });
}

impl Spec {
    /// A program of tests/programs that talks by the files of harness.h.
    pub fn new(name: &str) -> Spec {
        close_inherited_on_exec();
        Spec {
            name: name.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            pipes: false,
            preload: true,
            talks: Talks::DirFirst,
            prefix: Vec::new(),
            own_directory: false,
        }
    }

    /// A program that does not use harness.h and does not get the directory as its first argument.
    pub fn plain(name: &str) -> Spec {
        Spec { talks: Talks::No, ..Spec::new(name) }
    }

    /// A program whose last argument is the directory.
    pub fn directory_last(name: &str) -> Spec {
        Spec { talks: Talks::DirLast, ..Spec::new(name) }
    }

    /// An argument; for a program that talks, after the directory (but see `directory_last`).
    pub fn arg(mut self, arg: impl Into<OsString>) -> Spec {
        self.args.push(arg.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Spec {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A command that changes something and then runs the program.
    pub fn prefix(mut self, words: &[&str]) -> Spec {
        self.prefix = words.iter().map(OsString::from).collect();
        self
    }

    /// Starts with the job's directory as its working directory.
    pub fn in_its_directory(mut self) -> Spec {
        self.own_directory = true;
        self
    }

    /// Runs as this user (the tests have to be root).
    pub fn user(mut self, uid: u32) -> Spec {
        self.user = Some(uid);
        self
    }

    /// Standard input and output are pipes; see [`Job::take_stdin`].
    pub fn pipes(mut self) -> Spec {
        self.pipes = true;
        self
    }

    /// Without the library: to try a test program by itself.
    pub fn without_library(mut self) -> Spec {
        self.preload = false;
        self
    }

    /// Starts it and waits until it is ready. `None` if the program says that this machine does not
    /// have what it tests.
    pub fn start(self) -> Option<Job> {
        let mut job = self.spawn();
        if job.spec.talks != Talks::No && !job.wait_ready() {
            let reason = fs::read_to_string(job.path("skip")).unwrap_or_default();
            eprintln!("skipped {}: {reason}", job.spec.name);
            return None;
        }
        Some(job)
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Job {
        let dir = TempDir::new(&self.name);
        let images = dir.path().join("images");
        let program = program(&self.name);
        assert!(program.exists(), "{} is not built", program.display());
        if self.preload {
            assert!(library().exists(), "{} is not built", library().display());
        }
        let mut job = Job {
            program,
            library: library(),
            command: selfckpt(),
            images,
            child: None,
            pid: 0,
            others: Vec::new(),
            round: 1,
            restarted: false,
            restarts: 0,
            spec: self,
            dir,
        };
        if let Some(uid) = job.spec.user {
            job.give_to(uid);
        }
        let mut command = job.bare_command();
        if job.spec.preload {
            command.env("LD_PRELOAD", &job.library).env("SELFCKPT_DIR", &job.images);
        }
        command.envs(&job.spec.env);
        job.launch(command, "stdout", "stderr");
        job
    }
}

/// An image file of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    pub generation: u32,
    pub path: PathBuf,
}

impl Image {
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map(|m| m.len()).unwrap_or(0)
    }

    /// A copy that no retention removes.
    pub fn keep_as(&self, path: &Path) -> Image {
        fs::copy(&self.path, path).expect("copy of an image");
        Image { generation: self.generation, path: path.into() }
    }
}

/// A program under test.
pub struct Job {
    spec: Spec,
    dir: TempDir,
    pub images: PathBuf,
    program: PathBuf,
    library: PathBuf,
    command: PathBuf,
    child: Option<Child>,
    pid: i32,
    others: Vec<i32>,
    round: u32,
    restarted: bool,
    restarts: u32,
}

impl Job {
    /// Copies what the user may not be able to reach, and gives him the directory.
    fn give_to(&mut self, uid: u32) {
        let bin = self.dir.path().join("bin");
        fs::create_dir(&bin).expect("mkdir");
        let copy = |from: &Path| {
            let to = bin.join(from.file_name().expect("a file name"));
            fs::copy(from, &to).unwrap_or_else(|e| panic!("copy of {}: {e}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("chmod");
            to
        };
        self.program = copy(&self.program);
        if self.spec.preload {
            self.library = copy(&self.library);
            self.command = copy(&self.command);
        }
        chown(self.dir.path(), Some(uid), Some(uid)).expect("chown");
    }

    /// A copy of a program that the job's user can reach.
    pub fn lend(&self, program: &str) -> String {
        let to = self.dir.path().join("bin").join(Path::new(program).file_name().expect("a file name"));
        fs::copy(program, &to).expect("copy");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("chmod");
        to.to_str().expect("UTF-8").to_string()
    }

    /// The program with its arguments.
    fn bare_command(&self) -> Command {
        let mut words = self.spec.prefix.clone();
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if self.spec.own_directory {
            command.current_dir(self.dir.path());
        }
        if self.spec.talks == Talks::DirFirst {
            command.arg(self.dir.path());
        }
        command.args(&self.spec.args);
        if self.spec.talks == Talks::DirLast {
            command.arg(self.dir.path());
        }
        command
    }

    fn launch(&mut self, mut command: Command, stdout: &str, stderr: &str) {
        let file = |name: &str| {
            let path = self.dir.path().join(name);
            let file = OpenOptions::new().create(true).append(true).open(&path).expect("output file");
            if let Some(uid) = self.spec.user {
                let _ = chown(&path, Some(uid), Some(uid));
            }
            file
        };
        if self.spec.pipes {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file(stdout));
        }
        command.stderr(file(stderr));
        if let Some(uid) = self.spec.user {
            command.uid(uid).gid(uid);
        }
        // A program that was just copied is busy while a process that another test forks still has it open.
        let child = wait_until(|| match command.spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
            result => Some(result),
        });
        let child =
            child.expect("a program that is not busy").unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        self.pid = child.id() as i32;
        self.child = Some(child);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stops the program, as SIGSTOP does, and waits until it stands.
    pub fn stop(&self) {
        assert!(kill(self.pid(), libc::SIGSTOP));
        let path = format!("/proc/{}/stat", self.pid());
        let stopped = || fs::read_to_string(&path).ok()?.rsplit_once(") ")?.1.starts_with('T').then_some(());
        assert!(wait_until(stopped).is_some(), "it does not stop");
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pid of the program itself, which after a restart may be a child or grandchild of the command.
    pub fn program_pid(&self) -> i32 {
        let mut pid = self.pid;
        for _ in 0..2 {
            let command = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("selfckpt"));
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
                Some(child) if command => pid = child,
                _ => break,
            }
        }
        pid
    }

    pub fn user(&self) -> Option<u32> {
        self.spec.user
    }

    /// Leaves the running program alone, so that another can be started; the first value ends it when dropped.
    pub fn set_aside(&mut self) -> (SetAside, i32) {
        (SetAside(self.child.take().expect("a child")), self.pid)
    }

    /// From now on this process is the job (a daemon that has forked itself away).
    pub fn follow(&mut self, pid: i32) {
        self.others.push(pid);
        self.pid = pid;
    }

    /// The number that a program has left in a file.
    pub fn read_pid(&self, name: &str) -> i32 {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.trim().parse().unwrap_or_else(|_| panic!("{name} holds {text:?}\n{}", self.story()))
    }

    /// The write end of a `pipes` job's standard input, and the read end of its output.
    pub fn take_stdin(&mut self) -> std::process::ChildStdin {
        self.child.as_mut().and_then(|c| c.stdin.take()).expect("stdin is a pipe")
    }
    pub fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.as_mut().and_then(|c| c.stdout.take()).expect("stdout is a pipe")
    }

    /// All that is known, for a message.
    pub fn story(&self) -> String {
        let mut text = format!("{} (pid {}) in {}:\n", self.spec.name, self.pid, self.dir.path().display());
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        for name in names {
            if name.contains("stderr") || name.starts_with("result.") {
                let content = fs::read(self.path(&name)).unwrap_or_default();
                let content = String::from_utf8_lossy(&content);
                let tail: String = content.chars().take(4000).collect();
                let _ = writeln!(text, "--- {name}\n{}", tail.trim_end());
            }
        }
        let _ = writeln!(text, "--- images");
        for image in self.list_images() {
            let _ = writeln!(text, "{} {} bytes", image.path.display(), image.size());
        }
        text
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => child.try_wait().expect("wait"),
            None => None,
        }
    }

    fn alive(&mut self) -> bool {
        if self.others.contains(&self.pid) {
            return !gone(self.pid);
        }
        self.child.is_some() && self.exited().is_none()
    }

    /// Waits for a file of the program's: true if it is there, false if the program ended without
    /// it, `None` after the limit.
    fn file_or_end(&mut self, name: &str) -> Option<bool> {
        let path = self.path(name);
        let mut dead = false;
        wait_until(|| {
            if path.exists() {
                return Some(true);
            }
            if dead {
                return Some(false); // looked once more after its end
            }
            dead = !self.alive();
            None
        })
    }

    /// The text of a round's result; `None` if the program ended without one.
    pub fn outcome(&mut self, round: u32) -> Option<String> {
        let name = format!("result.{round}");
        match self.file_or_end(&name) {
            Some(true) => Some(fs::read_to_string(self.path(&name)).expect("result")),
            Some(false) => None,
            None => panic!("no {name} after {LIMIT:?}\n{}", self.story()),
        }
    }

    /// Waits for a file of the program's; panics if the program ends instead.
    pub fn wait_file(&mut self, name: &str) {
        match self.file_or_end(name) {
            Some(true) => (),
            Some(false) => {
                let status = self.exited();
                panic!("the program ended ({status:?}) before it wrote {name}\n{}", self.story());
            }
            None => panic!("no {name} after {LIMIT:?}\n{}", self.story()),
        }
    }

    /// False: the program skips itself.
    fn wait_ready(&mut self) -> bool {
        let daemon = self.spec.name == "daemon";
        let (ready, skip) = (self.path("ready"), self.path("skip"));
        let mut dead = false;
        let found = wait_until(|| {
            if ready.exists() || skip.exists() {
                return Some(true);
            }
            if dead {
                return Some(false);
            }
            dead = !daemon && !self.alive();
            None
        });
        if found != Some(true) {
            let status = self.exited();
            panic!("the program is not ready (ended: {status:?})\n{}", self.story());
        }
        !skip.exists()
    }

    pub fn list_images(&self) -> Vec<Image> {
        images_in(&self.images)
    }

    /// `selfckpt VERB ARGS` as the job's user.
    pub fn selfckpt<S: Into<OsString> + Clone>(&self, args: &[S]) -> Output {
        let mut command = Command::new(&self.command);
        for arg in args {
            command.arg(arg.clone().into());
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("SELFCKPT_LIBRARY", &self.library);
        if let Some(uid) = self.spec.user {
            command.uid(uid).gid(uid);
        }
        command.output().expect("selfckpt")
    }

    /// What `selfckpt inspect` says of an image.
    pub fn inspect(&self, image: &Image) -> String {
        let shown = self.selfckpt(&["inspect".as_ref(), image.path.as_os_str()]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// Takes a checkpoint that loses nothing, and gives what `selfckpt inspect` says of it.
    pub fn checkpoint_without_notices(&mut self) -> (Image, String) {
        let image = self.checkpoint();
        let text = self.inspect(&image);
        assert!(!text.contains("notice"), "{text}");
        (image, text)
    }

    /// Takes a checkpoint by the command and gives the new image.
    pub fn checkpoint(&mut self) -> Image {
        self.checkpoint_with(&[])
    }

    pub fn checkpoint_with(&mut self, options: &[&str]) -> Image {
        let before = self.newest_generation();
        let pid = self.pid.to_string();
        let mut args = vec!["checkpoint", pid.as_str(), "--json"];
        args.extend_from_slice(options);
        let output = self.selfckpt(&args);
        let images = self.list_images();
        let new = images.last().filter(|image| image.generation > before);
        match new {
            Some(image) if output.status.success() => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(
                    said.contains(&*image.path.to_string_lossy()),
                    "the new image is {}, but the command said {said}",
                    image.path.display()
                );
                image.clone()
            }
            _ => panic!(
                "checkpoint: {}, newest image {:?} (before: {before})\n{}{}{}",
                output.status,
                images.last(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                self.story()
            ),
        }
    }

    /// The first of a row of checkpoints whose image is as wanted.
    pub fn checkpoint_that(&mut self, is_wanted: impl Fn(&Image) -> bool) -> Image {
        let found = (0..200).find_map(|_| Some(self.checkpoint()).filter(&is_wanted));
        found.unwrap_or_else(|| panic!("none of 200 images is as wanted\n{}", self.story()))
    }

    /// How long the program stood still for the newest image of this name.
    pub fn pause_ns(&self, name: &str) -> f64 {
        let status = fs::read_to_string(self.images.join(format!("{name}.status.json"))).expect("a status file");
        let (_, pause) = status.split_once("\"pause_ns\":").expect("pause_ns");
        let digits: String = pause.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }

    /// Takes a checkpoint by nothing but the signal.
    pub fn checkpoint_by_signal(&mut self) -> Image {
        let before = self.newest_generation();
        assert!(kill(self.pid, SIGUSR2), "cannot signal {}", self.pid);
        let image = wait_until(|| {
            let newest = self.list_images().pop().filter(|image| image.generation > before);
            if newest.is_none() && !self.alive() {
                panic!("the program died of the signal: {:?}\n{}", self.exited(), self.story());
            }
            newest
        });
        image.unwrap_or_else(|| panic!("no image after the signal\n{}", self.story()))
    }

    fn newest_generation(&self) -> u32 {
        self.list_images().last().map_or(0, |image| image.generation)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn sigkill(&mut self) {
        let all_gone = kill_with_children(self.pid);
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let ended = wait_until(|| child.try_wait().expect("wait"));
            assert!(ended.is_some(), "{} does not die\n{}", self.pid, self.story());
            self.child = None;
        }
        let pid = self.pid;
        assert!(wait_until(|| all_gone().then_some(())).is_some(), "{pid} does not die");
    }

    /// `selfckpt restart` of the newest image.
    pub fn restart(&mut self) {
        let dir = self.images.clone();
        self.restart_from(&dir, &[], &[]);
    }

    /// `PREFIX selfckpt restart OPTIONS TARGET`, not waited for: what the program does next shows
    /// whether it worked.
    pub fn restart_from(&mut self, target: &Path, prefix: &[&str], options: &[&str]) {
        assert!(self.child.is_none(), "still running");
        let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        words.push(self.command.clone().into());
        words.push("restart".into());
        words.extend(options.iter().map(OsString::from));
        words.push(target.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/").env("SELFCKPT_LIBRARY", &self.library);
        self.restarts += 1;
        self.restarted = true;
        let (out, err) = (format!("restart-{}.stdout", self.restarts), format!("restart-{}.stderr", self.restarts));
        self.launch(command, &out, &err);
    }

    /// `SELFCKPT_RESTART=DIR LD_PRELOAD=libselfckpt.so PROGRAM`, the way without the command.
    pub fn restart_by_environment(&mut self) {
        assert!(self.child.is_none(), "still running");
        let mut command = self.bare_command();
        command.env("LD_PRELOAD", &self.library).env("SELFCKPT_RESTART", &self.images);
        command.env("SELFCKPT_DIR", &self.images).envs(&self.spec.env);
        self.restarts += 1;
        self.restarted = true;
        let (out, err) = (format!("restart-{}.stdout", self.restarts), format!("restart-{}.stderr", self.restarts));
        self.launch(command, &out, &err);
    }

    /// The round that the next `go` is for.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The program was killed and goes back to this round.
    pub fn rewind(&mut self, round: u32) {
        for later in round..=self.round {
            let _ = fs::remove_file(self.path(&format!("go.{later}")));
            let _ = fs::remove_file(self.path(&format!("result.{later}")));
        }
        self.round = round;
    }

    /// A file that is there complete or not at all.
    pub fn publish(&self, name: &str, text: &str) {
        let temporary = self.path(&format!(".{name}.test"));
        fs::write(&temporary, text).expect("write");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::rename(&temporary, self.path(name)).expect("rename");
    }

    /// Lets the program do its next round, without looking at the result.
    pub fn go_without_waiting(&mut self, end: bool) -> u32 {
        let words =
            format!("{} {}\n", if self.restarted { "restarted" } else { "continued" }, if end { "end" } else { "" });
        let round = self.round;
        self.publish(&format!("go.{round}"), &words);
        self.round += 1;
        round
    }

    /// The text of a round's result, when it is there.
    pub fn result(&mut self, round: u32) -> String {
        let name = format!("result.{round}");
        self.wait_file(&name);
        self.restarted = false;
        fs::read_to_string(self.path(&name)).expect("result")
    }

    fn must_pass(&mut self, round: u32, when: &str) -> String {
        let text = self.result(round);
        let passed = text.lines().any(|line| line == "PASS") && !text.contains("FAIL");
        assert!(passed, "round {round}, {when}: {text}\n{}", self.story());
        text
    }

    /// One round that has to pass; `when` says in the message what had been done before.
    pub fn go(&mut self, when: &str) -> String {
        let round = self.go_without_waiting(false);
        self.must_pass(round, when)
    }

    /// The last round; the program then has to exit with status 0.
    pub fn end(&mut self, when: &str) {
        let round = self.go_without_waiting(true);
        self.must_pass(round, when);
        let status = self.wait_exit();
        assert!(status.success(), "exit status {status} {when}\n{}", self.story());
    }

    /// Waits for the end of the process (the command's, after a restart).
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_until(|| self.exited());
        let Some(status) = status else { panic!("it does not end\n{}", self.story()) };
        self.child = None;
        status
    }

    /// Everything that a state has to survive: goes on after a checkpoint, is restarted, restarted a
    /// second time from the same image, checkpointed again after a restart, and so on.
    pub fn cycle(mut self) {
        let first = self.checkpoint();
        self.go("after a checkpoint, without a restart");
        self.sigkill();
        self.rewind(1);
        self.restart();
        self.go("after the first restart");

        let second = self.checkpoint_by_signal();
        assert!(second.generation > first.generation);
        self.sigkill();
        self.restart();
        self.go("after a restart of a restarted program");
        self.sigkill();
        self.rewind(2);
        self.restart_from(&second.path, &[], &[]);
        self.go("after a second restart from one image");

        self.checkpoint();
        self.go("after a checkpoint of a program restarted twice");
        self.checkpoint_by_signal();
        self.sigkill();
        self.restart_by_environment();
        self.go("after a restart by SELFCKPT_RESTART");
        self.end("at the end");
    }

    /// `count` generations, each killed and restarted.
    pub fn generations(mut self, count: u32) {
        for generation in 1..=count {
            if generation % 3 == 0 {
                self.checkpoint_by_signal();
            } else {
                self.checkpoint();
            }
            self.sigkill();
            self.restart();
            self.go(&format!("after restart {generation}"));
        }
        self.end("at the end");
    }
}

/// Does something whichever way a block is left.
pub struct OnDrop<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A program that was left alone.
pub struct SetAside(Child);

impl Drop for SetAside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        for &pid in &self.others {
            kill(pid, SIGKILL);
        }
    }
}

/// Images in a directory, by generation: files `NAME.000001.ckpt`.
pub fn images_in(dir: &Path) -> Vec<Image> {
    let mut images: Vec<Image> = fs::read_dir(dir)
        .map(|entries| {
            let paths = entries.flatten().map(|entry| entry.path());
            paths.filter_map(|path| Some(Image { generation: generation_of(&path)?, path })).collect()
        })
        .unwrap_or_default();
    images.sort();
    images
}

fn generation_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".ckpt")?;
    let (name, number) = stem.rsplit_once('.')?;
    (!name.is_empty() && !name.starts_with('.') && number.len() >= 6).then(|| number.parse().ok())?
}

/// The command; it finds the library that the tests use.
pub fn selfckpt_command() -> Command {
    let mut command = Command::new(selfckpt());
    command.env("SELFCKPT_LIBRARY", library()).stdin(Stdio::null());
    command
}

/// `selfckpt ARGS` with nothing on standard input.
pub fn run_selfckpt<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    selfckpt_command().args(args).output().expect("selfckpt")
}

/// The command must have failed with this code and with one line on stderr that begins with
/// `selfckpt: ` and holds all of `words`.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = format!("{}, stdout {stdout:?}, stderr {stderr:?}", output.status);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(stderr.starts_with("selfckpt: "), "{said}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "not one line: {said}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not mentioned: {said}");
    }
}

#[track_caller]
pub fn assert_success(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}, stdout {stdout:?}, stderr {stderr:?}", output.status);
}

/// The same for a process that was spawned with stderr in a file.
pub fn output_of(status: ExitStatus, stderr: &Path) -> Output {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(stderr) {
        let _ = file.read_to_end(&mut text);
    }
    Output { status: ExitStatus::from_raw(status.into_raw()), stdout: Vec::new(), stderr: text }
}

/// A small generator for moments and places, seeded by `SELFCKPT_TEST_SEED` or by the clock.
pub struct Random(u64);

impl Random {
    pub fn new(what: &str) -> Random {
        let seed = match std::env::var("SELFCKPT_TEST_SEED").ok().and_then(|s| s.parse().ok()) {
            Some(seed) => seed,
            None => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |d| d.as_nanos() as u64 & 0xffff_ffff),
        };
        eprintln!("{what}: SELFCKPT_TEST_SEED={seed}");
        let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
        for byte in what.bytes() {
            random.0 = random.0.wrapping_add(u64::from(byte));
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// 0 <= result < limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
