//! [SIGNAL] Sockets, with what waits in them.
//!
//! Two sockets of the process that are connected with each other are found by their names (TCP), or by the inode of
//! the peer, which the kernel's socket diagnosis tells (UNIX). What waits is peeked and stays where it is.

use super::{Saver, Subject, Table};
use crate::capture::failure::{Failure, fail, refuse};
use crate::capture::notices::notice;
use crate::capture::scratch::FdSlot;
use crate::format::files::{Socket, data_kind, file_kind, socket_end, socket_role};
use crate::format::notice::code;
use crate::sys::abi::S_IFSOCK;
use crate::sys::socket::{self, AF_INET, AF_INET6, AF_UNIX, Address, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET};
use crate::sys::text::Bytes;
use crate::sys::{Errno, fs};
use zerocopy::little_endian::U32;

/// Options that are numbers or small structures: (level, option). One that a socket does not have is left out.
const OPTIONS: [(u32, u32); 29] = [
    (SOL_SOCKET, 2),  // SO_REUSEADDR
    (SOL_SOCKET, 5),  // SO_DONTROUTE
    (SOL_SOCKET, 6),  // SO_BROADCAST
    (SOL_SOCKET, 9),  // SO_KEEPALIVE
    (SOL_SOCKET, 10), // SO_OOBINLINE
    (SOL_SOCKET, 12), // SO_PRIORITY
    (SOL_SOCKET, 13), // SO_LINGER
    (SOL_SOCKET, 15), // SO_REUSEPORT
    (SOL_SOCKET, 16), // SO_PASSCRED
    (SOL_SOCKET, 18), // SO_RCVLOWAT
    (SOL_SOCKET, 20), // SO_RCVTIMEO
    (SOL_SOCKET, 21), // SO_SNDTIMEO
    (SOL_SOCKET, 29), // SO_TIMESTAMP
    (SOL_SOCKET, 42), // SO_PEEK_OFF
    (0, 1),           // IP_TOS
    (0, 2),           // IP_TTL
    (0, 8),           // IP_PKTINFO
    (41, 16),         // IPV6_UNICAST_HOPS
    (41, 26),         // IPV6_V6ONLY
    (41, 49),         // IPV6_RECVPKTINFO
    (41, 67),         // IPV6_TCLASS
    (6, 1),           // TCP_NODELAY
    (6, 4),           // TCP_KEEPIDLE
    (6, 5),           // TCP_KEEPINTVL
    (6, 6),           // TCP_KEEPCNT
    (6, 7),           // TCP_SYNCNT
    (6, 8),           // TCP_LINGER2
    (6, 9),           // TCP_DEFER_ACCEPT
    (6, 18),          // TCP_USER_TIMEOUT
];

/// What poll(2) says when the peer has ended.
const POLLIN: u16 = 1;
const POLLRDHUP: u16 = 0x2000;

// States of a TCP connection, as TCP_INFO tells them.
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u8 = 6;
const CLOSED: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;

/// Gives each socket of the table the number of its own end and that of its peer's, where it has one. Returns an error
/// only if the table cannot be read; a kernel without socket diagnosis leaves UNIX sockets without peers.
pub fn find_ends(fds: &mut [FdSlot], order: &mut [u32], buf: &mut [u8]) -> usize {
    let mut unix = false;
    for slot in fds.iter_mut().filter(|slot| slot.mode & crate::sys::abi::S_IFMT == S_IFSOCK) {
        match socket::get_number(slot.fd, SOL_SOCKET, socket::SO_DOMAIN) {
            Ok(AF_UNIX) => {
                unix = true;
                slot.end = slot.ino;
            }
            Ok(AF_INET | AF_INET6) if socket::get_number(slot.fd, SOL_SOCKET, socket::SO_TYPE) == Ok(SOCK_STREAM) => {
                if let (Ok(name), Ok(peer)) = (socket::name(slot.fd), socket::peer(slot.fd)) {
                    slot.end = connection(&name, &peer);
                    slot.peer_end = connection(&peer, &name);
                }
            }
            _ => {}
        }
    }
    let mut count = 0;
    for (slot, at) in fds.iter().zip(0u32..) {
        if slot.end != 0 {
            if let Some(place) = order.get_mut(count) {
                *place = at;
                count += 1;
            }
        }
    }
    let order = order.get_mut(..count).unwrap_or(&mut []);
    order.sort_unstable_by_key(|&at| fds.get(at as usize).map_or(0, |slot| slot.end));
    if unix {
        // Without an answer every UNIX socket counts as one whose peer is elsewhere, and a notice says so.
        let _ = for_each_unix_socket(buf, &mut |ino, peer| {
            let end = |at: &u32| fds.get(*at as usize).map_or(0, |slot| slot.end);
            let mut at = order.partition_point(|at| end(at) < ino);
            while let Some(slot) = order.get(at).and_then(|&at| fds.get_mut(at as usize)) {
                if slot.end != ino {
                    break;
                }
                slot.peer_end = peer;
                at += 1;
            }
        });
    }
    count
}

/// A number for one end of a connection: a hash of both addresses, the way one of its ends sees it. IPv4 addresses
/// are the same in IPv6 sockets. The highest bit keeps it apart from inodes.
fn connection(name: &Address, peer: &Address) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for address in [name, peer] {
        // sockaddr_in: family, port, address. sockaddr_in6: family, port, flow, address (16).
        add(address.bytes.get(2..4).unwrap_or(&[]));
        match address.bytes.first() {
            Some(2) => {
                add(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                add(address.bytes.get(4..8).unwrap_or(&[]));
            }
            _ => add(address.bytes.get(8..24).unwrap_or(&[])),
        }
    }
    hash | 1 << 63
}

fn word(bytes: &[u8], at: usize) -> u32 {
    crate::arch::frame::u32_at(bytes, at)
}

fn half(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    }
}

/// Inode and peer's inode (0: none) of every connected UNIX socket of the network namespace, by NETLINK_SOCK_DIAG.
fn for_each_unix_socket(buf: &mut [u8], each: &mut dyn FnMut(u64, u64)) -> Result<(), Errno> {
    const NETLINK_SOCK_DIAG: u32 = 4;
    const NLMSG_DONE: usize = 3;
    const NLMSG_ERROR: usize = 2;
    const UNIX_DIAG_PEER: usize = 2;
    // nlmsghdr: length, type SOCK_DIAG_BY_FAMILY, flags REQUEST|DUMP, sequence, port; unix_diag_req: family,
    // protocol, states (all), inode, show PEER, cookie.
    const REQUEST: [u32; 10] = [40, 20 | 0x301 << 16, 1, 0, AF_UNIX, u32::MAX, 0, 4, u32::MAX, u32::MAX];
    let netlink = socket::socket(socket::AF_NETLINK, socket::SOCK_RAW, NETLINK_SOCK_DIAG)?;
    let mut request = [0u8; 40];
    for (place, value) in request.chunks_exact_mut(4).zip(REQUEST) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    socket::send(netlink.0, &request)?;
    loop {
        let n = socket::receive(netlink.0, buf, 0)?;
        let mut rest = buf.get(..n).unwrap_or(&[]);
        while rest.len() >= 16 {
            let len = (word(rest, 0) as usize).clamp(16, rest.len());
            let (message, next) = rest.split_at(len);
            match half(message, 4) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(Errno((word(message, 16) as i32).wrapping_neg())),
                _ => {}
            }
            // unix_diag_msg: family, type, state, pad, inode, cookie; then attributes.
            let mut attributes = message.get(32..).unwrap_or(&[]);
            while attributes.len() >= 4 {
                let size = half(attributes, 0).clamp(4, attributes.len());
                if half(attributes, 2) == UNIX_DIAG_PEER {
                    each(u64::from(word(message, 20)), u64::from(word(attributes, 4)));
                }
                attributes = attributes.get(size.next_multiple_of(4)..).unwrap_or(&[]);
            }
            rest = next;
        }
    }
}

/// The other end, if it is in the process.
fn peer_of<'a>(slot: &FdSlot, table: Table<'a>) -> Option<&'a FdSlot> {
    let peer = table.of_end(slot.peer_end)?;
    (peer.peer_end == slot.end && peer.file != slot.file).then_some(peer)
}

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    if subject.file_type() != S_IFSOCK {
        return None;
    }
    let slot = subject.slot;
    let standard = slot.fd <= 2 && slot.peer_end != 0 && peer_of(slot, subject.table).is_none();
    if standard {
        return Some(file_kind::STREAM);
    }
    let number = |option| socket::get_number(slot.fd, SOL_SOCKET, option).unwrap_or(0);
    let known = match (number(socket::SO_DOMAIN), number(socket::SO_TYPE), number(socket::SO_PROTOCOL)) {
        (AF_INET | AF_INET6, SOCK_STREAM, socket::IPPROTO_TCP) => true,
        (AF_INET | AF_INET6, SOCK_DGRAM, socket::IPPROTO_UDP) => true,
        // A UNIX socket without names and with its peer here, or whose peer has gone.
        (AF_UNIX, SOCK_STREAM, _) => {
            let connected = socket::peer(slot.fd).is_ok();
            let named = socket::name(slot.fd).is_ok_and(|name| name.len > 2)
                || socket::peer(slot.fd).is_ok_and(|peer| peer.len > 2);
            let gone = connected && fs::poll_now(slot.fd, 0).is_ok_and(|got| got & fs::POLLHUP != 0);
            !named && (gone || !connected || peer_of(slot, subject.table).is_some())
        }
        _ => false,
    };
    known.then_some(file_kind::SOCKET)
}

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let slot = subject.slot;
    let fd = slot.fd;
    let failed = |errno| fail!(errno, "cannot look at socket fd {fd}");
    let number = |option| socket::get_number(fd, SOL_SOCKET, option).map_err(failed);
    let (domain, kind) = (number(socket::SO_DOMAIN)?, number(socket::SO_TYPE)?);
    let name = socket::name(fd).map_err(failed)?;
    let peer_name = socket::peer(fd).unwrap_or(Address::NONE);
    let peer = peer_of(slot, subject.table);
    let polled = fs::poll_now(fd, POLLIN | POLLRDHUP).map_err(failed)?;
    let (mut role, mut ended, mut backlog) = (socket_role::SINGLE, 0, 0);
    if domain == AF_UNIX {
        // Without an address in common this is a pair, one whose peer has gone, or one that was never connected.
        if peer_name.len != 0 {
            role = if peer.is_some() { socket_role::PAIR } else { socket_role::LOST };
        }
        if polled & POLLRDHUP != 0 {
            ended |= socket_end::RECEIVED;
        }
        if polled & fs::POLLERR != 0 {
            ended |= socket_end::RESET;
        }
        let peer_told = |other: &FdSlot| fs::poll_now(other.fd, POLLRDHUP).is_ok_and(|got| got & POLLRDHUP != 0);
        if peer.is_some_and(peer_told) {
            ended |= socket_end::SENT;
        }
    } else if kind == SOCK_STREAM {
        let mut info = [0u8; 32];
        socket::get_option(fd, socket::IPPROTO_TCP, socket::TCP_INFO, &mut info).map_err(failed)?;
        let state = info.first().copied().unwrap_or(0);
        role = match state {
            LISTEN => socket_role::LISTENING,
            CLOSED if polled & POLLRDHUP == 0 => socket_role::SINGLE,
            _ if peer.is_some() => socket_role::PAIR,
            _ => socket_role::LOST,
        };
        if state == LISTEN {
            // tcpi_sacked is the backlog of a listening socket.
            backlog = word(&info, 28);
        }
        if matches!(state, FIN_WAIT1 | FIN_WAIT2 | TIME_WAIT | CLOSED | LAST_ACK | CLOSING) && role != 0 {
            ended |= socket_end::SENT;
        }
        if matches!(state, CLOSE_WAIT | LAST_ACK | CLOSING | TIME_WAIT | CLOSED) && role != 0 {
            ended |= socket_end::RECEIVED;
        }
        // A pending error is the program's: it can be seen here, but not read without taking it away.
        if role == socket_role::LOST && polled & fs::POLLERR != 0 {
            ended = socket_end::RESET;
        } else if role == socket_role::LOST && ended & socket_end::RECEIVED == 0 {
            ended |= socket_end::RESET;
        }
        let on_the_way = peer.filter(|_| role == socket_role::PAIR).map_or(0, |peer| on_the_way(fd, peer.fd));
        if on_the_way != 0 {
            return Err(refuse!(
                Errno::EAGAIN,
                "fd {fd} is a TCP connection within the process that is so full that {on_the_way} bytes wait on the \
                 sending side, where they cannot be read"
            ));
        }
        if role == socket_role::LOST && !matches!(state, CLOSED | LAST_ACK | CLOSING) {
            note_lost(saver, fd, "TCP connection to another process")?;
        }
    }
    let head = Socket {
        domain: U32::new(domain),
        kind: U32::new(kind),
        protocol: U32::new(number(socket::SO_PROTOCOL)?),
        role: U32::new(role),
        peer: U32::new(peer.filter(|_| role == socket_role::PAIR).map_or(u32::MAX, |peer| peer.file)),
        ended: U32::new(ended),
        backlog: U32::new(backlog),
        name_len: U32::new(name.len as u32),
        peer_name_len: U32::new(peer_name.len as u32),
        reserved: U32::new(0),
        name: name.bytes,
        peer_name: peer_name.bytes,
    };
    saver.data(slot.file, data_kind::SOCKET, 0, zerocopy::IntoBytes::as_bytes(&head))?;
    save_options(saver, subject)?;
    match (role, kind) {
        (socket_role::PAIR | socket_role::LOST, SOCK_STREAM) => save_bytes(saver, subject),
        (_, SOCK_DGRAM) if polled & POLLIN != 0 => {
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "the datagrams that wait in fd {fd} ({}) are not saved",
                Bytes(subject.path.as_bytes())
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A connection that a restart cannot bring back: a notice, or a refusal if that is asked for.
fn note_lost(saver: &mut Saver<'_, '_, '_>, fd: i32, what: &str) -> Result<(), Failure> {
    if saver.refuse_sockets {
        return Err(refuse!(
            Errno::EOPNOTSUPP,
            "fd {fd} is a {what}; SELFCKPT_SOCKETS=reset takes checkpoints in spite of it"
        ));
    }
    notice!(
        saver.notices,
        code::FD_NOT_SAVED,
        fd as u64,
        "fd {fd} is a {what}; after a restart it has been reset by its peer, after the bytes that wait now"
    );
    Ok(())
}

/// Bytes that were written to `fd` and have not arrived at `peer`. What has arrived may be acknowledged later, so that
/// SIOCOUTQ would tell too much.
fn on_the_way(fd: i32, peer: i32) -> u64 {
    // struct tcp_info: bytes_received at 128, notsent_bytes at 144, bytes_sent at 200, bytes_retrans at 208.
    let info = |fd| {
        let mut info = [0u8; 216];
        let _ = socket::get_option(fd, socket::IPPROTO_TCP, socket::TCP_INFO, &mut info);
        info
    };
    let (from, to) = (info(fd), info(peer));
    let number = |at| crate::arch::frame::u64_at(&from, at);
    let sent = u64::from(word(&from, 144)) + number(200).saturating_sub(number(208));
    // The end of the connection counts as one byte that has arrived.
    sent.saturating_sub(crate::arch::frame::u64_at(&to, 128))
}

fn save_options(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let locked = socket::get_number(fd, SOL_SOCKET, socket::SO_BUF_LOCK).unwrap_or(0);
    // Buffer sizes that the program has chosen: SO_SNDBUF, SO_RCVBUF.
    let buffers =
        [(1, 7), (2, 8)].into_iter().filter(|(bit, _)| locked & bit != 0).map(|(_, option)| (SOL_SOCKET, option));
    for (level, option) in OPTIONS.into_iter().chain(buffers) {
        let mut value = [0u8; 16];
        let Ok(len) = socket::get_option(fd, level, option, &mut value) else { continue };
        let number = u64::from(level) << 32 | u64::from(option);
        saver.data(subject.slot.file, data_kind::SOCKET_OPTION, number, value.get(..len).unwrap_or(&[]))?;
    }
    Ok(())
}

/// The bytes that wait in a stream.
fn save_bytes(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let waiting = fs::bytes_to_read(fd).unwrap_or(0);
    if waiting == 0 {
        return Ok(());
    }
    let before = socket::get_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF).unwrap_or(u32::MAX);
    let moves = socket::set_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF, 0).is_ok();
    let result = copy_bytes(saver, subject, waiting, moves);
    if moves {
        let _ = socket::set_number(fd, SOL_SOCKET, socket::SO_PEEK_OFF, before);
    }
    result
}

fn copy_bytes(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    waiting: usize,
    moves: bool,
) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let failed = |errno| fail!(errno, "cannot save the {waiting} bytes that wait in socket fd {fd}");
    if !moves && waiting > saver.buf.len() {
        return Err(failed(Errno::ENOMEM));
    }
    let mut done = 0;
    while done < waiting {
        let room = saver.buf.len().min(waiting - done);
        let n = socket::peek(fd, saver.buf.get_mut(..room).unwrap_or(&mut [])).map_err(failed)?;
        if n == 0 || (!moves && n < waiting) {
            return Err(failed(Errno::EIO));
        }
        saver.data_in_buf(subject.slot.file, data_kind::SOCKET_BYTES, done as u64, n)?;
        done += n;
    }
    Ok(())
}
