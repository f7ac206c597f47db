//! Resuming by `selfckpt run`: what may pass and what will not, who runs when two start at once, disks that fail in the
//! middle.

use crate::common::{
    SIGKILL, TempDir, assert_refused, images_in, kill, kill_with_children, output_of, program, selfckpt_command,
    skipped, wait_until,
};
use crate::errors::SmallDisk;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// `selfckpt run OPTIONS --dir DIR/ckpt -- counter ARGS` with its output in DIR.
struct Run {
    dir: PathBuf,
    options: Vec<String>,
    args: Vec<String>,
    out: PathBuf,
    cwd: PathBuf,
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

impl Run {
    fn new(dir: &Path, options: &[&str], args: &[&str]) -> Run {
        let (options, args) = (strings(options), strings(args));
        Run { dir: dir.to_path_buf(), options, args, out: dir.join("out"), cwd: dir.to_path_buf() }
    }

    fn images(&self) -> PathBuf {
        self.dir.join("ckpt")
    }

    fn command(&self, extra: &[&str]) -> Command {
        let mut command = selfckpt_command();
        command.arg("run").args(&self.options).args(extra).arg("--dir").arg(self.images()).arg("--");
        command.arg(program("counter")).args(&self.args).current_dir(&self.cwd);
        let out = File::options().create(true).append(true).open(&self.out).expect("the output");
        command.stdout(out).stderr(File::create(self.errors(1)).expect("the errors"));
        command
    }

    /// The newest file of errors, or the one for the next run: a file that a program has open must not be cut.
    fn errors(&self, next: usize) -> PathBuf {
        let is_one = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("err-");
        let count = fs::read_dir(&self.dir).expect("readable").flatten().filter(is_one).count();
        self.dir.join(format!("err-{}", count + next))
    }

    fn start(&self, extra: &[&str]) -> Child {
        self.command(extra).spawn().expect("selfckpt run")
    }

    /// Runs to the end.
    fn end(&self, extra: &[&str]) -> Output {
        let status = self.command(extra).status().expect("selfckpt run");
        output_of(status, &self.errors(0))
    }

    fn lines(&self) -> usize {
        fs::read_to_string(&self.out).unwrap_or_default().lines().count()
    }

    /// With a checkpoint of a program that has begun, and killed.
    fn checkpoint_and_kill(&self) {
        let mut child = self.start(&[]);
        self.checkpoint(&mut child);
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    fn checkpoint(&self, child: &mut Child) {
        let before = self.lines();
        assert!(wait_until(|| (self.lines() > before).then_some(())).is_some(), "no output");
        let asked = selfckpt_command().args(["checkpoint", &child.id().to_string()]).output().expect("checkpoint");
        crate::common::assert_success(&asked);
    }

    fn check_output(&self) {
        let mut counter = Command::new(program("counter"));
        counter.arg(&self.args[0]).arg("0");
        let reference = counter.output().expect("counter").stdout;
        let out = fs::read(&self.out).expect("the output");
        assert!(out == reference, "wrong output: {}", String::from_utf8_lossy(&out));
    }
}

/// A file system that is not mounted yet: 75, nothing touched, and another try goes well. A file that was removed: 125.
#[test]
fn unmounted_file_system_may_pass() {
    let temp = TempDir::new("unmounted");
    let point = temp.path().join("disk");
    let Some(disk) = SmallDisk::mount(point.clone(), 1 << 20) else {
        skipped("no file system can be mounted here");
        return;
    };
    let mut run = Run::new(temp.path(), &[], &["300", "20000"]);
    run.out = point.join("out");
    run.checkpoint_and_kill();
    let aside = temp.path().join("aside");
    fs::create_dir(&aside).expect("mkdir");
    let move_mount = |from: &Path, to: &Path| {
        let status = Command::new("mount").arg("--move").args([from, to]).status().expect("mount");
        if !status.success() {
            // Not possible below a shared mount: a second view of it serves as well.
            let bound = Command::new("mount").arg("--bind").args([from, to]).status().expect("mount");
            let gone = Command::new("umount").args(["-l"]).arg(from).status().expect("umount");
            assert!(bound.success() && gone.success());
        }
    };
    move_mount(&point, &aside);
    let images = images_in(&run.images());
    let mut command = selfckpt_command();
    command.arg("run").arg("--dir").arg(run.images()).arg("--").arg(program("counter")).args(&run.args);
    let output = command.stdout(Stdio::null()).output().expect("selfckpt run");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not mounted") && said.contains("try again"), "{said}");
    assert_eq!(images_in(&run.images()), images);
    assert_refused(
        &selfckpt_command().arg("restart").arg(run.images()).output().expect("selfckpt restart"),
        75,
        &["not mounted", "try again"],
    );
    move_mount(&aside, &point);
    let kept = fs::read(&run.out).expect("the output");
    fs::remove_file(&run.out).expect("remove");
    let output = selfckpt_command().arg("restart").arg(run.images()).output().expect("selfckpt restart");
    assert_refused(&output, 125, &["out", "No such file"]);
    fs::write(&run.out, kept).expect("write");
    let output = run.end(&[]);
    crate::common::assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("resuming"), "{output:?}");
    run.check_output();
    drop(disk);
}

/// A job that runs already: with images to resume from this may pass, without it is a wrong name.
#[test]
fn held_name() {
    let temp = TempDir::new("held");
    let run = Run::new(temp.path(), &[], &["100000", "1000"]);
    let mut child = run.start(&[]);
    assert!(wait_until(|| (run.lines() > 0).then_some(())).is_some(), "no output");
    let mut second = Run::new(temp.path(), &[], &["100000", "1000"]);
    second.out = temp.path().join("out.second");
    assert_refused(&second.end(&[]), 125, &["cannot run counter", "is running", "--name"]);
    run.checkpoint(&mut child);
    assert_refused(&second.end(&[]), 75, &["cannot resume counter now", "is running", "try again"]);
    let images = run.images();
    let restart = selfckpt_command().arg("restart").arg(&images).output().expect("selfckpt restart");
    assert_refused(&restart, 75, &["holds the name counter", "try again"]);
    assert_eq!(second.lines(), 0);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// The program's own exit status 75 is no failed restart: the job is over.
#[test]
fn own_status_75() {
    let temp = TempDir::new("own-75");
    let run = Run::new(temp.path(), &[], &["60", "5000", "75"]);
    run.checkpoint_and_kill();
    for _ in 0..2 {
        assert_eq!(run.end(&[]).status.code(), Some(75));
    }
    assert!(images_in(&run.images()).is_empty());
}

/// Many start the same job at the same moment: one runs, and the output is that of one.
#[test]
fn owners_at_once() {
    for resumed in [false, true] {
        let temp = TempDir::new("at-once");
        let run = Run::new(temp.path(), &[], &["150", "20000"]);
        if resumed {
            run.checkpoint_and_kill();
        }
        let mut all: Vec<Child> = (0..5).map(|_| run.start(&[])).collect();
        let ends: Vec<_> = all.iter_mut().map(|child| child.wait().expect("wait").code()).collect();
        assert_eq!(ends.iter().filter(|&&code| code == Some(0)).count(), 1, "{ends:?}");
        assert!(ends.iter().all(|&code| matches!(code, Some(0 | 75 | 125))), "{ends:?}");
        run.check_output();
    }
}

/// A disk that is full, and one that is read-only, in the middle of a job: it goes on, the image of before stays, and
/// when the disk is well again so is the job.
#[test]
fn disk_fails_in_the_middle() {
    let temp = TempDir::new("disk");
    let Some(disk) = SmallDisk::mount(temp.path().join("ckpt"), 32 << 20) else {
        skipped("no file system can be mounted here");
        return;
    };
    let run = Run::new(temp.path(), &["--every", "1"], &["400", "20000"]);
    let mut child = run.start(&[]);
    run.checkpoint(&mut child);
    let at = &disk.0;
    let mount = |options: &[&str]| {
        let done = Command::new("mount").args(options).arg(at).status();
        assert!(done.expect("mount").success(), "{options:?}");
    };
    let goes_on_without = |words: &str, child: &Child| {
        let before = run.lines();
        let asked = selfckpt_command().args(["checkpoint", &child.id().to_string()]).output().expect("checkpoint");
        assert_refused(&asked, 125, &[words]);
        assert!(wait_until(|| (run.lines() > before).then_some(())).is_some(), "it does not go on");
        assert!(!images_in(&run.images()).is_empty());
    };
    let filler = at.join("filler");
    let zeros = File::open("/dev/zero").expect("/dev/zero");
    // Ends when the disk is full.
    let _ = std::io::copy(&mut &zeros, &mut File::create(&filler).expect("a file"));
    goes_on_without("No space left", &child);
    fs::remove_file(&filler).expect("remove");
    run.checkpoint(&mut child);
    // The file system has files open for writing, and stays as it is: a read-only view of it is put over it.
    mount(&["--bind", at.to_str().expect("UTF-8")]);
    mount(&["-o", "remount,bind,ro"]);
    goes_on_without("Read-only", &child);
    assert!(Command::new("umount").arg(at).status().expect("umount").success());
    run.checkpoint(&mut child);
    let inner = inner_pid(&run.images());
    assert!(kill(inner, SIGKILL));
    child.wait().expect("wait");
    crate::common::assert_success(&run.end(&[]));
    run.check_output();
    assert!(images_in(&run.images()).is_empty());
}

/// Options of the resuming command take effect, but for the signals, of which it says so.
#[test]
fn settings_on_resume() {
    let temp = TempDir::new("settings");
    let mut run = Run::new(temp.path(), &["--stop-signal", "USR1", "--keep", "1"], &["100000", "2000"]);
    run.checkpoint_and_kill();
    run.options = strings(&["--every", "1", "--keep", "4", "--stop-code", "66", "--stop-signal", "HUP"]);
    let mut child = run.start(&["--signal", "USR2"]);
    let full = wait_until(|| (images_in(&run.images()).len() == 4).then_some(()));
    assert!(full.is_some(), "{:?}", images_in(&run.images()));
    let said = fs::read_to_string(run.errors(0)).expect("what it says");
    assert!(said.contains("--stop-signal HUP: a resumed program keeps") && said.contains("USR1"), "{said}");
    assert!(!said.contains("--signal USR2"), "{said}");
    assert!(kill(child.id() as i32, libc::SIGUSR1));
    assert_eq!(child.wait().expect("wait").code(), Some(66));

    // What was changed stays changed, and can be changed again; by variables as well.
    run.options = Vec::new();
    let mut child = run.command(&[]).env("SELFCKPT_KEEP", "2").spawn().expect("selfckpt run");
    let fewer = wait_until(|| (images_in(&run.images()).len() == 2).then_some(()));
    assert!(fewer.is_some(), "{:?}", images_in(&run.images()));
    let newest = images_in(&run.images()).pop().expect("an image").generation;
    let more = wait_until(|| images_in(&run.images()).pop().filter(|image| image.generation > newest + 1));
    assert!(more.is_some(), "the period is forgotten");
    assert!(kill(child.id() as i32, libc::SIGUSR1));
    let code = child.wait().expect("wait").code();
    assert_eq!(code, Some(66), "the stop code is forgotten");
    assert_eq!(images_in(&run.images()).len(), 2, "the images are not kept");

    // By `restart`, all of it stays.
    let mut restarted = selfckpt_command().arg("restart").arg(run.images()).spawn().expect("selfckpt restart");
    let newest = images_in(&run.images()).pop().expect("an image").generation;
    let more = wait_until(|| images_in(&run.images()).pop().filter(|image| image.generation > newest + 2));
    assert!(more.is_some(), "the period is forgotten");
    // One is removed when the next one is there.
    assert!(wait_until(|| (images_in(&run.images()).len() == 2).then_some(())).is_some(), "more are kept");
    let all_gone = kill_with_children(restarted.id() as i32);
    assert!(wait_until(|| all_gone().then_some(())).is_some(), "it does not die");
    restarted.wait().expect("wait");
    let output = run.end(&["--keep", "none"]);
    assert_refused(&output, 2, &["--keep none"]);
}

/// The program's pid, as its status file says.
fn inner_pid(images: &Path) -> i32 {
    let text = fs::read_to_string(images.join("counter.status.json")).expect("a status file");
    let number = text.split("\"pid\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a pid");
    number.trim().parse().expect("a number")
}
