//! [NORMAL] Contexts of kernel AIO (io_setup(2)). The number of one is the address of its ring, with which it moves (mremap(2));
//! what has been submitted is not told.
#![allow(unsafe_code)] // io_setup(2), and a look at what it maps.

use super::memory::read_pages;
use super::plan::{Inputs, MREMAP_MAYMOVE_FIXED};
use super::steps::Steps;
use crate::format::image::{Image, VmaEntry};
use crate::format::memory::vma_flag;
use crate::sys::{Errno, call, nr};
use std::fs::File;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `struct aio_ring` (fs/aio.c). As many events follow as fit into the mapping.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ring {
    id: U32,
    /// Events that it has room for.
    room: U32,
    head: U32,
    tail: U32,
    magic: U32,
    features: [U32; 2],
    header: U32,
}
const RING: usize = 32;
const _: () = assert!(size_of::<Ring>() == RING);
const MAGIC: u32 = 0xa10a_10a1;
/// `struct io_event`.
const EVENT: usize = 32;

/// Words of a `struct iocb`; of a read of nothing all are zero but that of the descriptor.
const IOCB: usize = 16;
const IOCB_FD: usize = 5;

/// A context that this kernel can make again.
pub struct Context {
    at: u32,
    len: u32,
    /// What io_setup is asked for.
    requests: u32,
    /// Those that wait, in their order.
    events: Vec<u8>,
}

fn lost(at: u64) -> String {
    format!("the context {at:#x} of kernel AIO is not restored")
}

/// Finds the contexts of the image. One that cannot be made again is told.
pub fn find(image: &Image, source: &File, warn: &mut dyn FnMut(String)) -> Result<Vec<Context>, String> {
    let mut contexts = Vec::new();
    for entry in image.vmas.iter().filter(|entry| entry.vma.flags.get() & vma_flag::AIO_RING != 0) {
        let start = entry.vma.start.get();
        let memory = read_pages(image, source, start, entry.vma.end.get())?;
        match look_at(entry, &memory) {
            Ok(context) => contexts.push(context),
            Err(why) => warn(format!("{}: {why}", lost(start))),
        }
    }
    Ok(contexts)
}

fn look_at(entry: &VmaEntry, memory: &[u8]) -> Result<Context, String> {
    const NOT_KNOWN: &str = "its memory is not what this kernel would have written";
    let (ring, events) = Ring::read_from_prefix(memory).map_err(|_| NOT_KNOWN)?;
    let (room, head, tail) = (ring.room.get(), ring.head.get() as usize, ring.tail.get() as usize);
    let events = &events[..events.len() / EVENT * EVENT];
    let is_one =
        ring.magic.get() == MAGIC && ring.header.get() as usize == RING && room as usize * EVENT == events.len();
    if !is_one || head.max(tail) >= room as usize {
        return Err(NOT_KNOWN.into());
    }
    // Twice as many as are asked for, and two, are given room, and then as many as fill the last page.
    let requests = room.saturating_sub(2) / 2;
    match room_of_new(requests) {
        Ok(given) if given == room => {}
        Ok(given) => return Err(format!("this kernel gives it room for {given} events instead of {room}")),
        Err(errno) => return Err(errno.to_string()),
    }
    let waiting = if head <= tail {
        events[head * EVENT..tail * EVENT].to_vec()
    } else {
        [&events[head * EVENT..], &events[..tail * EVENT]].concat()
    };
    Ok(Context { at: entry.vma.start.get() as u32, len: memory.len() as u32, requests, events: waiting })
}

/// The room of a context for so many requests.
fn room_of_new(requests: u32) -> Result<u32, Errno> {
    let mut context = 0u32;
    // SAFETY: the kernel writes the number to `context`.
    unsafe { call!(nr::IO_SETUP, requests, &raw mut context) }?;
    // SAFETY: the kernel has just mapped the ring there, and nobody else knows of it.
    let ring = unsafe { (core::hint::black_box(context) as *const Ring).read_volatile() };
    // SAFETY: takes a number of our own.
    unsafe { call!(nr::IO_DESTROY, context) }?;
    Ok(ring.room.get())
}

/// When all is mapped: the memory that was taken for the ring is replaced by it.
pub fn restore(inputs: &Inputs<'_>, steps: &mut Steps) {
    for context in inputs.aio {
        let made = steps.variable(0);
        steps.attempt(nr::IO_SETUP, &[context.requests, made]);
        // Where there is none, nothing can be moved.
        steps.say(&lost(context.at.into()));
        steps.load(made, 0);
        steps.tell(nr::MREMAP, &[0, context.len, context.len, MREMAP_MAYMOVE_FIXED, context.at]);
        let count = context.events.len() / EVENT;
        if count == 0 {
            continue;
        }
        // Only the kernel counts how many there are. Reads of nothing, which are over at once, get their places.
        let mut read = [0u32; IOCB];
        read[IOCB_FD] = inputs.image_fd as u32;
        let read = steps.bytes(read.as_bytes());
        let list: Vec<u8> = read.to_le_bytes().repeat(count);
        let list = steps.bytes(&list);
        steps.attempt(nr::IO_SUBMIT, &[context.at, count as u32, list]);
        steps.copy(&context.events, context.at + RING as u32);
    }
}
