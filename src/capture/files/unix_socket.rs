//! [SIGNAL] UNIX sockets: who is connected with whom, as the kernel's socket diagnosis tells, and their names.

use super::diagnosis::{self, half};
use super::socket::{POLLRDHUP, State, note_lost, note_queue, peer_of, waits_to_be_accepted};
use super::{Saver, Subject, Table};
use crate::arch::frame::u32_at as word;
use crate::capture::failure::Failure;
use crate::capture::scratch::FdSlot;
use crate::format::files::{socket_end, socket_role};
use crate::sys::abi::{S_IFMT, S_IFSOCK};
use crate::sys::socket::{self, Address, SOCK_DGRAM};
use crate::sys::{Errno, fs};

/// A UNIX socket of the network namespace.
#[derive(Default)]
pub struct Found {
    pub ino: u64,
    /// 0: none.
    pub peer: u64,
    /// Inode of its name.
    pub name_ino: u32,
    /// Of a listening socket.
    pub backlog: u32,
    pub queued: u32,
    /// How it was shut down: 1 for receiving, 2 for sending.
    pub shutdown: u8,
}

/// Every UNIX socket of the network namespace.
pub fn for_each(buf: &mut [u8], each: &mut dyn FnMut(&Found)) -> Result<(), Errno> {
    diagnosis::for_each_unix(buf, &mut |message| each(&read_message(message)))
}

fn read_message(message: &[u8]) -> Found {
    const VFS: usize = 1;
    const PEER: usize = 2;
    const RQLEN: usize = 4;
    const SHUTDOWN: usize = 6;
    const LISTEN: u8 = 10;
    // After the header, unix_diag_msg: family, type, state, pad, inode, cookie; then attributes.
    let mut found = Found { ino: word(message, 20).into(), ..Found::default() };
    let mut attributes = message.get(32..).unwrap_or(&[]);
    while attributes.len() >= 4 {
        let size = half(attributes, 0).clamp(4, attributes.len());
        match half(attributes, 2) {
            VFS => found.name_ino = word(attributes, 4),
            SHUTDOWN => found.shutdown = word(attributes, 4) as u8,
            PEER => found.peer = word(attributes, 4).into(),
            RQLEN if message.get(18) == Some(&LISTEN) => {
                found.queued = word(attributes, 4);
                found.backlog = word(attributes, 8);
            }
            _ => {}
        }
        attributes = attributes.get(size.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// Whether its other end is open in another process only.
pub fn leads_outside(slot: &FdSlot, table: Table<'_>) -> bool {
    let hung_up = || fs::poll_now(slot.fd, 0).is_ok_and(|got| got & fs::POLLHUP != 0);
    // A datagram socket is told of no end, but one that is closed has no inode. Nor has the end of a connection that nobody has
    // accepted, which is open.
    let is_closed = || slot.socket.kind == SOCK_DGRAM && slot.is_diagnosed && slot.peer_end == 0 || hung_up();
    table.of_end(slot.peer_end).is_none() && socket::peer(slot.fd).is_ok() && !is_closed()
}

pub fn state(
    saver: &mut Saver<'_, '_, '_>,
    subject: &Subject<'_>,
    kind: u32,
    name: &Address,
    peer_name: &Address,
    polled: u16,
) -> Result<State, Failure> {
    let (slot, fd) = (subject.slot, subject.slot.fd);
    let peer = peer_of(slot, subject.table);
    let target = subject.table.of_end(slot.peer_end);
    let mut state = State::SINGLE;
    look_at_name(slot, name, &mut state);
    if slot.socket.listens {
        state.role = socket_role::LISTENING;
        state.backlog = slot.backlog;
        note_queue(saver, fd, slot.queued);
        return Ok(state);
    }
    // Of datagram sockets only the socket itself knows; of others the peer knows, too.
    let by_itself = kind == SOCK_DGRAM;
    if by_itself && slot.shutdown & 1 != 0 {
        state.ended |= socket_end::DEAF;
    }
    if by_itself && slot.shutdown & 2 != 0 {
        state.ended |= socket_end::SENT;
    }
    let connected = peer_name.len != 0;
    state.role = match (peer, target) {
        _ if !connected => return Ok(state),
        (Some(peer), _) => {
            state.peer = peer.file;
            socket_role::PAIR
        }
        (_, Some(target)) if kind == SOCK_DGRAM => {
            state.peer = target.file;
            socket_role::DIRECTED
        }
        // A name can be found again, or it cannot.
        _ if kind == SOCK_DGRAM && peer_name.len > 2 => return Ok(state),
        _ if waits_to_be_accepted(subject, peer_name) && leads_outside(slot, subject.table) => {
            // What it has sent cannot be seen before somebody accepts it.
            if socket::bytes_unread(fd) == Ok(0) { socket_role::WAITING } else { socket_role::LOST }
        }
        _ => socket_role::LOST,
    };
    if !by_itself && polled & POLLRDHUP != 0 {
        state.ended |= socket_end::RECEIVED;
    }
    if state.role == socket_role::LOST && polled & fs::POLLERR != 0 {
        state.ended |= socket_end::RESET;
    }
    let peer_told = |other: &FdSlot| fs::poll_now(other.fd, POLLRDHUP).is_ok_and(|got| got & POLLRDHUP != 0);
    if !by_itself && peer.is_some_and(peer_told) {
        state.ended |= socket_end::SENT;
    }
    if state.role == socket_role::LOST && leads_outside(slot, subject.table) {
        state.ended |= socket_end::RESET;
        if waits_to_be_accepted(subject, peer_name) {
            note_lost(saver, fd, "UNIX connection that nobody has accepted, with data that cannot be read yet,")?;
        } else {
            note_lost(saver, fd, "UNIX connection to another process")?;
        }
    }
    Ok(state)
}

/// Whether a name in the file system leads to the socket, and the permissions there.
fn look_at_name(slot: &FdSlot, name: &Address, state: &mut State) {
    let mut path = [0u8; 129];
    let Some(bytes) = name.as_bytes().get(2..).filter(|bytes| bytes.first().is_some_and(|&first| first != 0)) else {
        return;
    };
    for (place, byte) in path.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    let found = fs::stat(path.get(..=end).unwrap_or(&[]));
    match found {
        Ok(stat)
            if u32::from(stat.mode) & S_IFMT == S_IFSOCK
                && (slot.name_ino == 0 || stat.ino as u32 == slot.name_ino) =>
        {
            state.name_mode = u32::from(stat.mode) & 0o7777;
        }
        _ => state.ended |= socket_end::NAME_GONE,
    }
}
