//! [NORMAL] Collects the restorer's steps and the bytes they refer to, at their final addresses.

use crate::restorer::{Step, kind};
use crate::sys::nr;

/// The plan while it is written. All addresses are those in the restorer's region.
pub struct Steps {
    /// The main thread's list.
    pub steps: Vec<Step>,
    /// Bytes that steps refer to: the lists of the other threads are among them.
    blob: Vec<u8>,
    blob_at: u32,
    /// Message of the steps that follow.
    message: (u32, u32),
    /// What the step that is added next stores and loads.
    store: u32,
    load: (u32, u32),
}

impl Steps {
    /// `blob_at` is where the bytes will lie.
    pub fn new(blob_at: u32) -> Steps {
        Steps { steps: Vec::new(), blob: Vec::new(), blob_at, message: (0, 0), store: 0, load: (0, 0) }
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

    /// A word that a step can store its result in and another one can take an argument from.
    pub fn variable(&mut self, value: u32) -> u32 {
        self.bytes(&value.to_le_bytes())
    }

    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// A list of its own, for a thread or a process that one of our steps starts. Returns the stack to
    /// start it with, whose top holds the list's address.
    pub fn list<E>(&mut self, write: impl FnOnce(&mut Steps) -> Result<(), E>) -> Result<u32, E> {
        let outer = (std::mem::take(&mut self.steps), self.message);
        let written = write(self);
        let steps = std::mem::replace(&mut self.steps, outer.0);
        self.message = outer.1;
        written?;
        // The new thread goes on behind the step on top of its stack: the first one only marks the place.
        let mut words = vec![0u8; size_of::<Step>()];
        for step in &steps {
            let Step { kind, nr, args, expect, message, message_len, store, load, load_arg } = step;
            for word in [kind, nr].into_iter().chain(args).chain([expect, message, message_len, store, load, load_arg])
            {
                words.extend_from_slice(&word.to_le_bytes());
            }
        }
        let list = self.bytes(&words);
        let mut stack = [0u8; 256];
        const TOP: usize = 192;
        stack[TOP..TOP + 4].copy_from_slice(&list.to_le_bytes());
        Ok(self.bytes(&stack) + TOP as u32)
    }

    /// What is said when one of the steps from here on fails; an errno follows it.
    pub fn explain(&mut self, what: &str) {
        self.say(&format!("restart failed: {what}"));
    }

    /// The same, where not the restart fails.
    pub fn say(&mut self, what: &str) {
        let text = format!("selfckpt: {what}: error ");
        let at = self.bytes(text.as_bytes());
        self.message = (at, text.len() as u32);
    }

    /// The next step stores its result in a variable.
    pub fn store(&mut self, variable: u32) -> &mut Steps {
        self.store = variable;
        self
    }

    /// The next step takes argument number `arg` from a variable.
    pub fn load(&mut self, variable: u32, arg: u32) -> &mut Steps {
        self.load = (variable, arg);
        self
    }

    fn push(&mut self, kind: u32, nr: u32, args: &[u32], expect: u32) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let (message, message_len) = self.message;
        let store = std::mem::take(&mut self.store);
        let (load, load_arg) = std::mem::take(&mut self.load);
        self.steps.push(Step { kind, nr, args: all, expect, message, message_len, store, load, load_arg });
    }

    /// A call that must not fail.
    pub fn call(&mut self, nr: u32, args: &[u32]) {
        self.push(kind::CALL, nr, args, 0);
    }

    /// A call that may fail.
    pub fn attempt(&mut self, nr: u32, args: &[u32]) {
        self.push(kind::TRY, nr, args, 0);
    }

    /// A call whose failure is told.
    pub fn tell(&mut self, nr: u32, args: &[u32]) {
        self.push(kind::TELL, nr, args, 0);
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

    /// Copies a variable to `to`, wherever that is.
    pub fn copy_variable(&mut self, variable: u32, to: u32) {
        self.push(kind::COPY, 0, &[variable, to, 4], 0);
    }

    /// Adds to the struct __kernel_timespec at `at`.
    pub fn shift(&mut self, at: u32, nanoseconds: i128) {
        const SECOND: i128 = 1_000_000_000;
        let (sec, nsec) = (nanoseconds.div_euclid(SECOND) as i64, nanoseconds.rem_euclid(SECOND) as u32);
        self.push(kind::SHIFT, 0, &[at, sec as u32, (sec >> 32) as u32, nsec], 0);
    }

    /// Waits until the word at `addr` is `value`.
    pub fn wait_for(&mut self, addr: u32, value: u32) {
        self.push(kind::WAIT, 0, &[addr, value], 0);
    }

    /// The end of a thread's list: `leave` in the restored library, see `arch::entry`.
    pub fn leave(&mut self, region: (u32, u32), info: u32, esp: u32, leave: u32, eflags: u32) {
        self.push(kind::LEAVE, 0, &[region.0, region.1, info, esp, leave, eflags], 0);
    }
}
