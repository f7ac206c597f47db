//! Programs that nobody here wrote, from Debian's i386 packages: a run that is checkpointed at
//! arbitrary moments, killed and restarted, three times over, gives the output and the exit status of
//! an undisturbed one.
//!
//! scripts/i386-run starts them from build/i386-root. The workloads are in tests/workloads.

use crate::common::{
    LIMIT, Random, TempDir, assert_success, images_in, kill_with_children, library, run_selfckpt, selfckpt_command,
    wait_until,
};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const RESTARTS: u32 = 3;

struct Program {
    name: &'static str,
    args: Vec<OsString>,
    env: Vec<(&'static str, &'static str)>,
    /// Files in the working directory: name and contents before the start.
    inputs: Vec<(&'static str, Vec<u8>)>,
    /// Files that have to be the same afterwards.
    results: Vec<&'static str>,
    /// What a result file holds apart from the date, for one that has the date in it.
    content: fn(Vec<u8>) -> Vec<u8>,
    prints: bool,
    /// Nothing may happen between a checkpoint and the end of the process: the files of the program would be those of a
    /// later moment.
    stops: bool,
}

impl Program {
    fn new(name: &'static str) -> Program {
        Program {
            name,
            args: Vec::new(),
            env: Vec::new(),
            inputs: Vec::new(),
            results: Vec::new(),
            content: |all| all,
            prints: true,
            stops: false,
        }
    }

    fn args(mut self, args: &[&str]) -> Program {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    fn workload(mut self, file: &str) -> Program {
        self.args.push(workload(file).into());
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Program {
        self.env.push((name, value));
        self
    }

    fn input(mut self, name: &'static str, contents: Vec<u8>) -> Program {
        self.inputs.push((name, contents));
        self
    }

    fn result(mut self, name: &'static str) -> Program {
        self.results.push(name);
        self
    }

    /// A program that prints nothing on its standard output and writes this file.
    fn only_result(mut self, name: &'static str, content: fn(Vec<u8>) -> Vec<u8>) -> Program {
        self.prints = false;
        self.content = content;
        self.result(name)
    }

    /// A program that removes files or writes into the middle of them.
    fn stops(mut self) -> Program {
        self.stops = true;
        self
    }

    /// The program in `dir`, which is made for it.
    fn command(&self, dir: &Path, preload: Option<&Path>) -> Command {
        fs::create_dir(dir).expect("mkdir");
        for (name, contents) in &self.inputs {
            fs::write(dir.join(name), contents).expect("input");
        }
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/i386-run");
        assert!(run.exists(), "{} is missing", run.display());
        let mut command = Command::new(run);
        if let Some(library) = preload {
            command.arg("--preload").arg(library);
        }
        command.arg(self.name).args(&self.args).current_dir(dir).stdin(Stdio::null());
        command.env("LC_ALL", "C").envs(self.env.iter().copied());
        output_to(&mut command, dir, "out");
        command
    }

    /// The whole test.
    fn carry(self) {
        let name = self.name;
        let temp = TempDir::new(name);
        let (reference, run) = (temp.path().join("reference"), temp.path().join("run"));
        let begin = Instant::now();
        let expected = self.command(&reference, None).status().expect("i386-run");
        let time = begin.elapsed();
        let expected_output = fs::read(reference.join("out")).expect("output");
        assert!(!self.prints || !expected_output.is_empty(), "{name} prints nothing: {expected}, {}", said(&reference));
        eprintln!("{name}: {time:?}, {} bytes, {expected}", expected_output.len());

        self.undisturbed(temp.path(), &reference, expected);

        // On a busy machine a program may come to its end while it is being checkpointed: the next attempt is quicker.
        let mut random = Random::new(name);
        let done = (0..4).any(|attempt| {
            let _ = fs::remove_dir_all(&run);
            self.attempt(temp.path(), &run, time / (1 << attempt), &mut random, expected)
        });
        assert!(done, "{name} is always at its end before the last restart");
        self.compare(&reference, &run);
    }

    /// Checkpoints, kills and restarts it. False if it came to its end before.
    fn attempt(&self, temp: &Path, run: &Path, time: Duration, random: &mut Random, expected: ExitStatus) -> bool {
        let name = self.name;
        let images = temp.join("images");
        let _ = fs::remove_dir_all(&images);
        let mut command = self.command(run, Some(&library()));
        command.env("LD_PRELOAD", library()).env("SELFCKPT_DIR", &images).env("SELFCKPT_NAME", name);
        let mut child = Running(command.spawn().expect("i386-run"));
        // From now on the library is there.
        let lock = images.join(format!("{name}.lock"));
        assert!(wait_until(|| lock.exists().then_some(())).is_some(), "{name} does not start: {}", said(run));
        let mut moment = |low: u64, high: u64| {
            let microseconds = time.as_micros() as u64 * (low + random.below(high - low)) / 100;
            std::thread::sleep(Duration::from_micros(microseconds));
        };
        for restart in 1..=RESTARTS {
            moment(2, 15);
            if !checkpoint(name, &mut child, run, &[], expected) {
                return false;
            }
            assert!(!images_in(&images).is_empty());
            moment(0, 5);
            if self.stops {
                if !checkpoint(name, &mut child, run, &["--stop"], expected) {
                    return false;
                }
                assert_eq!(child.wait(name, run).code(), Some(85), "{}", said(run));
            } else {
                child.kill();
            }
            let mut command = selfckpt_command();
            command.arg("restart").arg(&images).current_dir("/");
            output_to(&mut command, run, &format!("restart-{restart}"));
            child = Running(command.spawn().expect("selfckpt restart"));
        }
        let status = child.wait(name, run);
        assert_eq!(status.code(), expected.code(), "{name}: {status} instead of {expected}: {}", said(run));
        true
    }

    /// Loading the library changes nothing.
    fn undisturbed(&self, temp: &Path, reference: &Path, expected: ExitStatus) {
        let dir = temp.join("undisturbed");
        let mut command = self.command(&dir, Some(&library()));
        command.env("SELFCKPT_DIR", temp.join("undisturbed-images"));
        let status = command.status().expect("i386-run");
        assert_eq!(status.code(), expected.code(), "{} with the library: {status}: {}", self.name, said(&dir));
        self.compare(reference, &dir);
    }

    fn compare(&self, reference: &Path, run: &Path) {
        same_file(self.name, reference, run, "out", |all| all);
        for result in &self.results {
            same_file(self.name, reference, run, result, self.content);
        }
    }
}

/// A checkpoint by the command, as soon as the program is there (again) for it. False if the program came to its end
/// instead, as `expected`.
fn checkpoint(name: &str, child: &mut Running, run: &Path, options: &[&str], expected: ExitStatus) -> bool {
    let pid = child.pid().to_string();
    let words = [&["checkpoint"], options, &[pid.as_str()]].concat();
    let output = wait_until(|| {
        let output = run_selfckpt(&words);
        let text = String::from_utf8_lossy(&output.stderr);
        let ended = child.0.try_wait().expect("wait").is_some();
        (ended || !text.contains("has no handler for its checkpoint signal")).then_some(output)
    });
    let output = output.unwrap_or_else(|| panic!("{name} takes no checkpoint: {}", said(run)));
    if output.status.success() {
        return true;
    }
    let status = child.0.try_wait().expect("wait");
    match status {
        Some(status) if status.code() == expected.code() => false,
        _ => panic!("{name}, {status:?}: {output:?}\n{}", said(run)),
    }
}

fn workload(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads").join(file)
}

fn output_to(command: &mut Command, dir: &Path, name: &str) {
    let open = |name: String| OpenOptions::new().create(true).append(true).open(dir.join(name)).expect("output file");
    command.stdout(open(name.into())).stderr(open(format!("{name}.stderr")));
}

/// What was written to stderr, by the program and by the restarts.
fn said(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".stderr") {
            text += &String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default());
        }
    }
    text
}

fn same_file(program: &str, reference: &Path, run: &Path, file: &str, content: fn(Vec<u8>) -> Vec<u8>) {
    let read = |dir: &Path| content(fs::read(dir.join(file)).expect(file));
    let (a, b) = (read(reference), read(run));
    assert!(file == "out" || !a.is_empty(), "{program}: {file} is empty");
    if a != b {
        let at = a.iter().zip(&b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
        let (from, to) = (at.saturating_sub(100), (at + 100).min(b.len()));
        panic!(
            "{program}: {file} differs from byte {at} on ({} bytes instead of {}): {:?}\n{}",
            b.len(),
            a.len(),
            String::from_utf8_lossy(&b[from..to]),
            said(run)
        );
    }
}

/// A process that does not outlive the test.
struct Running(Child);

impl Running {
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn kill(&mut self) {
        let all_gone = kill_with_children(self.pid());
        let _ = self.0.wait();
        assert!(wait_until(|| all_gone().then_some(())).is_some(), "{} does not die", self.pid());
    }

    fn wait(&mut self, name: &str, dir: &Path) -> ExitStatus {
        // They compute for seconds, and a machine may be busy with other things.
        let rounds = (0..4).find_map(|_| wait_until(|| self.0.try_wait().expect("wait")));
        let status = rounds.unwrap_or_else(|| panic!("{name} has not ended after {:?}: {}", 4 * LIMIT, said(dir)));
        if let Some(signal) = status.signal() {
            panic!("{name} died of signal {signal}: {}", said(dir));
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn python3() {
    Program::new("python3").workload("work.py").carry();
}

#[test]
fn bc() {
    Program::new("bc").args(&["-l", "-q"]).workload("work.bc").carry();
}

#[test]
fn lua() {
    Program::new("lua").workload("work.lua").carry();
}

/// With a database file, whose contents are compared too.
#[test]
fn sqlite3() {
    let read = format!(".read {}", workload("work.sql").display());
    Program::new("sqlite3").args(&["-batch", "work.db", &read]).result("work.db").carry();
}

/// In the middle of a transaction on a database with a write-ahead log: locks, shared memory, temporary files without a
/// name.
#[test]
fn sqlite3_in_a_transaction() {
    let read = format!(".read {}", workload("wal.sql").display());
    Program::new("sqlite3").args(&["-batch", "work.db", &read]).result("work.db").stops().carry();
}

/// With files of its own for what has no room in memory, which it removes while it merges them.
#[test]
fn sort() {
    let args = ["-S", "1M", "--batch-size=3", "-T", ".", "-k3,3n", "-k2", "-o", "sorted", "text"];
    let lines = some_text(12 << 20).split(|&b| b == b' ').map(|word| word.to_vec()).collect::<Vec<_>>();
    let text = lines.chunks(3).map(|words| words.join(&b' ')).collect::<Vec<_>>().join(&b'\n');
    Program::new("sort").args(&args).input("text", text).only_result("sorted", |all| all).stops().carry();
}

#[test]
fn gawk() {
    Program::new("gawk").args(&["-f"]).workload("work.awk").carry();
}

/// Compresses bytes that are neither all alike nor all different.
#[test]
fn xz() {
    Program::new("xz").args(&["-6", "-T1", "-c", "text"]).input("text", some_text(3 << 20)).carry();
}

/// Four threads, each with blocks of its own.
#[test]
fn xz_four_at_once() {
    let program = Program::new("xz").args(&["-6", "-T4", "--block-size=300KiB", "-c", "text"]);
    program.input("text", some_text(8 << 20)).carry();
}

fn some_text(len: usize) -> Vec<u8> {
    let mut state = 12345u32;
    let mut text = Vec::with_capacity(len + 100);
    while text.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = state >> 18;
        text.extend_from_slice(format!("word {word:x} {} ", word % 97).as_bytes());
        if state >> 28 == 0 {
            text.push(b'\n');
        }
    }
    text
}

/// Its own collector and code generator. Without parallel marking, which has threads.
#[test]
fn guile() {
    let program = Program::new("guile").env("GC_MARKERS", "1").env("GC_NPROCS", "1");
    program.env("GUILE_AUTO_COMPILE", "0").args(&["--no-auto-compile", "-s"]).workload("work.scm").carry();
}

#[test]
fn perl() {
    Program::new("perl").workload("work.pl").carry();
}

/// Queues, locks, thread-local data, compression without the interpreter's lock.
#[test]
fn python3_queues() {
    Program::new("python3").workload("threads.py").carry();
}

#[test]
fn ruby() {
    Program::new("ruby").args(&["--disable-gems"]).workload("threads.rb").carry();
}

/// A heap at a fixed address, a write barrier by SIGSEGV, a collector that stops the other threads by signals to each
/// of them by SIGUSR2, a thread for finalizers. Inside its handlers it looks at what is blocked.
#[test]
fn sbcl() {
    Program::new("sbcl").args(&["--script"]).workload("work.lisp").carry();
}

#[test]
fn sbcl_workers() {
    Program::new("sbcl").env("SELFCKPT_SIGNAL", "RTMIN+5").args(&["--script"]).workload("threads.lisp").carry();
}

/// Where no restart can give them their ids again: their collectors, timers and schedulers signal threads by ids.
#[test]
fn sbcl_with_new_ids() {
    for file in ["work.lisp", "threads.lisp"] {
        let program = Program::new("sbcl").env("SELFCKPT_PID", "new").env("SELFCKPT_SIGNAL", "RTMIN+5");
        program.args(&["--script"]).workload(file).carry();
    }
}

#[test]
fn ruby_with_new_ids() {
    Program::new("ruby").env("SELFCKPT_PID", "new").args(&["--disable-gems"]).workload("threads.rb").carry();
}

/// Three threads render one picture; its header has the date in it, the pixels are compared.
#[test]
fn povray() {
    let scene = format!("+I{}", workload("scene.pov").display());
    let program =
        Program::new("povray").args(&[&scene, "+Oout.ppm", "+FP", "+W320", "+H240", "+WT3", "+A0.1", "-J", "-D"]);
    program.only_result("out.ppm", pixels).carry();
}

/// What follows the header of a PPM file.
fn pixels(file: Vec<u8>) -> Vec<u8> {
    let mut rest = file.as_slice();
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + 1..).unwrap_or_default();
        if line == b"255" || line == b"65535" {
            return rest.to_vec();
        }
    }
    Vec::new()
}

/// Encodes a moving pattern with several threads.
#[test]
fn x264() {
    let (width, height) = (320usize, 240usize);
    let mut film = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420\n").into_bytes();
    for frame in 0..300usize {
        film.extend_from_slice(b"FRAME\n");
        for at in 0..width * height {
            let (x, y) = (at % width, at / width);
            film.push(((x + 3 * frame) * (y + frame) / 37 % 220 + 16) as u8);
        }
        film.extend((0..width * height / 2).map(|at| (at / 97 + frame) as u8 % 200 + 20));
    }
    let program = Program::new("x264").args(&["--threads", "4", "--preset", "slow", "-o", "out.264", "film.y4m"]);
    program.input("film.y4m", film).only_result("out.264", |all| all).carry();
}

/// Threads for each input, for the filters and for encoding; sound and picture of different rates meet in one file, whose
/// head is written again at the end.
#[test]
fn ffmpeg() {
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=352x288:rate=25:duration=12"];
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=12"];
    let codecs = ["-vf", "unsharp,hue=h=n", "-c:v", "libx264", "-threads", "4", "-c:a", "flac"];
    let repeatable = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"];
    let program = Program::new("ffmpeg").args(&["-v", "error", "-nostdin", "-y"]).args(&picture).args(&sound);
    program.args(&codecs).args(&repeatable).args(&["out.mkv"]).only_result("out.mkv", |all| all).carry();
}

/// Three threads of OpenBLAS compute with it.
#[test]
fn octave() {
    let program = Program::new("octave-cli").env("OPENBLAS_NUM_THREADS", "3");
    program.args(&["--norc", "--quiet", "--no-history"]).workload("matrix.m").carry();
}

/// asyncio: servers and their clients in one process, over TCP, UNIX and datagram sockets.
#[test]
fn python3_asyncio() {
    Program::new("python3").workload("sockets.py").carry();
}

/// With a client that is connected when the checkpoint is taken, and others after it. It writes over its arguments and its
/// environment.
#[test]
fn redis_server() {
    let temp = TempDir::new("redis-server");
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/i386-run");
    let words = Command::new(&run).args(["--env", "redis-server"]).output().expect("i386-run").stdout;
    let words = String::from_utf8(words).expect("words");
    let found = Command::new(&run).args(["--path", "redis-server"]).output().expect("i386-run").stdout;
    // What the name stands for is another program, which looks at how it is called.
    let program = Path::new(String::from_utf8(found).expect("a path").trim()).with_file_name("redis-server");
    let port = port_of_its_own();
    let images = temp.path().join("images");
    let mut command = Command::new(&program);
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.envs(words.split_whitespace().filter_map(|word| word.split_once('=')));
    command.env("LD_PRELOAD", library()).env("SELFCKPT_DIR", &images).current_dir(temp.path()).stdin(Stdio::null());
    output_to(&mut command, temp.path(), "out");
    let mut child = Running(command.spawn().expect("redis-server"));

    let mut client = RedisClient::connect(port);
    assert_eq!(client.ask("SET key value"), "+OK");
    for n in 1..=3 {
        assert_eq!(client.ask("INCR n"), format!(":{n}"));
    }
    for generation in 0..RESTARTS {
        assert_success(&run_selfckpt(&["checkpoint", &child.pid().to_string()]));
        // The one that goes on keeps its client.
        assert_eq!(client.ask("INCR n"), format!(":{}", 4 + generation));
        child.kill();
        let mut command = selfckpt_command();
        command.arg("restart").arg(&images).current_dir("/");
        output_to(&mut command, temp.path(), &format!("restart-{generation}"));
        child = Running(command.spawn().expect("selfckpt restart"));
        client = RedisClient::connect(port);
        assert_eq!(client.ask("INCR n"), format!(":{}", 4 + generation));
        assert_eq!(client.ask("STRLEN key"), ":5");
    }
    client.stream.get_mut().write_all(b"SHUTDOWN NOSAVE\r\n").expect("send");
    let status = child.wait("redis-server", temp.path());
    assert!(status.success(), "{status}: {}", said(temp.path()));
}

/// None of those that the kernel gives away, which another test could get while the server is dead.
fn port_of_its_own() -> u16 {
    let first = 10_000 + (std::process::id() % 10_000) as u16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 10_000).find(free).expect("a free port")
}

/// A client that speaks in lines.
struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    fn connect(port: u16) -> RedisClient {
        let stream = wait_until(|| TcpStream::connect(("127.0.0.1", port)).ok()).expect("redis-server does not listen");
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        RedisClient { stream: BufReader::new(stream) }
    }

    fn ask(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("send");
        let mut answer = String::new();
        self.stream.read_line(&mut answer).expect("an answer");
        answer.trim_end().to_string()
    }
}

/// In the middle of a shell pipeline: its shell starts `selfckpt run` again whenever it has stopped, and holds the pipes
/// meanwhile. What was in flight comes once.
#[test]
fn gzip_in_a_pipeline() {
    let temp = TempDir::new("gzip");
    let dir = temp.path();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/i386-run");
    let words = |what| String::from_utf8(Command::new(&run).args([what, "gzip"]).output().expect("i386-run").stdout);
    let (variables, gzip) = (words("--env").expect("words"), words("--path").expect("a path"));
    fs::write(dir.join("text"), some_text(24 << 20)).expect("text");
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(dir).stdin(Stdio::null());
        command.env("GZIP_PROGRAM", gzip.trim()).env("SELFCKPT", selfckpt_command().get_program());
        command.env("SELFCKPT_LIBRARY", library());
        command.envs(variables.split_whitespace().filter_map(|word| word.split_once('=')));
        output_to(&mut command, dir, "out");
        command
    };
    let begin = Instant::now();
    assert!(shell("cat text | \"$GZIP_PROGRAM\" -9 | cat >expected.gz").status().expect("sh").success());
    let time = begin.elapsed();
    let line = "cat text | { for i in 1 2 3 4 5 6; do \
                  \"$SELFCKPT\" run --dir images -- \"$GZIP_PROGRAM\" -9; \
                  status=$?; echo $status >>ends; [ $status -eq 85 ] || exit $status; done; } | cat >done.gz";
    let mut child = Running(shell(line).spawn().expect("sh"));
    let count = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default().lines().count();
    let mut random = Random::new("gzip");
    let lock = dir.join("images/gzip.lock");
    for stop in 1..=RESTARTS as usize {
        let pid = || fs::read_to_string(&lock).ok()?.split_whitespace().nth(1)?.parse::<i32>().ok();
        std::thread::sleep(time * (5 + random.below(10)) as u32 / 100);
        let stopped = wait_until(|| {
            let output = run_selfckpt(&["checkpoint", "--stop", &pid()?.to_string()]);
            output.status.success().then_some(())
        });
        assert!(stopped.is_some(), "no checkpoint: {}", said(dir));
        assert!(wait_until(|| (count("ends") == stop).then_some(())).is_some(), "it does not stop: {}", said(dir));
    }
    let status = child.wait("gzip", dir);
    assert!(status.success(), "{status}: {}", said(dir));
    assert_eq!(count("ends"), RESTARTS as usize + 1, "{}", said(dir));
    let read = |name: &str| fs::read(dir.join(name)).expect(name);
    assert!(read("expected.gz") == read("done.gz"), "the output differs");
}
