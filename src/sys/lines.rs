//! [SIGNAL] Text of /proc, line by line and field by field, without a copy of the whole.

use super::{Errno, fs};

/// Lines of a descriptor through a buffer of the caller. A line longer than the buffer is cut.
pub struct Lines<'a> {
    fd: i32,
    buf: &'a mut [u8],
    start: usize,
    end: usize,
    eof: bool,
}

impl<'a> Lines<'a> {
    pub fn new(fd: i32, buf: &'a mut [u8]) -> Self {
        Lines { fd, buf, start: 0, end: 0, eof: false }
    }

    /// The next line without its newline.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, Errno> {
        loop {
            let have = self.buf.get(self.start..self.end).unwrap_or(&[]);
            if let Some(at) = have.iter().position(|&b| b == b'\n') {
                let line = self.start..self.start + at;
                self.start += at + 1;
                return Ok(self.buf.get(line));
            }
            if self.eof || (self.start == 0 && self.end == self.buf.len()) {
                let line = self.start..self.end;
                self.start = 0;
                self.end = 0;
                return Ok(if line.is_empty() { None } else { self.buf.get(line) });
            }
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let room = self.buf.get_mut(self.end..).unwrap_or(&mut []);
            match fs::read(self.fd, room)? {
                0 => self.eof = true,
                n => self.end += n,
            }
        }
    }
}

/// Takes fields off the front of a line.
#[derive(Clone, Copy)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn skip_spaces(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next field, up to white space.
    pub fn word(&mut self) -> &'a [u8] {
        self.skip_spaces();
        let n = self.0.iter().position(|b| matches!(b, b' ' | b'\t' | b'\n')).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(n);
        self.0 = rest;
        word
    }

    /// Everything up to `stop`, which is taken off as well.
    pub fn until(&mut self, stop: u8) -> Option<&'a [u8]> {
        let n = self.0.iter().position(|&b| b == stop)?;
        let (head, rest) = self.0.split_at(n);
        self.0 = rest.get(1..).unwrap_or(&[]);
        Some(head)
    }
}

pub fn parse_hex(word: &[u8]) -> Option<u64> {
    parse_radix(word, 16)
}

pub fn parse_dec(word: &[u8]) -> Option<u64> {
    parse_radix(word, 10)
}

pub fn parse_oct(word: &[u8]) -> Option<u64> {
    parse_radix(word, 8)
}

fn parse_radix(word: &[u8], radix: u32) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &b in word {
        let digit = (b as char).to_digit(radix)?;
        value = value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Value of a `Name:\tvalue` line of a small /proc file that was read whole.
pub fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for line in text.split(|&b| b == b'\n') {
        if let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(b":")) {
            let mut cursor = Cursor(rest);
            cursor.skip_spaces();
            return Some(cursor.0);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_hex(b"08048000"), Some(0x0804_8000));
        assert_eq!(parse_dec(b"42"), Some(42));
        assert_eq!(parse_oct(b"0022"), Some(0o22));
        assert_eq!(parse_dec(b""), None);
        assert_eq!(parse_dec(b"4x"), None);
        assert_eq!(parse_dec(b"99999999999999999999999"), None);
    }

    #[test]
    fn fields() {
        let text = b"Name:\tcat\nUmask:\t0022\nSigQ:\t0/1\n";
        assert_eq!(field(text, b"Umask"), Some(&b"0022"[..]));
        assert_eq!(field(text, b"Mask"), None);
        let mut cursor = Cursor(b"a-b rw-p  /x y");
        assert_eq!(cursor.until(b'-'), Some(&b"a"[..]));
        assert_eq!(cursor.word(), b"b");
        assert_eq!(cursor.word(), b"rw-p");
        cursor.skip_spaces();
        assert_eq!(cursor.0, b"/x y");
    }
}
