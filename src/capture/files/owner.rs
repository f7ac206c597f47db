//! [SIGNAL] Who is told of what happens to a descriptor, and by which signal: F_SETOWN, F_SETSIG. O_ASYNC is a flag
//! of the FILE.
#![allow(unsafe_code)] // tgkill(2) with signal 0.

use super::{Saver, Subject, notice};
use crate::capture::failure::Failure;
use crate::format::files::{Owner, data_kind, file_kind, owner};
use crate::format::notice::code;
use crate::sys::{call, nr, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

pub fn save(saver: &mut Saver<'_, '_, '_>, subject: &Subject<'_>, kind: u32) -> Result<(), Failure> {
    let fd = subject.slot.fd;
    let ([what, mut id], signal) = (subject.slot.owner, subject.slot.signal);
    let program = subject.table.program.pid;
    if id != 0 && !is_ours(program, what, id) {
        // What is shared with other processes may have been set by them.
        if !matches!(kind, file_kind::TERMINAL | file_kind::STREAM) {
            let whose = ["thread", "process", "process group"].get(what as usize).unwrap_or(&"process");
            notice!(
                saver.notices,
                code::STATE_NOT_SAVED,
                fd as u64,
                "signals of fd {fd} go to {whose} {id} (F_SETOWN), which is not part of the program; after a restart they \
                 go to nobody"
            );
        }
        id = 0;
    }
    if id == 0 && signal == 0 {
        return Ok(());
    }
    let owner = Owner { what: U32::new(what), id: U32::new(id) };
    saver.data(subject.slot.file, data_kind::OWNER, signal.into(), owner.as_bytes())
}

/// The process itself, one of its threads, its group.
fn is_ours(program: u32, what: u32, id: u32) -> bool {
    match what {
        // SAFETY: signal 0 only asks whether the process has such a thread.
        owner::THREAD => unsafe { call!(nr::TGKILL, program, id, 0) }.is_ok(),
        owner::PROCESS => id == program,
        owner::GROUP => id == process::getpgrp(),
        _ => false,
    }
}
