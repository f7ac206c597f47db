//! [NORMAL] `selfckpt run`: starts a program with the library, or resumes it from its newest image,
//! and waits for it. What it does with signals and the exit status makes it look as if it had
//! become the program.

use crate::batch;
use crate::failure::{FAILED, Failure, MAY_PASS, NOT_EXECUTABLE, NOT_FOUND, Outcome};
use crate::identity::{Ids, Wish};
use crate::process;
use crate::program::{self, Environment, Program};
use crate::restart::{self, LOG, PID, QUIET, Start, Started, VERBOSE};
use crate::supervise::{self, News, held_signals};
use crate::system::{self, Change, Lock};
use crate::verb::{Arguments, Operands, Opt, Verb};
use crate::{complain, decode};
use selfckpt::catalog::{self, CatalogError, Chosen};
use selfckpt::format::Image;
use selfckpt::settings;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

pub const VERB: Verb = Verb {
    name: "run",
    synopsis: "[options] [--] PROG [ARGS...]",
    summary: "runs a program so that it can be checkpointed, or resumes it",
    description: &[
        "Runs PROG, a dynamically linked 32-bit x86 program, with libselfckpt.so. Where DIR holds images of this job, \
         the program is resumed from the newest one that is whole, and a line says so: the same command, given as \
         often as needed, carries a program through to its end.",
        "Images of another program, or of other arguments, under the same name are an error, and so are images none \
         of which can be read: a program is never silently started from its beginning while images exist.",
        "The command waits for the program, passes on the signals that it gets itself, and ends as the program ends. \
         If it is killed, so is the program. When the program has ended by itself, its images are removed; they stay \
         after a death by a signal, after the stop code, and after exit status 125, 126 and 127, or 75 of a restart \
         that failed.",
    ],
    options: &[
        Opt {
            short: None,
            long: "dir",
            value: Some("DIR"),
            help: "Where the images go; created with mode 0700. %n is the program's base name, %j the batch system's \
                   job id, %a the index in a job array (0 outside of one), %r the rank (0 for a single process), %% a \
                   percent sign. As SELFCKPT_DIR. Without: the working directory.",
        },
        Opt {
            short: None,
            long: "name",
            value: Some("NAME"),
            help: "Name of the job: its images are DIR/NAME.000001.ckpt and so on. %n, %j, %a, %r, %% as for --dir. \
                   As SELFCKPT_NAME. Without: the base name of PROG.",
        },
        Opt {
            short: None,
            long: "every",
            value: Some("T"),
            help: "Take a checkpoint every T of running time: a number of seconds, or with s, m, h or d (90, 10m, 2h). \
                   'auto' chooses the period by Young and Daly's formula, from the time for which checkpoints turn \
                   out to stop the program and from --mtbf. As SELFCKPT_EVERY. Without: only when asked.",
        },
        Opt {
            short: None,
            long: "mtbf",
            value: Some("T"),
            help: "For --every auto: how long the machine runs from one failure to the next, on average. As \
                   SELFCKPT_MTBF. Without: 24h.",
        },
        Opt {
            short: None,
            long: "keep",
            value: Some("N"),
            help: "Keep the N newest images. As SELFCKPT_KEEP. Without: 2.",
        },
        Opt {
            short: None,
            long: "signal",
            value: Some("SIG"),
            help: "Take a checkpoint on this signal and go on: a name with or without SIG, RTMIN+3, or a number. As \
                   SELFCKPT_SIGNAL. Without: USR2.",
        },
        Opt {
            short: None,
            long: "stop-signal",
            value: Some("SIG[,SIG...]"),
            help: "Take a checkpoint on one of these signals, then exit with the stop code. As SELFCKPT_STOP_SIGNAL. \
                   Without: none.",
        },
        Opt {
            short: None,
            long: "stop-code",
            value: Some("N"),
            help: "Exit status after checkpoint-and-stop, 1 to 255. As SELFCKPT_STOP_CODE. Without: 85.",
        },
        Opt {
            short: None,
            long: "children",
            value: Some("ignore"),
            help: "Take checkpoints although the program has live children; they are not in the image. As \
                   SELFCKPT_CHILDREN. Without: such a checkpoint fails and names them.",
        },
        Opt {
            short: None,
            long: "sockets",
            value: Some("fail"),
            help: "Take no checkpoint while the program has a connection to another process. As SELFCKPT_SOCKETS. \
                   Without: after a restart such a connection has been reset by its peer.",
        },
        Opt { short: None, long: "fresh", value: None, help: "Start over: remove the job's images first." },
        Opt { short: None, long: "restart-only", value: None, help: "Fail if there is nothing to resume." },
        Opt {
            short: None,
            long: "keep-images",
            value: None,
            help: "Leave the images where they are when the program has ended.",
        },
        Opt {
            short: None,
            long: "stdio",
            value: Some("inherit"),
            help: "When resuming, have standard input, output and error become those of this command whatever they \
                   were.",
        },
        PID,
        LOG,
        VERBOSE,
        QUIET,
    ],
    operands: Operands { least: 1, most: usize::MAX, rest_is_raw: true },
    exit_status: &[
        "85   (or the stop code) checkpointed and stopped: run again to go on",
        "75   the program could not be resumed for a reason that may pass: a file system is not mounted, the job runs \
         elsewhere, no room; its images stay",
        "125  selfckpt itself failed: the program has not run, or could not be resumed",
        "126  the program was found but cannot be executed",
        "127  the program was not found",
        "Otherwise the program's own; if it was killed by a signal, this command is too.",
    ],
    examples: &[
        "selfckpt run --dir ckpt --every 15m -- ./app input",
        "exec selfckpt run --dir ckpt --stop-signal USR1,TERM -- ./app input",
    ],
    run,
};

fn run(arguments: &Arguments) -> Outcome {
    let settings = Settings::from_arguments(arguments)?;
    let typed = &arguments.operands[0];
    let program = program::check(&program::find(typed)?, "run")?;
    let job = Job::new(arguments, typed)?;
    job.refuse_foreign()?;
    job.refuse_if_running()?;
    // From here on the program's signals are kept for it, even while a large image is read.
    let mut env = Environment::current();
    settings.put_into(&mut env, &job);
    let mask = system::block_signals(held_signals(&env));
    let command = Command { program: &program, args: &arguments.operands };
    if arguments.has("fresh") {
        job.remove_images()?;
    }
    let resumed = job.newest_image()?;
    let mut news = Vec::new();
    let (start, env, ids) = match &resumed {
        Some(chosen) => {
            command.check_same(chosen, &job)?;
            let mut env = Environment::new(chosen.image.env());
            news.extend(settings.resume_with(&mut env, &job));
            let start = Start::from_image(chosen, env.clone())?;
            news.extend(restart::skipped(chosen));
            if !arguments.has("quiet") {
                news.push(resuming(typed, chosen));
            }
            let wish = restart::pid_wish(arguments, &chosen.image)?;
            (start, env, Some((wish, Ids::of(&chosen.image))))
        }
        None if arguments.has("restart-only") => {
            return Err(Failure::failed(format!(
                "cannot resume {}: no image of {} in {}",
                typed.to_string_lossy(),
                job.shown(),
                job.given.display()
            )));
        }
        None => {
            env.remove("SELFCKPT_RESTART");
            env.remove("SELFCKPT_STDIO");
            env.preload(&program::find_library()?);
            (Start::new(&program.path, &arguments.operands, &env), env, None)
        }
    };
    let saved_stop_code =
        resumed.and_then(|chosen| Environment::new(chosen.image.env()).get("SELFCKPT_STOP_CODE").map(<[u8]>::to_vec));
    let status_before = job.status();
    let news = News::new(news, start.is_restart());
    let started = match ids {
        Some((wish, ids)) => restart::start_with_ids(&start, &ids, wish, arguments.has("quiet"))?,
        None => Started::NotYet,
    };
    let child = match started {
        Started::Supervised(child) => child,
        Started::NotYet => restart::spawn(&start, (!start.is_restart()).then_some(&mask))?,
    };
    let end = supervise::until_end(&child, held_signals(&env), news)?;
    let stop_code = env
        .get("SELFCKPT_STOP_CODE")
        .or(saved_stop_code.as_deref())
        .and_then(settings::parse_number)
        .map_or(settings::DEFAULT_STOP_CODE.into(), |code| code);
    match end.change {
        Change::Exited(status) => {
            // Of 125 to 127 it cannot be told whether the program has run at all.
            let failed = [FAILED, NOT_EXECUTABLE, NOT_FOUND].contains(&status) || status == MAY_PASS && !end.restored;
            let stopped = u64::from(status) == stop_code || job.has_stopped(status_before.as_deref());
            let over = !stopped && !failed;
            if over && !arguments.has("keep-images") {
                job.clear();
            } else if over {
                job.tell_end("ended", "exit_status", status.into());
            }
            Ok(status)
        }
        Change::Killed(signal) => {
            job.tell_end("killed", "signal", signal);
            system::die_by(signal);
            Ok(128 + signal as u8)
        }
        Change::Stopped(_) | Change::Continued => Ok(FAILED), // until_end returns none of them
    }
}

fn resuming(typed: &OsStr, chosen: &Chosen) -> String {
    let now = decode::epoch(SystemTime::now());
    format!(
        "resuming {} from {}, taken {}, generation {}",
        typed.to_string_lossy(),
        chosen.path.display(),
        decode::clock(chosen.image.header.time.get(), now),
        chosen.image.runtime.generation
    )
}

/// Options that become variables for the library.
struct Settings(Vec<(&'static str, OsString)>);

impl Settings {
    fn from_arguments(arguments: &Arguments) -> Result<Settings, Failure> {
        let mut out = Vec::new();
        let mut take = |long: &str, variable, good: fn(&[u8]) -> bool, what: &str| {
            let Some(value) = arguments.value(long) else { return Ok(()) };
            if !good(value.as_bytes()) {
                let value = value.to_string_lossy();
                return Err(Failure::usage(format!("'--{long} {value}' is not {what} (see 'selfckpt help run')")));
            }
            out.push((variable, value.to_os_string()));
            Ok(())
        };
        take(
            "every",
            "SELFCKPT_EVERY",
            |v| settings::parse_period(v).is_some(),
            "'auto' or a time such as 90, 90s, 10m or 2h, of 24 days at most",
        )?;
        take(
            "mtbf",
            "SELFCKPT_MTBF",
            |v| settings::parse_duration(v).is_some(),
            "a time such as 90, 90s, 10m, 2h or 3d",
        )?;
        take(
            "keep",
            "SELFCKPT_KEEP",
            |v| settings::parse_number(v).is_some_and(|n| (1..=u32::MAX.into()).contains(&n)),
            "a number of images, 1 at least",
        )?;
        take(
            "signal",
            "SELFCKPT_SIGNAL",
            |v| settings::parse_signal(v).is_some(),
            "a signal that a program can handle",
        )?;
        take(
            "stop-signal",
            "SELFCKPT_STOP_SIGNAL",
            |v| settings::parse_signal_list(v).is_some(),
            "a list of signals that a program can handle",
        )?;
        take(
            "stop-code",
            "SELFCKPT_STOP_CODE",
            |v| settings::parse_number(v).is_some_and(|n| (1..=255).contains(&n)),
            "an exit status from 1 to 255",
        )?;
        take("children", "SELFCKPT_CHILDREN", |v| v == b"ignore", "'ignore'")?;
        take("sockets", "SELFCKPT_SOCKETS", |v| v == b"fail" || v == b"reset", "'fail' or 'reset'")?;
        take("pid", "SELFCKPT_PID", |v| Wish::parse(v).is_some() && !v.is_empty(), "'same', 'new' or 'auto'")?;
        take("stdio", "SELFCKPT_STDIO", |v| v == b"inherit", "'inherit'")?;
        let every = option_or_variable(arguments, "every", "SELFCKPT_EVERY");
        if arguments.has("mtbf") && every.is_none_or(|every| every != "auto") {
            return Err(Failure::usage("option '--mtbf' is for '--every auto' only (see 'selfckpt help run')"));
        }
        if arguments.has("fresh") && arguments.has("restart-only") {
            return Err(Failure::usage("options '--fresh' and '--restart-only' exclude each other"));
        }
        if let Some(log) = restart::log_setting(arguments)? {
            out.push(("SELFCKPT_LOG", log));
        }
        Ok(Settings(out))
    }

    /// For a program that is resumed: it keeps the settings of its image but for those that are given now, by option or
    /// by variable. Answers what cannot be given to it any more.
    fn resume_with(&self, env: &mut Environment, job: &Job) -> Vec<String> {
        let given = |variable: &str| {
            let option = self.0.iter().find(|(name, _)| *name == variable).map(|(_, value)| value.clone());
            option.or_else(|| std::env::var_os(variable).filter(|value| !value.is_empty()))
        };
        let mut refused = Vec::new();
        let fixed = [("SELFCKPT_SIGNAL", "signal", "USR2"), ("SELFCKPT_STOP_SIGNAL", "stop-signal", "none")];
        for (variable, option, without) in fixed {
            let Some(value) = given(variable) else { continue };
            let saved = env.get(variable).unwrap_or(without.as_bytes());
            if settings::parse_signal_list(saved) != settings::parse_signal_list(value.as_bytes()) {
                refused.push(format!(
                    "--{option} {}: a resumed program keeps the one that it was started with: {}",
                    value.to_string_lossy(),
                    decode::text(saved)
                ));
            }
        }
        let saved: Vec<_> =
            ["SELFCKPT_SIGNAL", "SELFCKPT_STOP_SIGNAL"].map(|name| (name, env.get(name).map(<[u8]>::to_vec))).into();
        restart::forget_settings(env);
        for variable in restart::SETTINGS {
            if let Some(value) = given(variable) {
                env.set(variable, value);
            }
        }
        self.put_into(env, job);
        for (name, value) in saved {
            match value {
                Some(value) => env.set(name, OsStr::from_bytes(&value)),
                None => env.remove(name),
            }
        }
        refused
    }

    fn put_into(&self, env: &mut Environment, job: &Job) {
        env.remove("SELFCKPT_STDIO");
        env.set("SELFCKPT_DIR", batch::quote(job.dir.as_os_str().as_bytes()));
        env.set("SELFCKPT_NAME", batch::quote(&job.name));
        for (variable, value) in &self.0 {
            env.set(variable, value);
        }
    }
}

/// A name in a directory.
struct Job {
    /// The directory as it was given, for messages.
    given: PathBuf,
    /// Absolute.
    dir: PathBuf,
    name: Vec<u8>,
}

/// The option, or else the variable unless it is empty.
fn option_or_variable(arguments: &Arguments, long: &str, variable: &str) -> Option<OsString> {
    let option = arguments.value(long).map(OsStr::to_os_string);
    option.or_else(|| std::env::var_os(variable).filter(|value| !value.is_empty()))
}

impl Job {
    fn new(arguments: &Arguments, typed: &OsStr) -> Result<Job, Failure> {
        let program = Path::new(typed).file_name().unwrap_or_default();
        let name = match option_or_variable(arguments, "name", "SELFCKPT_NAME") {
            Some(name) => batch::expand(&name, Some(program))
                .map_err(|problem| Failure::failed(format!("--name {}: {problem}", name.to_string_lossy())))?,
            None => program.to_os_string(),
        };
        if !catalog::valid_name(name.as_bytes()) || name.len() > catalog::JOB_NAME_MAX {
            let text = format!(
                "'{}' cannot be the name of a job: 1 to {} bytes, no slash; set another by --name",
                name.to_string_lossy(),
                catalog::JOB_NAME_MAX
            );
            return Err(if arguments.has("name") { Failure::usage(text) } else { Failure::failed(text) });
        }
        let given = option_or_variable(arguments, "dir", "SELFCKPT_DIR").unwrap_or_else(|| ".".into());
        let given = batch::expand(&given, Some(program))
            .map_err(|problem| Failure::failed(format!("--dir {}: {problem}", given.to_string_lossy())))?;
        let given = PathBuf::from(given);
        let fail = |what: &str, error: std::io::Error| {
            let owner = given.metadata().map(|meta| meta.uid());
            let users = match (error.kind(), owner) {
                (std::io::ErrorKind::PermissionDenied, Ok(owner)) => {
                    format!(" (it belongs to user {owner} and this is user {})", system::real_uid())
                }
                _ => String::new(),
            };
            Failure::failed(format!("cannot {what} directory {} for images: {error}{users}", given.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&given).map_err(|error| fail("create", error))?;
        let dir = given.canonicalize().map_err(|error| fail("find", error))?;
        system::may_write_to(&dir).map_err(|error| fail("write to", error))?;
        Ok(Job { given, dir, name: name.as_bytes().to_vec() })
    }

    fn shown(&self) -> String {
        decode::text(&self.name)
    }

    fn lock_path(&self) -> PathBuf {
        self.given.join(catalog::lock_file_name(&self.name))
    }

    fn status_path(&self) -> PathBuf {
        self.given.join(catalog::status_file_name(&self.name))
    }

    /// Writes into the status file, if there is one, how the program has ended.
    fn tell_end(&self, state: &str, what: &str, number: u32) {
        let path = self.status_path();
        let Some(Value::Object(mut status)) =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())
        else {
            return;
        };
        status.insert("state".to_string(), state.into());
        status.insert("time".to_string(), decode::epoch(SystemTime::now()).into());
        status.insert(what.to_string(), number.into());
        let temporary = self.given.join(catalog::temporary_status_file_name(&self.name));
        // It is for whoever looks on; the exit status says it as well.
        let _ = std::fs::write(&temporary, format!("{}\n", Value::Object(status)))
            .and_then(|()| std::fs::rename(&temporary, &path));
    }

    fn status(&self) -> Option<Vec<u8>> {
        std::fs::read(self.status_path()).ok()
    }

    /// Whether the status file, of which this was the text before, says that the program has checkpointed and stopped.
    /// The stop code may be another than is known here, if an earlier resume has set it.
    fn has_stopped(&self, before: Option<&[u8]>) -> bool {
        let Some(now) = self.status().filter(|now| before != Some(now)) else { return false };
        serde_json::from_slice(&now).is_ok_and(|status: Value| status["state"] == "stopped")
    }

    /// The library makes sure of it; here it is told before anything runs.
    fn refuse_if_running(&self) -> Result<(), Failure> {
        /// A process that was killed just now takes a moment to let its files go.
        const ENDS_WITHIN: Duration = Duration::from_secs(1);
        let begin = Instant::now();
        loop {
            let Some(owner) = process::lock_owner(&self.lock_path()) else { return Ok(()) };
            if begin.elapsed() > ENDS_WITHIN {
                let (name, dir) = (self.shown(), self.given.display());
                let text = format!("a job of that name is running in {dir} (pid {owner}); use another --name or --dir");
                return Err(match catalog::scan(&self.given) {
                    Ok(entries) if entries.iter().any(|entry| entry.name == self.name) => Failure::new(
                        MAY_PASS,
                        format!("cannot resume {name} now: {text}, or try again when that one has ended"),
                    ),
                    _ => Failure::failed(format!("cannot run {name}: {text}")),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What belongs to another user cannot be resumed, nor even be read, as a rule.
    fn refuse_foreign(&self) -> Result<(), Failure> {
        let me = system::real_uid();
        let images = self.image_files().unwrap_or_default();
        for path in images.into_iter().chain([self.lock_path()]) {
            let Ok(owner) = std::fs::metadata(&path).map(|meta| meta.uid()) else { continue };
            if owner != me && (owner != 0 || File::open(&path).is_err()) {
                return Err(Failure::failed(format!(
                    "cannot run {}: {} belongs to user {owner} and this is user {me}; use another --name or --dir",
                    self.shown(),
                    path.display()
                )));
            }
        }
        Ok(())
    }

    fn newest_image(&self) -> Result<Option<Chosen>, Failure> {
        match catalog::newest_valid(&self.given, Some(&self.name)) {
            Ok(chosen) => Ok(Some(chosen)),
            Err(CatalogError::Empty { .. }) => Ok(None),
            Err(error @ CatalogError::NoneValid { .. }) => {
                Err(Failure::failed(format!("cannot resume {}: {error}; --fresh starts over", self.shown())))
            }
            Err(error) => Err(Failure::failed(format!("cannot resume {}: {error}", self.shown()))),
        }
    }

    /// The job's images and what is left of unfinished ones.
    fn image_files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        for file in std::fs::read_dir(&self.given)? {
            let file_name = file?.file_name();
            let bytes = file_name.as_bytes();
            let parsed = catalog::parse_image_file_name(bytes).or_else(|| catalog::parse_temporary_file_name(bytes));
            if parsed.is_some_and(|(name, _)| name == self.name) {
                out.push(self.given.join(file_name));
            }
        }
        Ok(out)
    }

    /// One that is being written may get its name while the directory is read: there is none when none is found twice.
    fn remove_images(&self) -> Result<(), Failure> {
        let mut empty = 0;
        while empty < 2 {
            empty = if self.remove_images_found()? { 0 } else { empty + 1 };
        }
        Ok(())
    }

    /// Whether there were any.
    fn remove_images_found(&self) -> Result<bool, Failure> {
        let fail = |path: &Path, error| Failure::failed(format!("cannot remove {}: {error}", path.display()));
        let files = self
            .image_files()
            .map_err(|error| Failure::failed(format!("cannot read directory {}: {error}", self.given.display())))?;
        for file in &files {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(file, error)),
                _ => {}
            }
        }
        Ok(!files.is_empty())
    }

    /// Removes the images of a job that is over, and its lock. The lock is taken for that time:
    /// where somebody else has it already, the job is no longer ours.
    fn clear(&self) {
        let path = self.lock_path();
        let lock = File::open(&path);
        let is_held = |file| match system::try_lock(file, Lock::Exclusive) {
            Ok(free) => !free,
            // A file system without locks.
            Err(_) => process::lock_owner(&path).is_some(),
        };
        if lock.as_ref().is_ok_and(is_held) {
            return;
        }
        if let Err(failure) = self.remove_images() {
            complain(failure.to_string());
        }
        let _ = std::fs::remove_file(self.status_path());
        if lock.is_ok() {
            // A lock that is gone already is as good.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// What was typed.
struct Command<'a> {
    program: &'a Program,
    args: &'a [OsString],
}

impl Command<'_> {
    /// Checks that an image is of this very command and user.
    fn check_same(&self, chosen: &Chosen, job: &Job) -> Result<(), Failure> {
        restart::check_owner(chosen)?;
        if self.is_of(&chosen.image) {
            return Ok(());
        }
        let image = &chosen.image;
        let there = decode::command_line(&image.args());
        let here: Vec<&[u8]> = self.args.iter().map(|arg| arg.as_bytes()).collect();
        let here = decode::command_line(&here);
        Err(Failure::failed(format!(
            "{} is of another command: it is of {there} ({}), this is {here} ({}); use --fresh to start over, or \
             another --name than {} or another --dir",
            chosen.path.display(),
            decode::text(&image.exe),
            self.program.exe.display(),
            job.shown()
        )))
    }

    fn is_of(&self, image: &Image) -> bool {
        let there = image.args();
        let here: Vec<&[u8]> = self.args[1..].iter().map(|arg| arg.as_bytes()).collect();
        let Some(split) = there.len().checked_sub(here.len()).filter(|&n| n > 0) else { return false };
        if there[split..] != here[..] {
            return false;
        }
        if self.program.is_script {
            // The interpreter, its options if it has any, and the script stand before; the
            // interpreter may have become another program (env).
            let script = self.program.path.as_os_str().as_bytes();
            return there[split - 1] == script;
        }
        let exe = self.program.exe.canonicalize().unwrap_or_else(|_| self.program.exe.clone());
        split == 1 && exe.as_os_str().as_bytes() == image.exe
    }
}
