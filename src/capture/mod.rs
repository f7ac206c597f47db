//! [SIGNAL] The live process into records. Runs in the handler of the stopped program.
//!
//! The order of the stream is the order of [`capture`]: what the image was taken on, the process,
//! its mappings, files, signals and threads, then the pages, and last what could not be saved.

pub mod attributes;
pub mod call_number;
pub mod excluded;
pub mod failure;
pub mod files;
pub mod guards;
pub mod ipc;
pub mod notices;
pub mod progress;
pub mod scratch;
pub mod select_pages;
pub mod signals;
pub mod sink;
pub mod task;
pub mod threads;
pub mod timers;
pub mod vmas;
pub mod waits;
pub mod write_pages;

use crate::arch::cpu::Cpu;
use crate::format::Writer;
use failure::{Failure, fail};
use notices::Notices;
use scratch::{FdSlot, Scratch};
use select_pages::Part;
use sink::FileSink;
use threads::{LibcRseq, ThreadSlot};
use vmas::VmaTable;

/// The stream of a checkpoint.
pub type Stream<'a> = Writer<'a, FileSink<'a>>;

/// What `capture` needs to know besides the process itself.
pub struct Context<'a> {
    /// All threads, standing still; the calling one is the first.
    pub threads: &'a [ThreadSlot],
    /// So many entries of the scratch memory's pending signals are filled.
    pub pending: usize,
    /// What was read of the timers; the scratch memory has the rest.
    pub timers: timers::Read,
    /// One may have gone off between its reading and that of the signals.
    pub timers_in_motion: bool,
    pub rseq: LibcRseq,
    pub cpu: &'a Cpu,
    /// Descriptors of the library.
    pub own_fds: &'a [i32],
    pub generation: u32,
    pub library: task::Library<'a>,
    /// Children that are left behind on request.
    pub ignored_children: u32,
    /// Arguments and environment of the start, if they were kept.
    pub started: Option<(&'a [u8], &'a [u8])>,
    /// A connection to another process is a failure.
    pub refuse_sockets: bool,
    /// PR_GET_DUMPABLE of the program; during a checkpoint it may be another.
    pub dumpable: u32,
    /// RLIMIT_NOFILE of the program, where it is another during a checkpoint.
    pub files_limit: Option<[u64; 2]>,
    pub image_fd: i32,
    pub image_path: &'a [u8],
    /// Address of the command that has asked, which is told how far the image is; and when it began.
    pub asked_by: Option<[u8; crate::control::ADDRESS_LEN]>,
    pub began: u64,
}

/// Resident memory from which on space is reserved for the image.
const RESERVE_FROM: u64 = 16 << 20;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub bytes: u64,
    pub notices: u32,
}

/// Who writes the rest of the image.
pub enum Rest {
    /// The program, which stands still until all is written.
    Stopped,
    /// A fork of it: nothing is left to do here.
    Elsewhere,
    /// This process, a fork of the program with that pid, as long as that one lives.
    Here(u32),
}

/// Has a fork of the process write the rest of the image, where that is possible: the program's descriptors, the bytes
/// of its resident memory, a buffer.
pub type Fork<'a> = &'a mut dyn FnMut(&[FdSlot], u64, &mut [u8]) -> Rest;

/// Writes the whole stream to the context's descriptor, or the part of it that `fork` does not take over.
pub fn capture(context: &Context<'_>, scratch: &mut Scratch, fork: Fork<'_>) -> Result<Summary, Failure> {
    let skip = (scratch.start, scratch.end);
    let mut notices = Notices::new(scratch.notices);
    let resident = task::resident_bytes(scratch.lines);
    let progress = progress::Progress::new(context.asked_by, resident, context.began);
    let sink = FileSink::new(context.image_fd, scratch.iov, context.image_path, progress);
    let mut stream = Writer::new(sink, scratch.records);
    let mut table = VmaTable::new(scratch.vmas, scratch.names);

    let task_size = task::task_size();
    task::capture_header(&mut stream, context.cpu, task_size)?;
    task::capture_task(&mut stream, context, scratch.text)?;
    attributes::capture_attributes(&mut stream, context.files_limit, scratch.text)?;
    task::note_what_is_lost(context, &mut notices, scratch.text);

    table.read(skip, scratch.lines)?;
    table.classify(&mut notices);
    ipc::classify_segments(table.slots, table.names, &mut notices, scratch.lines)?;
    task::write_mm(&mut stream, &table, task_size, scratch.text)?;

    let guards = guards::find_guards(scratch.guards, scratch.regions, task_size)?;
    guards::write_guards(&mut stream, guards)?;
    ipc::capture_ipc(&mut stream, table.as_slice(), &mut notices, scratch.lines, scratch.text)?;

    let fds = files::capture_files(
        &mut stream,
        files::Tables {
            fds: scratch.fds,
            order: scratch.fd_order,
            leaders: scratch.fd_leaders,
            options: scratch.socket_options,
            ends: scratch.socket_order,
            groups: scratch.groups,
        },
        context.own_fds,
        context.refuse_sockets,
        scratch.helper_stack_top,
        &mut notices,
        scratch.lines,
        scratch.text,
    )?;
    let pending = scratch.pending.get(..context.pending).unwrap_or(&[]);
    signals::capture_signals(&mut stream, pending)?;
    // Before the clocks are noted that a restart goes on from: by these, too, no wait is to end early.
    waits::prepare_all(context.threads, pending);
    timers::capture_timers(&mut stream, context, scratch.timers, &mut notices)?;
    let leader = crate::sys::process::gettid();
    let (looks, watched) = threads::look_at_threads(
        context.threads,
        leader,
        scratch.looks,
        scratch.helper_stack_top,
        context.rseq,
        &mut notices,
    );
    threads::note_what_is_unshared(context.threads, &mut notices);
    let looks = scratch.looks.get(..looks).unwrap_or(&[]);
    threads::capture_threads(&mut stream, context.threads, looks, context.rseq, context.cpu, scratch.text)?;

    // What the program could change behind the back of a fork, or a fork does not see, comes first.
    for part in [Part::Shared, Part::Private] {
        if part == Part::Private {
            stream.sync()?;
            table.keep_from_fork(true);
            let rest = fork(scratch.fds.get(..fds).unwrap_or(&[]), resident, scratch.text);
            table.keep_from_fork(false);
            match rest {
                Rest::Elsewhere => return Ok(Summary { bytes: 0, notices: notices.count }),
                Rest::Here(program) => stream.sink().end_with(program),
                Rest::Stopped => {}
            }
            // Space that is reserved beforehand is written faster. What is too much is cut off at the end.
            if resident >= RESERVE_FROM {
                // An estimate: zero pages are not written, so that a disk too full for it may still do.
                let _ = crate::sys::fs::fallocate(context.image_fd, resident);
            }
        }
        let vmas = table.as_slice();
        let mut selector = select_pages::Selector::new(vmas, table.names, scratch.regions, watched, guards, part)?;
        write_pages::write_pages(&mut stream, &mut selector, vmas, scratch.runs, scratch.bounce)?;
    }
    notices.write(&mut stream)?;
    let bytes = stream.finish()?;
    crate::sys::fs::ftruncate(context.image_fd, bytes)
        .map_err(|errno| fail!(errno, "cannot set the length of {}", crate::sys::text::Bytes(context.image_path)))?;
    Ok(Summary { bytes, notices: notices.count })
}
