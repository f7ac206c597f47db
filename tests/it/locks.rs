//! Whose name it is: on file systems without locks, after a crash, and among users.

use crate::common::{
    NOBODY, TempDir, assert_refused, assert_success, images_in, is_root, kill, program, selfckpt_command, wait_until,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// flock(2) says ENOLCK, as on NFS without a lock daemon, for this command and all that comes from it.
fn without_locks(command: &mut Command) -> &mut Command {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ENOLCK: u32 = 0x0005_0000 | 37;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(LOAD, 0, 0, 4),            // the architecture
        step(EQUAL, 0, 2, 0x4000_0003), // i386:
        step(LOAD, 0, 0, 0),            //   the number
        step(EQUAL, 3, 2, 143),         //   is it flock?
        step(LOAD, 0, 0, 0),            // x86_64: the number
        step(EQUAL, 1, 0, 73),          //   is it flock?
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, ENOLCK),
    ];
    // SAFETY: prctl(2) alone is called between fork and exec; the filter is a copy of the closure's.
    unsafe {
        command.pre_exec(move || {
            let mut filter = filter;
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, &raw const program) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    }
}

fn run(dir: &Path, lines: &str) -> Command {
    let mut command = selfckpt_command();
    command.arg("run").arg("--dir").arg(dir).arg("--").arg(program("counter")).args([lines, "5000"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn checkpoint(child: &Child) {
    let output = selfckpt_command().args(["checkpoint", &child.id().to_string()]).output().expect("checkpoint");
    assert_success(&output);
}

fn wait_for_lock(dir: &Path) {
    let written = || fs::read_to_string(dir.join("counter.lock")).ok().filter(|text| text.ends_with('\n'));
    assert!(wait_until(written).is_some(), "no lock file");
}

#[test]
fn file_system_without_locks() {
    let temp = TempDir::new("no-locks");
    let dir = temp.path().join("ckpt");
    let mut first = without_locks(&mut run(&dir, "100000")).spawn().expect("selfckpt run");
    wait_for_lock(&dir);
    let second = without_locks(&mut run(&dir, "100000")).output().expect("selfckpt run");
    assert_refused(&second, 125, &["is running", "counter"]);
    // By the library alone, too.
    let mut bare = Command::new(program("counter"));
    bare.arg("1").env("LD_PRELOAD", crate::common::library()).env("SELFCKPT_DIR", &dir);
    assert_refused(&without_locks(&mut bare).output().expect("counter"), 125, &["another running program", "counter"]);
    checkpoint(&first);
    first.kill().expect("kill");
    first.wait().expect("wait");

    // Its lock file is still there, and stale.
    assert!(dir.join("counter.lock").exists());
    let before = fs::read_to_string(dir.join("counter.lock")).expect("a lock");
    let mut resumed = without_locks(&mut run(&dir, "100000")).spawn().expect("selfckpt run");
    let taken =
        || fs::read_to_string(dir.join("counter.lock")).ok().filter(|text| *text != before && text.ends_with('\n'));
    assert!(wait_until(taken).is_some(), "it is not resumed");
    checkpoint(&resumed);
    assert!(kill(resumed.id() as i32, libc::SIGTERM));
    resumed.wait().expect("wait");
    let images = images_in(&dir);
    assert_eq!(images.last().map(|image| image.generation), Some(2));

    // Many at once, over a stale lock: one runs, and clears up.
    images.iter().for_each(|image| fs::remove_file(&image.path).expect("remove"));
    let mut all: Vec<Child> =
        (0..5).map(|_| without_locks(&mut run(&dir, "300")).spawn().expect("selfckpt run")).collect();
    let ends: Vec<_> = all.iter_mut().map(|child| child.wait().expect("wait").code()).collect();
    assert_eq!(ends.iter().filter(|&&code| code == Some(0)).count(), 1, "{ends:?}");
    assert!(ends.iter().all(|&code| matches!(code, Some(0 | 125))), "{ends:?}");
    assert!(!dir.join("counter.lock").exists());
}

/// What a lock file says, where nothing else tells.
#[test]
fn stale_locks_without_locks() {
    let temp = TempDir::new("stale");
    let dir = temp.path().join("ckpt");
    fs::create_dir(&dir).expect("mkdir");
    let lock = dir.join("counter.lock");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let (host, me) = (host.trim(), std::process::id());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id");
    let mut ended = Command::new("true").spawn().expect("true");
    let gone = ended.id();
    ended.wait().expect("wait");
    for (line, code) in [
        (format!("pid {me} host {host} boot 0-0-0\n"), 0),  // booted since
        (format!("pid {gone} host {host} boot {boot}"), 0), // no such process
        (format!("pid {me} host {host} boot {boot}"), 125), // it lives
        (format!("pid {gone} host elsewhere.example boot 0-0-0\n"), 125), // nobody can tell
    ] {
        fs::write(&lock, &line).expect("write");
        let output = without_locks(&mut run(&dir, "2")).output().expect("selfckpt run");
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let mut bare = Command::new(program("counter"));
        bare.arg("1").env("LD_PRELOAD", crate::common::library()).env("SELFCKPT_DIR", &dir);
        fs::write(&lock, &line).expect("write");
        let output = without_locks(&mut bare).output().expect("counter");
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        if line.contains("elsewhere") {
            assert_refused(&output, 125, &["host elsewhere.example", &gone.to_string(), "counter.lock"]);
        }
    }
    // With locks the lock tells, whatever the file says.
    assert_success(&run(&dir, "2").output().expect("selfckpt run"));
}

/// Images, a lock and a directory of another user under the same name: both users are told.
#[test]
fn another_users_job() {
    if !is_root() {
        crate::common::skipped("jobs of several users: not root");
        return;
    }
    let temp = TempDir::new("users");
    let dir = temp.path().join("shared");
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).expect("chmod");
    let as_nobody = |command: &mut Command| command.uid(NOBODY).gid(NOBODY).output().expect("selfckpt run");
    let mut child = run(&dir, "100000").spawn().expect("selfckpt run");
    wait_for_lock(&dir);
    let both = ["user 0", &format!("user {NOBODY}"), "--name"];
    assert_refused(&as_nobody(&mut run(&dir, "100000")), 125, &both);
    checkpoint(&child);
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_refused(&as_nobody(&mut run(&dir, "100000")), 125, &both);
    let image = images_in(&dir).pop().expect("an image");
    // The other way round: root can read all, but must not run it.
    std::os::unix::fs::chown(&image.path, Some(NOBODY), None).expect("chown");
    assert_refused(&run(&dir, "100000").output().expect("selfckpt run"), 125, &both);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_refused(&as_nobody(&mut run(&dir, "2")), 125, &both[..2]);
}
