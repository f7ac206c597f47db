//! [SIGNAL, NORMAL] How `selfckpt checkpoint` asks a process and how the process answers.
//!
//! The command sends the process its trigger signal by sigqueue(3). The value that goes with it is
//! a [token](Token): it says that somebody waits for an answer, and whether the process is to stop
//! afterwards. The answer is one datagram, a [`Reply`], to the abstract UNIX socket
//! [`reply_address`] that the command has bound before. No file is needed: a full or read-only
//! directory is no reason for silence.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What travels in `si_value`: bits 31..8 of the value are random, 7..1 are [`Token::MARK`], bit 0
/// asks for checkpoint-and-stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u32);

impl Token {
    const MARK: u32 = 0x5c;

    /// A token from 24 random bits.
    pub fn new(random: u32, stop: bool) -> Token {
        Token((random << 8) | (Token::MARK << 1) & 0xfe | u32::from(stop))
    }

    /// The token in a signal's value, if it is one.
    pub fn from_value(value: u32) -> Option<Token> {
        ((value >> 1) & 0x7f == Token::MARK).then_some(Token(value))
    }

    pub fn stop(self) -> bool {
        self.0 & 1 != 0
    }
}

/// `si_value` of the signal that `ckpt_now` sends to its own thread.
pub const CALL_MARK: u32 = 0x5e1f_ca11;

/// Length of [`reply_address`].
pub const ADDRESS_LEN: usize = 24;

/// Abstract socket address (the bytes after the leading NUL) that the answer goes to:
/// `selfckpt-reply-` and the token in eight hexadecimal digits.
pub fn reply_address(token: Token) -> [u8; ADDRESS_LEN] {
    let mut out = *b"selfckpt-reply-00000000\0";
    let mut value = token.0;
    for place in out[15..23].iter_mut().rev() {
        let digit = (value & 15) as u8;
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        value >>= 4;
    }
    out
}

/// Identifies a [`Reply`].
pub const REPLY_MAGIC: u32 = 0x504b_4353;
/// Longest text of a [`Reply`].
pub const REPLY_TEXT: usize = 1024;

/// [`Reply::status`] values.
pub mod status {
    /// The checkpoint is written; `text` is the path of the image.
    pub const DONE: u32 = 1;
    /// No image was committed; `text` is the reason.
    pub const FAILED: u32 = 2;
    /// On the way: `bytes` of `bytes_expected` are written.
    pub const PROGRESS: u32 = 3;
    /// The sender is a process that writes the image while the program goes on.
    pub const WRITER: u32 = 4;
}

/// The answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Reply {
    pub magic: U32,
    pub status: U32,
    pub errno: U32,
    pub generation: U32,
    /// Length of the image so far.
    pub bytes: U64,
    pub bytes_expected: U64,
    /// Time for which the program stood still, nanoseconds.
    pub pause_ns: U64,
    /// Time from the signal to the commit, nanoseconds.
    pub total_ns: U64,
    pub notices: U32,
    pub text_len: U32,
    pub text: [u8; REPLY_TEXT],
}
const _: () = assert!(size_of::<Reply>() == 56 + REPLY_TEXT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_way() {
        let token = Token::new(0x00ab_cdef, true);
        assert_eq!(Token::from_value(token.0), Some(token));
        assert!(token.stop());
        assert!(!Token::new(1, false).stop());
        assert_eq!(Token::from_value(0), None);
        assert_eq!(Token::from_value(42), None);
        assert_eq!(Token::from_value(CALL_MARK), None);
    }

    #[test]
    fn address_spells_the_token() {
        assert_eq!(&reply_address(Token(0x0123_abcd)), b"selfckpt-reply-0123abcd\0");
    }
}
