//! [NORMAL] `selfckpt checkpoint`: asks a running process for a checkpoint and waits for it.
//!
//! The signal that asks carries a token (src/control.rs); the answer comes as a datagram. Nothing is
//! sent to a process that has no handler for the signal: it would die of it.

use crate::decode;
use crate::failure::{Failure, Outcome};
use crate::process::Process;
use crate::system;
use crate::verb::{Arguments, Operands, Opt, Verb};
use selfckpt::control::{self, REPLY_MAGIC, Reply, Token, status};
use selfckpt::settings::{self, signal_name};
use serde_json::json;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

pub const VERB: Verb = Verb {
    name: "checkpoint",
    synopsis: "[--stop] [--timeout T] [--json] PID",
    summary: "takes a checkpoint of a running process",
    description: &[
        "Asks process PID, which must run libselfckpt.so, for a checkpoint, waits until the image is written, and \
         prints its path, its size, how long the program stood still and how long all took. PID may also be that of \
         a 'selfckpt run' or 'selfckpt restart'.",
        "While the image is written, standard error shows how far it is: on a terminal by a line that changes, else by a \
         line every two seconds.",
        "When this command gives up, the process goes on, and a checkpoint that has begun is finished.",
    ],
    options: &[
        Opt {
            short: None,
            long: "stop",
            value: None,
            help: "Have the program exit with its stop code (85 unless set otherwise) after the checkpoint, and wait \
                   for its end.",
        },
        Opt {
            short: None,
            long: "timeout",
            value: Some("T"),
            help: "Give up after this time: a number of seconds, or with s, m or h. The default is 10m.",
        },
        Opt {
            short: None,
            long: "json",
            value: None,
            help: "Print one JSON object: path, generation, bytes, pause_ns, total_ns, notices. What shows how far it is \
                   are objects then, too: bytes, bytes_expected.",
        },
    ],
    operands: Operands { least: 1, most: 1, rest_is_raw: false },
    exit_status: &["0    the image is written", "125  it is not; the reason is one line on standard error"],
    examples: &["selfckpt checkpoint 4711", "selfckpt checkpoint --stop $(pgrep -x app)"],
    run,
};

const DEFAULT_TIMEOUT: u64 = 600;
/// A signal that is pending already swallows a second one: two commands may ask at once, so each
/// asks again while it has heard nothing.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// poll(2) leaves it out.
const NO_DESCRIPTOR: RawFd = -1;

fn run(arguments: &Arguments) -> Outcome {
    let given = &arguments.operands[0];
    let pid = settings::parse_number(given.as_bytes()).and_then(|n| u32::try_from(n).ok()).filter(|&n| n != 0);
    let Some(pid) = pid else {
        let given = given.to_string_lossy();
        return Err(Failure::usage(format!("'{given}' is not a process id (see 'selfckpt help checkpoint')")));
    };
    let timeout = match arguments.value("timeout") {
        None => DEFAULT_TIMEOUT,
        Some(value) => settings::parse_duration(value.as_bytes()).ok_or_else(|| {
            let value = value.to_string_lossy();
            Failure::usage(format!("'--timeout {value}' is not a time such as 90, 90s, 10m or 2h"))
        })?,
    };
    let target = Target::find(pid)?;
    let reply = Request::send(
        &target,
        arguments.has("stop"),
        Duration::from_secs(timeout),
        Progress::new(arguments.has("json")),
    )?
    .wait()?;
    let path = OsStr::from_bytes(reply_text(&reply));
    let output = if arguments.has("json") {
        let value = json!({
            "pid": target.process.pid,
            "path": path.to_string_lossy(),
            "generation": reply.generation.get(),
            "bytes": reply.bytes.get(),
            "pause_ns": reply.pause_ns.get(),
            "total_ns": reply.total_ns.get(),
            "notices": reply.notices.get(),
        });
        format!("{value}\n")
    } else {
        let notices = match reply.notices.get() {
            0 => String::new(),
            1 => ", 1 notice (see 'selfckpt inspect')".to_string(),
            n => format!(", {n} notices (see 'selfckpt inspect')"),
        };
        format!(
            "{}: {}, pause {}, total {}{notices}\n",
            decode::text(path.as_bytes()),
            decode::size(reply.bytes.get()),
            decode::span(reply.pause_ns.get()),
            decode::span(reply.total_ns.get()),
        )
    };
    crate::print(&output)
}

/// Name of the library's file.
const LIBRARY: &str = "libselfckpt.so";

/// Why a process cannot be asked, and whether that may be otherwise in a moment.
struct Refusal {
    text: String,
    may_pass: bool,
}

/// A process that can be asked.
struct Target {
    process: Process,
    signal: u32,
    uid: u32,
}

impl Target {
    /// Finds the process, and waits a while for one that is just starting or being restarted.
    fn find(pid: u32) -> Result<Target, Failure> {
        const STARTS_WITHIN: Duration = Duration::from_secs(10);
        let started = Instant::now();
        loop {
            match Self::look(pid) {
                Ok(target) => return Ok(target),
                Err(refusal) if refusal.may_pass && started.elapsed() < STARTS_WITHIN => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(refusal) => {
                    return Err(Failure::failed(format!("cannot checkpoint process {pid}: {}", refusal.text)));
                }
            }
        }
    }

    fn look(pid: u32) -> Result<Target, Refusal> {
        let never = |text: String| Refusal { text, may_pass: false };
        let process = Process::find(pid).ok_or_else(|| never("there is no such process".to_string()))?;
        let behind = Self::behind_command(&process);
        // While a restart changes the address space, little can be seen of a process.
        let supervised = behind.is_some();
        let process = behind.unwrap_or(process);
        let me = system::real_uid();
        let uid = process.uid().ok_or_else(|| never("it has ended".to_string()))?;
        if me != 0 && uid != me {
            return Err(never(format!("not permitted: it belongs to user {uid}")));
        }
        let name = process.name();
        if process.is_64_bit() {
            let text = format!("{name} is a 64-bit program; only 32-bit x86 (i386) programs can be checkpointed");
            // A `selfckpt restart` becomes the program.
            let may_pass = process.exe().is_some_and(|exe| exe.file_name() == Some(OsStr::new("selfckpt")));
            return Err(Refusal { text, may_pass });
        }
        // The loader has not come to the library yet, or the library not to its handler. While a restart replaces
        // the address space there is no environment to be seen.
        let preloaded = process
            .variable("LD_PRELOAD")
            .is_some_and(|value| value.windows(LIBRARY.len()).any(|part| part == LIBRARY.as_bytes()))
            || process.has_no_environment();
        match process.runs_library() {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("{name} does not run libselfckpt.so; start it by 'selfckpt run' or with LD_PRELOAD");
                return Err(Refusal { text, may_pass: preloaded || supervised });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(never("it has ended".to_string())),
            Err(error) => return Err(never(format!("cannot see whether {name} runs libselfckpt.so: {error}"))),
        }
        let signal = process
            .variable("SELFCKPT_SIGNAL")
            .and_then(|value| settings::parse_signal(&value))
            .unwrap_or(settings::DEFAULT_SIGNAL);
        if !settings::contains(process.caught(), signal) {
            let text = format!(
                "{name} has no handler for its checkpoint signal {}; it ends, or does not run under libselfckpt.so \
                 any more",
                signal_name(signal)
            );
            return Err(Refusal { text, may_pass: preloaded || supervised });
        }
        Ok(Target { process, signal, uid })
    }

    /// The program behind a `selfckpt run` or `restart`, whose pid a script has at hand: directly, or behind the init
    /// of its pid namespace. That one may have other children by now; the program is the oldest.
    fn behind_command(process: &Process) -> Option<Process> {
        let command = std::env::current_exe().ok()?;
        let mut found = None;
        let mut place = Process::find(process.pid)?;
        for _ in 0..2 {
            let exe = place.exe()?;
            if exe != command && exe.file_name()? != "selfckpt" {
                break;
            }
            place = place.children().into_iter().find_map(Process::find)?;
            found = Some(place.pid);
        }
        found.and_then(Process::find)
    }
}

fn reply_text(reply: &Reply) -> &[u8] {
    reply.text.get(..reply.text_len.get() as usize).unwrap_or(&reply.text)
}

/// The process that writes the image while the program goes on, once it has been heard of.
enum Writer {
    Watched(OwnedFd),
    /// What it had to say before is in the socket.
    Ended,
}

/// What a look into the socket has given.
enum Received {
    Nothing,
    /// Not the last word.
    Something,
    Done(Box<Reply>),
}

/// A request on its way.
struct Request<'a> {
    target: &'a Target,
    token: Token,
    stop: bool,
    socket: UnixDatagram,
    pidfd: OwnedFd,
    writer: Option<Writer>,
    timeout: Duration,
    started: Instant,
    asked: Instant,
    heard: bool,
    /// The user was told why there is no answer.
    explained: bool,
    progress: Progress,
}

impl<'a> Request<'a> {
    fn fail(&self, text: impl std::fmt::Display) -> Failure {
        Failure::failed(format!("cannot checkpoint process {}: {text}", self.target.process.pid))
    }

    fn send(target: &'a Target, stop: bool, timeout: Duration, progress: Progress) -> Result<Request<'a>, Failure> {
        let pid = target.process.pid;
        let fail = |what: &str, error: io::Error| {
            Failure::failed(format!("cannot checkpoint process {pid}: cannot {what}: {error}"))
        };
        let pidfd = system::pidfd_open(pid).map_err(|error| fail("watch it", error))?;
        let (token, socket) = bind(stop).map_err(|error| fail("bind a socket for its answer", error))?;
        system::pass_credentials(&socket).map_err(|error| fail("set up the socket for its answer", error))?;
        let now = Instant::now();
        let request = Request {
            target,
            token,
            stop,
            socket,
            pidfd,
            writer: None,
            timeout,
            started: now,
            asked: now,
            heard: false,
            explained: false,
            progress,
        };
        request.ask(false)?;
        Ok(request)
    }

    /// The first time by a signal to the first thread, if that one takes it: of a signal to the process the kernel may
    /// wake one thread and have another take it, which ends some waits of the first (`epoll_wait`) with EINTR.
    fn ask(&self, again: bool) -> Result<(), Failure> {
        let Target { process, signal, .. } = self.target;
        let has_ended = || process.status("State").is_none_or(|state| state.starts_with('Z'));
        let thread = (!again && !settings::contains(process.blocked(), *signal) && !has_ended()).then_some(process.pid);
        system::queue_signal(process.pid, thread, *signal, self.token.0)
            .map_err(|error| self.fail(format_args!("cannot send signal {}: {error}", signal_name(self.target.signal))))
    }

    fn wait(mut self) -> Result<Reply, Failure> {
        loop {
            let left = self.timeout.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                let why = self.obstacle().map_or(String::new(), |why| format!(" ({why})"));
                return Err(self.fail(format_args!(
                    "not done within {} seconds{why}; the process goes on, and a checkpoint that has begun is \
                     finished",
                    self.timeout.as_secs()
                )));
            }
            let until_ask = if self.heard { left } else { ASK_AGAIN.saturating_sub(self.asked.elapsed()) };
            let (writer, until_ask) = match &self.writer {
                Some(Writer::Watched(pidfd)) => (pidfd.as_raw_fd(), until_ask),
                Some(Writer::Ended) => (NO_DESCRIPTOR, Duration::ZERO),
                None => (NO_DESCRIPTOR, until_ask),
            };
            let fds = [self.socket.as_raw_fd(), self.pidfd.as_raw_fd(), writer];
            let [_, ended, written] = system::poll_readable(fds, left.min(until_ask))
                .map_err(|error| self.fail(format_args!("cannot wait for its answer: {error}")))?;
            let written = written || matches!(self.writer, Some(Writer::Ended));
            // Who has ended may have answered just before.
            match self.receive()? {
                Received::Done(reply) => return self.finish(*reply),
                Received::Something => continue,
                Received::Nothing => {}
            }
            if ended {
                return Err(self.fail("it has ended before the checkpoint was written"));
            }
            if written {
                return Err(self.fail("the process that wrote the image was killed; the program goes on"));
            }
            if !self.heard && self.asked.elapsed() >= ASK_AGAIN {
                self.asked = Instant::now();
                if let Some(why) = self.obstacle().filter(|_| !self.explained) {
                    crate::complain(format!("waiting for process {}: {why}", self.target.process.pid));
                    self.explained = true;
                }
                // Still ours: a pid that was reused would have made the descriptor readable.
                if settings::contains(self.target.process.caught(), self.target.signal) {
                    self.ask(true)?;
                }
            }
        }
    }

    /// Why a process that lives does not answer, if that can be seen.
    fn obstacle(&self) -> Option<String> {
        let process = &self.target.process;
        if process.status("State").unwrap_or_default().starts_with(['T', 't']) {
            return Some("it is stopped: continue it".to_string());
        }
        let signal = self.target.signal;
        let blocked = process.blocked();
        // Who blocks even what libc lets nobody block is in a checkpoint.
        let by_itself = settings::contains(blocked, signal) && !settings::contains(blocked, settings::SIGSETXID);
        by_itself.then(|| {
            let name = signal_name(signal);
            format!("it blocks signal {name}: choose one that it leaves alone by SELFCKPT_SIGNAL when it is started")
        })
    }

    /// Takes one datagram, if there is one.
    fn receive(&mut self) -> Result<Received, Failure> {
        let mut buf = [0u8; size_of::<Reply>()];
        let (len, sender) = match system::receive(&self.socket, &mut buf) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Received::Nothing);
            }
            Err(error) => return Err(self.fail(format_args!("cannot receive its answer: {error}"))),
        };
        // Anybody on this machine can send to an abstract socket.
        let Some(sender) = sender.filter(|sender| sender.uid == self.target.uid || sender.uid == 0) else {
            return Ok(Received::Something);
        };
        // The text may be cut to what there is of it.
        let fixed = std::mem::offset_of!(Reply, text);
        let Ok(reply) = Reply::read_from_bytes(&buf) else { return Ok(Received::Something) };
        if len < fixed || reply.magic.get() != REPLY_MAGIC {
            return Ok(Received::Something);
        }
        self.heard = true;
        match reply.status.get() {
            status::PROGRESS => {
                self.progress.show(self.target.process.pid, &reply);
                Ok(Received::Something)
            }
            // Where its pid means nothing here, the answer is all that is heard of it.
            status::WRITER if sender.pid != 0 => {
                self.writer = Some(system::pidfd_open(sender.pid).map_or(Writer::Ended, Writer::Watched));
                Ok(Received::Something)
            }
            status::DONE => Ok(Received::Done(Box::new(reply))),
            status::FAILED => {
                self.progress.clear();
                Err(self.fail(decode::text(reply_text(&reply))))
            }
            _ => Ok(Received::Something),
        }
    }

    fn finish(mut self, reply: Reply) -> Result<Reply, Failure> {
        self.progress.clear();
        if !self.stop {
            return Ok(reply);
        }
        loop {
            let left = self.timeout.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                let path = decode::text(reply_text(&reply));
                return Err(Failure::failed(format!(
                    "process {} has written {path}, but has not ended within {} seconds",
                    self.target.process.pid,
                    self.timeout.as_secs()
                )));
            }
            match system::poll_readable([self.pidfd.as_raw_fd()], left) {
                Ok([false]) => {}
                Ok([true]) => return Ok(reply),
                Err(error) => return Err(self.fail(format_args!("cannot wait for its end: {error}"))),
            }
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

/// Binds the address of a fresh token.
fn bind(stop: bool) -> io::Result<(Token, UnixDatagram)> {
    let mut tries = 0;
    loop {
        let token = Token::new(random(), stop);
        let address = control::reply_address(token);
        let address = SocketAddr::from_abstract_name(address.strip_suffix(b"\0").unwrap_or(&address))?;
        match UnixDatagram::bind_addr(&address) {
            Ok(socket) => return Ok((token, socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 16 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// 24 random bits. The standard library seeds its hash maps from the kernel.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    (RandomState::new().build_hasher().finish() & 0xff_ffff) as u32
}

/// How far the image is: one line that changes on a terminal, a line now and then elsewhere, an object a line with
/// `--json`. All of it on standard error.
struct Progress {
    terminal: bool,
    json: bool,
    shown: bool,
    next: Instant,
}

impl Progress {
    /// Between two lines, and before the first: of a quick checkpoint nothing is shown.
    const INTERVAL: Duration = Duration::from_secs(2);

    fn new(json: bool) -> Progress {
        let terminal = io::stderr().is_terminal() && !json;
        Progress { terminal, json, shown: false, next: Instant::now() + Self::INTERVAL }
    }

    fn show(&mut self, pid: u32, reply: &Reply) {
        let (done, all) = (reply.bytes.get(), reply.bytes_expected.get());
        if done == 0 || (!self.terminal && Instant::now() < self.next) {
            return;
        }
        self.next = Instant::now() + Self::INTERVAL;
        if self.json {
            let object = json!({"pid": pid, "bytes": done, "bytes_expected": all});
            let _ = writeln!(io::stderr(), "{object}");
            return;
        }
        let line = Self::line(pid, done, all);
        if self.terminal {
            // Back to the start of the line, the rest of which is erased.
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
            self.shown = true;
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn line(pid: u32, done: u64, all: u64) -> String {
        let percent = if all == 0 { 0.0 } else { (done as f64 / all as f64 * 100.0).min(100.0) };
        format!("selfckpt: process {pid}: {} of about {} ({percent:.0} %)", decode::size(done), decode::size(all))
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_words() {
        let line = Progress::line(42, 1 << 29, 1 << 30);
        assert!(line.starts_with("selfckpt: process 42: 512") && line.ends_with("(50 %)"), "{line}");
        assert!(Progress::line(1, 5, 0).ends_with("(0 %)"));
        assert!(Progress::line(1, 5, 4).ends_with("(100 %)"));
    }
}
