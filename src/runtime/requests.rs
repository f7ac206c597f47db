//! [SIGNAL] Requests that come together: one checkpoint serves them all, and none is lost.
//!
//! While the program stands still nothing changes, so the image that is being written then serves every request
//! that arrives until the program goes on.

use super::config::Config;
use crate::control::Token;
use crate::sys::abi::SI_QUEUE;
use crate::sys::abi::{OWN_MARK, Siginfo};
use crate::sys::process;
use core::sync::atomic::{AtomicU64, Ordering};

/// Commands that can wait for one checkpoint; those above ask again by themselves.
const MAX_WAITING: usize = 64;

/// Signals that arrived in other threads while a checkpoint was going on; bit n-1 for signal n.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// Notes a signal that found a checkpoint under way.
pub fn note_missed(signal: u32) {
    MISSED.fetch_or(1 << (signal - 1), Ordering::AcqRel);
}

/// After a restart: what the image holds of them was for the process that is gone.
pub fn forget_missed() {
    MISSED.store(0, Ordering::Release);
}

/// After a checkpoint: sends the calling thread what was missed, to be served when the handler returns.
pub fn raise_missed() {
    let missed = MISSED.swap(0, Ordering::AcqRel);
    for signal in (1..=64u32).filter(|signal| missed & (1 << (signal - 1)) != 0) {
        // Not a signal of the program's own: it carries our mark. The thread is its own.
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
