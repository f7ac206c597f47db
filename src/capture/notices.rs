//! [SIGNAL] Notices: collected while the state is looked at, written near the end of the stream.

use super::Stream;
use super::failure::Failure;
use crate::sys::log::log;
use crate::sys::text::Bytes;

/// Notices in a buffer: code u32, length u32, number u64, text.
pub struct Notices<'a> {
    buf: &'a mut [u8],
    used: usize,
    pub count: u32,
}

const HEAD: usize = 16;

impl<'a> Notices<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        Notices { buf, used: 0, count: 0 }
    }

    /// Adds a notice and logs it. One that no longer fits is still logged and counted.
    pub fn add(&mut self, code: u32, number: u64, text: &[u8]) {
        log!(Warn, "{}", Bytes(text));
        self.count += 1;
        let end = self.used + HEAD + text.len();
        let Some(place) = self.buf.get_mut(self.used..end) else { return };
        let mut head = [0u8; HEAD];
        for (to, from) in head
            .iter_mut()
            .zip(code.to_le_bytes().into_iter().chain((text.len() as u32).to_le_bytes()).chain(number.to_le_bytes()))
        {
            *to = from;
        }
        let (to_head, to_text) = place.split_at_mut(HEAD);
        to_head.copy_from_slice(&head);
        to_text.copy_from_slice(text);
        self.used = end;
    }

    /// Writes them all.
    pub fn write(&self, stream: &mut Stream<'_>) -> Result<(), Failure> {
        let mut rest = self.buf.get(..self.used).unwrap_or(&[]);
        while let Some((head, tail)) = rest.split_at_checked(HEAD) {
            let code = crate::arch::frame::u32_at(head, 0);
            let len = crate::arch::frame::u32_at(head, 4) as usize;
            let number = crate::arch::frame::u64_at(head, 8);
            let Some((text, next)) = tail.split_at_checked(len) else { break };
            stream.notice(code, number, text)?;
            rest = next;
        }
        Ok(())
    }
}

/// Adds a formatted notice.
macro_rules! notice {
    ($notices:expr, $code:expr, $number:expr, $($arg:tt)*) => {{
        let text: $crate::sys::Text<700> = $crate::sys::text::text!($($arg)*);
        $notices.add($code, $number, text.as_bytes());
    }};
}
pub(crate) use notice;
