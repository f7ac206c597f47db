//! [SIGNAL, NORMAL] How the values of options and `SELFCKPT_*` variables are read: signals,
//! durations, numbers. The library's constructor and the command line share it, so that both
//! accept the same. `core` only: the constructor runs before libc is ready.

use core::fmt;

/// Names of signals 1 to 31 on x86, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// Other names of some of them.
const ALIASES: [(&str, u32); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

const KILL: u32 = 9;
const STOP: u32 = 19;
/// SIGRTMIN as programs have it: libc keeps 32 and 33.
pub const RTMIN: u32 = 34;
/// The second of those, which it lets nobody block.
pub const SIGSETXID: u32 = 33;
/// SIGRTMAX.
pub const RTMAX: u32 = 64;

/// Signal that takes a checkpoint when nothing else is set: SIGUSR2.
pub const DEFAULT_SIGNAL: u32 = 12;
/// Exit status of a program after checkpoint-and-stop when nothing else is set.
pub const DEFAULT_STOP_CODE: u32 = 85;
/// Exit status when a restart fails for a reason that may pass: EX_TEMPFAIL of sysexits.h.
pub const MAY_PASS: i32 = 75;
/// Newest generations that are kept when nothing else is set.
pub const DEFAULT_KEEP: u32 = 2;
/// Seconds between two failures of the machine when nothing else is set: a day.
pub const DEFAULT_MTBF: u64 = 24 * 60 * 60;

/// A decimal number: digits only.
pub fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A signal that a program can handle: a name with or without `SIG`, in any case (`USR2`, `SIGUSR2`),
/// `RTMIN`, `RTMIN+3`, `RTMAX-1`, or a number.
///
/// KILL and STOP cannot be caught; 32 and 33 belong to libc. They are refused.
pub fn parse_signal(text: &[u8]) -> Option<u32> {
    let number = match parse_number(text) {
        Some(number) => u32::try_from(number).ok()?,
        None => parse_signal_name(text)?,
    };
    let usable = (1..RTMIN - 2).contains(&number) && number != KILL && number != STOP;
    (usable || (RTMIN..=RTMAX).contains(&number)).then_some(number)
}

fn parse_signal_name(text: &[u8]) -> Option<u32> {
    let name = strip_prefix(text, "SIG").unwrap_or(text);
    if let Some(rest) = strip_prefix(name, "RTMIN") {
        return match rest.split_first() {
            None => Some(RTMIN),
            Some((b'+', offset)) => RTMIN.checked_add(u32::try_from(parse_number(offset)?).ok()?),
            Some(_) => None,
        };
    }
    if let Some(rest) = strip_prefix(name, "RTMAX") {
        let number = match rest.split_first() {
            None => RTMAX,
            Some((b'-', offset)) => RTMAX.checked_sub(u32::try_from(parse_number(offset)?).ok()?)?,
            Some(_) => return None,
        };
        return (number >= RTMIN).then_some(number);
    }
    let named = NAMES.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name));
    if let Some(index) = named {
        return u32::try_from(index + 1).ok();
    }
    ALIASES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|&(_, number)| number)
}

fn strip_prefix<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// Signals with commas between them (`USR1,TERM`), as a set: bit n-1 for signal n.
pub fn parse_signal_list(text: &[u8]) -> Option<u64> {
    text.split(|&byte| byte == b',').try_fold(0, |set, one| Some(set | (1 << (parse_signal(one)? - 1))))
}

/// Whether a set of [`parse_signal_list`] holds a signal.
pub fn contains(set: u64, signal: u32) -> bool {
    (1..=64).contains(&signal) && (set >> (signal - 1)) & 1 == 1
}

/// A time span in seconds: a number, alone or with `s`, `m`, `h` or `d`. Zero is refused.
pub fn parse_duration(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text.split_last()? {
        (b's', digits) => (digits, 1),
        (b'm', digits) => (digits, 60),
        (b'h', digits) => (digits, 60 * 60),
        (b'd', digits) => (digits, 24 * 60 * 60),
        _ => (text, 1),
    };
    parse_number(digits)?.checked_mul(unit).filter(|&seconds| seconds != 0)
}

/// What SELFCKPT_EVERY and `--every` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Seconds.
    Every(u32),
    /// Chosen from what checkpoints cost.
    Auto,
}

/// A period: `auto`, or a time span of at most 24 days, which the kernel's timers and a count of milliseconds hold.
pub fn parse_period(text: &[u8]) -> Option<Period> {
    if text == b"auto" {
        return Some(Period::Auto);
    }
    const LONGEST: u64 = 24 * 24 * 60 * 60;
    let seconds = parse_duration(text).filter(|&seconds| seconds <= LONGEST)?;
    u32::try_from(seconds).ok().map(Period::Every)
}

/// Writes a signal's name without `SIG`: `USR2`, `RTMIN+3`; a number where there is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(pub u32);

/// The name of a signal, to be formatted.
pub fn signal_name(signal: u32) -> SignalName {
    SignalName(signal)
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = (self.0 as usize).checked_sub(1).and_then(|index| NAMES.get(index));
        match (name, self.0) {
            (Some(name), _) => f.write_str(name),
            (None, RTMIN) => f.write_str("RTMIN"),
            (None, RTMAX) => f.write_str("RTMAX"),
            (None, RTMIN..RTMAX) => write!(f, "RTMIN+{}", self.0 - RTMIN),
            (None, number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["USR2", "SIGUSR2", "usr2", "sigusr2", "12"] {
            assert_eq!(parse_signal(text.as_bytes()), Some(12), "{text}");
        }
        assert_eq!(parse_signal(b"TERM"), Some(15));
        assert_eq!(parse_signal(b"SIGPOLL"), Some(29));
        assert_eq!(parse_signal(b"RTMIN"), Some(34));
        assert_eq!(parse_signal(b"SIGRTMIN+3"), Some(37));
        assert_eq!(parse_signal(b"RTMAX-1"), Some(63));
        assert_eq!(parse_signal(b"RTMIN+30"), Some(64));
        assert_eq!(parse_signal(b"64"), Some(64));
    }

    #[test]
    fn refuses_what_cannot_be_caught_or_is_no_signal() {
        for text in [
            "",
            "KILL",
            "9",
            "STOP",
            "SIGSTOP",
            "19",
            "32",
            "33",
            "0",
            "65",
            "RTMIN+31",
            "RTMAX-31",
            "RTMAX-99",
            "RTMIN+",
            "RTMIN3",
            "RTMIN+4294967295",
            "USR3",
            "SIG",
            "-12",
            "12 ",
            "99999999999999999999",
        ] {
            assert_eq!(parse_signal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn signal_lists() {
        let set = parse_signal_list(b"USR1,TERM").expect("a good list");
        assert_eq!(set, (1 << 9) | (1 << 14));
        assert!(contains(set, 10) && contains(set, 15) && !contains(set, 12));
        assert!(!contains(set, 0) && !contains(u64::MAX, 65));
        assert_eq!(parse_signal_list(b"64"), Some(1 << 63));
        for text in ["", ",", "USR1,", "USR1,,TERM", "USR1 TERM", "USR1,KILL"] {
            assert_eq!(parse_signal_list(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration(b"90"), Some(90));
        assert_eq!(parse_duration(b"90s"), Some(90));
        assert_eq!(parse_duration(b"10m"), Some(600));
        assert_eq!(parse_duration(b"2h"), Some(7200));
        assert_eq!(parse_duration(b"1d"), Some(86400));
        for text in ["", "0", "0m", "m", "-1", "1.5h", "10 m", "10min", "auto", "18446744073709551615h"] {
            assert_eq!(parse_duration(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn periods() {
        assert_eq!(parse_period(b"15m"), Some(Period::Every(900)));
        assert_eq!(parse_period(b"auto"), Some(Period::Auto));
        assert_eq!(parse_period(b"24d"), Some(Period::Every(24 * 86400)));
        for text in ["", "0", "25d", "AUTO", "autos", "18446744073709551615"] {
            assert_eq!(parse_period(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_read_back() {
        for signal in (1..=64).filter(|&n| n != KILL && n != STOP && !(32..34).contains(&n)) {
            let name = signal_name(signal).to_string();
            assert_eq!(parse_signal(name.as_bytes()), Some(signal), "{name}");
        }
        assert_eq!(signal_name(9).to_string(), "KILL");
        assert_eq!(signal_name(32).to_string(), "32");
        assert_eq!(signal_name(0).to_string(), "0");
    }
}
