//! [NORMAL, SIGNAL] FILE, FILE_DATA and FD: open file descriptions, what they hold, and the descriptors that
//! refer to them. `capture::files` says what a new kind takes.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// FILE: an open file description. Its path follows in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct File {
    /// Number that FD records refer to; counts from 0.
    pub id: U32,
    /// One of [`file_kind`].
    pub kind: U32,
    /// Flags of F_GETFL, with the values of i386.
    pub flags: U32,
    /// st_mode.
    pub mode: U32,
    /// Offset of reading and writing.
    pub pos: U64,
    pub dev: U64,
    pub ino: U64,
    pub rdev: U64,
    pub size: U64,
    pub mtime: U64,
    pub mtime_nsec: U32,
    pub path_len: U32,
}
const _: () = assert!(size_of::<File>() == 72);

/// FILE_DATA: more state of a FILE that came before. Its bytes follow in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FileData {
    /// [`File::id`].
    pub file: U32,
    /// One of [`data_kind`].
    pub what: U32,
    /// Place of the bytes in the file, or what the kind says.
    pub offset: U64,
    pub len: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<FileData>() == 24);

/// What the bytes of a FILE_DATA are. Each family has a hundred numbers: regular files from 1, pipes from
/// 100, event objects from 200, sockets from 300, terminals from 400.
pub mod data_kind {
    /// Contents of a file from `offset` on; what is not stored reads as zeros.
    pub const CONTENTS: u32 = 1;
    /// `offset` holds the seals of a memfd.
    pub const SEALS: u32 = 2;
    /// Of any kind of FILE: who is told of what happens to it, a [`super::Owner`]; `offset` is the signal, 0 for SIGIO.
    pub const OWNER: u32 = 3;
    /// A [`super::Lock`] on the file.
    pub const LOCK: u32 = 4;
    /// When a regular file was made: `offset` is the second, the bytes are a u32 of nanoseconds.
    pub const BORN: u32 = 5;
    /// A memfd has huge pages; `offset` is the logarithm of their size.
    pub const HUGE: u32 = 6;
    /// `offset` is the capacity of a pipe or FIFO.
    pub const PIPE_SIZE: u32 = 100;
    /// Bytes in flight; `offset` counts from the first one.
    pub const PIPE_BYTES: u32 = 101;
    /// One packet in flight (O_DIRECT).
    pub const PIPE_PACKET: u32 = 102;
    /// All writers of a FIFO have gone, and its reader has been told.
    pub const FIFO_HUNG_UP: u32 = 103;
    /// `offset` is the count; one byte: whether it is a semaphore.
    pub const EVENTFD: u32 = 200;
    /// A [`super::Timerfd`].
    pub const TIMERFD: u32 = 201;
    /// `offset` is the set of signals.
    pub const SIGNALFD: u32 = 202;
    /// An [`super::EpollTarget`].
    pub const EPOLL_TARGET: u32 = 203;
    /// An [`super::InotifyWatch`].
    pub const INOTIFY_WATCH: u32 = 204;

    /// A [`super::Socket`].
    pub const SOCKET: u32 = 300;
    /// Bytes or one message that wait in a socket.
    pub const SOCKET_BYTES: u32 = 301;
    /// Who has sent the message that follows: a sockaddr.
    pub const SOCKET_FROM: u32 = 303;
    /// Descriptors that come with the message that follows: a u32 [`super::File::id`] for each.
    pub const SOCKET_RIGHTS: u32 = 304;
    /// User and group of who has sent the message or the bytes that follow, u32 each.
    pub const SOCKET_CREDENTIALS: u32 = 305;
    /// A multicast group that the socket is in: a [`super::Membership`], then 16 bytes for each source.
    pub const SOCKET_GROUP: u32 = 306;
    /// Name of an interface that the socket refers to by its number, which is `offset`.
    pub const INTERFACE: u32 = 307;
    /// A [`super::Pty`], with the master's FILE.
    pub const PTY: u32 = 310;
    /// Bytes that wait to be read from the master, and from the slave; both with the master's FILE.
    pub const PTY_OUTPUT: u32 = 311;
    pub const PTY_INPUT: u32 = 312;
    /// The slave is the controlling terminal of the session that the process leads; with the master's FILE.
    pub const PTY_CONTROLS: u32 = 313;
    /// A [`super::Queue`], with one FILE of a POSIX message queue; a message that waits in it: `offset` is its priority.
    pub const QUEUE: u32 = 320;
    pub const QUEUE_MESSAGE: u32 = 321;
    /// `offset` is the level in the upper, the option in the lower 32 bits; the bytes are its value.
    pub const SOCKET_OPTION: u32 = 302;

    pub fn name(what: u32) -> &'static str {
        match what {
            CONTENTS => "contents",
            SEALS => "seals",
            OWNER => "owner",
            LOCK => "lock",
            BORN => "born",
            HUGE => "huge",
            PIPE_SIZE => "pipe-size",
            PIPE_BYTES => "pipe-bytes",
            PIPE_PACKET => "pipe-packet",
            FIFO_HUNG_UP => "fifo-hung-up",
            EVENTFD => "eventfd",
            TIMERFD => "timerfd",
            SIGNALFD => "signalfd",
            EPOLL_TARGET => "epoll-target",
            INOTIFY_WATCH => "inotify-watch",
            SOCKET => "socket",
            SOCKET_BYTES => "socket-bytes",
            SOCKET_OPTION => "socket-option",
            SOCKET_FROM => "socket-from",
            SOCKET_RIGHTS => "socket-rights",
            SOCKET_CREDENTIALS => "socket-credentials",
            SOCKET_GROUP => "socket-group",
            INTERFACE => "interface",
            PTY => "pty",
            PTY_OUTPUT => "pty-output",
            PTY_INPUT => "pty-input",
            PTY_CONTROLS => "pty-controls",
            QUEUE => "queue",
            QUEUE_MESSAGE => "queue-message",
            _ => "unknown",
        }
    }
}

/// What a descriptor refers to, and so how it is put back. Numbers as in [`data_kind`], from 10 on: regular
/// files from 10, pipes from 20, event objects from 30, sockets from 50, terminals from 70.
pub mod file_kind {
    /// Regular file, opened again by path.
    pub const REGULAR: u32 = 1;
    pub const DIRECTORY: u32 = 2;
    /// A harmless device, opened again by path: null, zero, full, random, urandom.
    pub const DEVICE: u32 = 3;
    /// A terminal: that of the restarting command.
    pub const TERMINAL: u32 = 4;
    /// A pipe or socket whose other end is outside: the restarting command's descriptor of the same number,
    /// or a closed peer if it has none.
    pub const STREAM: u32 = 5;
    /// Cannot be saved: stands as a closed peer after a restart. A NOTICE names it.
    pub const CLOSED_PEER: u32 = 6;
    /// A regular file without a name, by its contents.
    pub const DELETED: u32 = 10;
    /// A memfd, by its contents.
    pub const MEMFD: u32 = 11;
    /// A directory that has been removed.
    pub const DIRECTORY_DELETED: u32 = 12;
    /// A name that was opened with O_PATH, of whatever else than a file or directory: link, socket, device.
    pub const PLACE: u32 = 13;
    /// An end of a pipe of which this process has both, or whose other end is closed.
    pub const PIPE: u32 = 20;
    /// A FIFO, opened again by path.
    pub const FIFO: u32 = 21;
    /// A FIFO whose name is gone.
    pub const FIFO_DELETED: u32 = 22;
    pub const EVENTFD: u32 = 30;
    pub const TIMERFD: u32 = 31;
    pub const SIGNALFD: u32 = 32;
    pub const EPOLL: u32 = 33;
    /// A pidfd of the process itself.
    pub const PIDFD: u32 = 34;
    /// An inotify with the watches of which it is known what they watch.
    pub const INOTIFY: u32 = 35;
    /// A socket; its [`super::Socket`] tells which.
    pub const SOCKET: u32 = 50;
    /// The two ends of a pseudo-terminal whose master is in the process.
    pub const PTY_MASTER: u32 = 60;
    pub const PTY_SLAVE: u32 = 61;
    /// A POSIX message queue; its path is its name after a slash.
    pub const QUEUE: u32 = 65;

    pub fn name(kind: u32) -> &'static str {
        match kind {
            REGULAR => "file",
            DIRECTORY => "directory",
            DEVICE => "device",
            TERMINAL => "terminal",
            STREAM => "stream",
            CLOSED_PEER => "not saved",
            DELETED => "deleted file",
            MEMFD => "memfd",
            DIRECTORY_DELETED => "deleted directory",
            PLACE => "place",
            PIPE => "pipe",
            FIFO => "fifo",
            FIFO_DELETED => "deleted fifo",
            EVENTFD => "eventfd",
            TIMERFD => "timerfd",
            SIGNALFD => "signalfd",
            EPOLL => "epoll",
            PIDFD => "pidfd",
            INOTIFY => "inotify",
            SOCKET => "socket",
            PTY_MASTER => "pty master",
            PTY_SLAVE => "pty slave",
            QUEUE => "message queue",
            _ => "unknown",
        }
    }
}

/// FD: a descriptor.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Fd {
    pub fd: U32,
    /// [`File::id`].
    pub file: U32,
    /// FD_CLOEXEC.
    pub flags: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Fd>() == 16);

/// State of a timerfd at the checkpoint.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Timerfd {
    pub clock: U32,
    /// Of timerfd_settime(2): absolute, cancelled when the clock is set.
    pub flags: U32,
    /// Expirations that nobody has read.
    pub ticks: U64,
    /// Time to the next expiration; zero if it is not armed.
    pub left_sec: U64,
    /// Interval.
    pub every_sec: U64,
    pub left_nsec: U32,
    pub every_nsec: U32,
}
const _: () = assert!(size_of::<Timerfd>() == 40);

/// Something that an epoll watches.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EpollTarget {
    /// The number under which it was added; it may mean something else by now.
    pub fd: U32,
    /// [`File::id`]; the FILE may come later.
    pub file: U32,
    pub events: U32,
    pub reserved: U32,
    pub data: U64,
}
const _: () = assert!(size_of::<EpollTarget>() == 24);

/// Something that an inotify watches.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InotifyWatch {
    /// Its number, from 1 on.
    pub wd: U32,
    pub mask: U32,
    /// [`File::id`] of the same file or directory, or [`InotifyWatch::WORKING_DIRECTORY`], or [`InotifyWatch::PATH`].
    pub file: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<InotifyWatch>() == 16);

impl InotifyWatch {
    pub const WORKING_DIRECTORY: u32 = u32::MAX;
    /// What has the path that follows, absolute and without NUL.
    pub const PATH: u32 = u32::MAX - 1;
    /// Numbers are given in turn: a restart has to count up to it.
    pub const HIGHEST: u32 = 1 << 16;
}

/// State of a socket at the checkpoint.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Socket {
    /// As socket(2) takes them.
    pub domain: U32,
    pub kind: U32,
    pub protocol: U32,
    /// One of [`socket_role`].
    pub role: U32,
    /// [`File::id`] of the other end, for a pair and for a destination.
    pub peer: U32,
    /// Bits of [`socket_end`].
    pub ended: U32,
    /// Of a listening socket.
    pub backlog: U32,
    pub name_len: U32,
    pub peer_name_len: U32,
    /// Permissions of the file that is a UNIX socket's name.
    pub name_mode: U32,
    pub name: [u8; 128],
    pub peer_name: [u8; 128],
}
const _: () = assert!(size_of::<Socket>() == 296);

/// That a socket is in a multicast group on an interface. Addresses of IPv4 are given as IPv6 has them (::ffff:a.b.c.d).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Membership {
    /// Number of the interface.
    pub interface: U32,
    /// 0: hears all but the sources that follow (MCAST_EXCLUDE), 1: those alone (MCAST_INCLUDE).
    pub mode: U32,
    pub group: [u8; 16],
}
const _: () = assert!(size_of::<Membership>() == 24);

/// State of a pseudo-terminal at the checkpoint.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Pty {
    /// Its number in /dev/pts.
    pub index: U32,
    pub locked: U32,
    pub packets: U32,
    /// 1: all descriptors of its slave have been closed.
    pub hung_up: U32,
    /// struct termios2 and struct winsize.
    pub termios: [u8; 44],
    pub winsize: [u8; 8],
}
const _: () = assert!(size_of::<Pty>() == 68);

/// State of a POSIX message queue at the checkpoint.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Queue {
    pub max_messages: U32,
    pub message_size: U32,
    /// Bits of [`queue_flag`].
    pub flags: U32,
}
const _: () = assert!(size_of::<Queue>() == 12);

pub mod queue_flag {
    /// Its name has been removed.
    pub const DELETED: u32 = 1;
    /// Its messages are not in the image: what a restart finds in it stays there.
    pub const NOT_SAVED: u32 = 2;
    pub const ALL: u32 = 3;
}

/// What a socket is to the others.
pub mod socket_role {
    /// Not connected to anything, or a datagram socket with a default destination.
    pub const SINGLE: u32 = 0;
    pub const LISTENING: u32 = 1;
    /// Both ends are in the process.
    pub const PAIR: u32 = 2;
    /// Its other end was elsewhere, or has gone.
    pub const LOST: u32 = 3;
    /// A datagram socket whose destination is in the process.
    pub const DIRECTED: u32 = 4;
    /// Connected to a listening socket of the process, which has not accepted it.
    pub const WAITING: u32 = 5;
}

/// Which ways of a connection have ended.
pub mod socket_end {
    /// It has been shut down for sending.
    pub const SENT: u32 = 1;
    /// Its peer has ended, in order.
    pub const RECEIVED: u32 = 2;
    /// It was reset: the next call of the program says so.
    pub const RESET: u32 = 4;
    /// Its name leads to it no more.
    pub const NAME_GONE: u32 = 8;
    /// It has been shut down for receiving, without its peer having ended.
    pub const DEAF: u32 = 16;
}

/// A lock on a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Lock {
    /// One of [`lock`].
    pub what: U32,
    /// 0: others may share it, 1: they may not.
    pub mode: U32,
    pub start: U64,
    /// Last byte; [`lock::TO_THE_END`].
    pub end: U64,
}
const _: () = assert!(size_of::<Lock>() == 24);

/// Sorts of locks, for [`Lock::what`].
pub mod lock {
    /// flock(2).
    pub const FLOCK: u32 = 1;
    /// Of the process (F_SETLK): stands with one FILE of the file by which it can be taken.
    pub const POSIX: u32 = 2;
    /// Of the open file description (F_OFD_SETLK).
    pub const OFD: u32 = 3;
    /// F_SETLEASE.
    pub const LEASE: u32 = 4;

    pub const TO_THE_END: u64 = i64::MAX as u64;

    pub fn name(what: u32) -> &'static str {
        match what {
            FLOCK => "flock lock",
            POSIX => "POSIX lock",
            OFD => "OFD lock",
            LEASE => "lease",
            _ => "lock",
        }
    }
}

/// Who gets the signals of a descriptor (F_SETOWN).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Owner {
    /// One of [`owner`].
    pub what: U32,
    /// Thread, process or group; 0 for nobody.
    pub id: U32,
}
const _: () = assert!(size_of::<Owner>() == 8);

/// The kernel's numbers for [`Owner::what`].
pub mod owner {
    pub const THREAD: u32 = 0;
    pub const PROCESS: u32 = 1;
    pub const GROUP: u32 = 2;
}
