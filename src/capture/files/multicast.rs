//! [SIGNAL] Multicast groups that datagram sockets have joined.
//!
//! The kernel does not list them by socket. It lists the groups that the machine listens to on each interface, and tells of
//! a socket whether it is a member of one.

use super::{Saver, Subject};
use crate::capture::failure::{Failure, fail, unreadable};
use crate::capture::notices::notice;
use crate::format::files::{Membership, data_kind};
use crate::format::notice::code;
use crate::sys::lines::{Cursor, Lines, parse_dec, parse_hex};
use crate::sys::socket::{self, AF_INET};
use crate::sys::{Errno, fs};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// A group to which somebody listens on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    interface: u32,
    address: [u8; 16],
}

/// All of them, once a socket asks.
pub struct Groups<'a> {
    slots: &'a mut [Group],
    count: Option<usize>,
}

/// That of all hosts: the kernel itself is a member on every interface.
const ALL_HOSTS: [[u8; 16]; 3] = [
    socket::mapped([224, 0, 0, 1]),
    [0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

impl<'a> Groups<'a> {
    pub fn new(slots: &'a mut [Group]) -> Groups<'a> {
        Groups { slots, count: None }
    }

    fn add(&mut self, group: Group, users: u64) {
        if users > 1 || !ALL_HOSTS.contains(&group.address) {
            let count = self.count.unwrap_or(0);
            if let Some(place) = self.slots.get_mut(count) {
                *place = group;
            }
            self.count = Some(count + 1);
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        self.count = Some(0);
        let mut interface = 0;
        each_line(b"/proc/thread-self/net/igmp\0", buf, &mut |line| match line.first() {
            Some(b'\t') => {
                if let Some((address, users)) = parse_igmp(line) {
                    self.add(Group { interface, address }, users);
                }
            }
            _ => interface = parse_dec(Cursor(line).word()).unwrap_or(0) as u32,
        })?;
        each_line(b"/proc/thread-self/net/igmp6\0", buf, &mut |line| {
            if let Some((group, users)) = parse_igmp6(line) {
                self.add(group, users);
            }
        })
    }
}

/// A kernel without multicast has no such file.
fn each_line(path: &[u8], buf: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
    let failed = |errno| unreadable(errno, "/proc/thread-self/net");
    let file = match fs::open(path, fs::O_RDONLY | fs::O_CLOEXEC, 0) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => fs::OwnedFd(opened.map_err(failed)?),
    };
    let mut lines = Lines::new(file.0, buf);
    while let Some(line) = lines.next_line().map_err(failed)? {
        each(line);
    }
    Ok(())
}

/// A group and its users, below the line of an interface: `\t\t\t\t010000E0     1 0:00000000\t\t0`.
fn parse_igmp(line: &[u8]) -> Option<([u8; 16], u64)> {
    let mut cursor = Cursor(line);
    let address = parse_hex(cursor.word())? as u32;
    Some((socket::mapped(address.to_le_bytes()), parse_dec(cursor.word())?))
}

/// Interface, its name, group, users: `1    lo    ff020000000000000000000000000001     1 0000000C 0`.
fn parse_igmp6(line: &[u8]) -> Option<(Group, u64)> {
    let mut cursor = Cursor(line);
    let interface = parse_dec(cursor.word())? as u32;
    cursor.word();
    let (high, low) = cursor.word().split_at_checked(16)?;
    let number = (u128::from(parse_hex(high)?) << 64) | u128::from(parse_hex(low)?);
    Some((Group { interface, address: number.to_be_bytes() }, parse_dec(cursor.word())?))
}

/// The groups that a datagram socket is a member of, with the sources from which it wants to hear or not.
pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, domain: u32) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    if saver.groups.count.is_none() {
        saver.groups.read(saver.buf)?;
    }
    let count = saver.groups.count.unwrap_or(0);
    if count > saver.groups.slots.len() {
        notice!(
            saver.notices,
            code::STATE_NOT_SAVED,
            fd as u64,
            "the machine listens to {count} multicast groups; fd {fd} is asked for its membership of {} only",
            saver.groups.slots.len()
        );
    }
    let mut named = 0;
    for at in 0..count {
        let Some(&Group { interface, address }) = saver.groups.slots.get(at) else { break };
        let group = socket::from_ip(&address);
        // A socket for IPv6 may be in groups of IPv4, too.
        if domain == AF_INET && !group.is_ipv4() {
            continue;
        }
        let (mode, count) = match socket::group_filter(fd, interface, &group, saver.buf) {
            Ok(found) => found,
            Err(Errno::EADDRNOTAVAIL) => continue,
            Err(errno) => return Err(fail!(errno, "cannot read the multicast groups of socket fd {fd}")),
        };
        let head = Membership { interface: U32::new(interface), mode: U32::new(mode), group: address };
        let len = pack(&head, saver.buf, count);
        saver.data_in_buf(subject.slot.file, data_kind::SOCKET_GROUP, 0, len)?;
        if named != interface {
            save_interface(saver, subject, interface)?;
            named = interface;
        }
    }
    Ok(())
}

/// Replaces an answer of [`socket::group_filter`] with what the image has of it: `head`, and 16 bytes a source. What it has
/// of a source lies before what the kernel has.
fn pack(head: &Membership, buf: &mut [u8], count: usize) -> usize {
    let mut end = size_of::<Membership>();
    for at in 0..count {
        let source = socket::to_ip(socket::group_source(buf, at));
        if let Some(place) = buf.get_mut(end..end + source.len()) {
            place.copy_from_slice(&source);
        }
        end += source.len();
    }
    if let Some(place) = buf.get_mut(..size_of::<Membership>()) {
        place.copy_from_slice(head.as_bytes());
    }
    end
}

/// The name of an interface: its number may be another one at a restart.
pub fn save_interface(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, interface: u32) -> Result<(), Failure> {
    // One that has gone has no name.
    let Ok(name) = socket::interface_name(subject.slot.fd, interface) else { return Ok(()) };
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    saver.data(subject.slot.file, data_kind::INTERFACE, interface.into(), name.get(..len).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_families() {
        let line = b"\t\t\t\t070201EF     3 0:00000000\t\t0";
        assert_eq!(parse_igmp(line), Some((socket::mapped([239, 1, 2, 7]), 3)));
        let line = b"12   lo              ff020000000000000000000000000abc     2 00000004 0";
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xff, 2]);
        address[14..].copy_from_slice(&[0x0a, 0xbc]);
        assert_eq!(parse_igmp6(line), Some((Group { interface: 12, address }, 2)));
        assert_eq!(parse_igmp6(b"Idx Device"), None);
    }
}
