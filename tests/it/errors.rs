//! Bad input, bad surroundings: one clear line, the right exit code, and nothing lost.

use crate::common::{
    Job, NOBODY, Random, SIGUSR2, Spec, TempDir, assert_refused, assert_success, gone, is_root, kill, library,
    output_of, program, run_selfckpt, selfckpt_command, skipped, wait_until,
};
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The line that the library itself writes when it cannot do what the environment asks for.
fn refused_start(spec: Spec, words: &[&str]) {
    let mut job = spec.spawn();
    let status = job.wait_exit();
    assert_refused(&output_of(status, &job.path("stderr")), 125, words);
    let said = fs::read(job.path("stdout")).expect("stdout");
    assert!(said.is_empty(), "the program has run");
}

#[test]
fn wrong_variables() {
    let counter = || Spec::plain("counter").arg("3").arg("0");
    for (name, value) in [
        ("SELFCKPT_SIGNAL", "NOPE"),
        ("SELFCKPT_SIGNAL", "KILL"),
        ("SELFCKPT_STOP_SIGNAL", "USR1,"),
        ("SELFCKPT_STOP_CODE", "256"),
        ("SELFCKPT_KEEP", "0"),
        ("SELFCKPT_KEEP", "two"),
        ("SELFCKPT_SOCKETS", "maybe"),
        ("SELFCKPT_EVERY", "10x"),
        ("SELFCKPT_EVERY", "0"),
        ("SELFCKPT_NAME", "a/b"),
        ("SELFCKPT_LOG", "loud"),
    ] {
        refused_start(counter().env(name, value), &[name, value]);
    }
    refused_start(counter().env("SELFCKPT_DIR", "/dev/null/images"), &["/dev/null/images"]);
    refused_start(counter().env("SELFCKPT_DIR", "/dev/null"), &["/dev/null"]);
}

/// A thread that cannot be stopped: named, with what it blocks; the program and the older image stay.
#[test]
fn stuck_thread() {
    let Some(mut job) = Spec::new("thread_stuck").start() else { return };
    let pid = job.pid().to_string();
    let refused = job.selfckpt(&["checkpoint", pid.as_str()]);
    assert_refused(&refused, 125, &["hermit", "does not stop", "ffffffff"]);
    assert!(job.list_images().is_empty(), "an image without a thread");
    job.go("after a checkpoint that failed");
    // The thread lets signals through from here on: the one that was late does no harm.
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// A thread in vfork: its child is named; where children are ignored, the thread is, which does not stop. The child shares
/// the program's memory, also that of the library: a request to it is not the program's.
#[test]
fn thread_in_vfork() {
    for (children, words) in [
        ("fail", &["the program has child processes"][..]),
        ("ignore", &["(spawner) does not stop within 5 s: state D", "system call 190 "]),
    ] {
        let mut job = Spec::new("thread_vfork").env("SELFCKPT_CHILDREN", children).start().expect("never skipped");
        let pid = job.pid().to_string();
        assert!(kill(job.read_pid("child"), SIGUSR2));
        assert_refused(&job.selfckpt(&["checkpoint", pid.as_str()]), 125, words);
        assert!(job.list_images().is_empty(), "an image without a thread");
        job.go("after a checkpoint that failed");
        let image = job.checkpoint();
        assert_eq!(image.path, job.images.join("thread_vfork.000001.ckpt"));
        assert_eq!(job.list_images().len(), 1, "{}", job.story());
        job.sigkill();
        job.restart();
        job.end("after a restart");
    }
}

/// What a thread has for itself and no restart gives back is said, with its id.
#[test]
fn unshared_by_a_thread() {
    let Some(mut job) = Spec::new("thread_unshared").start() else { return };
    let image = job.checkpoint();
    let told = run_selfckpt(&["inspect".as_ref(), image.path.as_os_str()]);
    assert_success(&told);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let tid = |name: &str| fs::read_to_string(job.path(name)).expect("the thread's id");
    let own = format!("thread {} has", tid("unshared"));
    assert!(told.contains(&format!("{own} open descriptors of its own")), "{told}");
    assert!(told.contains(&format!("{own} a working directory and umask of its own")), "{told}");
    let user = format!("thread {} has credentials of its own", tid("other_user"));
    assert_eq!(told.contains(&user), is_root(), "{told}");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

#[test]
fn unwritable_directory_at_start() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    let temp = TempDir::new("unwritable");
    let dir = temp.path().join("images");
    fs::create_dir(&dir).expect("mkdir");
    for path in [dir.clone(), temp.path().join("new")] {
        let spec = Spec::plain("counter").arg("3").arg("0").user(NOBODY);
        refused_start(spec.env("SELFCKPT_DIR", text(&path)), &[text(&path)]);
    }
}

#[test]
fn wrong_usage() {
    for args in [
        &[][..],
        &["no-such-verb"],
        &["checkpoint"],
        &["checkpoint", "no-pid"],
        &["checkpoint", "--no-such-option", "1"],
        &["restart"],
        &["restart", "a", "b"],
        &["run"],
        &["run", "--keep", "0", "--", "/bin/true"],
        &["run", "--signal", "NOPE", "--", "/bin/true"],
        &["inspect"],
    ] {
        assert_refused(&run_selfckpt(args), 2, &[]);
    }
    for args in [&["--help"][..], &["--version"], &["help", "run"], &["restart", "--help"]] {
        let output = run_selfckpt(args);
        assert_success(&output);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

/// `run` looks at the program before anything else happens.
#[test]
fn programs_that_cannot_be_run() {
    let temp = TempDir::new("programs");
    let dir = temp.path().join("images");
    let run = |path: &Path| run_selfckpt(&["run", "--dir", text(&dir), "--", text(path)]);
    let refused = |path: &Path, codes: &[i32], words: &[&str]| {
        let output = run(path);
        let code = output.status.code().filter(|code| codes.contains(code));
        let code =
            code.unwrap_or_else(|| panic!("{path:?}: {} {:?}", output.status, String::from_utf8_lossy(&output.stderr)));
        assert_refused(&output, code, words);
        assert!(output.stdout.is_empty(), "it has run");
    };
    let name = |path: &Path| text(path).to_owned();

    let path = program("true64");
    refused(&path, &[125, 126], &[&name(&path), "64"]);
    let path = program("static");
    refused(&path, &[125, 126], &[&name(&path), "static"]);
    let path = temp.path().join("missing");
    refused(&path, &[127], &[&name(&path)]);
    let path = temp.path().join("not-executable");
    fs::copy(program("counter"), &path).expect("copy");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    refused(&path, &[126], &[&name(&path)]);
    let path = temp.path().join("setuid");
    fs::copy(program("counter"), &path).expect("copy");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("chmod");
    refused(&path, &[125, 126], &[&name(&path), "setuid"]);
    let path = temp.path().join("no-program");
    fs::write(&path, [0u8; 100]).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    refused(&path, &[125, 126], &[&name(&path)]);
    refused(temp.path(), &[126], &[&name(temp.path())]);
}

/// A process without the library must not be killed by the request.
#[test]
fn pid_without_the_library() {
    let spec = Spec::plain("counter").arg("100000").arg("10000").without_library();
    let job = spec.spawn();
    let pid = job.pid().to_string();
    assert!(wait_until(|| (fs::metadata(job.path("stdout")).ok()?.len() > 0).then_some(())).is_some());
    assert_refused(&run_selfckpt(&["checkpoint", &pid]), 125, &[&pid]);
    assert!(!gone(job.pid()), "the request has killed it");

    let mut sleep = Command::new("sleep").arg("100").spawn().expect("sleep");
    let pid = sleep.id().to_string();
    let output = run_selfckpt(&["checkpoint", &pid]);
    let alive = sleep.try_wait().expect("wait").is_none();
    let _ = sleep.kill();
    let _ = sleep.wait();
    assert_refused(&output, 125, &[&pid]);
    assert!(alive, "the request has killed it");
    assert_refused(&run_selfckpt(&["checkpoint", &pid]), 125, &[&pid]);
}

/// Somebody else's process.
#[test]
fn pid_of_another_user() {
    if !is_root() {
        eprintln!("skipped: needs two users");
        return;
    }
    let job = Spec::new("tls").start().expect("a start");
    let foreign = Spec::new("tls").user(NOBODY).start().expect("a start");
    let pid = job.pid().to_string();
    assert_refused(&foreign.selfckpt(&["checkpoint", &pid]), 125, &[&pid]);
    assert!(!gone(job.pid()));
}

/// Two requests at once: each is served or refused, and the program goes on.
#[test]
fn signal_is_blocked() {
    let mut job = Spec::new("blocks_trigger").start().expect("a start");
    let output = job.selfckpt(&["checkpoint", &job.pid().to_string(), "--timeout", "2"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(
        stderr.lines().all(|line| line.starts_with("selfckpt: ") && line.contains("blocks signal USR2")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    // The request is still pending, and is served when the program lets it through; until then it
    // runs on.
    job.end("after the refusal");
}

#[test]
fn two_requests_at_once() {
    let mut job = Spec::directory_last("memory_fill").arg("60").arg("dense").start().expect("a start");
    let pid = job.pid().to_string();
    let request = || {
        let mut command = selfckpt_command();
        command.args(["checkpoint", &pid]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("selfckpt")
    };
    let requests: Vec<_> = (0..4).map(|_| request()).collect();
    let mut served = 0;
    for request in requests {
        let output = request.wait_with_output().expect("wait");
        if output.status.success() {
            served += 1;
        } else {
            assert_refused(&output, 125, &[&pid]);
        }
    }
    assert!(served >= 1, "none was served");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// A second program under a name in use.
#[test]
fn name_in_use() {
    let mut job = Spec::new("tls").start().expect("a start");
    let images = text(&job.images).to_owned();
    let other = Spec::plain("counter").arg("3").arg("0").env("SELFCKPT_DIR", &images).env("SELFCKPT_NAME", "tls");
    refused_start(other, &["tls"]);
    job.checkpoint();
    // the running program holds the name against a restart, too
    assert_refused(&job.selfckpt(&["restart", &images]), 75, &["tls"]);
    job.go("after two refused starts");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// A small file system of its own, unmounted on drop.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn mount(at: PathBuf, bytes: u64) -> Option<SmallDisk> {
        fs::create_dir_all(&at).ok()?;
        let size = format!("size={bytes},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(&at)]).status();
        done.is_ok_and(|status| status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}

/// The disk is full: the program runs on, the image that is there stays good, nothing is left over,
/// and the command says why. With room again, it goes on.
#[test]
fn full_disk() {
    let mut trial = Spec::new("heap").start().expect("a start");
    let size = trial.checkpoint().size();
    drop(trial);
    let temp = TempDir::new("full");
    let Some(disk) = SmallDisk::mount(temp.path().join("disk"), size + size / 2) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let images = text(&disk.0).to_owned();
    let mut job = Spec::new("heap").env("SELFCKPT_DIR", &images).start().expect("a start");
    job.images = disk.0.clone();
    let first = job.checkpoint();
    let pid = job.pid().to_string();
    for _ in 0..2 {
        assert_refused(&job.selfckpt(&["checkpoint", &pid]), 125, &["No space left"]);
    }
    assert!(kill(job.pid(), SIGUSR2));
    job.go("after refused checkpoints");
    assert_eq!(job.list_images(), std::slice::from_ref(&first));
    assert_success(&run_selfckpt(&["verify", text(&first.path)]));
    let others: Vec<_> = fs::read_dir(&disk.0).expect("readable").flatten().map(|e| e.file_name()).collect();
    assert!(!others.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{others:?}");

    let more = format!("remount,size={}", 10 * size);
    assert_success(&Command::new("mount").args(["-o", &more, &images]).output().expect("mount"));
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// The directory becomes unwritable, or disappears, under a running program.
#[test]
fn directory_changes_under_the_program() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    let mut job = Spec::new("heap").user(NOBODY).start().expect("a start");
    let first = job.checkpoint();
    let pid = job.pid().to_string();
    fs::set_permissions(&job.images, fs::Permissions::from_mode(0o500)).expect("chmod");
    assert_refused(&job.selfckpt(&["checkpoint", &pid]), 125, &[text(&job.images), "Permission denied"]);
    job.go("after a refused checkpoint");
    fs::set_permissions(&job.images, fs::Permissions::from_mode(0o700)).expect("chmod");
    assert!(job.checkpoint().generation > first.generation);
    job.sigkill();
    job.restart();
    job.go("after a restart");

    let elsewhere = job.path("moved");
    fs::rename(&job.images, &elsewhere).expect("rename");
    assert_refused(&job.selfckpt(&["checkpoint", &pid_of(&job)]), 125, &[text(&job.images)]);
    fs::rename(&elsewhere, &job.images).expect("rename");
    job.checkpoint();
    job.end("at the end");
}

fn pid_of(job: &Job) -> String {
    job.pid().to_string()
}

/// An image and a place for damaged copies of it; the program is gone.
fn an_image(name: &str) -> (Job, Vec<u8>, PathBuf) {
    let mut job = Spec::new(name).start().expect("a start");
    let bytes = fs::read(job.checkpoint().path).expect("the image");
    job.sigkill();
    let dir = job.path("damaged");
    fs::create_dir(&dir).expect("mkdir");
    let path = dir.join(format!("{name}.000001.ckpt"));
    (job, bytes, path)
}

#[test]
fn no_image() {
    let temp = TempDir::new("none");
    let missing = temp.path().join("missing.ckpt");
    for path in [missing.as_path(), temp.path(), Path::new("/dev/null")] {
        for verb in ["restart", "verify", "inspect"] {
            assert_refused(&run_selfckpt(&[verb, text(path)]), 125, &[text(path)]);
        }
    }
    let other = temp.path().join("other.000001.ckpt");
    fs::write(&other, "this is no image, though it is called one\n".repeat(500)).expect("write");
    for verb in ["restart", "verify", "inspect"] {
        assert_refused(&run_selfckpt(&[verb, text(&other)]), 125, &[text(&other)]);
    }
}

#[test]
fn truncated_image() {
    let (_job, bytes, path) = an_image("tls");
    let mut random = Random::new("truncated_image");
    let mut lengths =
        vec![0, 1, 7, 8, 100, 4095, 4096, bytes.len() / 2, bytes.len() - 4096, bytes.len() - 8, bytes.len() - 1];
    lengths.extend((0..20).map(|_| random.below(bytes.len() as u64) as usize));
    for len in lengths {
        fs::write(&path, &bytes[..len]).expect("write");
        assert_refused(&run_selfckpt(&["verify", text(&path)]), 125, &[text(&path)]);
    }
    assert_refused(&run_selfckpt(&["restart", text(&path)]), 125, &[text(&path)]);
    fs::write(&path, &bytes).expect("write");
    assert_success(&run_selfckpt(&["verify", text(&path)]));
    let longer = [&bytes[..], b"more"].concat();
    fs::write(&path, longer).expect("write");
    assert_refused(&run_selfckpt(&["verify", text(&path)]), 125, &[text(&path)]);
}

/// One flipped bit, anywhere.
#[test]
fn flipped_bits() {
    let (_job, bytes, path) = an_image("tls");
    fs::write(&path, &bytes).expect("write");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    let mut random = Random::new("flipped_bits");
    let mut places: Vec<usize> = (0..64).map(|i| i * 5).collect(); // the header
    places.extend((0..64).map(|i| bytes.len() - 1 - i * 3)); // the end
    places.extend((0..150).map(|_| random.below(bytes.len() as u64) as usize));
    for place in places {
        let flipped = bytes[place] ^ (1 << random.below(8));
        file.write_all_at(&[flipped], place as u64).expect("write");
        let output = run_selfckpt(&["verify", text(&path)]);
        assert_eq!(output.status.code(), Some(125), "byte {place} as {flipped:#x} is not noticed");
        assert_refused(&output, 125, &[text(&path)]);
        if place % 16 == 0 {
            assert_refused(&run_selfckpt(&["restart", text(&path)]), 125, &[text(&path)]);
        }
        file.write_all_at(&bytes[place..=place], place as u64).expect("write");
    }
    assert_success(&run_selfckpt(&["verify", text(&path)]));
}

/// The newest image is torn: the one before it is taken, and the command says so.
#[test]
fn newest_image_is_torn() {
    let mut job = Spec::new("heap").start().expect("a start");
    job.checkpoint();
    job.go("between two checkpoints");
    let second = job.checkpoint();
    job.sigkill();
    let file = OpenOptions::new().write(true).open(&second.path).expect("open");
    file.set_len(second.size() - 100).expect("truncate");
    job.rewind(1);
    job.restart();
    job.go("after a restart from the older image");
    let said = fs::read_to_string(job.path("restart-1.stderr")).expect("stderr");
    assert!(said.starts_with("selfckpt: ") && said.contains(text(&second.path)), "{said:?}");
    let third = job.checkpoint();
    assert!(third.generation > second.generation, "generation {} is used again", third.generation);
    job.end("at the end");
}

/// A restart that has to be refused, with this exit code: nothing is touched. `verify` finds the
/// same, and may have more than one line to say.
#[track_caller]
fn refused_restart(job: &mut Job, code: i32, words: &[&str]) {
    let images = job.images.clone();
    let output = job.selfckpt(&["restart", text(&images)]);
    assert_refused(&output, code, words);
    let newest = job.list_images().pop().expect("an image");
    let output = job.selfckpt(&["verify", text(&newest.path)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "verify says {said:?}");
    assert!(said.lines().all(|line| line.starts_with("selfckpt: ")), "verify says {said:?}");
    for word in words {
        assert!(said.contains(word), "verify does not mention {word:?}: {said:?}");
    }
}

#[test]
fn file_is_gone() {
    let mut job = Spec::new("fd_offset").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let data = job.path("data");
    let kept = fs::read(&data).expect("data");
    fs::remove_file(&data).expect("remove");
    refused_restart(&mut job, 125, &["fd ", text(&data)]);
    fs::write(&data, kept).expect("write");
    job.restart();
    job.end("after a restart");
}

#[test]
fn file_is_shorter() {
    let mut job = Spec::new("fd_offset").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let data = job.path("data");
    let kept = fs::read(&data).expect("data");
    fs::write(&data, &kept[..100]).expect("write");
    refused_restart(&mut job, 125, &["fd ", text(&data)]);
    fs::write(&data, kept).expect("write");
    job.restart();
    job.end("after a restart");
}

/// Too few descriptors for a restart: refused, with the descriptor for which there was none left.
#[test]
fn limit_of_files() {
    // The privilege to raise a hard limit would do away with it.
    let spec = Spec::new("fd_many").arg("100");
    let spec = if is_root() { spec.user(NOBODY) } else { spec };
    let mut job = spec.start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let images = job.images.clone();
    for (limit, words) in [("50", &["fd ", "ulimit -n"][..]), ("150", &["fd ", "ulimit -n"])] {
        job.restart_from(&images, &["sh", "-c", "ulimit -n $0; exec \"$@\"", limit], &[]);
        let status = job.wait_exit();
        let restart = if limit == "50" { "restart-1.stderr" } else { "restart-2.stderr" };
        assert_refused(&output_of(status, &job.path(restart)), 125, words);
    }
    // The soft limit alone does no harm.
    job.restart_from(&images, &["sh", "-c", "ulimit -Sn $0; exec \"$@\"", "50"], &[]);
    job.end("after a restart");
}

/// The program has taken all descriptors that it may have: said, with what helps, and nothing happens to it. Where it
/// may have more, the checkpoint takes them for itself, and the limit stays what it was.
#[test]
fn no_descriptor_is_free() {
    let mut job = Spec::new("fd_many").arg("20").arg("7").arg("0").start().expect("a start");
    let pid = job.pid().to_string();
    job.wait_file("full");
    let refused = job.selfckpt(&["checkpoint", pid.as_str()]);
    assert_refused(&refused, 125, &["Too many open files", "ulimit -n"]);
    assert!(job.list_images().is_empty(), "an image");
    job.end("after a checkpoint that failed");
    Spec::new("fd_many").arg("20").arg("7").arg("100").start().expect("a start").cycle();
}

/// Without /proc nothing goes: before the start, in the middle, at a restart.
#[test]
fn no_proc() {
    if !is_root() {
        eprintln!("skipped: takes a mount namespace");
        return;
    }
    let temp = TempDir::new("no-proc");
    let here = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"]).args(words);
        command.env("SELFCKPT_DIR", temp.path()).env("SELFCKPT_LIBRARY", library());
        command.output().expect("unshare")
    };
    let (command, counter) = (selfckpt_command(), program("counter"));
    let (command, counter) = (text(Path::new(command.get_program())), text(&counter));
    let preload = format!("LD_PRELOAD={}", text(&library()));
    let words = ["/proc is not mounted"];
    let bare = ["sh", "-c", "export \"$0\"; exec \"$@\"", &preload, counter, "3", "0"];
    assert_refused(&here(&bare), 125, &words);
    assert_refused(&here(&[command, "run", "--", counter, "3", "0"]), 125, &words);
    let mut job = Spec::new("regs").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    assert_refused(&here(&[command, "restart", text(&job.images)]), 125, &words);
    assert_refused(&here(&[command, "checkpoint", "1"]), 125, &words);
    let restart = format!("SELFCKPT_RESTART={}", text(&job.images));
    let bare = ["sh", "-c", "export \"$0\" \"$1\"; shift; exec \"$@\"", &preload, &restart, counter];
    assert_refused(&here(&bare), 125, &words);
    job.restart();
    job.end("after a restart");
}

/// Renamed since the checkpoint, as a log that was rotated: found, and said; the new file at its path is left alone.
#[test]
fn file_is_renamed() {
    let mut job = Spec::new("fd_offset").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let (data, renamed) = (job.path("data"), job.path("data.1"));
    fs::rename(&data, &renamed).expect("rename");
    fs::write(&data, "another file").expect("write");
    job.restart();
    job.go("after a restart");
    let said = fs::read_to_string(job.path("restart-1.stderr")).expect("stderr");
    assert!(said.contains("fd ") && said.contains(text(&renamed)), "the new name is not mentioned: {said:?}");
    assert_eq!(fs::read(&data).expect("read"), b"another file");
    job.end("at the end");
}

/// Another file at the path, of the same length: the command says so.
#[test]
fn file_is_another() {
    let mut job = Spec::new("fd_offset").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let data = job.path("data");
    let kept = fs::read(&data).expect("data");
    fs::remove_file(&data).expect("remove");
    fs::write(job.path("takes the inode"), "").expect("write");
    fs::write(&data, &kept).expect("write");
    job.restart();
    job.go("after a restart");
    let said = fs::read_to_string(job.path("restart-1.stderr")).expect("stderr");
    assert!(said.contains(text(&data)) && said.contains("another file"), "not mentioned: {said:?}");
    job.end("at the end");
}

/// A file that may not be opened any more.
#[test]
fn file_is_forbidden() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    let mut job = Spec::new("fd_offset").user(NOBODY).start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let data = job.path("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).expect("chmod");
    let images = job.images.clone();
    let output = job.selfckpt(&["restart", text(&images)]);
    assert_refused(&output, 125, &["fd ", text(&data), "ermission"]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o600)).expect("chmod");
    job.restart();
    job.end("after a restart");
}

/// Somebody else has locked the file meanwhile: refused, with his pid, and nothing has changed.
#[test]
fn file_is_locked() {
    let mut job = Spec::new("fd_lock").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    for (name, posix) in [("exclusive", false), ("posix", true), ("ofd", true)] {
        let path = job.path(name);
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("the file");
        if posix {
            let mut lock: libc::flock = unsafe { std::mem::zeroed() }; // SAFETY: numbers only.
            (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, 8, 100);
            // SAFETY: `lock` is a struct flock.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }, 0);
        } else {
            // SAFETY: takes numbers.
            assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
        }
        let pid = format!("process {}", std::process::id());
        let images = job.images.clone();
        let output = job.selfckpt(&["restart", text(&images)]);
        assert_refused(&output, 75, &["fd ", text(&path), &pid]);
    }
    job.restart();
    job.end("after a restart");
}

/// A file with other contents than it had, though of the same length: the command says so.
#[test]
fn file_has_changed() {
    let mut job = Spec::new("fd_offset").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let data = job.path("data");
    let mut kept = fs::read(&data).expect("data");
    kept[10] ^= 1;
    fs::write(&data, &kept).expect("write");
    job.restart();
    job.go("after a restart");
    let said = fs::read_to_string(job.path("restart-1.stderr")).expect("stderr");
    for words in ["has changed since", "has been written to since the checkpoint, not at its end"] {
        assert!(said.contains(&format!("{} {words}", text(&data))), "a changed file is not mentioned: {said:?}");
    }
    job.end("at the end");
}

/// A mapped file that has changed: restored memory must not be half old and half new.
#[test]
fn mapped_file_is_gone() {
    let mut job = Spec::new("mmap_file_shared").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let path = job.path("shared");
    let kept = fs::read(&path).expect("the file");
    fs::remove_file(&path).expect("remove");
    refused_restart(&mut job, 125, &[text(&path)]);
    fs::write(&path, kept).expect("write");
    job.restart();
    job.end("after a restart");
}

/// The program itself has been replaced by another build of it, or by another program.
#[test]
fn program_has_changed() {
    if !is_root() {
        eprintln!("skipped: needs a program of its own");
        return;
    }
    // a job of another user has a copy of the program
    let mut job = Spec::new("tls").user(NOBODY).start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let path = job.path("bin/tls");
    let kept = fs::read(&path).expect("the program");
    fs::remove_file(&path).expect("remove");
    refused_restart(&mut job, 127, &[text(&path)]);
    fs::copy(program("true64"), &path).expect("copy");
    refused_restart(&mut job, 125, &[text(&path), "64"]);
    fs::remove_file(&path).expect("remove");
    fs::write(&path, kept).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    job.restart();
    job.end("after a restart");
}

/// The working directory is gone.
#[test]
fn directory_is_gone() {
    let mut job = Spec::new("cwd_umask").start().expect("a start");
    job.checkpoint();
    job.sigkill();
    let path = job.path("with space");
    fs::remove_dir_all(&path).expect("remove");
    refused_restart(&mut job, 125, &[text(&path)]);
    fs::create_dir(&path).expect("mkdir");
    job.restart();
    job.end("after a restart");
}

/// `restart` by the environment with an image of another program.
#[test]
fn image_of_another_program() {
    let mut job = Spec::new("heap").start().expect("a start");
    let image = job.checkpoint();
    job.sigkill();
    let spec = Spec::plain("counter").arg("3").arg("0").env("SELFCKPT_RESTART", text(&image.path));
    refused_start(spec, &["heap", "counter"]);
}

/// Restarted as another user: the ids of both are named, by command and library.
#[test]
fn image_of_another_user() {
    if !is_root() {
        return skipped("needs another user");
    }
    let mut of_root = Spec::new("heap").start().expect("a start");
    let mut of_nobody = Spec::new("heap").user(NOBODY).start().expect("a start");
    for job in [&mut of_root, &mut of_nobody] {
        job.checkpoint();
        job.sigkill();
    }
    let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("chown");
    let (roots, nobodys) = (of_root.list_images().remove(0).path, of_nobody.list_images().remove(0).path);
    let restart = |job: &Job, path: &Path| job.selfckpt(&["restart", text(path)]);

    let (nobody, root) = (format!("user {NOBODY}"), "user 0");
    assert_refused(&restart(&of_root, &nobodys), 125, &["belongs to", &nobody, root]);
    give(&nobodys, 0);
    assert_refused(&restart(&of_root, &nobodys), 125, &["ran as", &nobody, root]);
    give(&nobodys, NOBODY);

    // Root's, given away: whoever has it now has not taken it.
    let stolen = of_nobody.path("heap.000009.ckpt");
    fs::copy(&roots, &stolen).expect("copy");
    give(&stolen, NOBODY);
    assert_refused(&restart(&of_nobody, &stolen), 125, &["ran as", root, &nobody]);

    let mut by_environment = Command::new(of_nobody.path("bin/heap"));
    by_environment.arg(of_nobody.path("")).env("LD_PRELOAD", of_nobody.path("bin/libselfckpt.so"));
    let output = by_environment.env("SELFCKPT_RESTART", &nobodys).output().expect("the program");
    assert_refused(&output, 125, &[&format!("was taken as {nobody}, this is {root}")]);
    give(&roots, NOBODY);
    of_root.restart_by_environment();
    assert_eq!(of_root.wait_exit().code(), Some(125));
    assert!(of_root.story().contains(&format!("belongs to {nobody}, this is {root}")), "{}", of_root.story());
    give(&roots, 0);
    of_root.restart();
    of_root.end("as the user that it was");
}
