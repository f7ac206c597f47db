//! The command line where no program is needed: usage, messages, exit codes, images that are
//! missing, damaged or foreign.

mod synthetic;

use selfckpt::format::Image;
use selfckpt::format::reader::PageData;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use synthetic::{Choice, image};

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("selfckpt-cli-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a fresh directory");
        Scratch(dir)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("write");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn selfckpt<T: AsRef<std::ffi::OsStr>>(args: &[T]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selfckpt"))
        .args(args)
        .env_remove("SELFCKPT_DIR")
        .env_remove("SELFCKPT_LIBRARY")
        .output()
        .expect("selfckpt runs")
}

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Expects one line on stderr that says all of `parts`, nothing on stdout, and the exit status.
#[track_caller]
fn refused(args: &[&str], status: i32, parts: &[&str]) {
    let out = selfckpt(args);
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(status), "{args:?}: {text}");
    assert_eq!(stdout(&out), "", "{args:?}");
    assert!(text.starts_with("selfckpt: ") && text.lines().count() == 1, "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: '{part}' is missing in: {text}");
    }
}

#[track_caller]
fn verify_refuses(path: &Path, parts: &[&str]) {
    let shown = path.display().to_string();
    refused(&["verify", &shown], 125, &[&[shown.as_str()], parts].concat());
}

const VERBS: [&str; 6] = ["run", "checkpoint", "restart", "inspect", "verify", "list"];

#[test]
fn help_and_version_everywhere() {
    let overview = stdout(&selfckpt(&["--help"]));
    assert_eq!(overview, stdout(&selfckpt(&["help"])));
    for verb in VERBS {
        assert!(overview.contains(&format!("\n  {verb} ")), "{verb}");
        let help = selfckpt(&["help", verb]);
        assert!(help.status.success());
        assert!(stdout(&help).contains(&format!("\nUsage: selfckpt {verb} ")), "{verb}");
        assert_eq!(help.stdout, selfckpt(&[verb, "--help"]).stdout);
        let version = selfckpt(&[verb, "--version"]);
        assert_eq!(version.stdout, selfckpt(&["--version"]).stdout);
        assert!(stdout(&version).starts_with("selfckpt "));
    }
}

#[test]
fn wrong_usage_is_status_2() {
    refused(&[], 2, &["no command"]);
    refused(&["frobnicate"], 2, &["unknown command 'frobnicate'"]);
    refused(&["--frobnicate"], 2, &["unknown option '--frobnicate'"]);
    refused(&["help", "frobnicate"], 2, &["unknown command"]);
    for verb in VERBS {
        refused(&[verb, "--frobnicate"], 2, &["unknown option '--frobnicate'", &format!("'selfckpt help {verb}'")]);
    }
    for verb in ["run", "checkpoint", "restart", "inspect", "verify"] {
        refused(&[verb], 2, &["an argument is missing"]);
    }
    for verb in ["checkpoint", "restart", "inspect", "verify", "list"] {
        refused(&[verb, "a", "b"], 2, &["unexpected argument 'b'"]);
    }
    refused(&["inspect", "--json=yes", "x"], 2, &["json"]);
    refused(&["checkpoint", "abc"], 2, &["'abc' is not a process id"]);
    refused(&["checkpoint", "0"], 2, &["'0' is not a process id"]);
    refused(&["checkpoint", "--timeout", "soon", "1"], 2, &["soon", "10m"]);
    refused(&["checkpoint", "--timeout"], 2, &["needs a value"]);
    refused(&["restart", "--stdio", "mine", "x"], 2, &["'inherit'"]);
    refused(&["restart", "-q", "-v", "x"], 2, &["--quiet"]);
}

#[test]
fn missing_images() {
    let dir = Scratch::new("missing");
    let gone = dir.0.join("gone.ckpt").display().to_string();
    for verb in ["inspect", "verify", "restart"] {
        refused(&[verb, &gone], 125, &[&gone, "No such file or directory"]);
        refused(&[verb, dir.0.to_str().expect("UTF-8")], 125, &["no image in directory"]);
        refused(&[verb, "/dev/null"], 125, &["/dev/null is neither an image nor a directory"]);
    }
    refused(&["list", &gone], 125, &[&gone, "No such file or directory"]);
}

#[test]
fn line_breaks_in_names_do_not_break_the_line() {
    refused(&["inspect", "/no\nsuch"], 125, &["/no\\nsuch"]);
}

#[test]
fn foreign_and_broken_files() {
    let dir = Scratch::new("broken");
    let good = image(&Choice::default());
    verify_refuses(&dir.put("empty", b""), &["not a checkpoint image"]);
    verify_refuses(&dir.put("text", b"hello, this is a text and no image at all"), &["not a checkpoint image"]);
    let other_arch = image(&Choice { arch: 2, ..Choice::default() });
    verify_refuses(&dir.put("arch", &other_arch), &["architecture 2", "architecture 1"]);
    let other_rev = image(&Choice { rev: 99, ..Choice::default() });
    verify_refuses(&dir.put("rev", &other_rev), &["revision 99", "revision 2"]);
    verify_refuses(&dir.put("trailing", &[good.as_slice(), b"x"].concat()), &["bytes after the TAIL"]);
    verify_refuses(&dir.put("twice", &[good.as_slice(), &good].concat()), &["bytes after the TAIL"]);
    verify_refuses(&dir.put("error", &synthetic::aborted("No space left on device")), &["No space left on device"]);
    verify_refuses(&dir.put("short", &good[..good.len() - 1]), &["truncated"]);
    verify_refuses(&dir.put("half", &good[..good.len() / 2]), &["truncated"]);
}

/// Reads as `verify` does, without a process for each of a hundred thousand images.
fn readable(bytes: &[u8]) -> bool {
    Image::read(bytes, PageData::Check).is_ok()
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = Scratch::new("bits");
    let mut bytes = image(&Choice::default());
    assert!(readable(&bytes));
    for i in 0..bytes.len() * 8 {
        bytes[i / 8] ^= 1 << (i % 8);
        assert!(!readable(&bytes), "bit {} of byte {} is not missed", i % 8, i / 8);
        // Now and then by the command itself; 997 is prime, so that all bits of a byte have a turn.
        if i % 997 == 0 {
            let path = dir.put("flipped", &bytes);
            verify_refuses(&path, &[]);
        }
        bytes[i / 8] ^= 1 << (i % 8);
    }
    assert!(readable(&bytes));
}

#[test]
fn every_cut_is_found() {
    let bytes = image(&Choice::default());
    for len in 0..bytes.len() {
        assert!(!readable(&bytes[..len]), "a cut to {len} bytes is not found");
    }
}

#[test]
fn inspect_shows_what_is_there() {
    let dir = Scratch::new("inspect");
    let path = dir.put("app.000007.ckpt", &image(&Choice::default()));
    let out = selfckpt(&["inspect".as_ref(), path.as_os_str()]);
    assert!(out.status.success(), "{}", stderr(&out));
    let text = stdout(&out);
    for part in [
        "./app --size 'two words'",
        "generation 7",
        "6.1.0-13-amd64",
        "component 2 AVX: 256 bytes at 576",
        "eax 00000000  ebx 11111111",
        "eip 08048456  eflags 00000246 (PF|ZF|IF)",
        "gs 0063  TLS slot 0",
        "TLS slot 0 (GDT 12): base 0x0804a080, limit 0xfffff, 32-bit, data, limit in pages, useable",
        "dr0: write, 4 bytes",
        "st0 4000c90fdaa22168c235  valid    3.141592653589793",
        "st1 00000000000000000000  empty    0",
        "mxcsr 00001fa0",
        "ymm0 8f8e8d8c8b8a898887868584838281800f0e0d0c0b0a09080706050403020100",
        "0804a000-0804c000 rw-    8.0 KiB stored    4.0 KiB  anonymous [heap] (locked)",
        "O_WRONLY|O_APPEND|O_LARGEFILE at 10 of 20",
        "close-on-exec",
        "same as 0",
        "USR1      0x8048123  SA_SIGINFO|SA_RESTORER|SA_RESTART mask TERM",
        "PIPE      ignore",
        "pending: TERM for thread 4711",
        "fd-not-saved: fd 5 is a TCP connection",
    ] {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
    // A directory stands for its newest image, a name for the job's.
    assert_eq!(out.stdout, selfckpt(&["inspect".as_ref(), dir.0.as_os_str()]).stdout);
    assert_eq!(out.stdout, selfckpt(&["inspect".as_ref(), dir.0.join("app").as_os_str()]).stdout);
}

#[test]
fn inspect_records() {
    let dir = Scratch::new("records");
    let bytes = image(&Choice::default());
    let path = dir.put("image", &bytes);
    let out = selfckpt(&["inspect".as_ref(), "--records".as_ref(), path.as_os_str()]);
    let text = stdout(&out);
    let kinds: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(kinds.first(), Some(&"HEADER"));
    assert_eq!(kinds.last(), Some(&"TAIL"));
    let end = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[0].parse::<u64>().expect("offset") + words[3].parse::<u64>().expect("length")
    });
    assert_eq!(end.max(), Some(bytes.len() as u64));
    let json = selfckpt(&["inspect".as_ref(), "--records".as_ref(), "--json".as_ref(), path.as_os_str()]);
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(kinds.len()));
}

#[test]
fn inspect_shows_what_comes_before_the_damage() {
    let dir = Scratch::new("damage");
    let mut bytes = image(&Choice::default());
    let records = Image::read(bytes.as_slice(), PageData::Skip).expect("valid").records;
    let mm = records.iter().find(|line| line.kind == selfckpt::format::kind::MM).expect("MM");
    bytes[mm.offset as usize + 20] ^= 1;
    let path = dir.put("image", &bytes);
    let out = selfckpt(&["inspect".as_ref(), path.as_os_str()]);
    assert_eq!(out.status.code(), Some(125));
    assert!(stdout(&out).contains("./app --size 'two words'"));
    assert!(!stdout(&out).contains("thread 4711"));
    assert!(stderr(&out).contains("wrong checksum of the MM record"), "{}", stderr(&out));
    let out = selfckpt(&["inspect".as_ref(), "--json".as_ref(), path.as_os_str()]);
    assert_eq!(out.status.code(), Some(125));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(json["error"].as_str().is_some_and(|text| text.contains("wrong checksum")));
    assert_eq!(json["program"]["exe"], "/opt/app/bin/app");
}

#[test]
fn list_tells_valid_from_damaged() {
    let dir = Scratch::new("list");
    let of = |generation| image(&Choice { generation, ..Choice::default() });
    dir.put("app.000001.ckpt", &of(1));
    let mut damaged = of(2);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    dir.put("app.000002.ckpt", &damaged);
    dir.put(".app.000003.ckpt.tmp", b"half an image");
    let lock = dir.put("app.lock", b"pid 4711 host nowhere boot 0\n");
    let list = |args: &[&str]| {
        let out = selfckpt(&[&["list"], args, &[dir.0.to_str().expect("UTF-8")]].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        stdout(&out)
    };
    let text = list(&[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].contains(" 2 damaged ") && lines[2].contains(" 1 valid "), "{text}");
    assert!(!text.contains("4711"), "the lock is not held: {text}");

    let held = std::fs::File::open(&lock).expect("open");
    // SAFETY: a plain system call on a descriptor of ours.
    #[allow(unsafe_code)]
    let locked = unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&held), libc::LOCK_EX) };
    assert_eq!(locked, 0);
    assert!(list(&[]).contains("4711 on nowhere"));
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"])).expect("JSON");
    assert_eq!(json[0]["generation"], 2);
    assert_eq!(json[0]["valid"], false);
    assert_eq!(json[1]["valid"], true);
    assert_eq!(json[1]["running"]["pid"], 4711);
}

#[test]
fn restart_passes_over_damaged_images() {
    let dir = Scratch::new("skip");
    let exe = "/no/such/program";
    // SAFETY: cannot fail.
    #[allow(unsafe_code)]
    let uid = unsafe { libc::getuid() };
    let good = image(&Choice { exe, uid, ..Choice::default() });
    dir.put("app.000001.ckpt", &good);
    dir.put("app.000002.ckpt", &good[..good.len() - 8]);
    let out = selfckpt(&["restart".as_ref(), dir.0.as_os_str()]);
    assert_eq!(out.status.code(), Some(127), "{}", stderr(&out));
    let text = stderr(&out);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("passing over") && lines[0].contains("app.000002.ckpt"), "{text}");
    assert!(lines[1].contains("/no/such/program") && lines[1].contains("No such file"), "{text}");
}

#[test]
fn restart_refuses_programs_that_cannot_take_the_library() {
    let dir = Scratch::new("program");
    // SAFETY: cannot fail.
    #[allow(unsafe_code)]
    let uid = unsafe { libc::getuid() };
    let mut n = 0;
    let mut refuse = |exe: &str, status, part: &str| {
        n += 1;
        let path = dir.put(&format!("image{n}"), &image(&Choice { exe, uid, ..Choice::default() }));
        refused(&["restart", path.to_str().expect("UTF-8")], status, &[exe, part]);
    };
    // This test is a 64-bit program itself, wherever the command is one.
    let me = std::env::current_exe().expect("known");
    if cfg!(target_pointer_width = "64") {
        refuse(me.to_str().expect("UTF-8"), 125, "64-bit");
    }
    refuse("/etc/passwd", 126, "not executable");
    refuse("/etc", 126, "not a regular file");
    let path = dir.put("other", &image(&Choice { uid: uid + 1, ..Choice::default() }));
    refused(&["restart", path.to_str().expect("UTF-8")], 125, &["restart it as user"]);
}

/// An ELF file for i386 that the command takes for a good program, or library. The kernel finds
/// nothing to execute in it.
fn elf32(dynamic: bool) -> Vec<u8> {
    let mut out = vec![0u8; 84];
    out[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    out[16] = 3; // ET_DYN
    out[18] = 3; // EM_386
    out[20] = 1;
    out[28] = 52;
    out[40] = 52;
    out[42] = 32;
    out[44] = 1;
    out[52] = if dynamic { 3 } else { 1 }; // PT_INTERP or PT_LOAD
    out
}

fn executable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// `selfckpt run` in a directory of its own, with a stand-in for program and library.
struct Run {
    dir: Scratch,
    app: PathBuf,
    library: PathBuf,
}

impl Run {
    fn new(name: &str) -> Run {
        let dir = Scratch::new(name);
        let app = dir.put("app", &elf32(true));
        executable(&app, 0o755);
        let library = dir.put("libselfckpt.so", &elf32(true));
        std::fs::create_dir(dir.0.join("ckpt")).expect("create");
        Run { dir, app, library }
    }

    fn image(&self, generation: u32, args: &[&str]) -> PathBuf {
        // SAFETY: cannot fail.
        #[allow(unsafe_code)]
        let uid = unsafe { libc::getuid() };
        let app = self.app.canonicalize().expect("it is there");
        let exe = app.to_str().expect("UTF-8");
        let bytes = image(&Choice { exe, args, uid, generation, ..Choice::default() });
        self.dir.put(&format!("ckpt/app.{generation:06}.ckpt"), &bytes)
    }

    fn output(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_selfckpt"))
            .args(["run", "--dir", "ckpt"])
            .args(args)
            .current_dir(&self.dir.0)
            .env("SELFCKPT_LIBRARY", &self.library)
            .output()
            .expect("selfckpt runs")
    }

    #[track_caller]
    fn expect(&self, args: &[&str], status: i32, parts: &[&str]) {
        let out = self.output(args);
        let text = stderr(&out);
        assert_eq!(out.status.code(), Some(status), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: '{part}' is missing in: {text}");
        }
        assert!(text.lines().all(|line| line.starts_with("selfckpt: ")), "{text}");
    }

    fn images(&self) -> usize {
        std::fs::read_dir(self.dir.0.join("ckpt")).expect("readable").count()
    }
}

#[test]
fn run_refuses_programs_that_cannot_take_the_library() {
    let run = Run::new("refuse");
    run.expect(&["./nope"], 127, &["cannot run ./nope: No such file or directory"]);
    run.expect(&["no-such-program-anywhere"], 127, &["not found in PATH"]);
    run.expect(&["./ckpt"], 126, &["not a regular file"]);
    run.dir.put("plain", b"text");
    run.expect(&["./plain"], 126, &["not executable"]);
    let make = |name: &str, bytes: &[u8], mode| executable(&run.dir.put(name, bytes), mode);
    make("text", b"text", 0o755);
    run.expect(&["./text"], 126, &["neither an ELF program nor a script"]);
    make("static", &elf32(false), 0o755);
    run.expect(&["./static"], 125, &["./static", "statically linked"]);
    make("setuid", &elf32(true), 0o4755);
    run.expect(&["./setuid"], 125, &["./setuid", "setuid"]);
    let mut wide = elf32(true);
    wide[4] = 2;
    make("wide", &wide, 0o755);
    run.expect(&["./wide"], 125, &["./wide", "64-bit"]);
    make("script", b"#!./wide\n", 0o755);
    run.expect(&["./script"], 125, &["./script (interpreter ./wide)", "64-bit"]);
    make("orphan", b"#!/no/such/interpreter\n", 0o755);
    run.expect(&["./orphan"], 126, &["interpreter /no/such/interpreter"]);
}

#[test]
fn run_needs_a_good_library() {
    let mut run = Run::new("library");
    run.library = run.dir.put("text.so", b"text");
    run.expect(&["./app"], 125, &["text.so is not a shared library for 32-bit x86"]);
    run.library = run.dir.put("a b.so", &elf32(true));
    run.expect(&["./app"], 125, &["a b.so", "LD_PRELOAD", "symbolic link"]);
    let link = run.dir.0.join("link.so");
    std::os::unix::fs::symlink(&run.library, &link).expect("link");
    run.library = link;
    run.expect(&["--restart-only", "./app"], 125, &["no image of app in ckpt"]);
    run.library = run.dir.0.join("gone.so");
    run.expect(&["./app"], 125, &["cannot find libselfckpt.so", "gone.so", "SELFCKPT_LIBRARY"]);
}

#[test]
fn run_refuses_what_options_cannot_mean() {
    let run = Run::new("options");
    for args in [
        &["--every", "soon"][..],
        &["--every", "0"],
        &["--keep", "0"],
        &["--signal", "KILL"],
        &["--stop-signal", "USR1,"],
        &["--stop-code", "256"],
        &["--children", "keep"],
        &["--sockets", "maybe"],
        &["--name", "a/b"],
        &["--fresh", "--restart-only"],
    ] {
        run.expect(&[args, &["./app"]].concat(), 2, &[args[0]]);
    }
    run.expect(&["--dir", "app", "./app"], 125, &["directory app"]);
}

#[test]
fn run_resumes_the_same_command_only() {
    let run = Run::new("resume");
    run.image(1, &["./app", "--size", "3"]);
    let newest = run.image(2, &["./app", "--size", "3"]);
    // It says that it resumes; the stand-in cannot be executed, and the images stay.
    run.expect(&["./app", "--size", "3"], 126, &["resuming ./app from ckpt/app.000002.ckpt", "generation 2"]);
    assert_eq!(run.images(), 2);
    run.expect(
        &["./app", "--size", "4"],
        125,
        &["another command", "./app --size 3", "./app --size 4", "--fresh", "--name"],
    );
    let other = run.dir.put("other", &elf32(true));
    executable(&other, 0o755);
    run.expect(&["--name", "app", "./other", "--size", "3"], 125, &["another command", "./other --size 3"]);
    // A damaged one is passed over, and said to be.
    let mut bytes = std::fs::read(&newest).expect("read");
    bytes[300] ^= 1;
    std::fs::write(&newest, &bytes).expect("write");
    run.expect(
        &["./app", "--size", "3"],
        126,
        &["passing over ckpt/app.000002.ckpt", "resuming ./app from ckpt/app.000001.ckpt"],
    );
    // Nothing is started anew while there are images, whatever they are.
    std::fs::write(run.dir.0.join("ckpt/app.000001.ckpt"), b"x").expect("write");
    run.expect(&["./app", "--size", "3"], 125, &["cannot resume app", "app.000002.ckpt", "--fresh"]);
    assert_eq!(run.images(), 2);
    run.expect(&["--fresh", "./app", "--size", "3"], 126, &["cannot execute"]);
    assert_eq!(run.images(), 0);
}

#[test]
fn run_refuses_a_second_owner() {
    let run = Run::new("owner");
    let lock = run.dir.put("ckpt/app.lock", b"pid 4711 host nowhere boot 0\n");
    let held = std::fs::File::open(lock).expect("open");
    // SAFETY: a plain system call on a descriptor of ours.
    #[allow(unsafe_code)]
    let locked = unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&held), libc::LOCK_EX) };
    assert_eq!(locked, 0);
    run.expect(&["./app"], 125, &["running", "4711 on nowhere", "--name"]);
    drop(held);
    run.expect(&["./app"], 126, &["cannot execute"]);
}

#[test]
fn several_jobs_in_a_directory_must_be_named() {
    let dir = Scratch::new("several");
    dir.put("one.000001.ckpt", &image(&Choice::default()));
    dir.put("two.000001.ckpt", &image(&Choice::default()));
    for verb in ["inspect", "verify", "restart"] {
        refused(&[verb, dir.0.to_str().expect("UTF-8")], 125, &["several jobs", "/one", "/two"]);
    }
    assert!(selfckpt(&["inspect".as_ref(), dir.0.join("two").as_os_str()]).status.success());
}

#[test]
fn checkpoint_never_signals_a_stranger() {
    refused(&["checkpoint", "4194304"], 125, &["process 4194304", "no such process"]);
    // A process without the library: the signal would end it.
    let mut child = Command::new("sleep").arg("100").spawn().expect("sleep runs");
    let pid = child.id().to_string();
    refused(&["checkpoint", &pid], 125, &[&pid]);
    assert!(child.try_wait().expect("our child").is_none(), "it is alive");
    child.kill().expect("our child");
    child.wait().expect("our child");
}
