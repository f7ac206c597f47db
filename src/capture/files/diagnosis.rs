//! [SIGNAL] The kernel's socket diagnosis (NETLINK_SOCK_DIAG): what it tells of sockets that others have, or nobody.

use crate::arch::frame::u32_at as word;
use crate::sys::socket::{self, AF_UNIX, Address};
use crate::sys::{Errno, fs::OwnedFd};

/// Bytes of the header of each message (struct nlmsghdr).
pub const HEAD: usize = 16;
const ERROR: usize = 2;
const DONE: usize = 3;

pub fn half(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    }
}

/// Sends a request: `flags` of the header, and the words that follow it.
fn ask<const WORDS: usize>(flags: u32, request: [u32; WORDS]) -> Result<OwnedFd, Errno> {
    const NETLINK_SOCK_DIAG: u32 = 4;
    const SOCK_DIAG_BY_FAMILY: u32 = 20;
    let netlink = socket::socket(socket::AF_NETLINK, socket::SOCK_RAW, NETLINK_SOCK_DIAG)?;
    let mut message = [0u8; 128];
    let len = HEAD + 4 * WORDS;
    // Length, type and flags, sequence, port.
    let head = [len as u32, SOCK_DIAG_BY_FAMILY | (flags << 16), 1, 0];
    for (place, value) in message.chunks_exact_mut(4).zip(head.into_iter().chain(request)) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    socket::send(netlink.0, message.get(..len).ok_or(Errno::EINVAL)?)?;
    Ok(netlink)
}

/// Shows the messages of an answer, up to the first one for which `each` says that it was the last.
fn for_each_message(netlink: &OwnedFd, buf: &mut [u8], each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Errno> {
    loop {
        let n = socket::receive(netlink.0, buf, 0)?;
        let mut rest = buf.get(..n).unwrap_or(&[]);
        while rest.len() >= HEAD {
            let len = (word(rest, 0) as usize).clamp(HEAD, rest.len());
            let message = rest.get(..len).unwrap_or(&[]);
            match half(message, 4) {
                DONE => return Ok(()),
                ERROR => return Err(Errno((word(message, HEAD) as i32).wrapping_neg())),
                _ if each(message) => return Ok(()),
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// Every UNIX socket of the network namespace, with its name, peer and queue.
pub fn for_each_unix(buf: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
    const REQUEST_DUMP: u32 = 0x301;
    const SHOW_VFS_PEER_RQLEN: u32 = 2 | 4 | 16;
    // unix_diag_req: family and protocol, states (all), inode, what to show, cookie.
    let netlink = ask(REQUEST_DUMP, [AF_UNIX, u32::MAX, 0, SHOW_VFS_PEER_RQLEN, u32::MAX, u32::MAX])?;
    for_each_message(&netlink, buf, &mut |message| {
        each(message);
        false
    })
}

/// A TCP socket as the kernel has it.
#[derive(Clone, Copy)]
pub struct Tcp {
    pub state: u8,
    /// 0: no process has it.
    pub ino: u32,
}

/// The TCP socket of this network namespace with that name and peer; `None` if there is none.
pub fn tcp(name: &Address, peer: &Address) -> Result<Option<Tcp>, Errno> {
    const REQUEST: u32 = 1;
    // sockaddr_in: family, port, address. sockaddr_in6: family, port, flow, address (16).
    let parts = |address: &Address| {
        let at = if address.bytes.first() == Some(&10) { 8 } else { 4 };
        let ip =
            core::array::from_fn::<u32, 4, _>(|i| if at == 4 && i > 0 { 0 } else { word(&address.bytes, at + 4 * i) });
        (half(&address.bytes, 2) as u32, ip)
    };
    let ((port, [a, b, c, d]), (peer_port, [e, f, g, h])) = (parts(name), parts(peer));
    let family = u32::from(name.bytes.first().copied().unwrap_or(0));
    // inet_diag_req_v2: family and protocol, states (all), ports as they are sent, addresses, interface, cookie.
    let protocol = socket::IPPROTO_TCP << 8;
    let ports = port | peer_port << 16;
    let request = [family | protocol, u32::MAX, ports, a, b, c, d, e, f, g, h, 0, u32::MAX, u32::MAX];
    let netlink = ask(REQUEST, request)?;
    let mut buf = [0u8; 1024];
    let mut found = None;
    // inet_diag_msg: family, state, timer, retries, 48 bytes as above, expiry, two queues, user, inode.
    let asked = for_each_message(&netlink, &mut buf, &mut |message| {
        let state = message.get(HEAD + 1).copied().unwrap_or(0);
        found = Some(Tcp { state, ino: word(message, HEAD + 68) });
        true
    });
    match asked {
        Err(Errno::ENOENT) => Ok(None),
        result => result.map(|()| found),
    }
}
