//! [SIGNAL] Why a checkpoint failed, in words that name the thing, and the errno for `ckpt_now`.

use crate::format::writer::WriteError;
use crate::sys::{Errno, Text, text::text};

/// `fail!(errno, "cannot read {}", path)`: the message, with the errno's words after it.
macro_rules! fail {
    ($errno:expr, $($arg:tt)*) => {{
        let errno: $crate::sys::Errno = $errno;
        let mut text: $crate::sys::Text<720> = $crate::sys::text::text!($($arg)*);
        // Text takes everything; what does not fit is cut off.
        let _ = core::fmt::Write::write_fmt(&mut text, format_args!(": {errno}"));
        $crate::capture::failure::Failure { errno, text }
    }};
}
pub(crate) use fail;

/// `refuse!(errno, "...")`: the message alone says why.
macro_rules! refuse {
    ($errno:expr, $($arg:tt)*) => {
        $crate::capture::failure::Failure { errno: $errno, text: $crate::sys::text::text!($($arg)*) }
    };
}
pub(crate) use refuse;

#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub errno: Errno,
    pub text: Text<720>,
}

impl Failure {
    /// From a stream error that does not come from the sink.
    pub fn from_write(error: WriteError<Failure>) -> Failure {
        match error {
            WriteError::Sink(failure) => failure,
            WriteError::TooLarge { kind } => Failure {
                errno: Errno(75), // EOVERFLOW
                text: text!("a {} record is too large for the image", crate::format::kind::name(kind)),
            },
            WriteError::Sequence { kind } => Failure {
                errno: Errno::EIO,
                text: text!("internal error while writing a {} record", crate::format::kind::name(kind)),
            },
        }
    }
}

/// A file or directory of /proc cannot be read.
pub fn unreadable(errno: Errno, path: &str) -> Failure {
    match errno {
        Errno::ENOENT => refuse!(errno, "cannot read {path}: /proc is not mounted here; a checkpoint needs it"),
        _ => fail!(errno, "cannot read {path}"),
    }
}

impl From<WriteError<Failure>> for Failure {
    fn from(error: WriteError<Failure>) -> Failure {
        Failure::from_write(error)
    }
}
