//! [SIGNAL] Pseudo-terminals whose master is in the process. What waits in them cannot be peeked: it is read, and
//! written once more from the other end, with settings that change nothing of it.

use super::{Saver, Subject};
use crate::capture::failure::{Failure, fail};
use crate::capture::notices::notice;
use crate::capture::scratch::FdSlot;
use crate::format::files::{Pty, data_kind, file_kind};
use crate::format::notice::code;
use crate::sys::abi::makedev;
use crate::sys::fs::{self, POLLIN, POLLOUT};
use crate::sys::pty::{self, TIOCGPKT, TIOCGPTLCK, TIOCGPTN, TIOCPKT, Termios};
use crate::sys::{Errno, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

// Ends of sockets with these two bits have no others above the lowest sixteen.
const MASTER: u64 = (3 << 62) | (1 << 33);
const SLAVE: u64 = (3 << 62) | (1 << 34);

/// Numbers the two ends of a pseudo-terminal.
pub fn find_end(slot: &mut FdSlot) {
    const SLAVES: u32 = 136;
    // The controlling terminal has a name that fits all; it may be one of the process's own.
    if let Some((SLAVES, index)) = (slot.rdev == makedev(5, 0)).then(|| pty::device(slot.fd)).flatten() {
        slot.rdev = makedev(SLAVES, index);
    }
    let major = slot.rdev >> 32;
    if slot.rdev == makedev(5, 2) {
        if let Ok(index) = pty::get_number(slot.fd, TIOCGPTN) {
            slot.end = MASTER | u64::from(index);
            slot.peer_end = SLAVE | u64::from(index);
        }
    } else if major == u64::from(SLAVES) {
        let index = slot.rdev & 0xffff_ffff;
        slot.end = SLAVE | index;
        slot.peer_end = MASTER | index;
    }
}

fn hung_up(fd: i32) -> bool {
    fs::poll_now(fd, 0).is_ok_and(|got| got & fs::POLLHUP != 0)
}

pub fn classify(subject: &Subject<'_>) -> Option<u32> {
    let slot = subject.slot;
    let other_is_here = subject.table.of_end(slot.peer_end).is_some();
    if slot.end & MASTER == MASTER {
        let locked = || pty::get_number(slot.fd, TIOCGPTLCK).is_ok_and(|locked| locked != 0);
        // Else somebody else has the slave.
        let ours = other_is_here || hung_up(slot.fd) || locked();
        return Some(if ours { file_kind::PTY_MASTER } else { file_kind::CLOSED_PEER });
    }
    (slot.end & SLAVE == SLAVE && other_is_here).then_some(file_kind::PTY_SLAVE)
}

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let (fd, file) = (subject.slot.fd, subject.slot.file);
    let failed = |errno| fail!(errno, "cannot look at the terminal fd {fd}");
    let termios = pty::termios(fd).map_err(failed)?;
    let packets = pty::get_number(fd, TIOCGPKT).map_err(failed)?;
    let state = Pty {
        index: U32::new(pty::get_number(fd, TIOCGPTN).map_err(failed)?),
        locked: U32::new(pty::get_number(fd, TIOCGPTLCK).map_err(failed)?),
        packets: U32::new(packets),
        hung_up: U32::new(hung_up(fd).into()),
        termios,
        winsize: pty::winsize(fd).map_err(failed)?,
    };
    saver.data(file, data_kind::PTY, 0, state.as_bytes())?;
    let slave = subject.table.of_end(subject.slot.peer_end);
    let Some(slave) = slave else {
        return note_waiting(saver, fd, "output of a terminal without a slave", fs::bytes_to_read(fd).unwrap_or(0));
    };
    match pty::session(slave.fd) {
        Some(session) if session == subject.table.program.pid => saver.data(file, data_kind::PTY_CONTROLS, 0, &[])?,
        Some(_) => notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the pseudo-terminal fd {} is the controlling terminal of the process, which another one has made it; after \
             a restart it is not",
            slave.fd
        ),
        None => {}
    }
    // Polling makes what is on the way arrive.
    let readable = |fd| fs::poll_now(fd, POLLIN).is_ok_and(|got| got & POLLIN != 0);
    let in_lines = pty::has_lines(&termios);
    // Of a line that is only begun nothing can be seen.
    let (output, input) = (readable(fd), in_lines || readable(slave.fd));
    if !output && !input {
        return Ok(());
    }
    let own = pty::open_slave(fd, fs::O_RDWR | fs::O_NOCTTY | fs::O_NONBLOCK | fs::O_CLOEXEC).map_err(failed)?;
    let writable = |fd| fs::poll_now(fd, POLLOUT).is_ok_and(|got| got & POLLOUT != 0);
    if !writable(own.0) || !writable(fd) {
        return note_waiting(saver, fd, "bytes of a stopped terminal", fs::bytes_to_read(fd).unwrap_or(0));
    }
    let plain = pty::plain(&termios);
    pty::set_termios(own.0, &plain).map_err(failed)?;
    if packets != 0 {
        pty::set_number(fd, TIOCPKT, 0).map_err(failed)?;
    }
    let mut move_both = || {
        if output {
            let len = take_and_return(saver, fd, own.0, None)?;
            saver.data_in_buf(file, data_kind::PTY_OUTPUT, 0, len)?;
        }
        if input {
            let len = take_and_return(saver, own.0, fd, in_lines.then_some(&termios))?;
            if len != 0 {
                saver.data_in_buf(file, data_kind::PTY_INPUT, 0, len)?;
            }
        }
        Ok(())
    };
    let result = move_both();
    if packets != 0 {
        pty::set_number(fd, TIOCPKT, 1).map_err(failed)?;
    }
    pty::set_termios(own.0, &termios).map_err(failed)?;
    result
}

fn note_waiting(saver: &mut Saver<'_, '_, '_>, fd: i32, what: &str, waiting: usize) -> Result<(), Failure> {
    if waiting != 0 {
        notice!(saver.notices, code::STATE_NOT_SAVED, fd as u64, "{waiting} {what} that wait in fd {fd} are not saved");
    }
    Ok(())
}

/// Reads what waits in `from` into the buffer and writes it to `to`, the other end, as `lines` if `from` has these
/// settings. Returns how much.
fn take_and_return(
    saver: &mut Saver<'_, '_, '_>,
    from: i32,
    to: i32,
    lines: Option<&Termios>,
) -> Result<usize, Failure> {
    let lost = |errno| fail!(errno, "bytes that waited in the terminal fd {from} are lost to the program");
    let mut len = 0;
    while fs::poll_now(from, POLLIN).is_ok_and(|got| got & POLLIN != 0) {
        let room = saver.buf.get_mut(len..).unwrap_or(&mut []);
        match fs::read(from, room) {
            Ok(0) | Err(Errno::EAGAIN) => break,
            Ok(n) => len += n,
            Err(errno) => return Err(lost(errno)),
        }
    }
    if len == 0 {
        return Ok(0);
    }
    let bytes = saver.buf.get_mut(..len).unwrap_or(&mut []);
    let pause = || process::pause_ms(1);
    match lines {
        Some(termios) => pty::write_lines(to, from, termios, bytes, pause),
        None => pty::write_all(to, bytes, pause),
    }
    .map_err(lost)?;
    // They pass through a queue of the kernel, and must arrive before the settings change.
    pty::await_arrival(from, bytes, lines.is_some(), pause);
    Ok(len)
}
