//! [SIGNAL] Requests that come together: one checkpoint serves them all, and none is lost.
//!
//! While the program stands still nothing changes, so the image that is being written then serves every request
//! that arrives until the program goes on.

use super::config::{self, Config};
use crate::control::Token;
use crate::sys::abi::SI_QUEUE;
use crate::sys::abi::{OWN_MARK, Siginfo};
use crate::sys::{process, restarted};
use core::sync::atomic::{AtomicU64, Ordering};

/// Commands that can wait for one checkpoint; those above ask again by themselves.
const MAX_WAITING: usize = 64;

/// Signals that arrived in other threads while a checkpoint was going on; bit n-1 for signal n. An image holds none: it
/// serves what has come until then.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// Leaves a signal to another thread, which looks for it when it has finished what makes it `is_busy`; it may just have.
/// `epoch` is that of when the signal came: after a restart, it was for the process that is gone.
pub fn leave_to_other(signal: u32, epoch: u32, is_busy: fn() -> bool) {
    let bit = 1 << (signal - 1);
    MISSED.fetch_or(bit, Ordering::SeqCst);
    if restarted::epoch() != epoch {
        MISSED.fetch_and(!bit, Ordering::SeqCst);
    } else if !is_busy() {
        raise_missed();
    }
}

/// Keeps a signal for the end of the blocked section, which may just have come.
pub fn defer(signal: u32) {
    config::DEFERRED.fetch_or(1 << (signal - 1), Ordering::SeqCst);
    if config::BLOCKED.load(Ordering::SeqCst) == 0 {
        raise_deferred();
    }
}

/// After a checkpoint: sends the calling thread what was missed, to be served when the handler returns.
pub fn raise_missed() {
    raise(MISSED.swap(0, Ordering::SeqCst));
}

/// The same after a blocked section.
pub fn raise_deferred() {
    raise(config::DEFERRED.swap(0, Ordering::SeqCst));
}

fn raise(signals: u64) {
    for signal in (1..=64u32).filter(|signal| signals & (1 << (signal - 1)) != 0) {
        // Not a signal of the program's own: it carries our mark. The thread is its own; failure means that it is gone,
        // and so is this call.
        let info = Siginfo::queued(signal, process::getpid(), OWN_MARK);
        let _ = process::queue_signal(process::getpid(), Some(process::gettid()), &info);
    }
}

/// Whom a checkpoint is for, besides the request that started it.
pub struct Waiting {
    tokens: [Token; MAX_WAITING],
    count: usize,
    /// One of them wants the program to stop.
    pub stop: bool,
}

impl Waiting {
    pub const fn new() -> Waiting {
        Waiting { tokens: [Token(0); MAX_WAITING], count: 0, stop: false }
    }

    /// Takes all requests that are there by now.
    pub fn collect(&mut self, config: &Config) {
        let stops = if config.passive { 0 } else { config.stops };
        let mut came = MISSED.swap(0, Ordering::AcqRel);
        let own = config.triggers | config.stops;
        while process::sigpending() & own != 0 {
            let Some(info) = process::take_pending(own) else { break };
            came |= 1 << (info.signo() - 1);
            if let Some(token) = (info.code() == SI_QUEUE).then(|| Token::from_value(info.value())).flatten() {
                self.add(token);
            }
        }
        self.stop |= came & stops != 0;
    }

    fn add(&mut self, token: Token) {
        self.stop |= token.stop();
        let known = self.tokens().contains(&token);
        if let Some(place) = self.tokens.get_mut(self.count).filter(|_| !known) {
            *place = token;
            self.count += 1;
        }
    }

    /// Commands that wait for an answer.
    pub fn tokens(&self) -> &[Token] {
        self.tokens.get(..self.count).unwrap_or(&[])
    }
}
