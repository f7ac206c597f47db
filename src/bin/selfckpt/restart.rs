//! [NORMAL] `selfckpt restart`: chooses the image and becomes its program. The library inside, when
//! it is loaded, finds SELFCKPT_RESTART and puts the image back in place of what was started.

use crate::clocks::{self, Clocks};
use crate::failure::{FAILED, Failure, NOT_EXECUTABLE, NOT_FOUND, Outcome};
use crate::identity::{self, Child, Ids, Wish};
use crate::program::{self, Environment};
use crate::supervise::{self, News};
use crate::system::{self, Change, SignalMask, Strings};
use crate::verb::{Arguments, Operands, Opt, Verb};
use crate::{complain, decode, process, verify};
use selfckpt::catalog::{self, Chosen};
use selfckpt::format::Image;
use selfckpt::format::files::data_kind;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub const VERB: Verb = Verb {
    name: "restart",
    synopsis: "[options] IMAGE|DIR",
    summary: "restarts a program from an image",
    description: &[
        "Starts the program of the image again and puts it into the state that the image holds. Where this system lets \
         it, the program has the pid that it had; this command then waits for it, passes on the signals that it gets \
         itself, ends as the program ends, and takes the program with it when it is killed. Else this command becomes \
         the program. A directory stands for the newest image in it that is whole, \
         DIR/NAME for the newest of that job; newer images that are damaged are named and passed over.",
        "Standard input, output and error that were a terminal, or a pipe or socket to the outside, become those of \
         this command. Regular files are opened again by their path, and output files are cut back to the length \
         that they had.",
        "The image stays as it is: it can be restarted as often as wanted.",
    ],
    options: &[
        Opt {
            short: None,
            long: "stdio",
            value: Some("inherit"),
            help: "Standard input, output and error become those of this command whatever they were.",
        },
        PID,
        LOG,
        VERBOSE,
        QUIET,
    ],
    operands: Operands { least: 1, most: 1, rest_is_raw: false },
    exit_status: &[
        "75   the restart failed for a reason that may pass: a file system is not mounted, the job runs, no room",
        "125  there is no image that can be restarted here; the program has not run",
        "126  the program can no longer be executed",
        "127  the program is gone",
        "Otherwise the program's own.",
    ],
    examples: &["selfckpt restart ckpt", "selfckpt restart ckpt/app.000003.ckpt"],
    run,
};

pub const PID: Opt = Opt {
    short: None,
    long: "pid",
    value: Some("same|new|auto"),
    help: "'same': the restarted program has the pid and the thread ids that it had, if need be in a user and pid \
           namespace of its own, or the restart fails; 'new': it has new ones, and takes the place of this command, \
           unless it leads a session with a terminal of its own; \
           'auto': the same where this system allows it. As SELFCKPT_PID. Without: auto.",
};
pub const LOG: Opt = Opt {
    short: None,
    long: "log",
    value: Some("LEVEL|FILE|LEVEL:FILE"),
    help: "How much the library tells: error, warn, info or debug, and where: to FILE instead of standard error. A \
           FILE alone stands for info:FILE. Without this option: warnings and errors.",
};
pub const VERBOSE: Opt =
    Opt { short: Some('v'), long: "verbose", value: None, help: "Tell more: --log info; twice: --log debug." };
pub const QUIET: Opt = Opt { short: Some('q'), long: "quiet", value: None, help: "Tell errors only: --log error." };

fn run(arguments: &Arguments) -> Outcome {
    let stdio = arguments.value("stdio");
    if stdio.is_some_and(|value| value != "inherit") {
        return Err(Failure::usage("option '--stdio' takes 'inherit' only (see 'selfckpt help restart')"));
    }
    let log = log_setting(arguments)?;
    let chosen = catalog::resolve(Path::new(&arguments.operands[0]))
        .map_err(|error| Failure::failed(format!("cannot restart: {error}")))?;
    skipped(&chosen).for_each(complain);
    check_owner(&chosen)?;
    let mut env = Environment::new(chosen.image.env());
    forget_settings(&mut env);
    if let Some(log) = log {
        env.set("SELFCKPT_LOG", log);
    }
    match stdio {
        Some(value) => env.set("SELFCKPT_STDIO", value),
        None => env.remove("SELFCKPT_STDIO"),
    }
    let wish = pid_wish(arguments, &chosen.image)?;
    let start = Start::from_image(&chosen, env)?;
    let ids = Ids::of(&chosen.image);
    let held = supervise::held_signals(start.env());
    // What leads a process group, as this command does in a shell, cannot make a session.
    let apart = leads_session(&chosen.image) && system::leads_group();
    drop(chosen);
    let started = match start_with_ids(&start, &ids, wish, arguments.has("quiet"))? {
        Started::NotYet if apart => Started::Supervised(spawn(&start, None)?),
        started => started,
    };
    if let Started::Supervised(child) = started {
        return match supervise::until_end(&child, held, News::new(Vec::new(), false))?.change {
            Change::Killed(signal) => {
                system::die_by(signal);
                Ok(128 + signal as u8)
            }
            Change::Exited(status) => Ok(status),
            Change::Stopped(_) | Change::Continued => Ok(FAILED), // until_end returns none of them
        };
    }
    keep_signals();
    Err(start.exec())
}

/// Whether the program makes a session of its own, with a terminal that is its own as well.
fn leads_session(image: &Image) -> bool {
    image.files.iter().any(|entry| entry.data_of(data_kind::PTY_CONTROLS).next().is_some())
}

/// Blocks every signal in this process, for the program of an image, which begins so: what comes before its own masks are
/// in place waits for it, and does not end it.
fn keep_signals() -> SignalMask {
    system::block_signals(u64::MAX)
}

/// Starts the program as a child: that of an image, or a new one, which has the signal mask that this command was given.
pub fn spawn(start: &Start, mask: Option<&SignalMask>) -> Result<Child, Failure> {
    keep_signals();
    let pid = system::spawn(mask, || {
        let failure = start.exec();
        complain(failure.to_string());
        failure.status
    })
    .map_err(|error| Failure::failed(format!("cannot start a process: {error}")))?;
    Ok(Child::own(pid))
}

/// What the user wants of the pid: by option, variable, or as the program was started.
pub fn pid_wish(arguments: &Arguments, image: &Image) -> Result<Wish, Failure> {
    if let Some(value) = arguments.value("pid") {
        return Wish::parse(value.as_bytes()).filter(|_| !value.is_empty()).ok_or_else(|| {
            let value = value.to_string_lossy();
            Failure::usage(format!("'--pid {value}' is not 'same', 'new' or 'auto'"))
        });
    }
    let of_image = Environment::new(image.env());
    let given = std::env::var_os("SELFCKPT_PID").map(OsString::into_encoded_bytes);
    let value = given.as_deref().or_else(|| of_image.get("SELFCKPT_PID")).unwrap_or_default();
    Wish::parse(value).ok_or_else(|| {
        let value = String::from_utf8_lossy(value);
        Failure::failed(format!("SELFCKPT_PID={value}: not 'same', 'new' or 'auto'"))
    })
}

pub enum Started {
    /// As a process that has the ids of the image; every signal is blocked in this one.
    Supervised(Child),
    /// Not started: it may have new ids.
    NotYet,
}

/// Starts the program of an image with the ids that it had, as far as wanted and possible.
pub fn start_with_ids(start: &Start, ids: &Ids, wish: Wish, quiet: bool) -> Result<Started, Failure> {
    if wish == Wish::New {
        return Ok(Started::NotYet);
    }
    let mask = keep_signals();
    let reason = match identity::start(start, ids) {
        Ok(child) => return Ok(Started::Supervised(child)),
        Err(reason) => reason,
    };
    if wish == Wish::Same {
        return Err(Failure::failed(format!(
            "cannot restart {} with the pid that it had: {reason}; --pid new gives it another",
            start.shown()
        )));
    }
    if !quiet {
        complain(format!("{} gets a new pid: {reason}", start.shown()));
    }
    system::set_mask(&mask);
    Ok(Started::NotYet)
}

/// Variables of the process that becomes the program by which a restart changes the settings that are in the image.
pub const SETTINGS: [&str; 6] =
    ["SELFCKPT_EVERY", "SELFCKPT_MTBF", "SELFCKPT_KEEP", "SELFCKPT_STOP_CODE", "SELFCKPT_CHILDREN", "SELFCKPT_SOCKETS"];

/// The environment of an image tells how its program was started, which a restart since may have changed.
pub fn forget_settings(env: &mut Environment) {
    SETTINGS.iter().for_each(|variable| env.remove(variable));
}

/// Value for SELFCKPT_LOG from `--log`, `-v` and `-q`: `LEVEL` or `LEVEL:/absolute/file`.
pub fn log_setting(arguments: &Arguments) -> Result<Option<OsString>, Failure> {
    let chosen = match (arguments.has("quiet"), arguments.count("verbose")) {
        (true, 0) => Some("error"),
        (true, _) => return Err(Failure::usage("options '--quiet' and '--verbose' exclude each other")),
        (false, 0) => None,
        (false, 1) => Some("info"),
        (false, _) => Some("debug"),
    };
    let Some(value) = arguments.value("log") else { return Ok(chosen.map(OsString::from)) };
    let bytes = value.as_bytes();
    let (first, rest) = match bytes.iter().position(|&b| b == b':') {
        Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
        None => (bytes, None),
    };
    let named = ["error", "warn", "info", "debug"].into_iter().find(|level| level.as_bytes() == first);
    let file = if named.is_some() { rest } else { Some(bytes) };
    if file.is_some_and(<[u8]>::is_empty) {
        return Err(Failure::usage("option '--log' needs a value: LEVEL, FILE or LEVEL:FILE"));
    }
    let mut setting = OsString::from(chosen.or(named).unwrap_or("info"));
    if let Some(file) = file {
        let file = Path::new(OsStr::from_bytes(file));
        let file = std::path::absolute(file)
            .map_err(|error| Failure::failed(format!("cannot log to {}: {error}", file.display())))?;
        setting.push(":");
        setting.push(file);
    }
    Ok(Some(setting))
}

/// Which newer images were passed over.
pub fn skipped(chosen: &Chosen) -> impl Iterator<Item = String> + '_ {
    chosen.skipped.iter().map(|(path, reason)| format!("passing over {}: {reason}", path.display()))
}

/// An image runs with the rights of whoever restarts it, so it must be that user's own.
pub fn check_owner(chosen: &Chosen) -> Result<(), Failure> {
    let me = system::real_uid();
    let owner = chosen.file.metadata().map(|meta| meta.uid());
    let path = chosen.path.display();
    let owner = owner.map_err(|error| Failure::failed(format!("cannot look at {path}: {error}")))?;
    let task = chosen.image.task.uid.get();
    if owner != me && owner != 0 {
        return Err(Failure::failed(format!(
            "cannot restart {path}: the file belongs to user {owner} and this is user {me}; restart it as user {owner}"
        )));
    }
    if task != me {
        return Err(Failure::failed(format!(
            "cannot restart {path}: the program ran as user {task} and this is user {me}; restart it as user {task}"
        )));
    }
    Ok(())
}

/// A program that is ready to be executed.
pub struct Start {
    is_restart: bool,
    path: std::ffi::CString,
    shown: String,
    args: Strings,
    env: Environment,
    /// Of the image.
    clocks: Option<Clocks>,
}

impl Start {
    pub fn new<T: AsRef<OsStr>>(path: &Path, args: &[T], env: &Environment) -> Start {
        Start {
            is_restart: env.get("SELFCKPT_RESTART").is_some(),
            path: system::c_path(path),
            shown: path.display().to_string(),
            args: Strings::new(args),
            env: env.clone(),
            clocks: None,
        }
    }

    /// The program of an image, set to be restarted from it.
    pub fn from_image(chosen: &Chosen, mut env: Environment) -> Result<Start, Failure> {
        let image = &chosen.image;
        let exe = Path::new(OsStr::from_bytes(&image.exe));
        program::check(exe, "restart")?;
        // The library checks again: it may be asked without this command. Warnings are its to give.
        if let Some(problem) = verify::machine_problems(image).into_iter().find(|problem| problem.fatal) {
            let path = chosen.path.display();
            return Err(Failure::failed(format!("cannot restart {path} on this machine: {}", problem.text)));
        }
        let path = chosen
            .path
            .canonicalize()
            .map_err(|error| Failure::failed(format!("cannot restart {}: {error}", chosen.path.display())))?;
        env.preload(&program::find_library()?);
        env.set("SELFCKPT_RESTART", &path);
        process::clear_stale_lock(&path.with_file_name(catalog::lock_file_name(&image.name)));
        let args: Vec<_> = image.args();
        let args: Vec<&OsStr> = args.iter().map(|arg| OsStr::from_bytes(arg)).collect();
        Ok(Start { clocks: Clocks::of(image), ..Start::new(exe, &args, &env) })
    }

    /// What it is called in messages.
    pub fn shown(&self) -> String {
        decode::quote(self.shown.as_bytes())
    }

    pub fn env(&self) -> &Environment {
        &self.env
    }

    /// Has children of this process see the clocks of the image go on, where that is possible. Where it is not, the
    /// library warns of clocks that go back.
    pub fn continue_clocks(&self) -> Option<clocks::Before> {
        self.clocks?.begin().ok()
    }

    pub fn is_restart(&self) -> bool {
        self.is_restart
    }

    /// Becomes the program. Returns only if that fails.
    pub fn exec(&self) -> Failure {
        self.exec_with(&[])
    }

    /// The same, with more variables in its environment.
    pub fn exec_with(&self, more: &[(&str, String)]) -> Failure {
        let mut env = self.env.clone();
        for (name, value) in more {
            env.set(name, value);
        }
        let error = system::exec(&self.path, &self.args, &Strings::new(env.strings()));
        let status = match error.raw_os_error() {
            Some(libc::ENOENT) => NOT_FOUND,
            Some(libc::EACCES | libc::ENOEXEC | libc::ETXTBSY | libc::ELOOP) => NOT_EXECUTABLE,
            _ => FAILED,
        };
        // The file was there a moment ago: what is missing is the loader that it names.
        let hint = if status == NOT_FOUND { " (or its dynamic loader is missing)" } else { "" };
        Failure::new(status, format!("cannot execute {}: {error}{hint}", decode::quote(self.shown.as_bytes())))
    }
}
