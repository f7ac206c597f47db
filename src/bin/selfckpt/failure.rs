//! [NORMAL] Why a command cannot do its work, and the exit status that says so.

use std::fmt;

/// selfckpt itself failed.
pub const FAILED: u8 = 125;
/// A restart failed for a reason that may pass.
pub const MAY_PASS: u8 = selfckpt::settings::MAY_PASS as u8;
/// The program was found but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;
/// Wrong usage.
pub const USAGE: u8 = 2;

/// One line for stderr and an exit status.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    text: String,
}

impl Failure {
    pub fn new(status: u8, text: impl Into<String>) -> Failure {
        Failure { status, text: plain(&text.into()) }
    }

    pub fn failed(text: impl Into<String>) -> Failure {
        Failure::new(FAILED, text)
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(USAGE, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A message as it is shown: one line whatever file names hold, and system errors by their words
/// alone, without the number that Rust puts after them.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(" (os error ") {
        let after = &rest[start + " (os error ".len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (keep, next) = match after[digits..].strip_prefix(')') {
            Some(next) if digits > 0 => (start, next),
            _ => (start + 1, &rest[start + 1..]),
        };
        out.push_str(&rest[..keep]);
        rest = next;
    }
    out.push_str(rest);
    if !out.chars().any(char::is_control) {
        return out;
    }
    out.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// What a verb ends with: its exit status.
pub type Outcome = Result<u8, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_plain() {
        assert_eq!(
            plain("cannot open x: No such file (os error 2); y (os error 13)"),
            "cannot open x: No such file; y"
        );
        assert_eq!(plain("a (os error x) (os error ) (os error 1"), "a (os error x) (os error ) (os error 1");
        assert_eq!(plain("a\nb\x1b"), "a\\nb\\u{1b}");
    }
}
