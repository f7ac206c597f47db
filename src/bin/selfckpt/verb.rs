//! [NORMAL] What a verb is: its options, its help, and how its arguments are read. Everything that
//! is said about an option stands in one table; the parser and the help text are made from it.

use crate::failure::{Failure, Outcome};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;

/// An option.
pub struct Opt {
    pub short: Option<char>,
    pub long: &'static str,
    /// Name of its value in the help text, if it takes one.
    pub value: Option<&'static str>,
    pub help: &'static str,
}

/// Which arguments besides options a verb takes.
#[derive(Clone, Copy)]
pub struct Operands {
    pub least: usize,
    pub most: usize,
    /// All that follows the first operand is left alone, options included.
    pub rest_is_raw: bool,
}

/// A verb.
pub struct Verb {
    pub name: &'static str,
    /// After `selfckpt NAME`.
    pub synopsis: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Paragraphs. Lines that start with a space are kept as they are.
    pub description: &'static [&'static str],
    pub options: &'static [Opt],
    pub operands: Operands,
    pub exit_status: &'static [&'static str],
    pub examples: &'static [&'static str],
    pub run: fn(&Arguments) -> Outcome,
}

const HELP: Opt = Opt { short: Some('h'), long: "help", value: None, help: "Print this text." };
const VERSION: Opt = Opt { short: Some('V'), long: "version", value: None, help: "Print the version." };

/// What was given on the command line.
#[derive(Debug, Default)]
pub struct Arguments {
    options: Vec<(&'static str, OsString)>,
    pub operands: Vec<OsString>,
}

impl Arguments {
    pub fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// How often an option was given.
    pub fn count(&self, long: &str) -> usize {
        self.options.iter().filter(|(name, _)| *name == long).count()
    }

    /// Value of an option; of several, the last.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.options.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_os_str())
    }
}

/// What the arguments of a verb ask for.
#[derive(Debug)]
pub enum Request {
    Run(Arguments),
    Help,
    Version,
}

impl Verb {
    /// Reads the arguments after the verb.
    pub fn parse(&self, mut parser: lexopt::Parser) -> Result<Request, Failure> {
        use lexopt::Arg;
        let mut arguments = Arguments::default();
        let wrong = |text: String| Failure::usage(format!("{text} (see 'selfckpt help {}')", self.name));
        loop {
            if self.operands.rest_is_raw && !arguments.operands.is_empty() {
                arguments.operands.extend(parser.raw_args().map_err(|e| wrong(e.to_string()))?);
            }
            let Some(arg) = parser.next().map_err(|e| wrong(e.to_string()))? else { break };
            let (found, shown) = match arg {
                Arg::Value(operand) => {
                    arguments.operands.push(operand);
                    continue;
                }
                Arg::Short(c) => (self.all_options().find(|opt| opt.short == Some(c)), format!("-{c}")),
                Arg::Long(long) => (self.all_options().find(|opt| opt.long == long), format!("--{long}")),
            };
            let Some(opt) = found else { return Err(wrong(format!("unknown option '{shown}'"))) };
            if opt.long == HELP.long {
                return Ok(Request::Help);
            }
            if opt.long == VERSION.long {
                return Ok(Request::Version);
            }
            let value = match opt.value {
                None => OsString::new(),
                Some(value) => parser.value().map_err(|_| wrong(format!("option '{shown}' needs a value: {value}")))?,
            };
            arguments.options.push((opt.long, value));
        }
        match arguments.operands.len() {
            n if n < self.operands.least => Err(wrong(format!("{}: an argument is missing", self.usage()))),
            n if n > self.operands.most => {
                let extra = &arguments.operands[self.operands.most];
                Err(wrong(format!("unexpected argument '{}'", extra.to_string_lossy())))
            }
            _ => Ok(Request::Run(arguments)),
        }
    }

    pub fn all_options(&self) -> impl Iterator<Item = &Opt> {
        self.options.iter().chain([&HELP, &VERSION])
    }

    fn usage(&self) -> String {
        format!("selfckpt {} {}", self.name, self.synopsis)
    }

    /// The help text.
    pub fn help(&self) -> String {
        let mut out = format!("selfckpt {}: {}\n\nUsage: {}\n", self.name, self.summary, self.usage());
        paragraphs(&mut out, self.description);
        out.push_str("\nOptions:\n");
        for opt in self.all_options() {
            let short = opt.short.map_or_else(|| "    ".to_string(), |c| format!("-{c}, "));
            let value = opt.value.map_or_else(String::new, |value| format!(" {value}"));
            let _ = writeln!(out, "  {short}--{}{value}", opt.long);
            wrap(&mut out, opt.help, 10);
        }
        if !self.exit_status.is_empty() {
            out.push_str("\nExit status:\n");
            for line in self.exit_status {
                wrap(&mut out, line, 2);
            }
        }
        if !self.examples.is_empty() {
            out.push_str("\nExamples:\n");
            for line in self.examples {
                let _ = writeln!(out, "  {line}");
            }
        }
        out
    }
}

fn paragraphs(out: &mut String, paragraphs: &[&str]) {
    for paragraph in paragraphs {
        out.push('\n');
        if paragraph.starts_with(' ') {
            out.push_str(paragraph);
            out.push('\n');
        } else {
            wrap(out, paragraph, 0);
        }
    }
}

/// Breaks a paragraph into lines of at most 80 columns.
fn wrap(out: &mut String, text: &str, indent: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column == 0 || column + 1 + width > 80 {
            if column != 0 {
                out.push('\n');
            }
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Verb = Verb {
        name: "test",
        synopsis: "[options] A",
        summary: "tests",
        description: &["A paragraph."],
        options: &[
            Opt { short: Some('n'), long: "number", value: Some("N"), help: "A number." },
            Opt { short: None, long: "flag", value: None, help: "A flag." },
        ],
        operands: Operands { least: 1, most: 1, rest_is_raw: false },
        exit_status: &[],
        examples: &[],
        run: |_| Ok(0),
    };
    const RAW: Verb = Verb { operands: Operands { least: 1, most: usize::MAX, rest_is_raw: true }, ..TEST };

    fn parse(verb: &Verb, args: &[&str]) -> Result<Request, Failure> {
        verb.parse(lexopt::Parser::from_args(args))
    }

    fn run(verb: &Verb, args: &[&str]) -> Arguments {
        match parse(verb, args) {
            Ok(Request::Run(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_and_operands() {
        let arguments = run(&TEST, &["-n", "3", "file", "--flag", "--number=4"]);
        assert_eq!(arguments.operands, ["file"]);
        assert!(arguments.has("flag") && !arguments.has("other"));
        assert_eq!(arguments.value("number"), Some(OsStr::new("4")));
        assert_eq!(run(&TEST, &["--", "--flag"]).operands, ["--flag"]);
    }

    #[test]
    fn wrong_usage() {
        for args in [&["--other", "x"][..], &["-n"], &[], &["a", "b"], &["--flag=1", "a"], &["-z", "a"]] {
            let failure = parse(&TEST, args).expect_err("wrong");
            assert_eq!(failure.status, crate::failure::USAGE);
            assert!(failure.to_string().ends_with("(see 'selfckpt help test')"), "{failure}");
        }
    }

    #[test]
    fn what_follows_a_program_is_its_own() {
        let arguments = run(&RAW, &["--flag", "prog", "--flag", "-n", "--", "--help"]);
        assert_eq!(arguments.operands, ["prog", "--flag", "-n", "--", "--help"]);
        let arguments = run(&RAW, &["--", "prog", "--", "-x"]);
        assert_eq!(arguments.operands, ["prog", "--", "-x"]);
    }

    #[test]
    fn help_names_every_option() {
        assert!(matches!(parse(&TEST, &["--help"]), Ok(Request::Help)));
        assert!(matches!(parse(&TEST, &["-V", "x"]), Ok(Request::Version)));
        let help = TEST.help();
        assert!(help.contains("  -n, --number N\n          A number.\n"), "{help}");
        assert!(help.contains("      --flag\n"), "{help}");
    }
}
