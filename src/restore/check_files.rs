//! [NORMAL] Whether the FILE, FILE_DATA and FD records make sense. Pure: looks at the image only.

use super::check::Problems;
use crate::format::files::{
    EpollTarget, InotifyWatch, Lock, Membership, Owner, Pty, Queue, Socket, Timerfd, data_kind, file_kind, lock, owner,
    queue_flag, socket_role,
};
use crate::format::image::{FileEntry, Image};
use crate::format::kind;
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

pub(super) fn check_files(image: &Image, problems: &mut Problems) {
    for entry in &image.files {
        let kind = entry.file.kind.get();
        if file_kind::name(kind) == "unknown" {
            problems.refuse(kind::FILE, "kind", kind.into());
        }
        if entry.path.contains(&0) {
            problems.refuse(kind::FILE, "path (it holds a NUL)", entry.file.id.get().into());
        }
        check_data(entry, image.files.len(), problems);
        if kind == file_kind::SOCKET {
            check_socket(entry, image, problems);
        }
    }
}

/// Every FILE_DATA belongs to a kind that has such, and lies where it can lie.
fn check_data(entry: &FileEntry, files: usize, problems: &mut Problems) {
    let file = entry.file.kind.get();
    let pipe = matches!(file, file_kind::PIPE | file_kind::FIFO | file_kind::FIFO_DELETED | file_kind::STREAM);
    let nameless = matches!(file, file_kind::DELETED | file_kind::MEMFD);
    for item in &entry.data {
        let what = item.data.what.get();
        let belongs = match what {
            data_kind::CONTENTS => {
                let end = item.data.offset.get().checked_add(item.data.len.get().into());
                nameless && end.is_some_and(|end| end <= entry.file.size.get())
            }
            data_kind::OWNER => {
                item.data.offset.get() <= 64
                    && Owner::read_from_bytes(&item.bytes).is_ok_and(|owner| owner.what.get() <= owner::GROUP)
            }
            data_kind::LOCK => Lock::read_from_bytes(&item.bytes).is_ok_and(|lock| {
                let (start, end) = (lock.start.get(), lock.end.get());
                (lock::FLOCK..=lock::LEASE).contains(&lock.what.get())
                    && lock.mode.get() <= 1
                    && start <= end
                    && end <= lock::TO_THE_END
            }),
            data_kind::BORN => file == file_kind::REGULAR && item.bytes.len() == size_of::<u32>(),
            data_kind::HUGE => file == file_kind::MEMFD && (13..64).contains(&item.data.offset.get()),
            data_kind::SEALS => file == file_kind::MEMFD,
            data_kind::PIPE_SIZE => pipe,
            data_kind::PIPE_BYTES | data_kind::PIPE_PACKET => pipe && !item.bytes.is_empty(),
            data_kind::FIFO_HUNG_UP => file == file_kind::FIFO,
            data_kind::EVENTFD => file == file_kind::EVENTFD && item.bytes.len() == 1,
            data_kind::SIGNALFD => file == file_kind::SIGNALFD,
            data_kind::TIMERFD => file == file_kind::TIMERFD && Timerfd::read_from_bytes(&item.bytes).is_ok(),
            data_kind::EPOLL_TARGET => file == file_kind::EPOLL && is_target(&item.bytes, files),
            data_kind::INOTIFY_WATCH => file == file_kind::INOTIFY && is_watch(&item.bytes, files),
            data_kind::SOCKET => file == file_kind::SOCKET && item.bytes.len() == size_of::<Socket>(),
            data_kind::SOCKET_BYTES => file == file_kind::SOCKET,
            data_kind::PTY => file == file_kind::PTY_MASTER && item.bytes.len() == size_of::<Pty>(),
            data_kind::PTY_OUTPUT | data_kind::PTY_INPUT | data_kind::PTY_CONTROLS => file == file_kind::PTY_MASTER,
            data_kind::QUEUE => {
                let fine = |queue: Queue| queue.flags.get() & !queue_flag::ALL == 0 && queue.max_messages.get() != 0;
                file == file_kind::QUEUE && Queue::read_from_bytes(&item.bytes).is_ok_and(fine)
            }
            data_kind::QUEUE_MESSAGE => file == file_kind::QUEUE && item.data.offset.get() < 32_768,
            data_kind::SOCKET_FROM => file == file_kind::SOCKET && item.bytes.len() <= 128,
            data_kind::SOCKET_RIGHTS => file == file_kind::SOCKET && are_files(&item.bytes, files),
            data_kind::SOCKET_CREDENTIALS => file == file_kind::SOCKET && item.bytes.len() == 8,
            data_kind::SOCKET_GROUP => file == file_kind::SOCKET && is_membership(&item.bytes),
            data_kind::INTERFACE => {
                // IFNAMSIZ counts the NUL that the image does not have.
                file == file_kind::SOCKET && (1..16).contains(&item.bytes.len()) && !item.bytes.contains(&0)
            }
            data_kind::SOCKET_OPTION => file == file_kind::SOCKET && item.bytes.len() <= 16,
            _ => false,
        };
        if !belongs {
            problems.refuse(kind::FILE_DATA, "what", what.into());
        }
        // A pipe's capacity is a signed number for the kernel.
        if what == data_kind::PIPE_SIZE && item.data.offset.get() > i32::MAX as u64 {
            problems.refuse(kind::FILE_DATA, "offset", item.data.offset.get());
        }
    }
}

fn is_target(bytes: &[u8], files: usize) -> bool {
    EpollTarget::read_from_bytes(bytes)
        .is_ok_and(|target| (target.file.get() as usize) < files && target.fd.get() <= i32::MAX as u32)
}

fn are_files(bytes: &[u8], files: usize) -> bool {
    <[U32]>::ref_from_bytes(bytes)
        .is_ok_and(|list| !list.is_empty() && list.iter().all(|file| (file.get() as usize) < files))
}

fn is_membership(bytes: &[u8]) -> bool {
    Membership::read_from_prefix(bytes).is_ok_and(|(head, sources)| head.mode.get() <= 1 && sources.len() % 16 == 0)
}

fn is_watch(bytes: &[u8], files: usize) -> bool {
    let Ok((watch, path)) = InotifyWatch::read_from_prefix(bytes) else { return false };
    let fits = match watch.file.get() {
        InotifyWatch::PATH => path.starts_with(b"/") && path.len() < 4096 && !path.contains(&0),
        InotifyWatch::WORKING_DIRECTORY => path.is_empty(),
        file => (file as usize) < files && path.is_empty(),
    };
    fits && (1..=InotifyWatch::HIGHEST).contains(&watch.wd.get())
}

/// What is known of a socket.
pub(super) fn socket_of(entry: &FileEntry) -> Option<Socket> {
    let item = entry.data_of(data_kind::SOCKET).next()?;
    Socket::read_from_bytes(&item.bytes).ok()
}

/// Names have a length that they can have, and the ends of a pair name each other.
fn check_socket(entry: &FileEntry, image: &Image, problems: &mut Problems) {
    let id = entry.file.id.get();
    let Some(socket) = socket_of(entry) else {
        problems.refuse(kind::FILE, "kind (its SOCKET is missing)", id.into());
        return;
    };
    if socket.name_len.get() > 128 || socket.peer_name_len.get() > 128 {
        problems.refuse(kind::FILE_DATA, "name length of a socket", socket.name_len.get().into());
    }
    if socket.role.get() > socket_role::WAITING {
        problems.refuse(kind::FILE_DATA, "role of a socket", socket.role.get().into());
    }
    if socket.role.get() == socket_role::PAIR {
        let peer = image.files.get(socket.peer.get() as usize).and_then(socket_of);
        if !peer.is_some_and(|peer| peer.role.get() == socket_role::PAIR && peer.peer.get() == id) {
            problems.refuse(kind::FILE_DATA, "peer of a socket", socket.peer.get().into());
        }
    }
    if socket.role.get() == socket_role::DIRECTED
        && image.files.get(socket.peer.get() as usize).and_then(socket_of).is_none()
    {
        problems.refuse(kind::FILE_DATA, "destination of a socket", socket.peer.get().into());
    }
}
