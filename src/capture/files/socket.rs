//! [SIGNAL] Sockets, with what waits in them.
//!
//! Two sockets of the process that are connected with each other are found by their names (TCP), or by the inode of
//! the peer, which the kernel's socket diagnosis tells (UNIX). What waits is peeked and stays where it is.

use super::{Saver, Subject, Table, diagnosis};
use crate::arch::frame::{u32_at as word, u64_at};
use crate::capture::failure::{Failure, fail, refuse};
use crate::capture::notices::notice;
use crate::capture::scratch::{FdSlot, SocketLook};
use crate::format::files::{Socket, data_kind, file_kind, socket_end, socket_role};
use crate::format::notice::code;
use crate::sys::abi::{S_IFCHR, S_IFSOCK};
use crate::sys::socket::{
    self, AF_INET, AF_INET6, AF_UNIX, Address, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};
use crate::sys::text::{Bytes, text};
use crate::sys::{Errno, fs};
use zerocopy::little_endian::U32;

/// What poll(2) says when the peer has ended.
pub(super) const POLLRDHUP: u16 = 0x2000;

// States of a TCP connection, as TCP_INFO tells them.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u8 = 6;
const CLOSED: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;

/// What a socket is. All zero for what is none.
pub fn look(fd: i32) -> SocketLook {
    let number = |option| socket::get_number(fd, SOL_SOCKET, option).unwrap_or(0);
    SocketLook {
        domain: number(socket::SO_DOMAIN),
        kind: number(socket::SO_TYPE),
        protocol: number(socket::SO_PROTOCOL),
        listens: number(socket::SO_ACCEPTCONN) != 0,
    }
}

/// Gives each socket of the table the number of its own end and that of its peer's, where it has one. A kernel without
/// socket diagnosis leaves UNIX sockets without peers. Returns how many have an end; `order` is then sorted by it.
pub fn find_ends(fds: &mut [FdSlot], order: &mut [u32], buf: &mut [u8]) -> usize {
    let mut unix = false;
    for slot in fds.iter_mut().filter(|slot| slot.mode & crate::sys::abi::S_IFMT == S_IFCHR) {
        super::pty::find_end(slot);
    }
    for slot in fds.iter_mut().filter(|slot| slot.mode & crate::sys::abi::S_IFMT == S_IFSOCK) {
        let fd = slot.fd;
        match (slot.socket.domain, slot.socket.kind) {
            (AF_UNIX, _) => {
                unix = true;
                slot.end = slot.ino;
            }
            (AF_INET | AF_INET6, SOCK_STREAM) => match (socket::name(fd), socket::peer(fd)) {
                (Ok(name), Ok(peer)) => {
                    slot.end = connection(&name, &peer);
                    slot.peer_end = connection(&peer, &name);
                }
                (Ok(name), _) if slot.socket.listens => slot.end = listening_end(&name),
                _ => {}
            },
            (AF_INET | AF_INET6, SOCK_DGRAM) => slot.end = socket::name(fd).map_or(0, |name| datagram_end(&name)),
            _ => {}
        }
    }
    let mut count = sort_by_end(fds, order);
    if unix {
        let order = order.get(..count).unwrap_or(&[]);
        // Without an answer every UNIX socket counts as one whose peer is elsewhere, and a notice says so.
        let _ = super::unix_socket::for_each(buf, &mut |found| {
            let end = |at: &u32| fds.get(*at as usize).map_or(0, |slot| slot.end);
            let mut at = order.partition_point(|at| end(at) < found.ino);
            while let Some(slot) = order.get(at).and_then(|&at| fds.get_mut(at as usize)) {
                if slot.end != found.ino {
                    break;
                }
                slot.is_diagnosed = true;
                slot.peer_end = found.peer;
                slot.backlog = found.backlog;
                slot.queued = found.queued;
                slot.name_ino = found.name_ino;
                slot.shutdown = found.shutdown;
                at += 1;
            }
        });
        // Nobody is the peer of a listening socket: it is looked for by its name.
        for slot in fds.iter_mut().filter(|slot| slot.end != 0 && slot.end == slot.ino) {
            if slot.socket.listens {
                slot.end = socket::name(slot.fd).map_or(0, |name| listening_end(&name));
            }
        }
    }
    if unix {
        count = sort_by_end(fds, order);
    }
    count
}

fn sort_by_end(fds: &[FdSlot], order: &mut [u32]) -> usize {
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
    count
}

// The two highest bits keep the numbers of different sorts apart; inodes have neither.
const CONNECTION: u64 = 1 << 63;
const LISTENING: u64 = 1 << 62;
const DATAGRAM: u64 = CONNECTION | LISTENING;

/// The number of a listening socket: by its port (TCP) or its name (UNIX).
pub(super) fn listening_end(name: &Address) -> u64 {
    let unix = name.bytes.first() == Some(&1);
    let key = if unix { name.as_bytes() } else { name.bytes.get(2..4).unwrap_or(&[]) };
    let mut hash = Hash::new();
    hash.add(key);
    (hash.0 >> 2) | LISTENING
}

/// The number of a UDP socket: by its port.
pub(super) fn datagram_end(name: &Address) -> u64 {
    match name.bytes.get(2..4) {
        Some(&[high, low]) => u64::from(u16::from_be_bytes([high, low])) | DATAGRAM,
        _ => 0,
    }
}

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A number for one end of a connection: a hash of both addresses, the way one of its ends sees it. IPv4 addresses
/// are the same in IPv6 sockets.
fn connection(name: &Address, peer: &Address) -> u64 {
    let mut hash = Hash::new();
    for address in [name, peer] {
        // sockaddr_in: family, port, address. sockaddr_in6: family, port, flow, address (16).
        hash.add(address.bytes.get(2..4).unwrap_or(&[]));
        match address.bytes.first() {
            Some(2) => {
                hash.add(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                hash.add(address.bytes.get(4..8).unwrap_or(&[]));
            }
            _ => hash.add(address.bytes.get(8..24).unwrap_or(&[])),
        }
    }
    (hash.0 >> 2) | CONNECTION
}

/// The other end, if it is in the process.
pub(super) fn peer_of<'a>(slot: &FdSlot, table: Table<'a>) -> Option<&'a FdSlot> {
    let peer = table.of_end(slot.peer_end)?;
    (peer.peer_end == slot.end && peer.file != slot.file).then_some(peer)
}

pub fn classify(subject: &mut Subject<'_>) -> Option<u32> {
    if subject.file_type() != S_IFSOCK {
        return None;
    }
    let slot = subject.slot;
    let SocketLook { domain, kind, protocol, .. } = slot.socket;
    let outside = match domain {
        AF_UNIX => super::unix_socket::leads_outside(slot, subject.table),
        _ => slot.peer_end != 0 && peer_of(slot, subject.table).is_none(),
    };
    // Given by whoever has started the program: inetd, or somebody with a pair without names.
    if outside && (slot.fd <= 2 || domain == AF_UNIX && socket::peer(slot.fd).is_ok_and(|peer| peer.len <= 2)) {
        return Some(file_kind::STREAM);
    }
    let known = matches!(
        (domain, kind, protocol),
        (AF_INET | AF_INET6, SOCK_STREAM, socket::IPPROTO_TCP)
            | (AF_INET | AF_INET6, SOCK_DGRAM, socket::IPPROTO_UDP)
            | (AF_UNIX, SOCK_STREAM | SOCK_DGRAM | SOCK_SEQPACKET, _)
    );
    if !known {
        // For the notice.
        let family = FAMILIES.iter().find(|(number, _)| *number == domain).map_or("family", |(_, name)| name);
        let path = *subject.path;
        *subject.path = text!("{}, {family} ({domain}), type {kind}, protocol {protocol}", Bytes(path.as_bytes()));
    }
    known.then_some(file_kind::SOCKET)
}

/// Those of sockets that are not saved.
const FAMILIES: [(u32, &str); 6] = [
    (AF_INET, "AF_INET"),
    (AF_INET6, "AF_INET6"),
    (socket::AF_NETLINK, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
];

/// What a socket is to the others.
pub(super) struct State {
    pub role: u32,
    pub peer: u32,
    pub ended: u32,
    pub backlog: u32,
    pub name_mode: u32,
}

impl State {
    pub const SINGLE: State = State { role: socket_role::SINGLE, peer: u32::MAX, ended: 0, backlog: 0, name_mode: 0 };
}

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let slot = subject.slot;
    let fd = slot.fd;
    let failed = |errno| fail!(errno, "cannot look at socket fd {fd}");
    let SocketLook { domain, kind, protocol, .. } = slot.socket;
    let info = if protocol == socket::IPPROTO_TCP { tcp_info(fd) } else { NO_INFO };
    // A connect that waits begins anew, with a port that the kernel chooses.
    let name = if is_connecting(slot, &info) { Address::NONE } else { socket::name(fd).map_err(failed)? };
    let peer_name = socket::peer(fd).unwrap_or(Address::NONE);
    let polled = fs::poll_now(fd, fs::POLLIN | POLLRDHUP).map_err(failed)?;
    let state = match (domain, kind) {
        (AF_UNIX, _) => super::unix_socket::state(saver, subject, kind, &name, &peer_name, polled)?,
        (_, SOCK_STREAM) => tcp_state(saver, subject, &info, &peer_name, polled)?,
        _ => State::SINGLE,
    };
    let head = Socket {
        domain: U32::new(domain),
        kind: U32::new(kind),
        protocol: U32::new(protocol),
        role: U32::new(state.role),
        peer: U32::new(state.peer),
        ended: U32::new(state.ended),
        backlog: U32::new(state.backlog),
        name_len: U32::new(name.len as u32),
        peer_name_len: U32::new(peer_name.len as u32),
        name_mode: U32::new(state.name_mode),
        name: name.bytes,
        peer_name: peer_name.bytes,
    };
    saver.data(slot.file, data_kind::SOCKET, 0, zerocopy::IntoBytes::as_bytes(&head))?;
    super::socket_options::save(saver, subject)?;
    if domain != AF_UNIX && kind == SOCK_DGRAM {
        super::multicast::save(saver, subject, domain)?;
    }
    if kind != SOCK_STREAM {
        return super::socket_data::save_messages(saver, subject, domain, kind, polled);
    }
    match (state.role, peer_of(slot, subject.table)) {
        (socket_role::PAIR, Some(peer)) if domain != AF_UNIX && on_the_way(&tcp_info(peer.fd), fd) != 0 => {
            super::socket_data::save_all_on_the_way(saver, subject, peer.fd)
        }
        (socket_role::PAIR | socket_role::LOST, _) => super::socket_data::save_bytes(saver, subject),
        _ => Ok(()),
    }
}

/// Whether a thread waits in connect(2) for a TCP connection.
fn is_connecting(slot: &FdSlot, info: &TcpInfo) -> bool {
    slot.flags & fs::O_NONBLOCK == 0 && info.first() == Some(&SYN_SENT)
}

fn tcp_state(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    info: &TcpInfo,
    peer_name: &Address,
    polled: u16,
) -> Result<State, Failure> {
    let (slot, fd) = (subject.slot, subject.slot.fd);
    let peer = peer_of(slot, subject.table);
    let tcp_state = info.first().copied().unwrap_or(0);
    let mut state = State::SINGLE;
    state.role = match tcp_state {
        LISTEN => socket_role::LISTENING,
        CLOSED if polled & POLLRDHUP == 0 => socket_role::SINGLE,
        SYN_SENT if is_connecting(slot, info) => socket_role::SINGLE,
        _ if peer.is_some() => socket_role::PAIR,
        // Nothing may have been sent: it cannot be seen before somebody accepts it.
        ESTABLISHED if waits_to_be_accepted(subject, peer_name) && u64_at(info, BYTES_SENT) == 0 => {
            socket_role::WAITING
        }
        _ => socket_role::LOST,
    };
    match (state.role, peer) {
        (socket_role::SINGLE | socket_role::WAITING, _) => return Ok(state),
        (socket_role::LISTENING, _) => {
            // tcpi_sacked is the backlog of a listening socket.
            state.backlog = word(info, 28);
            note_queue(saver, fd, word(info, 24));
            return Ok(state);
        }
        (socket_role::PAIR, Some(peer)) => {
            state.peer = peer.file;
            check_room(fd, peer.fd, on_the_way(info, peer.fd), tcp_state)?;
        }
        _ => {}
    }
    if matches!(tcp_state, FIN_WAIT1 | FIN_WAIT2 | TIME_WAIT | CLOSED | LAST_ACK | CLOSING) {
        state.ended |= socket_end::SENT;
    }
    if matches!(tcp_state, CLOSE_WAIT | LAST_ACK | CLOSING | TIME_WAIT | CLOSED) {
        state.ended |= socket_end::RECEIVED;
    } else if polled & POLLRDHUP != 0 {
        state.ended |= socket_end::DEAF;
    }
    if state.role == socket_role::LOST {
        // A pending error is the program's: it can be seen here, but not read without taking it away.
        if polled & fs::POLLERR != 0 {
            state.ended = socket_end::RESET;
        } else if state.ended & socket_end::RECEIVED == 0 {
            state.ended |= socket_end::RESET;
        }
        if matches!(tcp_state, CLOSED | LAST_ACK | CLOSING) {
            return Ok(state);
        }
        match other_end(fd, peer_name, tcp_state) {
            OtherEnd::Closed => {}
            OtherEnd::Sending => {
                note_lost(saver, fd, "TCP connection whose other end is closed, with bytes on the way")?
            }
            OtherEnd::Queued => note_lost(saver, fd, "TCP connection that nobody has accepted, with data in it,")?,
            OtherEnd::Elsewhere => note_lost(saver, fd, "TCP connection to another process")?,
        }
    }
    Ok(state)
}

/// Who has the other end of a TCP connection, if it is not a descriptor of the process.
enum OtherEnd {
    Elsewhere,
    /// Nobody: all that came from it has come.
    Closed,
    /// Nobody, but what was sent by it has not come yet.
    Sending,
    /// It waits in the queue of a listening socket.
    Queued,
}

/// The address without the port.
fn host(address: &Address) -> &[u8] {
    let at = if address.bytes.first().is_some_and(|&family| u32::from(family) == AF_INET6) { 8..24 } else { 4..8 };
    address.bytes.get(at).unwrap_or(&[])
}

fn other_end(fd: i32, peer_name: &Address, tcp_state: u8) -> OtherEnd {
    let Ok(name) = socket::name(fd) else { return OtherEnd::Elsewhere };
    // A kernel that does not tell of the socket itself knows of no other one either.
    let told = diagnosis::tcp(&name, peer_name).is_ok_and(|found| found.is_some());
    // What has another address may be on another machine.
    if !told || host(&name) != host(peer_name) {
        return OtherEnd::Elsewhere;
    }
    let all_has_come = matches!(tcp_state, CLOSE_WAIT | TIME_WAIT);
    match diagnosis::tcp(peer_name, &name) {
        Ok(Some(found)) if found.ino == 0 && matches!(found.state, ESTABLISHED | CLOSE_WAIT) => OtherEnd::Queued,
        Ok(Some(found)) if found.ino != 0 && found.state != LISTEN => OtherEnd::Elsewhere,
        // A closed one is forgotten after a minute; then the kernel shows who listens on its port, if anybody does.
        Ok(_) if all_has_come => OtherEnd::Closed,
        Ok(Some(found)) if found.ino == 0 => OtherEnd::Sending,
        _ => OtherEnd::Elsewhere,
    }
}

/// What waits between two sockets has to fit into a new connection; and where some of it has not arrived, into the
/// sender's buffer, from which it is sent once more.
fn check_room(fd: i32, peer: i32, missing: u64, tcp_state: u8) -> Result<(), Failure> {
    // As much as a new connection over loopback takes, and some less.
    const MAX: u64 = 2 << 20;
    let waiting = fs::bytes_to_read(peer).unwrap_or(0) as u64 + missing;
    if waiting > MAX {
        return Err(refuse!(
            Errno::EAGAIN,
            "{waiting} bytes wait in the TCP connection within the process from fd {fd} to fd {peer}; {MAX} can be saved"
        ));
    }
    if missing == 0 {
        return Ok(());
    }
    let mut memory = [0u8; 36];
    let _ = socket::get_option(fd, SOL_SOCKET, socket::SO_MEMINFO, &mut memory);
    let send_buffer = u64::from(word(&memory, 12));
    if !matches!(tcp_state, ESTABLISHED | CLOSE_WAIT) || send_buffer < waiting + waiting / 4 + (64 << 10) {
        return Err(refuse!(
            Errno::EAGAIN,
            "fd {fd} is a TCP connection within the process that is so full that {missing} bytes wait on the sending \
             side, where they cannot be read"
        ));
    }
    Ok(())
}

/// Whether a socket is connected to a listening one of the process, though nobody has its other end.
pub(super) fn waits_to_be_accepted(subject: &Subject<'_>, peer_name: &Address) -> bool {
    subject.table.of_end(listening_end(peer_name)).is_some()
}

/// A connection that a restart cannot bring back: a notice, or a refusal if that is asked for.
pub(super) fn note_lost(saver: &mut Saver<'_, '_, '_>, fd: i32, what: &str) -> Result<(), Failure> {
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

/// Connections that nobody has accepted.
pub(super) fn note_queue(saver: &mut Saver<'_, '_, '_>, fd: i32, queued: u32) {
    if queued != 0 {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "{queued} connections wait to be accepted on fd {fd}; those from other processes are lost"
        );
    }
}

// Places in struct tcp_info.
const BYTES_RECEIVED: usize = 128;
const NOT_SENT: usize = 144;
const BYTES_SENT: usize = 200;
const BYTES_RETRANSMITTED: usize = 208;

/// Struct tcp_info, of a socket that is none of TCP zeros.
type TcpInfo = [u8; 216];
const NO_INFO: TcpInfo = [0; 216];

pub(super) fn tcp_info(fd: i32) -> TcpInfo {
    let mut info = NO_INFO;
    // What an older kernel does not tell stays zero.
    let _ = socket::get_option(fd, socket::IPPROTO_TCP, socket::TCP_INFO, &mut info);
    info
}

/// Bytes that were written to the socket with this `info` and have not arrived at `peer`. What has arrived may be
/// acknowledged later, so that SIOCOUTQ would tell too much.
pub(super) fn on_the_way(info: &TcpInfo, peer: i32) -> u64 {
    let sent = u64_at(info, BYTES_SENT).saturating_sub(u64_at(info, BYTES_RETRANSMITTED));
    // The end of the connection counts as one byte that has arrived.
    (u64::from(word(info, NOT_SENT)) + sent).saturating_sub(u64_at(&tcp_info(peer), BYTES_RECEIVED))
}
