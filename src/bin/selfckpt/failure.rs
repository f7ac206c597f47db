//! [NORMAL] Why a command cannot do its work, and the exit status that says so.

use std::fmt;

/// selfckpt itself failed.
pub const FAILED: u8 = 125;
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
        Failure { status, text: text.into() }
    }

    pub fn failed(text: impl Into<String>) -> Failure {
        Failure::new(FAILED, text)
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(USAGE, text)
    }
}

impl fmt::Display for Failure {
    /// Line breaks in file names must not turn one message into two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// What a verb ends with: its exit status.
pub type Outcome = Result<u8, Failure>;
