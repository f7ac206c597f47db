//! [NORMAL] POSIX message queues: one that is still there is filled anew, unless another process has it; one that is
//! gone is made again.

use super::{Files, Subject};
use crate::format::files::{Queue as State, data_kind, file_kind, queue_flag};
use crate::format::image::Image;
use crate::sys::mqueue::{self, Attributes};
use crate::sys::{Errno, fs as raw};
use std::os::fd::RawFd;
use zerocopy::FromBytes;

/// A queue while its descriptions are opened.
#[derive(Clone, Copy)]
pub(super) struct Queue {
    /// For reading and writing.
    fd: RawFd,
    /// What is in the image takes the place of what is in it.
    fill: bool,
    /// Permissions of one that was made here.
    mode: Option<u32>,
}

impl Files {
    pub(super) fn queue(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let file = &subject.entry.file;
        let key = (file.dev.get(), file.ino.get());
        let queue = match self.queues.get(&key) {
            Some(queue) => *queue,
            None => {
                let queue = self.find_queue(subject, warn)?;
                self.queues.insert(key, queue);
                queue
            }
        };
        let flags = file.flags.get() & (raw::O_ACCMODE | raw::O_NONBLOCK);
        self.opened(format!("/proc/self/fd/{}\0", queue.fd).as_bytes(), flags)
            .map_err(|errno| format!("fd {}: cannot open {} again: {errno}", subject.fds(), describe(subject)))
    }

    fn find_queue(&self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<Queue, String> {
        let failed =
            |what: &str, errno: Errno| format!("fd {}: cannot {what} {}: {errno}", subject.fds(), describe(subject));
        let state = state_of(subject)?;
        let saved = state.flags.get() & queue_flag::NOT_SAVED == 0;
        let deleted = state.flags.get() & queue_flag::DELETED != 0;
        let name = match deleted {
            true => format!("selfckpt-{}-{}\0", std::process::id(), subject.entry.file.id.get()).into_bytes(),
            false => subject.path_nul()[1..].to_vec(),
        };
        let flags = raw::O_RDWR | raw::O_NONBLOCK | raw::O_CLOEXEC;
        if !deleted {
            match mqueue::open(&name, flags) {
                Ok(found) => {
                    let (fill, fd) = (self.may_fill(subject, &state, found.0, warn)?, self.above(found.0)?);
                    return Ok(Queue { fd, fill: fill && saved, mode: None });
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("open", errno)),
            }
        }
        if !saved {
            warn(format!("{} is gone and there again without messages", describe(subject)));
        }
        let attributes =
            Attributes { max_messages: state.max_messages.get(), message_size: state.message_size.get(), messages: 0 };
        let made = mqueue::create(&name, flags | raw::O_CREAT | raw::O_EXCL, 0o600, attributes);
        let made = made.map_err(|errno| failed("make again", errno))?;
        if deleted {
            mqueue::unlink(&name).map_err(|errno| failed("remove the name of", errno))?;
        }
        Ok(Queue { fd: self.above(made.0)?, fill: saved, mode: Some(subject.entry.file.mode.get() & 0o7777) })
    }

    /// Looks at a queue that is there: it has to be as it was, and is left alone if another process has it.
    fn may_fill(
        &self,
        subject: &Subject<'_>,
        state: &State,
        fd: RawFd,
        warn: &mut dyn FnMut(String),
    ) -> Result<bool, String> {
        let failed = |errno: Errno| format!("fd {}: cannot look at {}: {errno}", subject.fds(), describe(subject));
        let now = mqueue::attributes(fd).map_err(failed)?;
        let (messages, size) = (state.max_messages.get(), state.message_size.get());
        if (now.max_messages, now.message_size) != (messages, size) {
            return Err(format!(
                "fd {}: {} is another one than at the checkpoint: it holds {} messages of {} bytes instead of {messages} \
                 of {size}; remove it, or restart when it is not needed any more",
                subject.fds(),
                describe(subject),
                now.max_messages,
                now.message_size
            ));
        }
        if mqueue::is_open_elsewhere(fd) {
            warn(format!("{} is open in another process: its messages are left as they are", describe(subject)));
            return Ok(false);
        }
        Ok(true)
    }

    /// Puts the messages in. Whatever had come since the checkpoint goes.
    pub(super) fn fill_queues(&self, image: &Image) -> Result<(), String> {
        for entry in image.files.iter().filter(|entry| entry.file.kind.get() == file_kind::QUEUE) {
            let queue = self.queues.get(&(entry.file.dev.get(), entry.file.ino.get()));
            // What belongs to the queue stands with one FILE of it.
            let first = entry.data_of(data_kind::QUEUE).next().is_some();
            let Some(queue) = queue.filter(|_| first) else { continue };
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let failed = |errno: Errno| format!("cannot fill the POSIX message queue {name}: {errno}");
            if queue.fill {
                let mut out = vec![0; mqueue::attributes(queue.fd).map_err(failed)?.message_size as usize];
                while mqueue::receive(queue.fd, &mut out).is_ok() {}
                for item in entry.data_of(data_kind::QUEUE_MESSAGE) {
                    mqueue::send(queue.fd, &item.bytes, item.data.offset.get() as u32).map_err(failed)?;
                }
            }
            if let Some(mode) = queue.mode {
                raw::fchmod(queue.fd, mode).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn describe(subject: &Subject<'_>) -> String {
    format!("the POSIX message queue {}", subject.path())
}

fn state_of(subject: &Subject<'_>) -> Result<State, String> {
    subject
        .object_data_of(data_kind::QUEUE)
        .and_then(|item| State::read_from_bytes(&item.bytes).ok())
        .ok_or_else(|| format!("fd {}: the image does not tell what {} is", subject.fds(), describe(subject)))
}
