//! [NORMAL] Waiting for the program in such a way that this command looks as if it had become the program: signals are
//! passed on, and so is a stop at the terminal.

use crate::complain;
use crate::failure::Failure;
use crate::identity::Child;
use crate::process::Process;
use crate::program::Environment;
use crate::system::{self, Arrived, Change};
use selfckpt::settings;
use std::time::{Duration, Instant};

/// Signals that the library waits for: they are passed on when it has a handler for them, not
/// before, when they would end the program.
pub fn held_signals(env: &Environment) -> u64 {
    let checkpoint = env.get("SELFCKPT_SIGNAL").and_then(settings::parse_signal).unwrap_or(settings::DEFAULT_SIGNAL);
    let stop = env.get("SELFCKPT_STOP_SIGNAL").and_then(settings::parse_signal_list).unwrap_or(0);
    stop | (1 << (checkpoint - 1))
}

/// How often a held signal is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// What is to be said about a resumed job. Standard error may be a file of the program's as well (that
/// of a batch job): a restart cuts it back to what it was, and with it what was said before.
pub struct News {
    lines: Vec<String>,
    since: Instant,
    /// The program is there: nothing was restored, or all is.
    restored: bool,
}

impl News {
    /// After this time at the latest.
    const PATIENCE: Duration = Duration::from_secs(60);

    pub fn new(lines: Vec<String>, resumes: bool) -> News {
        let mut news = News { lines, since: Instant::now(), restored: !resumes };
        if !system::stderr_is_file() {
            news.tell();
        }
        news
    }

    fn tell(&mut self) {
        self.lines.drain(..).for_each(complain);
    }

    fn is_waiting(&self) -> bool {
        !self.restored && self.since.elapsed() < Self::PATIENCE
    }

    /// Handlers are the last that a restart puts in place; a program that has just been executed has none. Before
    /// that, the process is a copy of this command, which has some of its runtime's, but not of these signals.
    fn look(&mut self, caught: u64, held: u64) {
        self.restored |= caught & held != 0;
        if !self.is_waiting() {
            self.tell();
        }
    }
}

/// How a program has ended.
pub struct End {
    pub change: Change,
    /// It was seen to be there, and not just about to be restored.
    pub restored: bool,
}

/// Waits until the program ends; every signal is blocked in this process.
pub fn until_end(child: &Child, held: u64, mut news: News) -> Result<End, Failure> {
    let mut waiting: Vec<Arrived> = Vec::new();
    let mut stopped = false;
    let mut arrived: Option<Arrived> = None;
    loop {
        // The child first: what is to be done with a signal depends on its state.
        while let Some(change) = child
            .change()
            .map_err(|error| Failure::failed(format!("cannot wait for process {}: {error}", child.pid)))?
        {
            match change {
                Change::Exited(_) | Change::Killed(_) => {
                    news.tell();
                    return Ok(End { change, restored: news.restored });
                }
                Change::Continued => stopped = false,
                Change::Stopped(signal) => {
                    stopped = true;
                    // Stopped by its terminal: so the shell must see this process stopped.
                    if matches!(signal as i32, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                        system::stop_self();
                    }
                }
            }
        }
        if let Some(arrived) =
            arrived.take().filter(|arrived| to_pass_on(arrived, stopped, || system::is_in_group(child.pid)))
        {
            if arrived.signal as i32 != libc::SIGCONT || stays_stopped(child.pid) {
                waiting.push(arrived);
            }
        }
        let caught = if waiting.is_empty() && !news.is_waiting() {
            0
        } else {
            Process::find(child.pid).map_or(0, |child| child.caught())
        };
        news.look(caught, held);
        waiting.retain(|arrived| {
            if settings::contains(held, arrived.signal) && !settings::contains(caught, arrived.signal) {
                return true;
            }
            // A child that is gone tells of it by SIGCHLD.
            let _ = match arrived.value {
                Some(value) => system::queue_signal(child.pid, None, arrived.signal, value),
                None => system::kill(child.pid, arrived.signal),
            };
            false
        });
        arrived = system::wait_for_signal((!waiting.is_empty() || news.is_waiting()).then_some(RETRY));
    }
}

/// Whether a program that was stopped still is: what a shell does to continue a job reaches the whole process group, and
/// this process maybe a moment before the program.
fn stays_stopped(pid: u32) -> bool {
    const MOMENT: Duration = Duration::from_millis(20);
    let begin = Instant::now();
    loop {
        let state = Process::find(pid).and_then(|child| child.status("State"));
        if state.is_none_or(|state| !state.starts_with(['T', 't'])) {
            return false;
        }
        if begin.elapsed() > MOMENT {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the program has not got the signal by itself.
fn to_pass_on(arrived: &Arrived, child_stopped: bool, in_group: impl FnOnce() -> bool) -> bool {
    match arrived.signal as i32 {
        libc::SIGCHLD => false,
        // After this process was stopped together with the program.
        libc::SIGCONT => child_stopped,
        // A hangup reaches the first process of the session only.
        libc::SIGHUP => true,
        // The rest that a terminal sends goes to the whole process group, which a program with a terminal of its own has left.
        _ => !arrived.by_kernel || !in_group(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_of_the_terminal_are_not_doubled() {
        let of = |signal: i32, by_kernel| Arrived { signal: signal as u32, by_kernel, value: None };
        let passed = |arrived: Arrived, stopped| to_pass_on(&arrived, stopped, || true);
        assert!(passed(of(libc::SIGTERM, false), false));
        assert!(passed(of(libc::SIGINT, false), false));
        assert!(!passed(of(libc::SIGINT, true), false));
        assert!(!passed(of(libc::SIGTSTP, true), false));
        assert!(to_pass_on(&of(libc::SIGINT, true), false, || false));
        assert!(passed(of(libc::SIGHUP, true), false));
        assert!(passed(of(libc::SIGCONT, false), true));
        assert!(!passed(of(libc::SIGCONT, false), false));
        assert!(!passed(of(libc::SIGCHLD, true), false));
    }

    #[test]
    fn held_signals_come_from_the_environment() {
        let mut env = Environment::default();
        assert_eq!(held_signals(&env), 1 << 11);
        env.set("SELFCKPT_SIGNAL", "HUP");
        env.set("SELFCKPT_STOP_SIGNAL", "USR1,TERM");
        assert_eq!(held_signals(&env), 1 | (1 << 9) | (1 << 14));
    }
}
