//! [SIGNAL] Text of bounded length, on the stack.

use core::fmt;

/// Up to `N` bytes of text. What does not fit is cut off.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub const fn new() -> Self {
        Text { bytes: [0; N], len: 0 }
    }

    /// From bytes, cut to `N`.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut text = Text::new();
        text.push(bytes);
        text
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(N - self.len);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.len..self.len + n), bytes.get(..n)) {
            to.copy_from_slice(from);
            self.len += n;
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes with a NUL after them, if there is room for it.
    pub fn as_path(&mut self) -> Option<&[u8]> {
        let place = self.bytes.get_mut(self.len)?;
        *place = 0;
        self.bytes.get(..=self.len)
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text::new()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Bytes(self.as_bytes()), f)
    }
}

/// Shows bytes that are meant to be text; others as `?`.
pub struct Bytes<'a>(pub &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        loop {
            match core::str::from_utf8(rest) {
                Ok(text) => return f.write_str(text),
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    if let Ok(text) = core::str::from_utf8(good) {
                        f.write_str(text)?;
                    }
                    f.write_str("?")?;
                    rest = bad.get(1..).unwrap_or(&[]);
                }
            }
        }
    }
}

/// Formats into a fresh [`Text`].
macro_rules! text {
    ($($arg:tt)*) => {{
        let mut text = $crate::sys::Text::new();
        // Text takes everything; what does not fit is cut off.
        let _ = core::fmt::Write::write_fmt(&mut text, format_args!($($arg)*));
        text
    }};
}
pub(crate) use text;
