//! [SIGNAL, NORMAL] Sockets: thin wrappers around the raw calls.
#![allow(unsafe_code)] // Raw calls; every pointer comes from a reference of the right length.

use super::fs::OwnedFd;
use super::{Errno, call, nr};

pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_NETLINK: u32 = 16;
pub const AF_INET6: u32 = 10;
pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const SOCK_RAW: u32 = 3;
pub const SOCK_SEQPACKET: u32 = 5;
pub const SOCK_CLOEXEC: u32 = 0o2_000_000;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;

pub const SOL_SOCKET: u32 = 1;
pub const SO_TYPE: u32 = 3;
pub const SO_PASSCRED: u32 = 16;
pub const SO_ACCEPTCONN: u32 = 30;
pub const SO_PROTOCOL: u32 = 38;
pub const SO_DOMAIN: u32 = 39;
pub const SO_PEEK_OFF: u32 = 42;
pub const SO_MEMINFO: u32 = 55;
pub const SO_BUF_LOCK: u32 = 72;
pub const TCP_INFO: u32 = 11;

pub const MSG_PEEK: u32 = 2;
pub const MSG_DONTWAIT: u32 = 0x40;

/// Longest address: struct sockaddr_storage.
pub const ADDRESS: usize = 128;

/// An address and its length.
#[derive(Clone, Copy)]
pub struct Address {
    pub bytes: [u8; ADDRESS],
    pub len: usize,
}

impl Address {
    pub const NONE: Address = Address { bytes: [0; ADDRESS], len: 0 };

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

fn address_of(nr: u32, fd: i32) -> Result<Address, Errno> {
    let mut out = Address::NONE;
    let mut len = ADDRESS as u32;
    // SAFETY: the kernel writes at most `len` bytes into the buffer, and the length that it has.
    unsafe { call!(nr, fd, out.bytes.as_mut_ptr(), &raw mut len) }?;
    out.len = (len as usize).min(ADDRESS);
    Ok(out)
}

pub fn name(fd: i32) -> Result<Address, Errno> {
    address_of(nr::GETSOCKNAME, fd)
}

pub fn peer(fd: i32) -> Result<Address, Errno> {
    address_of(nr::GETPEERNAME, fd)
}

/// An option's value; returns its length.
pub fn get_option(fd: i32, level: u32, option: u32, out: &mut [u8]) -> Result<usize, Errno> {
    let mut len = out.len() as u32;
    // SAFETY: the kernel writes at most `len` bytes into `out`.
    unsafe { call!(nr::GETSOCKOPT, fd, level, option, out.as_mut_ptr(), &raw mut len) }?;
    Ok((len as usize).min(out.len()))
}

/// An option that is a number.
pub fn get_number(fd: i32, level: u32, option: u32) -> Result<u32, Errno> {
    let mut out = [0u8; 4];
    get_option(fd, level, option, &mut out)?;
    Ok(u32::from_le_bytes(out))
}

pub fn set_option(fd: i32, level: u32, option: u32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `value` only.
    unsafe { call!(nr::SETSOCKOPT, fd, level, option, value.as_ptr(), value.len()) }.map(drop)
}

pub fn set_number(fd: i32, level: u32, option: u32, value: u32) -> Result<(), Errno> {
    set_option(fd, level, option, &value.to_le_bytes())
}

pub fn socket(domain: u32, kind: u32, protocol: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SOCKET, domain, kind | SOCK_CLOEXEC, protocol) }.map(|fd| OwnedFd(fd as i32))
}

/// What [`peek`] found.
pub struct Peeked {
    pub len: usize,
    pub from: Address,
    /// It was longer than the buffer.
    pub cut: bool,
    /// Descriptors come with it, which stay where they are.
    pub descriptors: bool,
}

/// Copies what waits, without taking it out or waiting.
pub fn peek(fd: i32, out: &mut [u8]) -> Result<Peeked, Errno> {
    const MSG_CTRUNC: u32 = 8;
    const MSG_TRUNC: u32 = 0x20;
    let mut from = Address::NONE;
    let mut iov = [out.as_mut_ptr() as usize, out.len()];
    // Room for the sender's credentials alone, if they are wanted: what else there is, is told but not given.
    let mut control = [0u32; 6];
    let wanted = get_number(fd, SOL_SOCKET, SO_PASSCRED).unwrap_or(0) != 0;
    let room = if wanted { size_of_val(&control) } else { 0 };
    // struct msghdr: name, its length, iov, their number, control, its length, flags.
    let mut head = [
        from.bytes.as_mut_ptr() as usize,
        ADDRESS,
        iov.as_mut_ptr() as usize,
        1,
        if wanted { control.as_mut_ptr() as usize } else { 0 },
        room,
        0,
    ];
    // SAFETY: all parts of `head` lie in variables of this function, with the lengths that they have.
    let len = unsafe { call!(nr::RECVMSG, fd, head.as_mut_ptr(), MSG_PEEK | MSG_DONTWAIT) }?;
    // The kernel wrote behind the compiler's back.
    let head = core::hint::black_box(head);
    let [_, name_len, _, _, _, _, flags] = head;
    from.len = if name_len > ADDRESS { 0 } else { name_len };
    Ok(Peeked { len, from, cut: flags as u32 & MSG_TRUNC != 0, descriptors: flags as u32 & MSG_CTRUNC != 0 })
}

/// Bytes that were sent and that the other side has not read (UNIX) or acknowledged (TCP).
pub fn bytes_unread(fd: i32) -> Result<usize, Errno> {
    const SIOCOUTQ: usize = 0x5411;
    let mut n = 0i32;
    // SAFETY: `n` takes the number.
    unsafe { call!(nr::IOCTL, fd, SIOCOUTQ, &raw mut n) }?;
    Ok(n.max(0) as usize)
}

pub fn receive(fd: i32, out: &mut [u8], flags: u32) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `out.len()` bytes; no address is asked for.
    unsafe { call!(nr::RECVFROM, fd, out.as_mut_ptr(), out.len(), flags, 0, 0) }
}

pub fn send(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    const NOSIGNAL: u32 = 0x4000;
    // SAFETY: the kernel reads `bytes` only.
    unsafe { call!(nr::SENDTO, fd, bytes.as_ptr(), bytes.len(), MSG_DONTWAIT | NOSIGNAL, 0, 0) }
}
