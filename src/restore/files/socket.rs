//! [NORMAL] Sockets: made anew, bound, listening; both ends of a connection within the process are connected again
//! with what waited in them; a connection to elsewhere comes back as one that its peer has reset.
#![allow(unsafe_code)] // socket(2) and its relatives.

use super::message::{fill, fill_and_end, has_rights, shut_down};
use super::multicast::{interface_here, join_groups};
use super::{Files, Subject};
use crate::format::files::{Socket, data_kind, socket_end, socket_role};
use crate::format::image::{FileEntry, Image};
use crate::restore::check_files::socket_of;
use crate::sys::fs as raw;
use crate::sys::socket::{self as raw_socket, AF_INET, AF_UNIX, SOL_SOCKET};
use std::collections::HashSet;
use std::io::Error;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

const SO_REUSEADDR: u32 = 2;
const SO_REUSEPORT: u32 = 15;
const SO_LINGER: u32 = 13;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const IPV6_V6ONLY: u32 = 26;

/// So long a closed connection keeps its port, and some more.
const TIME_WAIT_MAX: Duration = Duration::from_secs(70);

pub(super) type Owned = raw::OwnedFd;

fn os_error() -> String {
    Error::last_os_error().to_string()
}

pub(super) fn make(socket: &Socket) -> Result<Owned, String> {
    raw_socket::socket(socket.domain.get(), socket.kind.get(), socket.protocol.get())
        .map_err(|errno| format!("cannot make a socket: {errno}"))
}

pub(super) fn bind(fd: RawFd, name: &[u8]) -> Result<(), String> {
    // SAFETY: the kernel reads `name` only.
    if unsafe { libc::bind(fd, name.as_ptr().cast(), name.len() as u32) } == 0 { Ok(()) } else { Err(os_error()) }
}

pub(super) fn listen(fd: RawFd, backlog: u32) -> Result<(), String> {
    // SAFETY: takes numbers.
    if unsafe { libc::listen(fd, backlog as i32) } == 0 { Ok(()) } else { Err(os_error()) }
}

pub(super) fn connect(fd: RawFd, name: &[u8]) -> Result<(), String> {
    // SAFETY: the kernel reads `name` only.
    if unsafe { libc::connect(fd, name.as_ptr().cast(), name.len() as u32) } == 0 { Ok(()) } else { Err(os_error()) }
}

pub(super) fn accept(fd: RawFd) -> Result<Owned, String> {
    // SAFETY: no address is asked for.
    let got = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    if got < 0 { Err(os_error()) } else { Ok(raw::OwnedFd(got)) }
}

pub(super) fn pair(kind: u32) -> Result<[Owned; 2], String> {
    let mut fds = [0; 2];
    // SAFETY: `fds` takes two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind as i32 | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    if made == 0 { Ok(fds.map(raw::OwnedFd)) } else { Err(format!("cannot make a pair of sockets: {}", os_error())) }
}

/// Both directions of a TCP connection need a name with a port.
fn has_port(name: &[u8]) -> bool {
    name.get(2..4).is_some_and(|port| port != [0, 0])
}

pub(super) fn name_of(socket: &Socket) -> &[u8] {
    &socket.name[..socket.name_len.get() as usize]
}

pub(super) fn peer_name_of(socket: &Socket) -> &[u8] {
    &socket.peer_name[..socket.peer_name_len.get() as usize]
}

/// For messages.
pub(super) fn shown(name: &[u8]) -> String {
    let port = name.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    match name.first() {
        Some(2) if name.len() >= 8 => {
            let address: [u8; 4] = name[4..8].try_into().unwrap_or_default();
            format!("{}:{port}", std::net::Ipv4Addr::from(address))
        }
        Some(10) if name.len() >= 24 => {
            let address: [u8; 16] = name[8..24].try_into().unwrap_or_default();
            format!("[{}]:{port}", std::net::Ipv6Addr::from(address))
        }
        Some(1) if name.len() > 2 => match name[2] {
            0 => format!("@{}", String::from_utf8_lossy(&name[3..])),
            _ => String::from_utf8_lossy(name[2..].split(|&byte| byte == 0).next().unwrap_or(&[])).into_owned(),
        },
        _ => "no address".to_string(),
    }
}

pub(super) fn option(entry: &FileEntry, level: u32, option: u32) -> Option<&[u8]> {
    let number = (u64::from(level) << 32) | u64::from(option);
    let found = entry.data_of(data_kind::SOCKET_OPTION).find(|item| item.data.offset.get() == number);
    found.map(|item| item.bytes.as_slice())
}

impl Files {
    /// Connections within the process are made before anything listens: a listening TCP socket would not let another
    /// one have its port.
    pub(super) fn connect_pairs(&mut self, image: &Image, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        self.connect_unix(image, warn)?;
        // Ports on which something listens: the accepted end has the listening socket's.
        let listening: HashSet<[u8; 2]> = image
            .files
            .iter()
            .filter_map(socket_of)
            .filter(|socket| socket.domain.get() != AF_UNIX && socket.role.get() == socket_role::LISTENING)
            .map(|socket| [socket.name[2], socket.name[3]])
            .collect();
        for entry in &image.files {
            let Some(socket) = socket_of(entry) else { continue };
            let (id, other) = (entry.file.id.get(), socket.peer.get());
            if socket.role.get() != socket_role::PAIR || id > other || socket.domain.get() == AF_UNIX {
                continue;
            }
            let Some(peer) = socket_of(&image.files[other as usize]) else { continue };
            let failed = |why| {
                format!(
                    "the TCP connection within the program from {} to {} cannot be made again: {why}",
                    shown(name_of(&socket)),
                    shown(peer_name_of(&socket))
                )
            };
            let [one, two] = if listening.contains(&[socket.name[2], socket.name[3]]) {
                let [client, server] = connect_tcp(&peer, &socket, warn).map_err(failed)?;
                [server, client]
            } else {
                connect_tcp(&socket, &peer, warn).map_err(failed)?
            };
            self.add_pair(image, [id, other], [one, two], warn)?;
        }
        Ok(())
    }

    /// Both ends of a connection, with what waited in them.
    pub(super) fn add_pair(
        &mut self,
        image: &Image,
        ids: [u32; 2],
        ends: [Owned; 2],
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        let [one, two] = &ends;
        for (id, end) in ids.into_iter().zip(&ends) {
            set_buffers(end.0, &image.files[id as usize]);
        }
        let [first, second] = ids.map(|id| &image.files[id as usize]);
        for (from, entries) in [(two, [first, second]), (one, [second, first])] {
            // What comes with descriptors waits for those.
            if !has_rights(entries[0]) {
                fill_and_end(from.0, entries, &[], warn)?;
            }
        }
        for (id, end) in ids.into_iter().zip(&ends) {
            let high = self.above(end.0)?;
            self.made.insert(id, high);
        }
        Ok(())
    }

    pub(super) fn socket(&mut self, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) -> Result<RawFd, String> {
        let entry = subject.entry;
        let socket = socket_of(entry).ok_or_else(|| "a FILE lacks its SOCKET".to_string())?;
        let fd = match self.made.remove(&entry.file.id.get()) {
            Some(fd) => fd,
            None => {
                let made = match socket.role.get() {
                    socket_role::LOST => self.lost(&socket, entry, warn),
                    _ if socket.domain.get() == AF_UNIX => self.unix_single(subject.image, &socket),
                    _ => single(&socket, entry, warn),
                };
                let low = made.map_err(|why| format!("fd {}: {why}", subject.fds()))?;
                self.above(low.0)?
            }
        };
        set_options(fd, subject, warn);
        join_groups(fd, subject, warn);
        let flags = entry.file.flags.get() & (raw::O_NONBLOCK | 0o20_000);
        raw::fcntl(fd, raw::F_SETFL, flags as usize)
            .map_err(|errno| format!("fd {}: cannot set the flags of a socket: {errno}", subject.fds()))?;
        let reset = socket.role.get() == socket_role::LOST && socket.ended.get() & socket_end::RESET != 0;
        if reset && socket.peer_name_len.get() != 0 && socket.domain.get() != AF_UNIX {
            warn(format!(
                "fd {} was a TCP connection with {}; it stands as reset by its peer",
                subject.fds(),
                shown(peer_name_of(&socket))
            ));
        }
        Ok(fd)
    }

    /// A connection whose peer has gone: what it had sent can be read, then comes the reset, or the end if it had ended
    /// in order.
    fn lost(&mut self, socket: &Socket, entry: &FileEntry, warn: &mut dyn FnMut(String)) -> Result<Owned, String> {
        if socket.domain.get() == AF_UNIX {
            let [kept, gone] = pair(socket.kind.get())?;
            let late = has_rights(entry);
            if !late {
                fill(gone.0, entry, &[], warn)?;
            }
            if socket.ended.get() & socket_end::RESET != 0 {
                // An end that goes with something unread resets the other one.
                raw_socket::send(kept.0, &[0])
                    .map_err(|errno| format!("cannot stand for a lost connection: {errno}"))?;
            }
            if late {
                self.gone.insert(entry.file.id.get(), raw::OwnedFd(self.above(gone.0)?));
            }
            return Ok(kept);
        }
        let mut loopback = [0u8; 28];
        loopback[0] = socket.domain.get() as u8;
        let address = match socket.domain.get() {
            AF_INET => {
                loopback[4..8].copy_from_slice(&[127, 0, 0, 1]);
                &loopback[..16]
            }
            _ => {
                loopback[23] = 1;
                &loopback[..]
            }
        };
        let listener = make(socket)?;
        bind(listener.0, address).and_then(|()| listen(listener.0, 1)).map_err(|why| format!("no loopback: {why}"))?;
        let bound = raw_socket::name(listener.0).map_err(|errno| format!("no loopback: {errno}"))?;
        let kept = make(socket)?;
        connect(kept.0, bound.as_bytes()).map_err(|why| format!("cannot stand for a lost connection: {why}"))?;
        let gone = accept(listener.0)?;
        fill(gone.0, entry, &[], warn)?;
        if socket.ended.get() & socket_end::SENT != 0 {
            shut_down(kept.0, libc::SHUT_WR);
        }
        if socket.ended.get() & socket_end::RECEIVED != 0 {
            shut_down(gone.0, libc::SHUT_WR);
        }
        if socket.ended.get() & socket_end::RESET != 0 {
            // Closing without lingering sends a reset.
            let _ = raw_socket::set_option(gone.0, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]);
        }
        Ok(kept)
    }
}

/// Binds; waits if the address is only kept by closed connections of the old process, which last a minute.
fn bind_when_free(fd: RawFd, name: &[u8], warn: &mut dyn FnMut(String)) -> Result<(), String> {
    let begin = Instant::now();
    let mut told = false;
    loop {
        let why = match bind(fd, name) {
            Err(why) if Error::last_os_error().raw_os_error() == Some(libc::EADDRINUSE) => why,
            other => return other,
        };
        if begin.elapsed() > TIME_WAIT_MAX || !only_waits(name) {
            return Err(why);
        }
        if !told {
            told = true;
            warn(format!("{} is held by connections that were closed a moment ago: waiting for it", shown(name)));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether closed connections in TIME_WAIT have the port of `name`, and nobody listens on it. Those that a restart has
/// made there are in nobody's way.
fn only_waits(name: &[u8]) -> bool {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let port = name.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let mut waits = false;
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (Some(local), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
            let Some((_, has)) = local.rsplit_once(':') else { continue };
            if u16::from_str_radix(has, 16) == Ok(port) {
                if state == LISTEN {
                    return false;
                }
                waits |= state == TIME_WAIT;
            }
        }
    }
    waits
}

/// A socket that is bound, listens or has a default destination.
fn single(socket: &Socket, entry: &FileEntry, warn: &mut dyn FnMut(String)) -> Result<Owned, String> {
    let fd = make(socket)?;
    let name = name_of(socket);
    if has_port(name) {
        if let Some(value) = option(entry, 41, IPV6_V6ONLY) {
            let _ = raw_socket::set_option(fd.0, 41, IPV6_V6ONLY, value);
        }
        if let Some(value) = option(entry, SOL_SOCKET, SO_REUSEPORT) {
            let _ = raw_socket::set_option(fd.0, SOL_SOCKET, SO_REUSEPORT, value);
        }
        if socket.kind.get() == raw_socket::SOCK_STREAM {
            // The old process's connections may still be dying.
            let _ = raw_socket::set_number(fd.0, SOL_SOCKET, SO_REUSEADDR, 1);
        } else if let Some(value) = option(entry, SOL_SOCKET, SO_REUSEADDR) {
            let _ = raw_socket::set_option(fd.0, SOL_SOCKET, SO_REUSEADDR, value);
        }
        bind_when_free(fd.0, name, warn).map_err(|why| format!("cannot bind to {}: {why}", shown(name)))?;
    }
    if socket.role.get() == socket_role::LISTENING {
        listen(fd.0, socket.backlog.get()).map_err(|why| format!("cannot listen on {}: {why}", shown(name)))?;
    } else if socket.role.get() == socket_role::SINGLE && socket.peer_name_len.get() != 0 {
        let peer = peer_name_of(socket);
        connect(fd.0, peer).map_err(|why| format!("cannot set the destination {}: {why}", shown(peer)))?;
    }
    Ok(fd)
}

/// Client and server end of a connection with the names that they had.
fn connect_tcp(client: &Socket, server: &Socket, warn: &mut dyn FnMut(String)) -> Result<[Owned; 2], String> {
    let listener = make(server)?;
    let _ = raw_socket::set_number(listener.0, SOL_SOCKET, SO_REUSEADDR, 1);
    bind_when_free(listener.0, name_of(server), warn).and_then(|()| listen(listener.0, 1))?;
    let from = make(client)?;
    let _ = raw_socket::set_number(from.0, SOL_SOCKET, SO_REUSEADDR, 1);
    if let Err(why) = bind(from.0, name_of(client)) {
        warn(format!(
            "{} is taken ({why}): the connection within the program to {} has another port",
            shown(name_of(client)),
            shown(name_of(server))
        ));
    }
    connect(from.0, peer_name_of(client))?;
    let to = accept(listener.0)?;
    Ok([from, to])
}

/// Sizes of buffers that the program had chosen: what waited may need them. The kernel doubles what it is asked for.
fn set_buffers(fd: RawFd, entry: &FileEntry) {
    for number in [SO_SNDBUF, SO_RCVBUF] {
        let value = option(entry, SOL_SOCKET, number).and_then(|value| <[u8; 4]>::try_from(value).ok());
        if let Some(value) = value {
            // One that cannot be set is told when the other options are.
            let _ = raw_socket::set_number(fd, SOL_SOCKET, number, u32::from_le_bytes(value) / 2);
        }
    }
}

/// Sets what differs from a new socket.
fn set_options(fd: RawFd, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) {
    for item in &subject.entry.data {
        if item.data.what.get() != data_kind::SOCKET_OPTION {
            continue;
        }
        let (level, option) = ((item.data.offset.get() >> 32) as u32, item.data.offset.get() as u32);
        // When its messages are there: each that comes from now on would have a sender.
        if (level, option) == (SOL_SOCKET, raw_socket::SO_PASSCRED) {
            continue;
        }
        let mut here = [0u8; 16];
        let value = match <[u8; 4]>::try_from(item.bytes.as_slice()) {
            Ok(number) if (level, option) == raw_socket::IPV6_MULTICAST_IF && number != [0; 4] => {
                match interface_here(subject.entry, u32::from_le_bytes(number)) {
                    Ok(interface) => interface.to_le_bytes().to_vec(),
                    Err(name) => {
                        warn(format!(
                            "fd {} sent to multicast groups on {name}, which is not there any more",
                            subject.fds()
                        ));
                        continue;
                    }
                }
            }
            _ => item.bytes.clone(),
        };
        let same = raw_socket::get_option(fd, level, option, &mut here).is_ok_and(|len| here[..len.min(16)] == value);
        if same {
            continue;
        }
        let buffer = level == SOL_SOCKET && matches!(option, SO_SNDBUF | SO_RCVBUF);
        let set = match <[u8; 4]>::try_from(value.as_slice()) {
            // The kernel doubles what it is asked for.
            Ok(value) if buffer => raw_socket::set_number(fd, level, option, u32::from_le_bytes(value) / 2),
            _ => raw_socket::set_option(fd, level, option, &value),
        };
        if let Err(errno) = set {
            warn(format!("fd {}: option {option} of level {level} cannot be set: {errno}", subject.fds()));
        }
    }
}
