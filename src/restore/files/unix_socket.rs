//! [NORMAL] UNIX sockets with names, and messages that wait in datagram sockets.

use super::Files;
use super::message::{messages, send, shut_down};
use super::socket::{Owned, accept, bind, connect, listen, make, name_of, option, pair, peer_name_of, shown};
use crate::format::files::{Socket, socket_end, socket_role};
use crate::format::image::{FileEntry, Image};
use crate::restore::check_files::socket_of;
use crate::sys::fs as raw;
use crate::sys::socket::{self as raw_socket, AF_INET, AF_INET6, AF_UNIX, SO_PASSCRED, SOCK_DGRAM, SOL_SOCKET};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Error;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;

/// More than sun_path alone: the family before it.
const NO_NAME: usize = 2;

fn has_name(socket: &Socket) -> bool {
    name_of(socket).len() > NO_NAME
}

/// Its name, if that is one of the file system.
fn path_of(socket: &Socket) -> Option<PathBuf> {
    let path = name_of(socket).get(NO_NAME..)?.split(|&byte| byte == 0).next()?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

/// A name in the file system is relative to the directory in which the program was.
fn in_its_directory<T>(image: &Image, make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let here = std::env::current_dir();
    let moved = here.is_ok() && std::env::set_current_dir(OsStr::from_bytes(&image.cwd)).is_ok();
    let result = make();
    if let (Ok(here), true) = (here, moved) {
        std::env::set_current_dir(here).map_err(|error| format!("cannot go back to the working directory: {error}"))?;
    }
    result
}

/// Binds to a name. A dead socket of that name, as the killed program has left it, gives way.
fn bind_unix(fd: RawFd, socket: &Socket) -> Result<(), String> {
    let name = name_of(socket);
    let failed = |why: String| format!("cannot bind to {}: {why}", shown(name));
    let Some(path) = path_of(socket) else { return bind(fd, name).map_err(failed) };
    if let Ok(found) = std::fs::symlink_metadata(&path) {
        if !found.file_type().is_socket() {
            return Err(failed("there is a file of that name, which is no socket".to_string()));
        }
        let probe = make(socket).map_err(failed)?;
        if connect(probe.0, name).is_ok() || Error::last_os_error().raw_os_error() != Some(libc::ECONNREFUSED) {
            return Err(failed("another process has it".to_string()));
        }
        std::fs::remove_file(&path).map_err(|error| failed(format!("cannot remove the old one: {error}")))?;
    }
    bind(fd, name).map_err(failed)?;
    if socket.ended.get() & socket_end::NAME_GONE != 0 {
        return std::fs::remove_file(&path).map_err(|error| failed(format!("cannot remove it again: {error}")));
    }
    let mode = std::fs::Permissions::from_mode(socket.name_mode.get() & 0o7777);
    std::fs::set_permissions(&path, mode).map_err(|error| failed(format!("cannot set its permissions: {error}")))
}

impl Files {
    /// Makes the UNIX sockets that listen, and the pairs.
    pub(super) fn connect_unix(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        in_its_directory(image, || {
            // Accepted ends have the name of the socket that has accepted them; it comes last, to keep it.
            let mut servers: HashMap<Vec<u8>, Vec<[u32; 2]>> = HashMap::new();
            let mut listeners = Vec::new();
            let sockets = || image.files.iter().filter_map(|entry| Some((entry.file.id.get(), socket_of(entry)?)));
            for (id, socket) in sockets().filter(|(_, socket)| socket.domain.get() == AF_UNIX) {
                let other = socket.peer.get();
                match socket.role.get() {
                    socket_role::LISTENING => listeners.push((id, socket)),
                    socket_role::PAIR if id < other => {
                        let Some(peer) = socket_of(&image.files[other as usize]) else { continue };
                        if socket.kind.get() == SOCK_DGRAM || !has_name(&socket) && !has_name(&peer) {
                            self.plain_pair(image, [id, other], [&socket, &peer], warn)?;
                            continue;
                        }
                        let (server, ids) =
                            if has_name(&socket) { (&socket, [other, id]) } else { (&peer, [id, other]) };
                        servers.entry(name_of(server).to_vec()).or_default().push(ids);
                    }
                    _ => {}
                }
            }
            for (id, socket) in listeners {
                let listener = self.listen_unix(image, &socket, servers.remove(name_of(&socket)), warn)?;
                listen(listener.0, socket.backlog.get())
                    .map_err(|why| format!("cannot listen on {}: {why}", shown(name_of(&socket))))?;
                let high = self.above(listener.0)?;
                self.made.insert(id, high);
            }
            for pairs in servers.into_values() {
                let Some(&[_, server]) = pairs.first() else { continue };
                let Some(socket) = socket_of(&image.files[server as usize]) else { continue };
                // What had listened there is gone; its name may still lie about.
                let gone = self.listen_unix(image, &socket, Some(pairs), warn)?;
                drop(gone);
            }
            Ok(())
        })
    }

    /// A pair that was one from the beginning, or of datagram sockets, which may have got names later.
    fn plain_pair(
        &mut self,
        image: &Image,
        ids: [u32; 2],
        sockets: [&Socket; 2],
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        let ends = pair(sockets[0].kind.get())?;
        for (end, socket) in ends.iter().zip(sockets) {
            if has_name(socket) {
                bind_unix(end.0, socket)?;
            }
        }
        self.add_pair(image, ids, ends, warn)
    }

    /// A socket that listens under the name of `socket`, and the connections (client, server) that it has accepted.
    fn listen_unix(
        &mut self,
        image: &Image,
        socket: &Socket,
        pairs: Option<Vec<[u32; 2]>>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Owned, String> {
        let listener = make(socket)?;
        let name = name_of(socket);
        // The name is removed again, if it was gone, when all have connected.
        let gone = socket.ended.get() & socket_end::NAME_GONE != 0;
        let mut there = *socket;
        there.ended = (socket.ended.get() & !socket_end::NAME_GONE).into();
        if gone {
            there.name_mode = 0o600.into();
        }
        if has_name(socket) {
            bind_unix(listener.0, &there)?;
        }
        let failed = |why| format!("the connection within the program to {} cannot be made again: {why}", shown(name));
        listen(listener.0, 1).map_err(failed)?;
        for ids in pairs.unwrap_or_default() {
            let Some(client) = socket_of(&image.files[ids[0] as usize]) else { continue };
            let from = make(&client)?;
            if has_name(&client) {
                bind_unix(from.0, &client)?;
            }
            connect(from.0, name).map_err(failed)?;
            let to = accept(listener.0).map_err(failed)?;
            self.add_pair(image, ids, [from, to], warn)?;
        }
        if let (Some(path), true) = (path_of(socket), gone) {
            std::fs::remove_file(&path).map_err(|error| format!("cannot remove {} again: {error}", path.display()))?;
        }
        Ok(listener)
    }

    /// A UNIX socket that is no pair: what it is connected to follows when all are there.
    pub(super) fn unix_single(&mut self, image: &Image, socket: &Socket) -> Result<Owned, String> {
        let fd = make(socket)?;
        if has_name(socket) {
            in_its_directory(image, || bind_unix(fd.0, socket))?;
        }
        Ok(fd)
    }

    /// When all sockets are there: messages are put back that came from others than the peer, then datagram sockets get
    /// their destinations, and those connect that wait to be accepted.
    pub(super) fn finish_sockets(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        let sockets: Vec<(u32, Socket)> =
            image.files.iter().filter_map(|entry| Some((entry.file.id.get(), socket_of(entry)?))).collect();
        if sockets.is_empty() {
            return Ok(());
        }
        self.send_rights(image, warn)?;
        let senders = Senders::of(&sockets);
        in_its_directory(image, || {
            for (id, socket) in &sockets {
                let paired = matches!(socket.role.get(), socket_role::PAIR | socket_role::LOST);
                if socket.kind.get() == SOCK_DGRAM && !paired {
                    self.put_back(&image.files[*id as usize], socket, &senders, warn)?;
                }
            }
            for (id, socket) in &sockets {
                let fd = self.fds[*id as usize];
                let result = match socket.role.get() {
                    socket_role::SINGLE if socket.domain.get() == AF_UNIX && socket.peer_name_len.get() > 2 => {
                        connect(fd, peer_name_of(socket))
                    }
                    socket_role::DIRECTED => match socket_of(&image.files[socket.peer.get() as usize]) {
                        Some(target) if has_name(&target) => connect(fd, name_of(&target)),
                        _ => Err("its destination has no name".to_string()),
                    },
                    socket_role::WAITING => connect_waiting(fd, socket),
                    _ => continue,
                };
                if let Err(why) = result {
                    warn(format!(
                        "a socket (FILE {id}) cannot be connected with {}: {why}",
                        shown(peer_name_of(socket))
                    ));
                }
            }
            Ok(())
        })?;
        for (id, socket) in &sockets {
            let (fd, ended) = (self.fds[*id as usize], socket.ended.get());
            if ended & socket_end::DEAF != 0 {
                shut_down(fd, libc::SHUT_RD);
            }
            if ended & socket_end::SENT != 0 && socket.kind.get() == SOCK_DGRAM {
                shut_down(fd, libc::SHUT_WR);
            }
        }
        self.ask_for_senders(image, warn);
        Ok(())
    }

    /// SO_PASSCRED, which a message has to be sent after to have a sender.
    fn ask_for_senders(&self, image: &Image, warn: &mut dyn FnMut(String)) {
        for (entry, fd) in image.files.iter().zip(&self.fds) {
            if let Some(value) = option(entry, SOL_SOCKET, SO_PASSCRED) {
                if let Err(errno) = raw_socket::set_option(*fd, SOL_SOCKET, SO_PASSCRED, value) {
                    warn(format!("a socket (FILE {}) cannot ask for senders: {errno}", entry.file.id.get()));
                }
            }
        }
    }

    /// Sends the messages that waited in a datagram socket, each from the socket that had sent it.
    fn put_back(
        &self,
        entry: &FileEntry,
        socket: &Socket,
        senders: &Senders,
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        let mut to = name_of(socket).to_vec();
        point_at_loopback(&mut to);
        for mut message in messages(entry) {
            let sender = message.from;
            let id = sender.and_then(|name| senders.find(name));
            let nameless;
            let fd = match id {
                Some(id) => self.fds[id as usize],
                None => {
                    if let Some(name) = sender {
                        warn(format!(
                            "a message that waited in FILE {} has lost its sender {}",
                            entry.file.id.get(),
                            shown(name)
                        ));
                    }
                    nameless = make(socket)?;
                    nameless.0
                }
            };
            let len = message.bytes.len();
            if let Err(error) = send(fd, Some(&to), &mut message, &self.fds, warn) {
                warn(format!("a message of {len} bytes that waited in FILE {} is lost: {error}", entry.file.id.get()));
            }
        }
        Ok(())
    }
}

/// A socket that is bound to all addresses is reached by the loopback one.
fn point_at_loopback(name: &mut [u8]) {
    match u32::from(name.first().copied().unwrap_or(0)) {
        AF_INET if name.get(4..8) == Some(&[0; 4]) => name[4..8].copy_from_slice(&[127, 0, 0, 1]),
        AF_INET6 if name.get(8..24) == Some(&[0; 16]) => name[23] = 1,
        _ => {}
    }
}

/// Connects to a listening socket of the program, which accepts it later or never.
fn connect_waiting(fd: RawFd, socket: &Socket) -> Result<(), String> {
    let flags = raw::fcntl(fd, raw::F_GETFL, 0).map_err(|errno| errno.to_string())?;
    let set = |flags| raw::fcntl(fd, raw::F_SETFL, flags).map_err(|errno| errno.to_string());
    // A full queue must not hold the restart up.
    set(flags | raw::O_NONBLOCK as usize)?;
    let result = match connect(fd, peer_name_of(socket)) {
        Err(_) if Error::last_os_error().raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        other => other,
    };
    set(flags)?;
    result
}

/// Datagram sockets of the program by name (UNIX) or port (UDP).
struct Senders(HashMap<Vec<u8>, u32>);

impl Senders {
    fn of(sockets: &[(u32, Socket)]) -> Senders {
        let datagram = sockets.iter().filter(|(_, socket)| socket.kind.get() == SOCK_DGRAM);
        Senders(datagram.map(|(id, socket)| (Senders::key(name_of(socket)), *id)).collect())
    }

    fn key(name: &[u8]) -> Vec<u8> {
        match u32::from(name.first().copied().unwrap_or(0)) {
            AF_UNIX => name.to_vec(),
            _ => name.get(2..4).unwrap_or(&[]).to_vec(),
        }
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        self.0.get(&Senders::key(name)).copied()
    }
}
