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
pub const IPPROTO_IP: u32 = 0;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;
pub const IPPROTO_IPV6: u32 = 41;

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
/// Level and option.
pub const IPV6_MULTICAST_IF: (u32, u32) = (IPPROTO_IPV6, 17);

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

    pub fn is_ipv4(&self) -> bool {
        self.bytes.first().is_some_and(|&family| u32::from(family) == AF_INET)
    }

    /// Of options that have to do with such addresses.
    fn level(&self) -> u32 {
        if self.is_ipv4() { IPPROTO_IP } else { IPPROTO_IPV6 }
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

/// An IPv4 address as IPv6 has it.
pub const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// An IP address with port 0; one of IPv4 is given as [`mapped`].
pub fn from_ip(ip: &[u8; 16]) -> Address {
    let mut out = Address::NONE;
    // sockaddr_in: family, port, address. sockaddr_in6: family, port, flow, address (16), scope.
    let (family, len, at, part) = match ip {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4 @ ..] => (AF_INET, 16, 4, v4.as_slice()),
        _ => (AF_INET6, 28, 8, ip.as_slice()),
    };
    out.len = len;
    if let Some(place) = out.bytes.first_mut() {
        *place = family as u8;
    }
    if let Some(place) = out.bytes.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
    out
}

/// The IP address in a sockaddr, the other way round.
pub fn to_ip(sockaddr: &[u8]) -> [u8; 16] {
    let byte = |at: usize| sockaddr.get(at).copied().unwrap_or(0);
    match u32::from(byte(0)) {
        AF_INET => mapped(core::array::from_fn(|i| byte(4 + i))),
        _ => core::array::from_fn(|i| byte(8 + i)),
    }
}

const MCAST_JOIN_GROUP: u32 = 42;
const MCAST_MSFILTER: u32 = 48;

// struct group_filter of i386: interface, group (a sockaddr_storage, as each source is), whether the sources are those to
// hear or those not to, their number, sources. It begins as struct group_req, which joins a group.
const GROUP: usize = 4;
const GROUP_MODE: usize = GROUP + ADDRESS;
const GROUP_COUNT: usize = GROUP_MODE + 4;
const GROUP_SOURCES: usize = GROUP_COUNT + 4;

fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Errno> {
    out.get_mut(at..at + bytes.len()).ok_or(Errno::ENOMEM)?.copy_from_slice(bytes);
    Ok(())
}

/// Of a multicast group that the socket is in: mode and number of sources, which are in `out` then. EADDRNOTAVAIL: it is in no
/// such group.
pub fn group_filter(fd: i32, interface: u32, group: &Address, out: &mut [u8]) -> Result<(u32, usize), Errno> {
    let room = (out.len() - GROUP_SOURCES.min(out.len())) / ADDRESS;
    put(out, 0, &interface.to_le_bytes())?;
    put(out, GROUP, &group.bytes)?;
    put(out, GROUP_COUNT, &(room as u32).to_le_bytes())?;
    get_option(fd, group.level(), MCAST_MSFILTER, out)?;
    let number = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| out.get(at + i).copied().unwrap_or(0)));
    let count = number(GROUP_COUNT) as usize;
    if count > room { Err(Errno::ENOMEM) } else { Ok((number(GROUP_MODE), count)) }
}

/// A source in an answer of [`group_filter`]: a sockaddr.
pub fn group_source(filter: &[u8], at: usize) -> &[u8] {
    let start = GROUP_SOURCES + at * ADDRESS;
    filter.get(start..start + ADDRESS).unwrap_or(&[])
}

/// Joins a group, to hear all sources.
pub fn join_group(fd: i32, interface: u32, group: &Address) -> Result<(), Errno> {
    let mut request = [0u8; GROUP_MODE];
    put(&mut request, 0, &interface.to_le_bytes())?;
    put(&mut request, GROUP, &group.bytes)?;
    set_option(fd, group.level(), MCAST_JOIN_GROUP, &request)
}

/// Bytes that [`set_group_filter`] needs.
pub const fn group_filter_len(sources: usize) -> usize {
    GROUP_SOURCES + sources * ADDRESS
}

/// Of a group that the socket is in: which sources it hears. `filter` has [`group_filter_len`] bytes, zeros.
pub fn set_group_filter(
    fd: i32,
    interface: u32,
    group: &Address,
    mode: u32,
    sources: &[[u8; 16]],
    filter: &mut [u8],
) -> Result<(), Errno> {
    put(filter, 0, &interface.to_le_bytes())?;
    put(filter, GROUP, &group.bytes)?;
    put(filter, GROUP_MODE, &mode.to_le_bytes())?;
    put(filter, GROUP_COUNT, &(sources.len() as u32).to_le_bytes())?;
    for (source, at) in sources.iter().zip(0..) {
        put(filter, GROUP_SOURCES + at * ADDRESS, &from_ip(source).bytes)?;
    }
    set_option(fd, group.level(), MCAST_MSFILTER, filter)
}

/// The name of an interface, by a socket of its network namespace.
pub fn interface_name(fd: i32, interface: u32) -> Result<[u8; 16], Errno> {
    const SIOCGIFNAME: usize = 0x8910;
    // struct ifreq of i386: 16 bytes of name, then 16 of whatever; here the number.
    let mut request = [0u32; 8];
    request[4] = interface;
    // SAFETY: the kernel reads and writes `request`.
    unsafe { call!(nr::IOCTL, fd, SIOCGIFNAME, request.as_mut_ptr()) }?;
    let [a, b, c, d, ..] = core::hint::black_box(request).map(u32::to_le_bytes);
    Ok(core::array::from_fn(|i| [a, b, c, d].as_flattened().get(i).copied().unwrap_or(0)))
}

pub fn socket(domain: u32, kind: u32, protocol: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers.
    unsafe { call!(nr::SOCKET, domain, kind | SOCK_CLOEXEC, protocol) }.map(|fd| OwnedFd(fd as i32))
}

/// Most descriptors that one message carries (SCM_MAX_FD of the kernel).
pub const MAX_DESCRIPTORS: usize = 253;

/// Copies of the descriptors that come with a message. They are closed with it.
pub struct Descriptors {
    fds: [i32; MAX_DESCRIPTORS],
    count: usize,
}

impl Descriptors {
    pub const fn new() -> Descriptors {
        Descriptors { fds: [-1; MAX_DESCRIPTORS], count: 0 }
    }

    pub fn as_slice(&self) -> &[i32] {
        self.fds.get(..self.count).unwrap_or(&[])
    }

    fn close_all(&mut self) {
        for &fd in self.as_slice() {
            super::fs::close(fd);
        }
        self.count = 0;
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// Who has sent a message, of a socket that wants to know it (SO_PASSCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What [`peek`] found.
pub struct Peeked {
    pub len: usize,
    pub from: Address,
    /// It was longer than the buffer.
    pub cut: bool,
    /// Descriptors come with it that were not copied.
    pub descriptors: bool,
    pub credentials: Option<Credentials>,
}

const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
const SCM_PIDFD: u32 = 4;

/// struct cmsghdr of i386: length with itself, level, type.
const CMSG_HEAD: usize = 12;

/// Copies what waits, without taking it out or waiting. With `copies` also the descriptors that come with it: they are
/// this process's until `copies` is dropped or filled anew.
pub fn peek(fd: i32, out: &mut [u8], copies: Option<&mut Descriptors>) -> Result<Peeked, Errno> {
    const MSG_CTRUNC: u32 = 8;
    const MSG_TRUNC: u32 = 0x20;
    const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
    const CREDENTIALS: usize = CMSG_HEAD + 12;
    let mut from = Address::NONE;
    let mut iov = [out.as_mut_ptr() as usize, out.len()];
    let mut control = [0u32; (CREDENTIALS + 2 * CMSG_HEAD + 4 + 4 * MAX_DESCRIPTORS + 200) / 4];
    // Without room for them descriptors are told but not given. Credentials come first.
    let room = match copies {
        Some(_) => size_of_val(&control),
        None if get_number(fd, SOL_SOCKET, SO_PASSCRED).unwrap_or(0) != 0 => CREDENTIALS,
        None => 0,
    };
    // struct msghdr: name, its length, iov, their number, control, its length, flags.
    let mut head = [
        from.bytes.as_mut_ptr() as usize,
        ADDRESS,
        iov.as_mut_ptr() as usize,
        1,
        if room != 0 { control.as_mut_ptr() as usize } else { 0 },
        room,
        0,
    ];
    // SAFETY: all parts of `head` lie in variables of this function, with the lengths that they have.
    let len = unsafe { call!(nr::RECVMSG, fd, head.as_mut_ptr(), MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) }?;
    // The kernel wrote behind the compiler's back.
    let (head, control) = (core::hint::black_box(head), core::hint::black_box(control));
    let [_, name_len, _, _, _, control_len, flags] = head;
    from.len = if name_len > ADDRESS { 0 } else { name_len };
    let control = control.get(..control_len.min(room) / 4).unwrap_or(&[]);
    let credentials = read_control(control, copies);
    let flags = flags as u32;
    Ok(Peeked { len, from, cut: flags & MSG_TRUNC != 0, descriptors: flags & MSG_CTRUNC != 0, credentials })
}

/// Copies `out.len()` of the `out.len() + 1` bytes that wait in a stream, and tells how many of them come before the piece
/// that the last one of all was sent with. The kernel counts whole pieces if one finds no place.
pub fn peek_all_but_last_piece(fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
    // Behind the buffer lies what nobody can write to.
    static NO_PLACE: u8 = 0;
    let mut iov = [out.as_mut_ptr() as usize, out.len(), &raw const NO_PLACE as usize, 1];
    let mut head = [0, 0, iov.as_mut_ptr() as usize, 2, 0, 0, 0usize];
    // SAFETY: as in `peek`; the kernel refuses to write where the process cannot.
    match unsafe { call!(nr::RECVMSG, fd, head.as_mut_ptr(), MSG_PEEK | MSG_DONTWAIT) } {
        Err(Errno::EFAULT) => Ok(0),
        result => result,
    }
}

/// Reads what has come beside a message; the descriptors go to `copies`.
fn read_control(mut control: &[u32], copies: Option<&mut Descriptors>) -> Option<Credentials> {
    let mut unused = Descriptors::new();
    let copies = copies.unwrap_or(&mut unused);
    copies.close_all();
    let mut credentials = None;
    while let &[len, level, what, ..] = control {
        let words = (len as usize).clamp(CMSG_HEAD, control.len() * 4).div_ceil(4);
        let (message, rest) = control.split_at_checked(words)?;
        let payload = message.get(CMSG_HEAD / 4..).unwrap_or(&[]);
        match (level, what, payload) {
            (SOL_SOCKET, SCM_CREDENTIALS, &[pid, uid, gid]) => credentials = Some(Credentials { pid, uid, gid }),
            (SOL_SOCKET, SCM_RIGHTS, fds) => {
                for (place, &fd) in copies.fds.iter_mut().zip(fds) {
                    *place = fd as i32;
                }
                copies.count = fds.len().min(MAX_DESCRIPTORS);
            }
            (SOL_SOCKET, SCM_PIDFD, &[fd]) => super::fs::close(fd as i32),
            _ => {}
        }
        control = rest;
    }
    credentials
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
