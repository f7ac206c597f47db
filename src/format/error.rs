//! [NORMAL] What can be wrong with an image, in words.

use super::{ARCH_X86_32, REV, kind};
use std::fmt;

/// Why an image cannot be read.
#[derive(Debug)]
pub enum FormatError {
    Io {
        what: &'static str,
        offset: u64,
        error: std::io::Error,
    },
    /// No magic number at the start.
    NotAnImage,
    OtherArch {
        arch: u16,
    },
    OtherRevision {
        rev: u16,
    },
    /// The stream ends inside a record, or before TAIL.
    Torn {
        offset: u64,
    },
    /// The program could not finish the stream; its reason.
    Aborted {
        reason: String,
    },
    Checksum {
        kind: u32,
        offset: u64,
    },
    /// Checksum of the pages of one run.
    PageChecksum {
        addr: u64,
        offset: u64,
    },
    /// A length, count or constant of a record is not what it can be.
    Malformed {
        kind: u32,
        offset: u64,
        field: &'static str,
        value: u64,
    },
    UnknownRecord {
        kind: u32,
        offset: u64,
    },
    /// A record that must be there, or there once, or in another place.
    Order {
        kind: u32,
        what: &'static str,
    },
    /// Bytes after TAIL.
    Trailing {
        offset: u64,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Io { what, offset, error } => write!(f, "cannot {what} at offset {offset}: {error}"),
            FormatError::NotAnImage => write!(f, "not a checkpoint image (no magic number at its start)"),
            FormatError::OtherArch { arch } => {
                write!(f, "image is for architecture {arch}, this program reads architecture {ARCH_X86_32} (x86_32)")
            }
            FormatError::OtherRevision { rev } => {
                write!(f, "image has revision {rev} of the format, this program reads revision {REV}")
            }
            FormatError::Torn { offset } => {
                write!(f, "image is truncated: it ends at offset {offset} without a TAIL record")
            }
            FormatError::Aborted { reason } => write!(f, "image was given up while it was written: {reason}"),
            FormatError::Checksum { kind: k, offset } => {
                write!(f, "image is damaged: wrong checksum of the {} record at offset {offset}", kind::name(*k))
            }
            FormatError::PageChecksum { addr, offset } => {
                write!(f, "image is damaged: wrong checksum of the pages of address {addr:#x} at offset {offset}")
            }
            FormatError::Malformed { kind: k, offset, field, value } => write!(
                f,
                "image is malformed: {} record at offset {offset}: {field} cannot be {value:#x}",
                kind::name(*k)
            ),
            FormatError::UnknownRecord { kind, offset } => {
                write!(f, "image holds a record of unknown type {kind} at offset {offset} that must not be skipped")
            }
            FormatError::Order { kind: k, what } => write!(f, "image is malformed: {} record {what}", kind::name(*k)),
            FormatError::Trailing { offset } => {
                write!(f, "image is malformed: there are bytes after the TAIL record at offset {offset}")
            }
        }
    }
}

impl std::error::Error for FormatError {}
