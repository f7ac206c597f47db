//! [NORMAL] A checkpoint that the program asks for itself, from any of its threads.

use super::config;
use crate::control::CALL_MARK;
use crate::sys::{Errno, process, restarted};
use core::sync::atomic::Ordering;

/// Takes a checkpoint through the handler of `signal`. Returns the generation, 0 after a restart from it,
/// or a negative errno.
pub fn checkpoint_now(signal: u32) -> i32 {
    // The program may have blocked the signal; for the moment of the call it must come through.
    let old = process::sigprocmask(process::SIG_UNBLOCK, 1 << (signal - 1));
    let result = until_served(signal);
    process::sigprocmask(process::SIG_SETMASK, old);
    result
}

fn until_served(signal: u32) -> i32 {
    let epoch = restarted::epoch();
    loop {
        let before = config::GENERATION.load(Ordering::Relaxed);
        // The handler runs before the call returns, and puts the result into eax. After a restart the
        // call returns here again, with zero.
        let result = process::queue_to_self(signal, CALL_MARK);
        if result != -Errno::EINPROGRESS.0 {
            return result;
        }
        // Another thread is at a checkpoint, which serves this call as well if it succeeds.
        config::wait_until_idle();
        if restarted::epoch() != epoch {
            return 0;
        }
        let after = config::GENERATION.load(Ordering::Relaxed);
        if after > before {
            return after as i32;
        }
    }
}
