//! [NORMAL] Turns the numbers of an image into the words of the manuals.

use crate::system;
use selfckpt::format::thread::{TlsEntry, desc};
use selfckpt::settings::signal_name;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names of the set bits; what has no name as one hexadecimal number; "0" for none.
fn bits(value: u64, names: &[(u64, &str)], first: Option<&str>) -> String {
    let mut out: Vec<String> = first.iter().map(|s| (*s).to_string()).collect();
    let mut rest = value;
    for &(bit, name) in names {
        if rest & bit == bit {
            rest &= !bit;
            out.push(name.to_string());
        }
    }
    if rest != 0 {
        out.push(format!("{rest:#x}"));
    }
    if out.is_empty() { "0".to_string() } else { out.join("|") }
}

/// Flags of open(2) as i386 numbers them.
pub fn open_flags(flags: u32) -> String {
    const NAMES: &[(u64, &str)] = &[
        (0o4_010_000, "O_SYNC"),
        (0o20_200_000, "O_TMPFILE"),
        (0o100, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o400, "O_NOCTTY"),
        (0o1_000, "O_TRUNC"),
        (0o2_000, "O_APPEND"),
        (0o4_000, "O_NONBLOCK"),
        (0o10_000, "O_DSYNC"),
        (0o20_000, "O_ASYNC"),
        (0o40_000, "O_DIRECT"),
        (0o100_000, "O_LARGEFILE"),
        (0o200_000, "O_DIRECTORY"),
        (0o400_000, "O_NOFOLLOW"),
        (0o1_000_000, "O_NOATIME"),
        (0o2_000_000, "O_CLOEXEC"),
        (0o10_000_000, "O_PATH"),
    ];
    let access = match flags & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    bits(u64::from(flags & !3), NAMES, Some(access))
}

/// Flags of sigaction(2).
pub fn action_flags(flags: u64) -> String {
    const NAMES: &[(u64, &str)] = &[
        (1, "SA_NOCLDSTOP"),
        (2, "SA_NOCLDWAIT"),
        (4, "SA_SIGINFO"),
        (0x0400_0000, "SA_RESTORER"),
        (0x0800_0000, "SA_ONSTACK"),
        (0x1000_0000, "SA_RESTART"),
        (0x4000_0000, "SA_NODEFER"),
        (0x8000_0000, "SA_RESETHAND"),
    ];
    bits(flags, NAMES, None)
}

/// Flags of sigaltstack(2).
pub fn altstack_flags(flags: u32) -> String {
    bits(flags.into(), &[(1, "SS_ONSTACK"), (2, "SS_DISABLE"), (1 << 31, "SS_AUTODISARM")], None)
}

/// Handler of a signal: the two special ones by name.
pub fn handler(address: u64) -> String {
    match address {
        0 => "default".to_string(),
        1 => "ignore".to_string(),
        address => format!("{address:#x}"),
    }
}

/// Signals of a set by name.
pub fn signals(set: u64) -> Vec<String> {
    (1..=64u32).filter(|n| (set >> (n - 1)) & 1 == 1).map(|n| signal_name(n).to_string()).collect()
}

/// A set of signals in one line.
pub fn signal_set(set: u64) -> String {
    if set == 0 { "none".to_string() } else { signals(set).join(" ") }
}

/// Set bits of eflags.
pub fn eflags(flags: u64) -> String {
    const NAMES: &[(u64, &str)] = &[
        (1 << 0, "CF"),
        (1 << 2, "PF"),
        (1 << 4, "AF"),
        (1 << 6, "ZF"),
        (1 << 7, "SF"),
        (1 << 8, "TF"),
        (1 << 9, "IF"),
        (1 << 10, "DF"),
        (1 << 11, "OF"),
        (1 << 12, "IOPL1"),
        (2 << 12, "IOPL2"),
        (1 << 14, "NT"),
        (1 << 16, "RF"),
        (1 << 17, "VM"),
        (1 << 18, "AC"),
        (1 << 19, "VIF"),
        (1 << 20, "VIP"),
        (1 << 21, "ID"),
    ];
    bits(flags & !2, NAMES, None)
}

/// What a segment selector refers to. `first` is the GDT index of TLS slot 0.
pub fn selector(value: u64, first: u32) -> String {
    if value & !3 == 0 {
        return "null".to_string();
    }
    let index = value >> 3;
    let rpl = value & 3;
    let what = if value & 4 != 0 {
        format!("LDT entry {index}")
    } else if (u64::from(first)..u64::from(first) + 3).contains(&index) {
        format!("TLS slot {}", index - u64::from(first))
    } else {
        match (first, index) {
            (12, 4) | (6, 14) => "user code".to_string(),
            (12, 5) | (6, 15) => "user data".to_string(),
            (12, 6) => "64-bit user code".to_string(),
            (12, 15) => "CPU number".to_string(),
            _ => format!("GDT entry {index}"),
        }
    };
    if rpl == 3 { what } else { format!("{what}, privilege {rpl}") }
}

/// Attributes of a TLS or LDT entry.
pub fn descriptor(entry: &TlsEntry) -> String {
    let flags = entry.flags.get();
    let mut out = vec![if flags & desc::SEG_32BIT != 0 { "32-bit" } else { "16-bit" }];
    out.push(match flags & desc::CONTENTS {
        0 => "data",
        2 => "stack",
        4 => "code",
        _ => "conforming code",
    });
    for (bit, name) in [
        (desc::READ_EXEC_ONLY, "read/exec only"),
        (desc::LIMIT_IN_PAGES, "limit in pages"),
        (desc::SEG_NOT_PRESENT, "not present"),
        (desc::USEABLE, "useable"),
    ] {
        if flags & bit != 0 {
            out.push(name);
        }
    }
    out.join(", ")
}

/// `rwx`, as in /proc/PID/maps.
pub fn protection(prot: u32) -> String {
    [(1, 'r'), (2, 'w'), (4, 'x')].iter().map(|&(bit, c)| if prot & bit != 0 { c } else { '-' }).collect()
}

/// The x87 registers, as FSAVE stores them: 28 bytes of control words, then st0 to st7.
pub struct X87<'a>(&'a [u8]);

impl<'a> X87<'a> {
    /// `None` if the bytes are too few.
    pub fn new(bytes: &'a [u8]) -> Option<X87<'a>> {
        (bytes.len() >= 108).then_some(X87(bytes))
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | (u32::from(self.word(at + 2)) << 16)
    }

    pub fn control(&self) -> u16 {
        self.word(0)
    }

    pub fn status(&self) -> u16 {
        self.word(4)
    }

    pub fn tags(&self) -> u16 {
        self.word(8)
    }

    /// Last instruction: address, selector and opcode.
    pub fn instruction(&self) -> (u32, u16, u16) {
        (self.long(12), self.word(16), self.word(18) & 0x7ff)
    }

    /// Last operand: address and selector.
    pub fn operand(&self) -> (u32, u16) {
        (self.long(20), self.word(24))
    }

    /// Bytes of st(i).
    pub fn st(&self, i: usize) -> [u8; 10] {
        let mut out = [0; 10];
        out.copy_from_slice(&self.0[28 + 10 * i..38 + 10 * i]);
        out
    }

    /// What the tag word says of st(i).
    pub fn tag(&self, i: usize) -> &'static str {
        let top = usize::from((self.status() >> 11) & 7);
        match (self.tags() >> (2 * ((top + i) % 8))) & 3 {
            0 => "valid",
            1 => "zero",
            2 => "special",
            _ => "empty",
        }
    }
}

/// Exceptions of x87 and SSE, in the order of their bits.
const EXCEPTIONS: [&str; 6] = ["invalid", "denormal", "zero-divide", "overflow", "underflow", "precision"];

fn exceptions(set: u32) -> String {
    let names: Vec<_> =
        EXCEPTIONS.iter().enumerate().filter(|(i, _)| (set >> i) & 1 == 1).map(|(_, name)| *name).collect();
    match names.len() {
        0 => "none".to_string(),
        6 => "all".to_string(),
        _ => names.join(" "),
    }
}

fn rounding(bits: u32) -> &'static str {
    ["to nearest", "down", "up", "toward zero"][(bits & 3) as usize]
}

pub fn x87_control(word: u16) -> String {
    let word = u32::from(word);
    let precision = ["24", "reserved", "53", "64"][((word >> 8) & 3) as usize];
    format!("precision {precision}, rounding {}, masked: {}", rounding(word >> 10), exceptions(word & 0x3f))
}

pub fn x87_status(word: u16) -> String {
    let word = u32::from(word);
    let mut out = format!("top {}, raised: {}", (word >> 11) & 7, exceptions(word & 0x3f));
    for (bit, name) in [(6, "stack fault"), (7, "pending"), (8, "C0"), (9, "C1"), (10, "C2"), (14, "C3"), (15, "busy")]
    {
        if (word >> bit) & 1 == 1 {
            out.push_str(", ");
            out.push_str(name);
        }
    }
    out
}

pub fn mxcsr(word: u32) -> String {
    let mut out = format!(
        "rounding {}, masked: {}, raised: {}",
        rounding(word >> 13),
        exceptions((word >> 7) & 0x3f),
        exceptions(word & 0x3f)
    );
    for (bit, name) in [(6, "denormals are zero"), (15, "flush to zero")] {
        if (word >> bit) & 1 == 1 {
            out.push_str(", ");
            out.push_str(name);
        }
    }
    out
}

/// An 80-bit number in decimal, rounded to a double where that can hold it.
pub fn extended(bytes: [u8; 10]) -> String {
    let mut mantissa = [0; 8];
    mantissa.copy_from_slice(&bytes[..8]);
    let mantissa = u64::from_le_bytes(mantissa);
    let top = u16::from_le_bytes([bytes[8], bytes[9]]);
    let sign = if top & 0x8000 != 0 { "-" } else { "" };
    let exponent = i32::from(top & 0x7fff);
    match (exponent, mantissa) {
        (0, 0) => format!("{sign}0"),
        (0x7fff, 0x8000_0000_0000_0000) => format!("{sign}inf"),
        (0x7fff, _) => format!("{sign}nan"),
        _ if exponent != 0 && mantissa >> 63 == 0 => "unsupported".to_string(),
        _ => {
            // Value: mantissa * 2^(exponent - bias - 63); denormals have the exponent of 1.
            let power = exponent.max(1) - 16383 - 63;
            if (-1000..=900).contains(&power) {
                format!("{sign}{}", mantissa as f64 * 2f64.powi(power))
            } else {
                format!("{sign}{mantissa:#x}p{power:+}")
            }
        }
    }
}

/// What dr7 does with dr0 to dr3, one text per enabled register.
pub fn watchpoints(dr7: u64) -> Vec<String> {
    (0..4)
        .filter(|i| (dr7 >> (2 * i)) & 3 != 0)
        .map(|i| {
            let control = (dr7 >> (16 + 4 * i)) & 15;
            let on = ["execution", "write", "I/O", "access"][(control & 3) as usize];
            let len = [1, 2, 8, 4][(control >> 2) as usize];
            format!("dr{i}: {on}, {len} byte{}", if len == 1 { "" } else { "s" })
        })
        .collect()
}

/// Bytes in hexadecimal, in the order given.
pub fn hex<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    bytes.into_iter().fold(String::new(), |mut out, byte| {
        // A String takes everything.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes as a hexadecimal number, the most significant first, as debuggers show a register.
pub fn register_hex(little_endian: &[u8]) -> String {
    hex(little_endian.iter().rev())
}

/// Name of an entry of the auxiliary vector.
pub fn aux_name(number: u32) -> &'static str {
    match number {
        0 => "AT_NULL",
        2 => "AT_EXECFD",
        3 => "AT_PHDR",
        4 => "AT_PHENT",
        5 => "AT_PHNUM",
        6 => "AT_PAGESZ",
        7 => "AT_BASE",
        8 => "AT_FLAGS",
        9 => "AT_ENTRY",
        11 => "AT_UID",
        12 => "AT_EUID",
        13 => "AT_GID",
        14 => "AT_EGID",
        15 => "AT_PLATFORM",
        16 => "AT_HWCAP",
        17 => "AT_CLKTCK",
        23 => "AT_SECURE",
        24 => "AT_BASE_PLATFORM",
        25 => "AT_RANDOM",
        26 => "AT_HWCAP2",
        27 => "AT_RSEQ_FEATURE_SIZE",
        28 => "AT_RSEQ_ALIGN",
        29 => "AT_HWCAP3",
        30 => "AT_HWCAP4",
        31 => "AT_EXECFN",
        32 => "AT_SYSINFO",
        33 => "AT_SYSINFO_EHDR",
        51 => "AT_MINSIGSTKSZ",
        _ => "AT_?",
    }
}

/// The auxiliary vector of a 32-bit program, AT_NULL left out.
pub fn auxv(bytes: &[u8]) -> Vec<(u32, u32)> {
    let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).take_while(|pair| pair.0 != 0).collect()
}

/// A size in the largest unit that keeps it above one.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time span from nanoseconds.
pub fn span(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{} us", nanoseconds / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

/// How long ago, in the largest unit.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Seconds since the epoch.
pub fn epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Date and time with the offset from UTC.
pub fn date(seconds: u64) -> String {
    let t = system::local_time(seconds);
    let sign = if t.offset < 0 { '-' } else { '+' };
    let offset = t.offset.abs();
    format!("{} {sign}{:02}{:02}", plain_date(&t), offset / 60, offset % 60)
}

fn plain_date(t: &system::LocalTime) -> String {
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

/// The time of day, with the date unless it is that of `now`.
pub fn clock(seconds: u64, now: u64) -> String {
    let t = system::local_time(seconds);
    let today = system::local_time(now);
    if (t.year, t.month, t.day) == (today.year, today.month, today.day) {
        format!("{:02}:{:02}:{:02}", t.hour, t.minute, t.second)
    } else {
        plain_date(&t)
    }
}

/// Arguments as a shell would take them.
pub fn command_line<T: AsRef<[u8]>>(args: &[T]) -> String {
    let quoted: Vec<String> = args.iter().map(|arg| quote(arg.as_ref())).collect();
    quoted.join(" ")
}

/// One argument as a shell would take it; other bytes than text are shown as `\x..` in `$'...'`.
pub fn quote(arg: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./=:,+@%^".contains(&b);
    if !arg.is_empty() && arg.iter().copied().all(plain) {
        return String::from_utf8_lossy(arg).into_owned();
    }
    match std::str::from_utf8(arg) {
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let mut out = String::from("$'");
            for &byte in arg {
                match byte {
                    b'\n' => out.push_str("\\n"),
                    b'\t' => out.push_str("\\t"),
                    b'\'' => out.push_str("\\'"),
                    b'\\' => out.push_str("\\\\"),
                    b' '..=b'~' => out.push(char::from(byte)),
                    _ => out.push_str(&format!("\\x{byte:02x}")),
                }
            }
            out.push('\'');
            out
        }
    }
}

/// Bytes of an image that are text, for a line of output.
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::little_endian::U32;

    #[test]
    fn flags_by_name() {
        assert_eq!(open_flags(0o102_001), "O_WRONLY|O_APPEND|O_LARGEFILE");
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(0o4_010_002), "O_RDWR|O_SYNC");
        assert_eq!(open_flags(0o10_000), "O_RDONLY|O_DSYNC");
        assert_eq!(open_flags(1 << 30), "O_RDONLY|0x40000000");
        assert_eq!(action_flags(0), "0");
        assert_eq!(action_flags(0x1400_0004), "SA_SIGINFO|SA_RESTORER|SA_RESTART");
        assert_eq!(eflags(0x246), "PF|ZF|IF");
        assert_eq!(eflags(0x24_0e02), "IF|DF|OF|AC|ID");
        assert_eq!(altstack_flags(2), "SS_DISABLE");
    }

    #[test]
    fn selectors() {
        assert_eq!(selector(0, 12), "null");
        assert_eq!(selector(0x23, 12), "user code");
        assert_eq!(selector(0x2b, 12), "user data");
        assert_eq!(selector(0x63, 12), "TLS slot 0");
        assert_eq!(selector(0x33, 6), "TLS slot 0");
        assert_eq!(selector(0x73, 6), "user code");
        assert_eq!(selector(0x0f, 12), "LDT entry 1");
        assert_eq!(selector(0x28, 12), "user data, privilege 0");
    }

    #[test]
    fn descriptors() {
        let mut entry = TlsEntry { flags: U32::new(0x51), ..TlsEntry::default() };
        assert_eq!(descriptor(&entry), "32-bit, data, limit in pages, useable");
        entry.flags = U32::new(0x2c);
        assert_eq!(descriptor(&entry), "16-bit, code, read/exec only, not present");
    }

    #[test]
    fn signal_sets() {
        assert_eq!(signal_set(0), "none");
        assert_eq!(signal_set((1 << 1) | (1 << 14) | (1 << 36)), "INT TERM RTMIN+3");
    }

    #[test]
    fn extended_numbers() {
        let number = |top: u16, mantissa: u64| {
            let mut bytes = [0; 10];
            bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
            bytes[8..].copy_from_slice(&top.to_le_bytes());
            extended(bytes)
        };
        assert_eq!(number(0, 0), "0");
        assert_eq!(number(0x8000, 0), "-0");
        assert_eq!(number(0x3fff, 1 << 63), "1");
        assert_eq!(number(0xc000, 3 << 62), "-3");
        assert_eq!(number(0x4000, 0xc90f_daa2_2168_c235), "3.141592653589793");
        assert_eq!(number(0x7fff, 1 << 63), "inf");
        assert_eq!(number(0x7fff, 3 << 62), "nan");
        assert_eq!(number(0x4000, 1), "unsupported");
        assert_eq!(number(0x7ffe, 1 << 63), "0x8000000000000000p+16320");
        assert_eq!(number(0, 1), "0x1p-16445");
    }

    #[test]
    fn x87_state() {
        let mut bytes = [0u8; 108];
        bytes[0..2].copy_from_slice(&0x037fu16.to_le_bytes());
        bytes[4..6].copy_from_slice(&0x3000u16.to_le_bytes()); // top 6
        bytes[8..10].copy_from_slice(&0x1fffu16.to_le_bytes()); // register 6 zero, 7 valid
        let x87 = X87::new(&bytes).expect("enough");
        assert_eq!(x87_control(x87.control()), "precision 64, rounding to nearest, masked: all");
        assert_eq!(x87_status(x87.status()), "top 6, raised: none");
        assert_eq!((x87.tag(0), x87.tag(1), x87.tag(2)), ("zero", "valid", "empty"));
        assert!(X87::new(&bytes[..107]).is_none());
        assert_eq!(mxcsr(0x1f80), "rounding to nearest, masked: all, raised: none");
        assert_eq!(mxcsr(0xe021), "rounding toward zero, masked: none, raised: invalid precision, flush to zero");
    }

    #[test]
    fn debug_registers() {
        assert_eq!(watchpoints(0), Vec::<String>::new());
        assert_eq!(watchpoints(0x000d_0001), ["dr0: write, 4 bytes"]);
        assert_eq!(watchpoints(0x0000_0008), ["dr1: execution, 1 byte"]);
    }

    #[test]
    fn sizes_and_spans() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(4096), "4.0 KiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(span(1_500), "1 us");
        assert_eq!(span(12_340_000), "12.3 ms");
        assert_eq!(span(2_000_000_000), "2.00 s");
        assert_eq!(age(119), "119 s");
        assert_eq!(age(7200), "2 h");
    }

    #[test]
    fn quoting() {
        assert_eq!(command_line(&["./app", "-x", "a b", "", "it's"]), "./app -x 'a b' '' 'it'\\''s'");
        assert_eq!(quote(b"a\xff\n"), "$'a\\xff\\n'");
        assert_eq!(text(b"a\nb\xff"), "a\\nb\u{fffd}");
        assert_eq!(register_hex(&[1, 2, 0xab]), "ab0201");
    }

    #[test]
    fn auxiliary_vector() {
        let words = [6u32, 4096, 25, 0xffff_0000, 0, 0, 7, 7];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(auxv(&bytes), [(6, 4096), (25, 0xffff_0000)]);
        assert_eq!(aux_name(25), "AT_RANDOM");
    }
}
