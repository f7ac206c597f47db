//! [SIGNAL, NORMAL] Pseudo-terminals: thin wrappers around their ioctl(2) operations.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right length.

use super::fs::OwnedFd;
use super::{Errno, call, fs, nr};

/// struct termios2: c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc[19], c_ispeed, c_ospeed.
pub type Termios = [u8; 44];
pub type Winsize = [u8; 8];

pub const TIOCPKT: usize = 0x5420;
pub const TIOCSPTLCK: usize = 0x4004_5431;
pub const TIOCGPKT: usize = 0x8004_5438;
pub const TIOCGPTLCK: usize = 0x8004_5439;
pub const TIOCGPTN: usize = 0x8004_5430;

fn ioctl(fd: i32, op: usize, arg: usize) -> Result<usize, Errno> {
    // SAFETY: the callers pass what the operation takes.
    unsafe { call!(nr::IOCTL, fd, op, arg) }
}

pub fn get_number(fd: i32, op: usize) -> Result<u32, Errno> {
    let mut out = 0u32;
    ioctl(fd, op, &raw mut out as usize)?;
    Ok(core::hint::black_box(out))
}

pub fn set_number(fd: i32, op: usize, value: u32) -> Result<(), Errno> {
    ioctl(fd, op, &raw const value as usize).map(drop)
}

/// Asked of a master, the settings are those of its slave.
pub fn termios(fd: i32) -> Result<Termios, Errno> {
    const TCGETS2: usize = 0x802c_542a;
    let mut out: Termios = [0; 44];
    ioctl(fd, TCGETS2, out.as_mut_ptr() as usize)?;
    Ok(core::hint::black_box(out))
}

pub fn set_termios(fd: i32, termios: &Termios) -> Result<(), Errno> {
    const TCSETS2: usize = 0x402c_542b;
    ioctl(fd, TCSETS2, termios.as_ptr() as usize).map(drop)
}

pub fn winsize(fd: i32) -> Result<Winsize, Errno> {
    const TIOCGWINSZ: usize = 0x5413;
    let mut out: Winsize = [0; 8];
    ioctl(fd, TIOCGWINSZ, out.as_mut_ptr() as usize)?;
    Ok(core::hint::black_box(out))
}

pub fn set_winsize(fd: i32, winsize: &Winsize) -> Result<(), Errno> {
    const TIOCSWINSZ: usize = 0x5414;
    ioctl(fd, TIOCSWINSZ, winsize.as_ptr() as usize).map(drop)
}

/// The session of a slave that is the controlling terminal of this process; of another terminal the kernel does not tell it.
pub fn session(slave: i32) -> Option<u32> {
    const TIOCGSID: usize = 0x5429;
    get_number(slave, TIOCGSID).ok()
}

/// Makes a slave the controlling terminal of the session that this process leads.
pub fn take_control(slave: i32) -> Result<(), Errno> {
    const TIOCSCTTY: usize = 0x540e;
    ioctl(slave, TIOCSCTTY, 0).map(drop)
}

/// The device that a descriptor of /dev/tty leads to, as major and minor number.
pub fn device(tty: i32) -> Option<(u32, u32)> {
    const TIOCGDEV: usize = 0x8004_5432;
    let device = get_number(tty, TIOCGDEV).ok()?;
    Some((device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00))
}

/// Opens the slave of a master, whatever is mounted on /dev/pts.
pub fn open_slave(master: i32, flags: u32) -> Result<OwnedFd, Errno> {
    const TIOCGPTPEER: usize = 0x5441;
    ioctl(master, TIOCGPTPEER, flags as usize).map(|fd| OwnedFd(fd as i32))
}

/// Neither way of the terminal changes a byte: no post-processing, no echo, no signals, no lines.
pub fn plain(termios: &Termios) -> Termios {
    const IXON: u32 = 0x400;
    const OPOST: u32 = 1;
    const ISIG_ICANON_ECHO_IEXTEN: u32 = 1 | 2 | 8 | 0x8000 | 0x40;
    let mut plain = *termios;
    let mut keep = |at: usize, mask: u32| {
        if let Some(Ok(place)) = plain.get_mut(at..at + 4).map(<&mut [u8; 4]>::try_from) {
            *place = (u32::from_le_bytes(*place) & mask).to_le_bytes();
        }
    };
    keep(0, IXON);
    keep(4, !OPOST);
    keep(12, !ISIG_ICANON_ECHO_IEXTEN);
    plain
}

/// In the first byte of c_lflag: input comes in lines.
const ICANON: u8 = 2;

/// Whether input comes in lines.
pub fn has_lines(termios: &Termios) -> bool {
    termios.get(12).is_some_and(|flags| flags & ICANON != 0)
}

/// Settings with which bytes that are written come out as the lines that they were, complete and begun ones. The end of a
/// line without a newline (VEOF) is a zero byte where it is read without lines; it has to be written as the byte that is
/// returned. `None` if there is no such byte.
pub fn lines(termios: &Termios, bytes: &[u8]) -> Option<(Termios, u8)> {
    const CONTROL_CHARACTERS: core::ops::Range<usize> = 17..36;
    const VEOF: usize = 4;
    const VEOL: usize = 11;
    const VEOL2: usize = 16;
    let mut lines = plain(termios);
    *lines.get_mut(12)? |= ICANON;
    let control = lines.get_mut(CONTROL_CHARACTERS)?;
    let ends = [b'\n', *control.get(VEOL)?, *control.get(VEOL2)?];
    let end = (1..=u8::MAX).find(|byte| !ends.contains(byte) && !bytes.contains(byte))?;
    for (number, place) in control.iter_mut().enumerate() {
        match number {
            VEOF => *place = end,
            VEOL | VEOL2 => {}
            _ => *place = 0,
        }
    }
    Some((lines, end))
}

/// Writes to one end what waited in the other. More than fits would never be read, and so is an error. The kernel's queue
/// takes pieces of this size without losing room, and so all that was in it; each may take five seconds to pass.
pub fn write_all(fd: i32, bytes: &[u8], mut pause: impl FnMut()) -> Result<(), Errno> {
    const PIECE: usize = 256;
    let writable = || fs::poll_now(fd, fs::POLLOUT).is_ok_and(|got| got & fs::POLLOUT != 0);
    for piece in bytes.chunks(PIECE) {
        let mut waited = 0;
        while !writable() {
            if waited == PATIENCE_MS {
                return Err(Errno::EAGAIN);
            }
            pause();
            waited += 1;
        }
        fs::write_all(fd, piece)?;
    }
    Ok(())
}

/// Writes to the master what waited in a slave that reads lines; without settings for it, as one line. Exchanges zeros
/// in `bytes` for the while. `pause` takes a millisecond.
pub fn write_lines(
    master: i32,
    slave: i32,
    termios: &Termios,
    bytes: &mut [u8],
    pause: impl FnMut(),
) -> Result<(), Errno> {
    let exchange = |bytes: &mut [u8], from: u8, to: u8| {
        bytes.iter_mut().filter(|byte| **byte == from).for_each(|byte| *byte = to);
    };
    let Some((settings, end)) = lines(termios, bytes) else { return write_all(master, bytes, pause) };
    set_termios(slave, &settings)?;
    exchange(bytes, 0, end);
    let result = write_all(master, bytes, pause);
    exchange(bytes, end, 0);
    result
}

const PATIENCE_MS: u32 = 5_000;

/// Waits, at most five seconds, until what was written to the other end has passed the kernel's queue. `pause` takes a
/// millisecond.
pub fn await_arrival(fd: i32, bytes: &[u8], in_lines: bool, mut pause: impl FnMut()) {
    const BUFFER: usize = 4095;
    // What the terminal's own buffer holds is all that is counted; the rest waits before it as it did.
    let held = bytes.get(..BUFFER).unwrap_or(bytes);
    // Of lines the complete ones are counted; what is behind them arrives in one piece with them.
    let complete = held.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let counted = if in_lines { complete } else { held.len() };
    for _ in 0..PATIENCE_MS {
        let _ = fs::poll_now(fd, fs::POLLIN);
        if fs::bytes_to_read(fd).unwrap_or(0) >= counted {
            return;
        }
        pause();
    }
}
