//! [SIGNAL] POSIX timers of the process: which are the program's.

use crate::sys::lines::parse_hex;

pub use crate::sys::abi::OWN_MARK;

/// Timers of the program in the text of /proc/self/timers: all but ours.
pub fn foreign_timers(text: &[u8]) -> usize {
    text.split(|&b| b == b'\n')
        .filter_map(|line| line.strip_prefix(b"signal: "))
        .filter(|rest| {
            let value = rest.rsplit(|&b| b == b'/').next().and_then(parse_hex);
            value.is_none_or(|value| value as u32 != OWN_MARK)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_not_foreign() {
        let text = b"ID: 0\nsignal: 12/000000005e1fc497\nnotify: signal/pid.5\nClockID: 1\nID: 1\nsignal: 14/0000\n";
        assert_eq!(foreign_timers(text), 1);
        assert_eq!(foreign_timers(b""), 0);
    }
}
