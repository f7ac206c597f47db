//! [NORMAL] What comes from the restarting command, and what stands for a peer that has gone.
#![allow(unsafe_code)] // pipe(2), socketpair(2), isatty(3).

use super::regular::REOPEN;
use super::{Files, Subject, raise_from};
use crate::sys::abi::{S_IFIFO, S_IFMT};
use crate::sys::fs as raw;
use std::os::fd::RawFd;

impl Files {
    /// A pipe or socket to another process: the restarting command's descriptor of the same number.
    pub(super) fn stream(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let given = subject.users.iter().map(|&fd| fd as RawFd).find(|&fd| is_inherited(fd));
        if let Some(fd) = given {
            return self.command_stream(fd, warn);
        }
        if let Some(fd) = subject.users.iter().find(|&&fd| fd <= 2) {
            return self.command_stream(*fd as RawFd, warn);
        }
        warn(format!(
            "fd {} led to another process ({}), and this command has no such descriptor: it stands as if its peer had \
             closed",
            subject.fds(),
            subject.path()
        ));
        self.closed_peer(subject, warn)
    }

    /// The restarting command's own stream.
    pub(super) fn command_stream(&mut self, fd: RawFd, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        match raw::fcntl(fd, raw::F_DUPFD_CLOEXEC, self.floor as usize) {
            Ok(high) => Ok(high as RawFd),
            Err(crate::sys::Errno(9)) => {
                warn(format!("fd {fd} of this command is closed; the program gets /dev/null"));
                self.opened(b"/dev/null\0", raw::O_RDWR).map_err(|errno| format!("cannot open /dev/null: {errno}"))
            }
            Err(errno) => Err(format!("cannot pass fd {fd} on: {errno}")),
        }
    }

    /// A terminal on another descriptor than 0, 1, 2: the controlling one, or what this command has.
    pub(super) fn terminal(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        if let Ok(fd) = self.opened(b"/dev/tty\0", subject.entry.file.flags.get() & REOPEN) {
            return Ok(fd);
        }
        for fd in 0..=2 {
            // SAFETY: takes a number.
            if unsafe { libc::isatty(fd) } == 1 {
                return self.command_stream(fd, warn);
            }
        }
        warn(format!(
            "fd {} was the terminal {}; there is none here, it stands as if its peer had closed",
            subject.fds(),
            subject.path()
        ));
        self.closed_peer(subject, warn)
    }

    /// What reads as the end of file and refuses writes with EPIPE.
    pub(super) fn closed_peer(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let mut pair = [0 as RawFd; 2];
        let pipe = file.mode.get() & S_IFMT == S_IFIFO;
        let result = if pipe {
            // SAFETY: `pair` takes two descriptors.
            unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC) }
        } else {
            // SAFETY: as above.
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) }
        };
        if result != 0 {
            return Err(format!("cannot make a closed pipe: {}", std::io::Error::last_os_error()));
        }
        let writes = pipe && file.flags.get() & raw::O_ACCMODE == raw::O_WRONLY;
        if pipe && !writes {
            // What it had not read yet comes before the end.
            self.fill_pipe(subject, pair[1], warn)?;
        }
        let kept = raw::OwnedFd(pair[usize::from(writes)]);
        raw::close(pair[usize::from(!writes)]);
        let high = raise_from(kept.0, self.floor)?;
        // O_NONBLOCK belongs to the description; a failure leaves a blocking descriptor that never
        // blocks, since its peer is closed.
        let _ = raw::fcntl(high, raw::F_SETFL, (file.flags.get() & raw::O_NONBLOCK) as usize);
        Ok(high)
    }
}

/// Whether the command that restarts passed this descriptor on; its own are closed on exec.
fn is_inherited(fd: RawFd) -> bool {
    raw::fcntl(fd, raw::F_GETFD, 0).is_ok_and(|flags| flags & 1 == 0)
}
