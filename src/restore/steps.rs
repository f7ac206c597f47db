//! [NORMAL] Collects the restorer's steps and the bytes they refer to, at their final addresses.

use crate::restorer::{Step, kind};
use crate::sys::nr;

/// The plan while it is written. All addresses are those in the restorer's region.
pub struct Steps {
    pub steps: Vec<Step>,
    /// Bytes that steps refer to.
    blob: Vec<u8>,
    blob_at: u32,
    blob_room: usize,
    /// Message of the steps that follow.
    message: (u32, u32),
}

impl Steps {
    /// `blob_at` is where the bytes will lie; at most `blob_room` of them.
    pub fn new(blob_at: u32, blob_room: usize) -> Steps {
        Steps { steps: Vec::new(), blob: Vec::new(), blob_at, blob_room, message: (0, 0) }
    }

    /// Adds bytes, aligned to 8; returns their address.
    pub fn bytes(&mut self, bytes: &[u8]) -> u32 {
        while self.blob.len() % 8 != 0 {
            self.blob.push(0);
        }
        let at = self.blob_at + self.blob.len() as u32;
        self.blob.extend_from_slice(bytes);
        at
    }

    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Whether all bytes fit.
    pub fn fits(&self) -> bool {
        self.blob.len() <= self.blob_room
    }

    /// A step list of its own for a process that `spawn` starts: calls with up to four arguments, of
    /// which none may fail. Returns the stack to start it with, whose top holds the list's address.
    pub fn child(&mut self, calls: &[(u32, [u32; 4])], what: &str) -> u32 {
        // The child goes on behind the step on top of its stack: the first one only marks the place.
        let mut list = vec![0; size_of::<Step>()];
        for (i, (nr, [a, b, c, d])) in calls.iter().enumerate() {
            let text = format!("selfckpt: {what} (step {i}): error ");
            let message = (self.bytes(text.as_bytes()), text.len() as u32);
            for word in [kind::CALL, *nr, *a, *b, *c, *d, 0, 0, 0, message.0, message.1] {
                list.extend_from_slice(&word.to_le_bytes());
            }
        }
        let list = self.bytes(&list);
        let mut stack = [0u8; 512];
        const TOP: usize = 448;
        stack[TOP..TOP + 4].copy_from_slice(&list.to_le_bytes());
        self.bytes(&stack) + TOP as u32
    }

    /// What is said when one of the steps from here on fails; an errno follows it.
    pub fn explain(&mut self, what: &str) {
        let text = format!("selfckpt: restart failed: {what}: error ");
        let at = self.bytes(text.as_bytes());
        self.message = (at, text.len() as u32);
    }

    fn push(&mut self, kind: u32, nr: u32, args: &[u32], expect: u32) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let (message, message_len) = self.message;
        self.steps.push(Step { kind, nr, args: all, expect, message, message_len });
    }

    /// A call that must not fail.
    pub fn call(&mut self, nr: u32, args: &[u32]) {
        self.push(kind::CALL, nr, args, 0);
    }

    /// A call that may fail.
    pub fn attempt(&mut self, nr: u32, args: &[u32]) {
        self.push(kind::TRY, nr, args, 0);
    }

    /// A call that must return `result`.
    pub fn expect(&mut self, nr: u32, args: &[u32], result: u32) {
        self.push(kind::EXPECT, nr, args, result);
    }

    /// Reads `len` bytes of `fd` at `offset` to `addr`.
    pub fn read(&mut self, fd: u32, addr: u32, len: u32, offset: u64) {
        self.push(kind::READ, nr::PREAD64, &[fd, addr, len, offset as u32, (offset >> 32) as u32], 0);
    }

    /// Copies bytes from the region to the program's memory.
    pub fn copy(&mut self, bytes: &[u8], to: u32) {
        let from = self.bytes(bytes);
        self.push(kind::COPY, 0, &[from, to, bytes.len() as u32], 0);
    }

    /// Starts a process on a stack that [`Steps::child`] made.
    pub fn spawn(&mut self, flags: u32, stack: u32) {
        self.call(nr::CLONE, &[flags, stack, 0, 0, 0]);
    }

    /// The end: `munmap(addr, len)` by the code at `leave`, with esp = `esp` and these eflags.
    pub fn leave(&mut self, addr: u32, len: u32, esp: u32, leave: u32, eflags: u32) {
        self.push(kind::LEAVE, nr::MUNMAP, &[addr, len, 0, esp, leave, eflags], 0);
    }
}
