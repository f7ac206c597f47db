//! [NORMAL] Multicast groups that sockets are in, on interfaces that may have other numbers here.
#![allow(unsafe_code)] // if_nametoindex(3).

use super::{Subject, shown};
use crate::format::files::{Membership, data_kind};
use crate::format::image::FileEntry;
use crate::sys::socket as raw_socket;
use std::ffi::CString;
use std::net::Ipv6Addr;
use zerocopy::FromBytes;

/// The number that an interface of the image has here; else what is known of it, for a message.
pub(super) fn interface_here(entry: &FileEntry, interface: u32) -> Result<u32, String> {
    let named = entry.data_of(data_kind::INTERFACE).find(|item| item.data.offset.get() == interface.into());
    let Some(item) = named else { return Err(format!("interface {interface}")) };
    let name = CString::new(item.bytes.as_slice()).unwrap_or_default();
    // SAFETY: `name` ends with a NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(shown(&item.bytes)),
        here => Ok(here),
    }
}

/// Joins the groups that the socket was in.
pub(super) fn join_groups(fd: i32, subject: &Subject<'_>, warn: &mut dyn FnMut(String)) {
    for item in subject.entry.data_of(data_kind::SOCKET_GROUP) {
        let Ok((head, sources)) = Membership::read_from_prefix(&item.bytes) else { continue };
        let group = Ipv6Addr::from(head.group).to_canonical();
        let interface = match interface_here(subject.entry, head.interface.get()) {
            Ok(interface) => interface,
            Err(name) => {
                warn(format!(
                    "fd {} was in the multicast group {group} on {name}, which is not there any more",
                    subject.fds()
                ));
                continue;
            }
        };
        let address = raw_socket::from_ip(&head.group);
        let sources: Vec<[u8; 16]> = sources.chunks_exact(16).filter_map(|ip| ip.try_into().ok()).collect();
        let mode = head.mode.get();
        let joined = raw_socket::join_group(fd, interface, &address).and_then(|()| {
            // A group is joined to hear all of it.
            if mode == 0 && sources.is_empty() {
                return Ok(());
            }
            let mut filter = vec![0; raw_socket::group_filter_len(sources.len())];
            raw_socket::set_group_filter(fd, interface, &address, mode, &sources, &mut filter)
        });
        if let Err(errno) = joined {
            warn(format!("fd {} cannot be in the multicast group {group} again: {errno}", subject.fds()));
        }
    }
}
