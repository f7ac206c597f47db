//! [SIGNAL] Free descriptors for the time of a checkpoint, where the program has used up nearly all that it may have.

#![allow(unsafe_code)] // clone(2).

use crate::capture::failure::Failure;
use crate::sys::attributes::{RLIMIT_NOFILE, limit, set_limit};
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, call, fs, nr, process, text::text};

/// As many as a checkpoint has open at the same time.
const NEEDED: usize = 12;

/// A raised soft limit, while the program stands still.
pub struct Room {
    /// What the program has set.
    pub given: Option<[u64; 2]>,
}

impl Room {
    /// Raises the limit, if there is too little room under it and it may be raised. `any` is an open descriptor.
    pub fn ensure(any: i32) -> Room {
        if count_free(any) == NEEDED {
            return Room { given: None };
        }
        let given = limit(RLIMIT_NOFILE).ok();
        Room { given: given.filter(|&[_, hard]| set_limit(RLIMIT_NOFILE, [hard, hard]).is_ok()) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(given) = self.given else { return };
        let [_, hard] = given;
        // Unless a thread that was not standing still yet has set another one. What was in force can be set again.
        if limit(RLIMIT_NOFILE) == Ok([hard, hard]) {
            let _ = set_limit(RLIMIT_NOFILE, given);
        }
    }
}

/// How many descriptors are to be had, of those that a checkpoint needs.
fn count_free(any: i32) -> usize {
    let mut taken = [const { None }; NEEDED];
    for place in &mut taken {
        match fs::fcntl(any, fs::F_DUPFD_CLOEXEC, 0) {
            Ok(fd) => *place = Some(fs::OwnedFd(fd as i32)),
            Err(Errno::EMFILE) => break,
            // It is not open: nothing can be told.
            Err(_) => return NEEDED,
        }
    }
    taken.iter().flatten().count()
}

/// Sends a datagram, also without a descriptor for a socket: a fork of this process can close one of its own.
pub fn send(address: &[u8], payload: &[u8]) -> Result<(), Errno> {
    let sent = process::send_datagram(address, payload);
    if sent != Err(Errno::EMFILE) {
        return sent;
    }
    // SAFETY: a fork: the child goes on here on its own copy of the memory, and ends here.
    let child = unsafe { call!(nr::CLONE, process::CLONE_UNTRACED, 0, 0, 0, 0) }?;
    if child == 0 {
        fs::close(0);
        process::exit_group(process::send_datagram(address, payload).map_or_else(|errno| errno.0, |()| 0));
    }
    match process::wait4(child as u32, process::WALL)? {
        (_, 0) => Ok(()),
        (_, status) => Err(Errno((status >> 8 & 0xff) as i32)),
    }
}

/// The failure, with what can be done about it.
pub fn advise(failure: Failure) -> Failure {
    if failure.errno != Errno::EMFILE {
        return failure;
    }
    let said: Text<720> = failure.text;
    let text = text!(
        "{}; a checkpoint takes {NEEDED} descriptors that the program leaves free: raise the limit of open files \
         (ulimit -n)",
        Bytes(said.as_bytes())
    );
    Failure { text, ..failure }
}
