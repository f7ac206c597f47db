//! [NORMAL] selfckpt: the command line. One file per verb; each defines its options and its help.
#![deny(unsafe_code)]

mod batch;
mod checkpoint;
mod clocks;
mod core;
mod decode;
mod failure;
mod identity;
mod inspect;
mod inspect_attributes;
mod inspect_json;
mod list;
mod manual;
mod namespace;
mod process;
mod program;
mod restart;
mod run;
mod supervise;
mod system;
mod verb;
mod verify;

use failure::{Failure, Outcome};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use verb::{Request, Verb};

/// All verbs, in the order of the help text.
const VERBS: &[&Verb] =
    &[&run::VERB, &checkpoint::VERB, &restart::VERB, &inspect::VERB, &verify::VERB, &list::VERB, &core::VERB];

fn main() -> ExitCode {
    system::restore_sigpipe();
    match dispatch() {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            complain(failure.to_string());
            ExitCode::from(failure.status)
        }
    }
}

/// One line on stderr.
fn complain(text: impl AsRef<str>) {
    // Nobody can be told that stderr cannot be written.
    let _ = writeln!(std::io::stderr(), "selfckpt: {}", failure::plain(text.as_ref()));
}

/// Text to stdout.
fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(0),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}

fn dispatch() -> Outcome {
    let mut args = std::env::args_os().skip(1);
    let Some(first) = args.next() else {
        return Err(Failure::usage("no command is given (see 'selfckpt help')"));
    };
    let rest: Vec<OsString> = args.collect();
    match first.to_str() {
        Some("--help" | "-h") => print(&overview()),
        Some("--version" | "-V") => print(&version()),
        Some("help") => help(&rest),
        name => {
            let verb = name.and_then(find).ok_or_else(|| unknown(&first))?;
            match verb.parse(lexopt::Parser::from_args(rest))? {
                Request::Help => print(&verb.help()),
                Request::Version => print(&version()),
                Request::Run(arguments) => {
                    check_proc(verb.name)?;
                    (verb.run)(&arguments)
                }
            }
        }
    }
}

/// Everything about a live process is found in /proc.
fn check_proc(verb: &str) -> Result<(), Failure> {
    let without = matches!(verb, "inspect" | "list" | "core");
    if without || std::path::Path::new("/proc/self/maps").exists() {
        return Ok(());
    }
    Err(Failure::failed(format!("{verb}: /proc is not mounted here; mount it (mount -t proc proc /proc)")))
}

fn help(topics: &[OsString]) -> Outcome {
    match topics {
        [] => print(&overview()),
        [topic] if topic == "--help" || topic == "-h" || topic == "help" => print(&overview()),
        // For the installation: what the manual and the shell have is made from the same words.
        [how] if how == "--man" => print(&manual::overview()),
        [how, topic] if how == "--man" => {
            print(&manual::page(topic.to_str().and_then(find).ok_or_else(|| unknown(topic))?))
        }
        [how] if how == "--completion" => print(&manual::bash_completion()),
        [how] if how == "--commands" => {
            let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
            print(&(names.join("\n") + "\n"))
        }
        [topic] if topic == "--version" || topic == "-V" => print(&version()),
        [topic] => print(&topic.to_str().and_then(find).ok_or_else(|| unknown(topic))?.help()),
        [_, extra, ..] => {
            let extra = extra.to_string_lossy();
            Err(Failure::usage(format!("unexpected argument '{extra}' (see 'selfckpt help')")))
        }
    }
}

fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().copied().find(|verb| verb.name == name)
}

fn unknown(name: &OsString) -> Failure {
    let name = name.to_string_lossy();
    let what = if name.starts_with('-') { "option" } else { "command" };
    Failure::usage(format!("unknown {what} '{name}' (see 'selfckpt help')"))
}

fn version() -> String {
    format!("selfckpt {}\n", env!("CARGO_PKG_VERSION"))
}

fn overview() -> String {
    let mut out = String::from(
        "selfckpt: checkpoint and restart of unmodified 32-bit x86 Linux programs

Usage: selfckpt COMMAND [options] ...

Commands:
",
    );
    for verb in VERBS {
        let _ = writeln!(out, "  {:<12}{}", verb.name, verb.summary);
    }
    out.push_str(
        "
'selfckpt help COMMAND' or 'selfckpt COMMAND --help' says more.
'selfckpt --version' prints the version.

Without any command: LD_PRELOAD=libselfckpt.so ./app; kill -USR2 PID takes a
checkpoint.

Exit status:
  125  selfckpt itself failed; the reason is one line on standard error
  126  the program was found but cannot be executed
  127  the program was not found
  2    wrong usage
  'run' and 'restart' end as the program ends.
",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal() {
        for verb in VERBS {
            for line in verb.help().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", verb.name);
            }
        }
        assert!(overview().lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn option_names_are_unique() {
        for verb in VERBS {
            let mut seen = std::collections::HashSet::new();
            for opt in verb.options {
                assert!(seen.insert(opt.long.to_string()), "{} --{}", verb.name, opt.long);
                if let Some(c) = opt.short {
                    assert!(seen.insert(c.to_string()) && c != 'h' && c != 'V', "{} -{c}", verb.name);
                }
            }
        }
    }
}
