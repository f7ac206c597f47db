//! A job that is killed over and over at random moments, by SIGKILL: the program, the command, both, in the middle of a
//! write, during a restart. Its output must be that of an undisturbed run.
//!
//! `SELFCKPT_SOAK=SECONDS` has it go on for that long, with jobs of their own one after the other (`make soak`); without,
//! one job of some seconds is carried through.

use crate::common::{Random, SIGKILL, TempDir, build_dir, images_in, kill, selfckpt_command};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A real program with files: Debian's i386 python3, and the program that it runs.
struct Work {
    dir: PathBuf,
    rounds: u32,
}

impl Work {
    fn run_script() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/i386-run")
    }

    fn ask(what: &str) -> String {
        let output = Command::new(Self::run_script()).args([what, "python3"]).output().expect("i386-run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn arguments(&self) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/soak.py");
        vec![Self::ask("--path"), script.to_string_lossy().into_owned(), self.rounds.to_string()]
    }

    fn prepare(&self, command: &mut Command) {
        let variables = Self::ask("--env");
        command.envs(variables.lines().filter_map(|line| line.split_once('=')));
        let append = |name: &str| {
            File::options().create(true).append(true).open(self.dir.join(name)).expect("a file for the output")
        };
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(append("out")).stderr(append("err"));
    }

    /// Undisturbed, in a directory of its own.
    fn reference(&self) {
        fs::create_dir(&self.dir).expect("mkdir");
        let arguments = self.arguments();
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]);
        self.prepare(&mut command);
        assert!(command.status().expect("python3").success());
    }

    fn start(&self) -> Child {
        if images_in(&self.images()).is_empty() {
            // Killed before its first image: it starts over, and so does its output.
            let _ = fs::remove_file(self.dir.join("out"));
        }
        let mut command = selfckpt_command();
        command.args(["run", "--name", "work", "--dir", "ckpt", "--every", "1", "--keep", "2", "--"]);
        command.args(self.arguments());
        self.prepare(&mut command);
        command.spawn().expect("selfckpt run")
    }

    fn images(&self) -> PathBuf {
        self.dir.join("ckpt")
    }
}

/// The program under a `selfckpt run`, when there is one.
fn program_of(command: &Child) -> Option<i32> {
    let path = format!("/proc/{0}/task/{0}/children", command.id());
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn catches(pid: i32, signal: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let set = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(set, 16).is_ok_and(|set| set & (1 << (signal - 1)) != 0)
}

fn is_writing(images: &Path) -> bool {
    let is_temporary = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".ckpt.tmp");
    fs::read_dir(images).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_temporary(&entry))))
}

/// Whom to kill, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Program,
    Command,
    Both,
    Write,
    Restart,
}

const BLOWS: [Blow; 5] = [Blow::Program, Blow::Command, Blow::Both, Blow::Write, Blow::Restart];

/// Waits for the moment, and strikes. False: the job has ended before.
fn strike(blow: Blow, child: &mut Child, images: &Path, random: &mut Random) -> bool {
    let moment = match blow {
        Blow::Restart => Duration::from_micros(random.below(120_000)),
        _ => Duration::from_millis(100 + random.below(1800)),
    };
    let begin = Instant::now();
    while begin.elapsed() < moment {
        if child.try_wait().expect("wait").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1).min(moment));
    }
    if blow == Blow::Write {
        // A checkpoint is asked for, and killed somewhere in it. One that is too quick for us is killed after it.
        if let Some(pid) = program_of(child) {
            if catches(pid, libc::SIGUSR2) {
                kill(pid, libc::SIGUSR2);
            }
        }
        let begin = Instant::now();
        while !is_writing(images) && begin.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(random.below(8000)));
    }
    let program = program_of(child);
    match (blow, program) {
        (Blow::Command, _) | (_, None) => kill(child.id() as i32, SIGKILL),
        (Blow::Both, Some(pid)) => kill(pid, SIGKILL) | kill(child.id() as i32, SIGKILL),
        (_, Some(pid)) => kill(pid, SIGKILL),
    };
    true
}

/// One job from its start to its end; how often each blow fell.
fn carry_through(base: &Path, reference: &Path, rounds: u32, random: &mut Random, blows_least: u32) -> [u32; 5] {
    let work = Work { dir: base.to_path_buf(), rounds };
    fs::create_dir(&work.dir).expect("mkdir");
    let expected = fs::read(reference.join("out")).expect("a reference");
    let last_line = expected.rsplit(|&byte| byte == b'\n').nth(1).expect("a line").to_vec();
    let last_line = [&last_line[..], b"\n"].concat();
    let mut count = [0; 5];
    let mut generation = 0;
    // A job that makes no way at all would go on for ever.
    for _ in 0..1000 {
        let mut child = work.start();
        let enough = count.iter().sum::<u32>() >= blows_least && random.below(4) == 0;
        let blow = BLOWS[random.below(5) as usize];
        let struck = !enough && strike(blow, &mut child, &work.images(), random);
        let status = child.wait().expect("wait");
        let errors = || fs::read_to_string(work.dir.join("err")).unwrap_or_default();
        let newest = images_in(&work.images()).last().map_or(0, |image| image.generation);
        // The command may be killed when the program has ended, and the images are about to go, or gone.
        let over = newest < generation && fs::read(work.dir.join("out")).is_ok_and(|out| out.ends_with(&last_line));
        if struck && !status.success() && !over {
            assert!(status.signal() == Some(SIGKILL), "{blow:?}: {status}\n{}", errors());
            assert!(newest >= generation, "the newest image is lost: {generation}, now {newest}\n{}", errors());
            generation = newest;
            count[blow as usize] += 1;
            continue;
        }
        assert!(over || status.success(), "{blow:?}, struck: {struck}: {status}\n{}", errors());
        for name in ["out", "state"] {
            let (here, there) = (fs::read(work.dir.join(name)), fs::read(reference.join(name)));
            let (here, there) = (here.expect("a result"), there.expect("a reference"));
            assert!(here == there, "{name} differs after {count:?}: {} and {} bytes", here.len(), there.len());
        }
        assert!(over || images_in(&work.images()).is_empty(), "images are left");
        return count;
    }
    panic!("the job makes no way");
}

#[test]
fn killed_at_random() {
    assert!(build_dir().join("i386-root").exists(), "no build/i386-root: see scripts/i386-root.sh");
    let seconds = std::env::var("SELFCKPT_SOAK").ok().map(|value| value.parse().expect("a number of seconds"));
    let temp = TempDir::new("soak");
    let (rounds, blows) = if seconds.is_some() { (400, 40) } else { (120, 7) };
    let reference = Work { dir: temp.path().join("reference"), rounds };
    reference.reference();
    let mut random = Random::new("soak");
    let begin = Instant::now();
    let mut total = [0; 5];
    let mut jobs = 0;
    loop {
        let dir = temp.path().join(format!("job-{jobs}"));
        let count = carry_through(&dir, &reference.dir, rounds, &mut random, blows);
        fs::remove_dir_all(&dir).expect("remove");
        total.iter_mut().zip(count).for_each(|(sum, n)| *sum += n);
        jobs += 1;
        if begin.elapsed().as_secs() >= seconds.unwrap_or(0) {
            break;
        }
    }
    let said: Vec<String> = BLOWS.iter().zip(total).map(|(blow, n)| format!("{blow:?} {n}")).collect();
    println!("{jobs} jobs in {:?}, killed: {}", begin.elapsed(), said.join(", "));
}
