//! [SIGNAL] The phases of a checkpoint, in order: who and where, children, stop, capture, commit,
//! answer.

#![allow(unsafe_code)] // Takes the settings, which the holder of BUSY may.

use super::requests::Waiting;
use super::status::{self, Newest, State};
use super::trigger::Request;
use super::writer::{self, Role};
use super::{children, commit, config, descriptors, lock, period, quiesce};
use crate::arch::{cpu::Cpu, entry};
use crate::capture::failure::Failure;
use crate::capture::scratch::{FdSlot, Scratch};
use crate::capture::{self, Context, Rest, Summary, signals, task::Library, timers};
use crate::control::{REPLY_MAGIC, REPLY_TEXT, Reply, reply_address, status as reply_status};
use crate::format::task::RestartInfo;
use crate::interpose::guard;
use crate::sys::log::{Level, log};
use crate::sys::text::Bytes;
use crate::sys::{Text, process, restarted};
use core::sync::atomic::{AtomicU32, Ordering};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// The request that was served last.
static LAST_TOKEN: AtomicU32 = AtomicU32::new(0);

/// A committed image.
#[derive(Clone, Copy)]
pub struct Written {
    pub generation: u32,
    pub path: Text<4400>,
    pub summary: Summary,
    /// How long the program stood still; none if it still does.
    pub pause_ns: Option<u64>,
}

/// Serves a request: takes the checkpoint, answers, and stops the program if that was asked for.
pub fn serve(request: &mut Request, scratch: &mut Scratch) {
    // SAFETY: the handler holds BUSY.
    let config = unsafe { config::config() };
    answer(config, request, scratch);
    period::begin_anew(config, scratch.lines);
}

fn answer(config: &mut config::Config, request: &mut Request, scratch: &mut Scratch) {
    adopt_restart(config);
    lock::adopt_fork(config);
    request.stop = config.stops & (1 << (request.signal - 1)) != 0 || request.token.is_some_and(|token| token.stop());
    // Signals of the job reach its descendants as well; those take nothing by themselves.
    if config.passive && request.token.is_none() && !request.by_call {
        return;
    }
    if let Some(token) = request.token {
        // The command asks again until it hears something; what it asked twice is served once.
        if LAST_TOKEN.swap(token.0, Ordering::Relaxed) == token.0 {
            return;
        }
        send(request, &Waiting::new(), &mut empty_reply(reply_status::PROGRESS), b"");
    }
    let _ = writer::collect(config, true);
    let mut waiting = Waiting::new();
    match take(config, request, &mut waiting, scratch).map_err(descriptors::advise) {
        Ok(Taken::Written(written)) => {
            if request.by_call {
                request.frame.set_eax(written.generation);
            }
            report_success(config, request, &waiting, &written);
            if request.stop {
                process::exit_group(config.stop_code as i32);
            }
        }
        // Who called it wants to know that it is committed; the others hear it from the writer.
        Ok(Taken::Begun) if request.by_call => match writer::collect(config, true) {
            Some(Err(errno)) => request.frame.set_eax((-errno.0) as u32),
            Some(Ok(generation)) => request.frame.set_eax(generation),
            None => {}
        },
        Ok(Taken::Begun) => {}
        Err(failure) => {
            // Who has got an answer finds the status as the answer says.
            status::tell(config, &State::Failed(failure.text.as_bytes()));
            report_failure(request, &waiting, &failure);
        }
    }
}

/// How far a checkpoint has come.
#[allow(clippy::large_enum_variant)] // There is no heap to put the other one on.
enum Taken {
    Written(Written),
    /// The writer is at it.
    Begun,
}

fn take(
    config: &mut config::Config,
    request: &mut Request,
    waiting: &mut Waiting,
    scratch: &mut Scratch,
) -> Result<Taken, Failure> {
    waiting.collect(config);
    let room = descriptors::Room::ensure(config.lock_fd);
    let ignored_children = children::check(config.ignore_children, scratch.text)?;
    let dumpable = quiesce::Dumpable::ensure();
    let own_signals = (config.triggers | config.stops) & !guard::shared();
    let quiesced = quiesce::Quiesced::stop(request.frame, own_signals, scratch)?;
    let room = room; // goes before the threads go on
    lock::ensure(config)?;
    let target = commit::Target::open(config, scratch.lines)?;
    config.cpu.get_or_insert_with(Cpu::detect);
    // What the image holds of this library is the state after a restart: committed, not busy.
    let before = config.generation;
    config.generation = target.generation;
    config::GENERATION.store(target.generation, Ordering::Relaxed);
    config::end();
    let mut role = Role::Stopped;
    let mut pause_ns = 0;
    let mut fork = |fds: &[FdSlot], resident: u64, buf: &mut [u8]| {
        // What has come until now is served by this image.
        waiting.collect(config);
        if !request.stop && !waiting.stop {
            let greet = || send(request, waiting, &mut empty_reply(reply_status::WRITER), b"");
            role = writer::start(config, fds, resident, buf, greet);
            pause_ns = process::now() - request.started;
        }
        match role {
            Role::Stopped => Rest::Stopped,
            Role::Program(_) => Rest::Elsewhere,
            Role::Writer(program) => Rest::Here(program),
        }
    };
    let result =
        write(config, request, scratch, &target, &quiesced, ignored_children, dumpable.value, room.given, &mut fork);
    if let Role::Writer(program) = role {
        finish_as_writer(config, request, waiting, scratch, &target, result, program, pause_ns);
    }
    config::BUSY.store(process::getpid(), Ordering::Relaxed);
    if let (Role::Program(pid), Ok(summary)) = (role, &result) {
        config.generation = before;
        config::GENERATION.store(before, Ordering::Relaxed);
        config.period.learn(pause_ns);
        writer::begin(config, pid, newest(target.generation, summary, pause_ns, pause_ns));
        return Ok(Taken::Begun);
    }
    match result.and_then(|summary| target.commit(|| true).map(|path| (summary, path))) {
        Ok((summary, path)) => {
            // The program has stood still since: what has come meanwhile is served by this image.
            waiting.collect(config);
            request.stop |= waiting.stop;
            if request.stop {
                // No thread may go on and do again what it will do after a restart: they stay stopped to the end.
                core::mem::forget(quiesced);
            }
            target.remove_old(config, scratch.lines);
            Ok(Taken::Written(Written { generation: target.generation, path, summary, pause_ns: None }))
        }
        Err(failure) => {
            config.generation = before;
            config::GENERATION.store(before, Ordering::Relaxed);
            target.abandon();
            Err(failure)
        }
    }
}

/// In the writer: makes the image visible, tells everybody, ends.
#[allow(clippy::too_many_arguments)]
fn finish_as_writer(
    config: &mut config::Config,
    request: &Request,
    waiting: &Waiting,
    scratch: &mut Scratch,
    target: &commit::Target,
    result: Result<Summary, Failure>,
    program: u32,
    pause_ns: u64,
) -> ! {
    // A program that has ended may be under way again, from an older image or from its beginning.
    let lives = || process::getppid() == program;
    match result.and_then(|summary| target.commit(lives).map(|path| (summary, path))) {
        Ok((summary, path)) => {
            target.remove_old(config, scratch.lines);
            let written = Written { generation: target.generation, path, summary, pause_ns: Some(pause_ns) };
            report_success(config, request, waiting, &written);
            process::exit_group(0)
        }
        Err(failure) => {
            target.abandon();
            if lives() {
                status::tell(config, &State::Failed(failure.text.as_bytes()));
                report_failure(request, waiting, &failure);
            }
            process::exit_group(failure.errno.0.clamp(1, 255))
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn write(
    config: &config::Config,
    request: &Request,
    scratch: &mut Scratch,
    target: &commit::Target,
    quiesced: &quiesce::Quiesced,
    ignored_children: u32,
    dumpable: u32,
    files_limit: Option<[u64; 2]>,
    fork: capture::Fork<'_>,
) -> Result<Summary, Failure> {
    // Those that the program uses itself are saved with its others.
    let own_signals = (config.triggers | config.stops) & !guard::shared();
    let (timers, pending, timers_in_motion) = note_timers_and_signals(quiesced, own_signals, scratch)?;
    let own_fds = [config.lock_fd, target.dir_fd(), target.image_fd()];
    let cpu = config.cpu.clone().unwrap_or_else(Cpu::detect);
    let context = Context {
        threads: quiesced.threads(),
        pending,
        timers,
        timers_in_motion,
        rseq: config.rseq,
        cpu: &cpu,
        own_fds: &own_fds,
        generation: target.generation,
        library: Library {
            restart_info: restarted::restart_info_address(),
            restart_info_size: size_of::<RestartInfo>(),
            leave: entry::leave(),
            lock_fd: config.lock_fd,
            dir: config.dir.as_bytes(),
            name: config.name.as_bytes(),
            path: config.library.as_bytes(),
            every: config.period.seconds(),
            trigger: config::trigger_signal().unwrap_or(0),
        },
        ignored_children,
        refuse_sockets: config.refuse_sockets,
        // SAFETY: this thread holds BUSY.
        started: unsafe { config::started() },
        dumpable,
        files_limit,
        image_fd: target.image_fd(),
        image_path: target.path(),
        asked_by: request.token.map(reply_address),
        began: request.started,
    };
    capture::capture(&context, scratch, fork)
}

/// Timers and pending signals of one moment: what goes off in between would be in the image twice. Returns what
/// was read, how many signals are pending, and whether no such moment was found.
fn note_timers_and_signals(
    quiesced: &quiesce::Quiesced,
    own: u64,
    scratch: &mut Scratch,
) -> Result<(timers::Read, usize, bool), Failure> {
    const TRIES: usize = 10;
    // What is no timer's is looked at beforehand: a helper takes longer than a short period.
    let (mut peeked, mut seen) = (0, 0);
    if (process::sigpending() | quiesced.pending()) & !own != 0 {
        let not = own | timers::read_timers(scratch.timers, scratch.lines)?.signals(scratch.timers);
        let stack_top = scratch.helper_stack_top;
        if process::sigpending() & !not != 0 {
            (peeked, seen) = signals::peek(scratch.pending, process::gettid(), true, not, stack_top).unwrap_or((0, 0));
        }
        let rest = scratch.pending.get_mut(peeked..).unwrap_or(&mut []);
        peeked += quiesced.peek_pending(rest, not, stack_top, scratch.lines)?;
    }
    let rest = scratch.pending.get_mut(peeked..).unwrap_or(&mut []);
    let mut tries = 0;
    loop {
        let read = timers::read_timers(scratch.timers, scratch.lines)?;
        let others = quiesced.note_pending(rest, own, read.for_threads, scratch.lines)?;
        let pending = signals::note_pending(rest, others, own | seen, scratch.lines)?;
        let in_motion = read.has_gone_off(scratch.timers);
        tries += 1;
        if !in_motion || tries == TRIES {
            return Ok((read, peeked + pending, in_motion));
        }
    }
}

/// After a restart: the directory, the name and the lock are those that the restart found.
fn adopt_restart(config: &mut config::Config) {
    // SAFETY: `serve` holds BUSY.
    let Some(info) = (unsafe { restarted::take_restart_info() }) else { return };
    config.dir = Text::from_bytes(info.dir.get(..info.dir_len.get() as usize).unwrap_or(&[]));
    config.name = Text::from_bytes(info.name.get(..info.name_len.get() as usize).unwrap_or(&[]));
    config.lock_fd = info.lock_fd.get() as i32;
    config.generation = info.generation.get();
    config.pid = process::getpid();
    config.owner_pid = config.pid;
    config.outside_pid = info.outside_pid.get();
    config.passive = false;
    adopt_settings(config, &info);
    // The image may have been taken on another CPU.
    config.cpu = None;
    if let Some(level) = info.log_level.get().checked_sub(1) {
        crate::sys::log::set_level(level);
    }
}

/// Settings that the restart was given.
fn adopt_settings(config: &mut config::Config, info: &RestartInfo) {
    if info.keep.get() != 0 {
        config.keep = info.keep.get();
    }
    if info.stop_code.get() != 0 {
        config.stop_code = info.stop_code.get();
    }
    if info.every_ms.get() != 0 {
        config.period = config.period.set_anew(info.every_ms.get(), info.auto_mtbf.get());
    }
    if info.children.get() != 0 {
        config.ignore_children = info.children.get() == 2;
    }
    if info.sockets.get() != 0 {
        config.refuse_sockets = info.sockets.get() == 2;
    }
}

fn send(request: &Request, waiting: &Waiting, reply: &mut Reply, text: &[u8]) {
    let text = text.get(..text.len().min(REPLY_TEXT)).unwrap_or(&[]);
    if let Some(place) = reply.text.get_mut(..text.len()) {
        place.copy_from_slice(text);
    }
    reply.text_len = U32::new(text.len() as u32);
    let took = process::now() - request.started;
    if reply.pause_ns.get() == 0 {
        reply.pause_ns = U64::new(took);
    }
    reply.total_ns = U64::new(took);
    for &token in request.token.iter().chain(waiting.tokens()) {
        let address = reply_address(token);
        if let Err(errno) = descriptors::send(address.strip_suffix(b"\0").unwrap_or(&address), reply.as_bytes()) {
            log!(Debug, "nobody takes the answer to a request: {errno}");
        }
    }
}

fn empty_reply(status: u32) -> Reply {
    Reply {
        magic: U32::new(REPLY_MAGIC),
        status: U32::new(status),
        errno: U32::new(0),
        generation: U32::new(0),
        bytes: U64::new(0),
        bytes_expected: U64::new(0),
        pause_ns: U64::new(0),
        total_ns: U64::new(0),
        notices: U32::new(0),
        text_len: U32::new(0),
        text: [0; REPLY_TEXT],
    }
}

fn newest(generation: u32, summary: &Summary, pause_ns: u64, total_ns: u64) -> Newest {
    let time = process::clock(process::CLOCK_REALTIME).sec;
    Newest { generation, time, bytes: summary.bytes, pause_ns, total_ns, notices: summary.notices }
}

fn report_success(config: &mut config::Config, request: &Request, waiting: &Waiting, written: &Written) {
    let mut reply = empty_reply(reply_status::DONE);
    reply.generation = U32::new(written.generation);
    reply.bytes = U64::new(written.summary.bytes);
    reply.bytes_expected = reply.bytes;
    reply.notices = U32::new(written.summary.notices);
    let took = process::now() - request.started;
    let pause_ns = written.pause_ns.unwrap_or(took);
    log!(
        Info,
        "generation {} written to {} ({} bytes, {} ms, of which the program stood still for {})",
        written.generation,
        Bytes(written.path.as_bytes()),
        written.summary.bytes,
        took / 1_000_000,
        pause_ns / 1_000_000
    );
    reply.pause_ns = U64::new(pause_ns);
    config.period.learn(pause_ns);
    config.newest = newest(written.generation, &written.summary, pause_ns, took);
    status::tell(config, if request.stop { &State::Stopped } else { &State::Running });
    send(request, waiting, &mut reply, written.path.as_bytes());
}

/// Tells the log, the caller and the commands that no image was committed.
pub fn report_failure(request: &Request, waiting: &Waiting, failure: &Failure) {
    let text: Text<900> = crate::sys::text::text!("no checkpoint: {}", Bytes(failure.text.as_bytes()));
    crate::sys::log::write(Level::Error, text.as_bytes());
    if request.by_call {
        request.frame.set_eax((-failure.errno.0) as u32);
    }
    let mut reply = empty_reply(reply_status::FAILED);
    reply.errno = U32::new(failure.errno.0 as u32);
    send(request, waiting, &mut reply, failure.text.as_bytes());
}
