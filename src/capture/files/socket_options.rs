//! [SIGNAL] Options of sockets.

use super::{Saver, Subject};
use crate::arch::frame::u32_at as word;
use crate::capture::failure::Failure;
use crate::capture::scratch::SocketLook;
use crate::format::files::data_kind;
use crate::sys::socket::{self, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET};

const SO_REUSEADDR: u32 = 2;
const SO_RCVLOWAT: u32 = 18;

/// Options that are numbers or small structures: (level, option). One that a socket does not have is left out.
const OPTIONS: [(u32, u32); 39] = [
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
    (SOL_SOCKET, 40), // SO_RXQ_OVFL
    (SOL_SOCKET, 42), // SO_PEEK_OFF
    (0, 1),           // IP_TOS
    (0, 2),           // IP_TTL
    (0, 8),           // IP_PKTINFO
    (0, 10),          // IP_MTU_DISCOVER
    (0, 11),          // IP_RECVERR
    (0, 12),          // IP_RECVTTL
    (0, 13),          // IP_RECVTOS
    (0, 15),          // IP_FREEBIND
    (41, 16),         // IPV6_UNICAST_HOPS
    (41, 23),         // IPV6_MTU_DISCOVER
    (41, 25),         // IPV6_RECVERR
    (41, 26),         // IPV6_V6ONLY
    (41, 49),         // IPV6_RECVPKTINFO
    (41, 51),         // IPV6_RECVHOPLIMIT
    (41, 66),         // IPV6_RECVTCLASS
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

/// Those of sockets that can send to a multicast group. An interface that was chosen for IPv4 by its number alone is not told.
const MULTICAST_OPTIONS: [(u32, u32); 8] = [
    (0, 32), // IP_MULTICAST_IF
    (0, 33), // IP_MULTICAST_TTL
    (0, 34), // IP_MULTICAST_LOOP
    (0, 49), // IP_MULTICAST_ALL
    socket::IPV6_MULTICAST_IF,
    (41, 18), // IPV6_MULTICAST_HOPS
    (41, 19), // IPV6_MULTICAST_LOOP
    (41, 29), // IPV6_MULTICAST_ALL
];

/// Buffer sizes, where the program has chosen them: bit of SO_BUF_LOCK, option.
const BUFFERS: [(u32, u32); 2] = [(1, 7), (2, 8)]; // SO_SNDBUF, SO_RCVBUF

#[derive(Clone, Copy)]
struct Entry {
    level: u32,
    option: u32,
    len: usize,
    value: [u8; 16],
}

impl Entry {
    const NONE: Entry = Entry { level: 0, option: 0, len: 0, value: [0; 16] };
}

/// The options of a socket that are not as a new socket has them.
pub struct Options {
    /// 0: they have not been read. Some are noted of every socket.
    count: usize,
    entries: [Entry; OPTIONS.len() + MULTICAST_OPTIONS.len() + BUFFERS.len()],
}

impl Options {
    const NONE: Options =
        Options { count: 0, entries: [Entry::NONE; OPTIONS.len() + MULTICAST_OPTIONS.len() + BUFFERS.len()] };
}

/// Reads the options of the socket `fd`.
pub fn read(fd: i32, look: SocketLook, options: &mut Options) {
    options.count = 0;
    let locked = socket::get_number(fd, SOL_SOCKET, socket::SO_BUF_LOCK).unwrap_or(0);
    let buffers = BUFFERS.into_iter().filter(|(bit, _)| locked & bit != 0).map(|(_, option)| (SOL_SOCKET, option));
    let multicast = MULTICAST_OPTIONS.into_iter().filter(|_| look.kind == SOCK_DGRAM);
    for (level, option) in OPTIONS.into_iter().chain(multicast).chain(buffers) {
        let applies = match level {
            socket::IPPROTO_IP => look.domain != AF_UNIX,
            socket::IPPROTO_IPV6 => look.domain == AF_INET6,
            socket::IPPROTO_TCP => look.domain != AF_UNIX && look.kind == SOCK_STREAM,
            _ => true,
        };
        if !applies {
            continue;
        }
        let mut entry = Entry { level, option, ..Entry::NONE };
        let Ok(len) = socket::get_option(fd, level, option, &mut entry.value) else { continue };
        // What a new socket has anyway, of the many that are off by default.
        let off_by_default = level == SOL_SOCKET && !matches!(option, SO_REUSEADDR | SO_RCVLOWAT | socket::SO_PEEK_OFF);
        if off_by_default && entry.value.iter().all(|&byte| byte == 0) {
            continue;
        }
        if let Some(place) = options.entries.get_mut(options.count) {
            *place = Entry { len, ..entry };
            options.count += 1;
        }
    }
}

/// Writes the options of a socket.
pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>) -> Result<(), Failure> {
    let slot = subject.slot;
    let mut own = Options::NONE;
    let options = subject.table.options_of(slot).filter(|options| options.count != 0).unwrap_or_else(|| {
        read(slot.fd, slot.socket, &mut own);
        &own
    });
    for Entry { level, option, len, value } in options.entries.iter().take(options.count) {
        let number = (u64::from(*level) << 32) | u64::from(*option);
        saver.data(slot.file, data_kind::SOCKET_OPTION, number, value.get(..*len).unwrap_or(&[]))?;
        if (*level, *option) == socket::IPV6_MULTICAST_IF {
            super::multicast::save_interface(saver, subject, word(value, 0))?;
        }
    }
    Ok(())
}
