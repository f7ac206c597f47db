//! [NORMAL] What waited in a socket: messages, or pieces of a stream, with what comes beside them.
#![allow(unsafe_code)] // sendmsg(2).

use super::Files;
use crate::format::files::{data_kind, socket_end, socket_role};
use crate::format::image::{FileEntry, Image};
use crate::restore::check_files::socket_of;
use crate::sys::socket::{SOCK_STREAM, SOL_SOCKET};
use std::io::{Error, ErrorKind};
use std::os::fd::RawFd;
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

/// A message of an image.
#[derive(Default)]
pub(super) struct Message<'a> {
    /// Its sender's name, if it has one.
    pub from: Option<&'a [u8]>,
    /// Its sender's user and group, if the socket wants them.
    credentials: Option<[u32; 2]>,
    /// FILEs whose descriptors come with it.
    rights: Vec<u32>,
    pub bytes: &'a [u8],
}

/// All that waits in a socket, in order.
pub(super) fn messages(entry: &FileEntry) -> impl Iterator<Item = Message<'_>> {
    let mut next = Message::default();
    entry.data.iter().filter_map(move |item| {
        let numbers = || <[U32]>::ref_from_bytes(&item.bytes).unwrap_or(&[]);
        match item.data.what.get() {
            data_kind::SOCKET_FROM => next.from = Some(&item.bytes),
            data_kind::SOCKET_CREDENTIALS => {
                next.credentials = <&[U32; 2]>::try_from(numbers()).ok().map(|ids| ids.map(U32::get));
            }
            data_kind::SOCKET_RIGHTS => next.rights = numbers().iter().map(|file| file.get()).collect(),
            data_kind::SOCKET_BYTES => {
                return Some(Message { bytes: &item.bytes, ..std::mem::take(&mut next) });
            }
            _ => {}
        }
        None
    })
}

pub(super) fn has_rights(entry: &FileEntry) -> bool {
    entry.data_of(data_kind::SOCKET_RIGHTS).next().is_some()
}

/// Sends one; nothing may have to wait. `files` are the descriptors by FILE id.
fn send_once(from: RawFd, to: Option<&[u8]>, message: &Message<'_>, files: &[RawFd]) -> Result<usize, Error> {
    let mut control: Vec<u32> = Vec::new();
    let mut add = |what: libc::c_int, payload: &[u32]| {
        // struct cmsghdr of i386.
        control.extend([4 * (3 + payload.len() as u32), SOL_SOCKET, what as u32]);
        control.extend(payload);
    };
    if let Some([uid, gid]) = message.credentials {
        add(libc::SCM_CREDENTIALS, &[std::process::id(), uid, gid]);
    }
    if !message.rights.is_empty() {
        let fds: Vec<u32> = message.rights.iter().map(|&file| files[file as usize] as u32).collect();
        add(libc::SCM_RIGHTS, &fds);
    }
    let mut iov = libc::iovec { iov_base: message.bytes.as_ptr().cast_mut().cast(), iov_len: message.bytes.len() };
    // SAFETY: all zeros are a struct msghdr.
    let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
    head.msg_iov = &raw mut iov;
    head.msg_iovlen = 1;
    if let Some(name) = to {
        head.msg_name = name.as_ptr().cast_mut().cast();
        head.msg_namelen = name.len() as u32;
    }
    if !control.is_empty() {
        head.msg_control = control.as_mut_ptr().cast();
        head.msg_controllen = size_of_val(control.as_slice());
    }
    // SAFETY: the kernel reads what `head` points to, all of which lives on to the end of this function.
    let sent = unsafe { libc::sendmsg(from, &raw const head, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(Error::last_os_error()) } else { Ok(sent as usize) }
}

/// The same, as another user if the message's one may not be claimed.
pub(super) fn send(
    from: RawFd,
    to: Option<&[u8]>,
    message: &mut Message<'_>,
    files: &[RawFd],
    warn: &mut dyn FnMut(String),
) -> Result<usize, Error> {
    match (send_once(from, to, message, files), message.credentials) {
        (Err(error), Some([uid, gid])) if error.kind() == ErrorKind::PermissionDenied => {
            warn(format!(
                "a message that waits in a socket was sent as user {uid}, group {gid}, which it is no longer"
            ));
            message.credentials = None;
            send_once(from, to, message, files)
        }
        (result, _) => result,
    }
}

/// Sends what waited in `entry` from its other end.
pub(super) fn fill(
    from: RawFd,
    entry: &FileEntry,
    files: &[RawFd],
    warn: &mut dyn FnMut(String),
) -> Result<(), String> {
    let stream = socket_of(entry).is_some_and(|socket| socket.kind.get() == SOCK_STREAM);
    let failed = |why| format!("what waited in FILE {} cannot be put back: {why}", entry.file.id.get());
    for mut message in messages(entry) {
        loop {
            let n = send(from, None, &mut message, files, warn).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => failed(format!("{} bytes do not fit", message.bytes.len())),
                _ => failed(error.to_string()),
            })?;
            message.bytes = &message.bytes[n..];
            message.rights.clear();
            if message.bytes.is_empty() || !stream {
                break;
            }
        }
    }
    Ok(())
}

/// Ends one way, or both, of a socket. One that is shut down already is as it should be.
pub(super) fn shut_down(fd: RawFd, how: libc::c_int) {
    // SAFETY: takes numbers.
    unsafe { libc::shutdown(fd, how) };
}

/// The same in a pair, whose other end has sent it and may have ended then.
pub(super) fn fill_and_end(
    from: RawFd,
    [entry, sender]: [&FileEntry; 2],
    files: &[RawFd],
    warn: &mut dyn FnMut(String),
) -> Result<(), String> {
    fill(from, entry, files, warn)?;
    if socket_of(sender).is_some_and(|socket| socket.ended.get() & socket_end::SENT != 0) {
        shut_down(from, libc::SHUT_WR);
    }
    Ok(())
}

impl Files {
    /// In pairs, and from peers that have gone: messages with descriptors, when all those are there.
    pub(super) fn send_rights(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        for entry in image.files.iter().filter(|entry| has_rights(entry)) {
            if let Some(gone) = self.gone.remove(&entry.file.id.get()) {
                fill(gone.0, entry, &self.fds, warn)?;
                continue;
            }
            let Some(socket) = socket_of(entry).filter(|socket| socket.role.get() == socket_role::PAIR) else {
                continue;
            };
            let peer = socket.peer.get() as usize;
            fill_and_end(self.fds[peer], [entry, &image.files[peer]], &self.fds, warn)?;
        }
        Ok(())
    }
}
