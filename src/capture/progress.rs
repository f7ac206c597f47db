//! [SIGNAL] Tells the command that waits for a checkpoint how far the image is.

use crate::control::{ADDRESS_LEN, REPLY_MAGIC, REPLY_TEXT, Reply, status};
use crate::sys::process;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// Once in so many bytes, and in so many nanoseconds.
const STEP: u64 = 32 << 20;
const INTERVAL: u64 = 200_000_000;

pub struct Progress {
    /// Nobody asks where there is none.
    address: Option<[u8; ADDRESS_LEN]>,
    expected: u64,
    written: u64,
    told: u64,
    told_at: u64,
    started: u64,
}

impl Progress {
    /// `expected`: a guess at the length of the image.
    pub fn new(address: Option<[u8; ADDRESS_LEN]>, expected: u64, started: u64) -> Progress {
        Progress { address, expected, written: 0, told: 0, told_at: started, started }
    }

    /// So many bytes more are written.
    pub fn add(&mut self, bytes: usize) {
        self.written += bytes as u64;
        let Some(address) = &self.address else { return };
        let now = process::now();
        if self.written - self.told < STEP && now.saturating_sub(self.told_at) < INTERVAL {
            return;
        }
        (self.told, self.told_at) = (self.written, now);
        let took = U64::new(now.saturating_sub(self.started));
        let message = Reply {
            magic: U32::new(REPLY_MAGIC),
            status: U32::new(status::PROGRESS),
            errno: U32::new(0),
            generation: U32::new(0),
            bytes: U64::new(self.written),
            bytes_expected: U64::new(self.expected.max(self.written)),
            pause_ns: took,
            total_ns: took,
            notices: U32::new(0),
            text_len: U32::new(0),
            text: [0; REPLY_TEXT],
        };
        // Whoever does not listen misses nothing: the last message counts.
        let _ = process::send_datagram(address.strip_suffix(b"\0").unwrap_or(address), message.as_bytes());
    }
}
