//! [NORMAL] Pseudo-terminals whose two ends are in the process.

use super::{Files, Subject};
use crate::format::files::{Pty, data_kind, file_kind};
use crate::format::image::{FileEntry, Image};
use crate::sys::pty::{self, TIOCPKT, TIOCSPTLCK};
use crate::sys::{Errno, fs as raw, process};
use std::os::fd::RawFd;
use zerocopy::FromBytes;

fn state_of(entry: &FileEntry) -> Option<Pty> {
    let item = entry.data_of(data_kind::PTY).next()?;
    Pty::read_from_bytes(&item.bytes).ok()
}

/// Makes the slave the controlling terminal of a session that this process leads. What leads a process group cannot have a
/// new session; it may lead one without a terminal, though.
fn take_control(master: RawFd) -> Result<(), Errno> {
    let slave = pty::open_slave(master, raw::O_RDWR | raw::O_NOCTTY | raw::O_NONBLOCK | raw::O_CLOEXEC)?;
    if process::getsid() != process::getpid() {
        process::setsid()?;
    }
    pty::take_control(slave.0)
}

/// With all that a description of a terminal may be opened with.
fn flags_of(entry: &FileEntry) -> u32 {
    entry.file.flags.get() & (raw::O_ACCMODE | raw::O_NONBLOCK) | raw::O_NOCTTY | raw::O_CLOEXEC
}

impl Files {
    /// Makes every pseudo-terminal of which the process had the master.
    pub(super) fn open_ptys(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        for entry in image.files.iter().filter(|entry| entry.file.kind.get() == file_kind::PTY_MASTER) {
            let Some(state) = state_of(entry) else { continue };
            let id = entry.file.id.get();
            let failed = |errno: Errno| format!("cannot make the pseudo-terminal of FILE {id} again: {errno}");
            let master = raw::OwnedFd(raw::open_exactly(b"/dev/ptmx\0", flags_of(entry)).map_err(failed)?);
            self.set_up_pty(image, entry, &state, master.0).map_err(failed)?;
            match pty::get_number(master.0, pty::TIOCGPTN) {
                Ok(index) if index == state.index.get() => {}
                Ok(index) => {
                    warn(format!("the program's terminal /dev/pts/{} is /dev/pts/{index} now", state.index.get()))
                }
                Err(errno) => return Err(failed(errno)),
            }
            let high = self.above(master.0)?;
            self.made.insert(id, high);
        }
        Ok(())
    }

    /// When all terminals are there: from now on /dev/tty is another one.
    pub(super) fn take_control(&self, image: &Image, warn: &mut dyn FnMut(String)) {
        for entry in image.files.iter().filter(|entry| entry.data_of(data_kind::PTY_CONTROLS).next().is_some()) {
            let id = entry.file.id.get();
            if let Err(errno) = take_control(self.fds[id as usize]) {
                warn(format!("the pseudo-terminal of FILE {id} cannot be the controlling terminal again: {errno}"));
            }
        }
    }

    fn set_up_pty(&mut self, image: &Image, entry: &FileEntry, state: &Pty, master: RawFd) -> Result<(), Errno> {
        pty::set_number(master, TIOCSPTLCK, 0)?;
        let is_slave = |other: &&FileEntry| {
            other.file.kind.get() == file_kind::PTY_SLAVE
                && other.file.rdev.get() & 0xffff_ffff == state.index.get().into()
        };
        for slave in image.files.iter().filter(is_slave) {
            let fd = pty::open_slave(master, flags_of(slave))?;
            let high = raw::fcntl(fd.0, raw::F_DUPFD_CLOEXEC, self.floor as usize)? as RawFd;
            self.made.insert(slave.file.id.get(), high);
        }
        if state.locked.get() == 0 {
            // A slave that was opened and closed leaves a master that is told so.
            let own = pty::open_slave(master, raw::O_RDWR | raw::O_NOCTTY | raw::O_NONBLOCK | raw::O_CLOEXEC)?;
            pty::set_termios(own.0, &pty::plain(&state.termios))?;
            let pause = || std::thread::sleep(std::time::Duration::from_millis(1));
            for item in &entry.data {
                match item.data.what.get() {
                    data_kind::PTY_OUTPUT => pty::write_all(own.0, &item.bytes, pause)?,
                    data_kind::PTY_INPUT => {
                        let in_lines = pty::has_lines(&state.termios);
                        if in_lines {
                            pty::write_lines(master, own.0, &state.termios, &mut item.bytes.clone(), pause)?;
                        } else {
                            pty::write_all(master, &item.bytes, pause)?;
                        }
                        pty::await_arrival(own.0, &item.bytes, in_lines, pause);
                    }
                    _ => {}
                }
            }
            pty::set_termios(own.0, &state.termios)?;
        }
        pty::set_winsize(master, &state.winsize)?;
        pty::set_number(master, TIOCPKT, state.packets.get())?;
        pty::set_number(master, TIOCSPTLCK, state.locked.get())
    }

    pub(super) fn pty(&mut self, subject: &Subject<'_>) -> Result<RawFd, String> {
        let id = subject.entry.file.id.get();
        self.made.remove(&id).ok_or_else(|| format!("fd {}: its pseudo-terminal is not in the image", subject.fds()))
    }
}
