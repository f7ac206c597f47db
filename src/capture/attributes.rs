//! [SIGNAL] Attributes of the process and of its threads, into ATTRIBUTES and THREAD_ATTR.
//!
//! What a process has inherited from whoever started it is not the program's: a restart elsewhere leaves there
//! what it has inherited itself. So the constructor notes it ([`note_inherited`]).
#![allow(unsafe_code)] // A static that a restart writes.

use super::Stream;
use super::failure::Failure;
use crate::format::attributes::{Attributes, CPUS, Inherited, LIMITS, Limit, ThreadAttr, UNKNOWN};
use crate::format::kind;
use crate::sys::attributes::{self as sys, affinity, ioprio, limit, nice, sched_attr};
use crate::sys::lines::{parse_dec, parse_hex};
use crate::sys::{fs, process};
use core::cell::UnsafeCell;
use zerocopy::little_endian::{U32, U64};

const RLIMIT_NOFILE: usize = 7;

/// Aligned, so that it lies in one page, and never half in the library's file and half in its zeroed memory.
#[repr(C, align(2048))]
struct Place(UnsafeCell<Inherited>);
const _: () = assert!(size_of::<Place>() == 2048);
// SAFETY: written by the constructor and by a restart, when nobody else runs; read by the holder of BUSY.
unsafe impl Sync for Place {}

static INHERITED: Place =
    Place(UnsafeCell::new(Inherited { death_signal: U32::new(0), reserved: U32::new(0), cpus: [0; CPUS] }));

fn inherited() -> &'static Inherited {
    // SAFETY: see `Place`: nobody writes while the program runs. A restart's writing is unseen by the compiler,
    // but happens before the restored code goes on.
    unsafe { &*core::hint::black_box(INHERITED.0.get()) }
}

/// Notes what the process was started with. Called by the constructor.
pub fn note_inherited() {
    // SAFETY: the constructor is alone.
    unsafe { *INHERITED.0.get() = own_inherited() };
}

/// What this process has, before it does anything.
pub fn own_inherited() -> Inherited {
    let mut own = Inherited { death_signal: U32::new(death_signal()), reserved: U32::new(0), cpus: [0; CPUS] };
    // Where it fails every thread will seem to be bound, which a restart can live with.
    let _ = affinity(0, &mut own.cpus);
    own
}

/// Signal that the calling thread gets when its parent dies.
pub fn death_signal() -> u32 {
    let mut signal = 0u32;
    let place = &raw mut signal as usize;
    let _ = process::prctl(sys::PR_GET_PDEATHSIG, place, 0, 0, 0);
    // SAFETY: the kernel has written through the address.
    unsafe { core::ptr::read_volatile(&raw const signal) }
}

/// Timer slack of the calling thread, nanoseconds.
pub fn timer_slack() -> u32 {
    process::prctl(sys::PR_GET_TIMERSLACK, 0, 0, 0, 0).map_or(0, |value| value as u32)
}

/// ATTRIBUTES. `files_limit` is the program's limit of open files, where it is another for the moment.
pub fn capture_attributes(
    stream: &mut Stream<'_>,
    files_limit: Option<[u64; 2]>,
    buf: &mut [u8],
) -> Result<(), Failure> {
    let get = |option: u32| process::prctl(option, 0, 0, 0, 0).map_or(0, |value| value as u32);
    let mut subreaper = 0u32;
    let place = &raw mut subreaper as usize;
    let _ = process::prctl(sys::PR_GET_CHILD_SUBREAPER, place, 0, 0, 0);
    // SAFETY: the kernel has written through the address.
    let subreaper = unsafe { core::ptr::read_volatile(&raw const subreaper) };
    let mut limits = [Limit::default(); LIMITS.len()];
    for (resource, place) in limits.iter_mut().enumerate() {
        let own = files_limit.filter(|_| resource == RLIMIT_NOFILE);
        let [soft, hard] = own.or_else(|| limit(resource as u32).ok()).unwrap_or([u64::MAX; 2]);
        *place = Limit { soft: U64::new(soft), hard: U64::new(hard) };
    }
    let oom_score_adj = read_number(b"/proc/thread-self/oom_score_adj\0", buf, parse_signed).unwrap_or(0);
    // Of the process alone; not there when the main thread has ended.
    let filter = read_number(b"/proc/self/coredump_filter\0", buf, |text| parse_hex(text).map(|bits| bits as u32));
    let attributes = Attributes {
        inherited: U64::new(INHERITED.0.get() as u64),
        subreaper: U32::new(subreaper),
        no_new_privs: U32::new(get(sys::PR_GET_NO_NEW_PRIVS)),
        keepcaps: U32::new(get(sys::PR_GET_KEEPCAPS)),
        securebits: U32::new(get(sys::PR_GET_SECUREBITS)),
        thp_disable: U32::new(get(sys::PR_GET_THP_DISABLE)),
        memory_merge: U32::new(get(sys::PR_GET_MEMORY_MERGE)),
        oom_score_adj: U32::new(oom_score_adj),
        coredump_filter: U32::new(filter.unwrap_or(UNKNOWN)),
        membarrier: U32::new(sys::membarrier(sys::MEMBARRIER_GET_REGISTRATIONS).unwrap_or(UNKNOWN)),
        reserved: U32::new(0),
        limits,
    };
    stream.record(kind::ATTRIBUTES, 0, &attributes, &[])?;
    Ok(())
}

fn read_number(path: &[u8], buf: &mut [u8], parse: fn(&[u8]) -> Option<u32>) -> Option<u32> {
    parse(fs::read_file(path, buf).ok()?.trim_ascii())
}

fn parse_signed(text: &[u8]) -> Option<u32> {
    match text.strip_prefix(b"-") {
        Some(digits) => Some((parse_dec(digits)? as u32).wrapping_neg()),
        None => Some(parse_dec(text)? as u32),
    }
}

/// THREAD_ATTR of thread `tid`, which has told its timer slack and death signal.
pub fn capture_thread_attributes(
    stream: &mut Stream<'_>,
    tid: u32,
    slack: u32,
    death_signal: u32,
) -> Result<(), Failure> {
    let sched = sched_attr(tid).unwrap_or_default();
    let mut cpus = [0u8; CPUS];
    let len = affinity(tid, &mut cpus).unwrap_or(0);
    let inherited = inherited();
    let bound = cpus != inherited.cpus;
    let cpus = cpus.get(..len).filter(|_| bound).unwrap_or(&[]);
    let same = death_signal == inherited.death_signal.get();
    let attributes = ThreadAttr {
        policy: U32::new(sched.policy),
        nice: U32::new(nice(tid) as u32),
        priority: U32::new(sched.priority),
        ioprio: U32::new(ioprio(tid)),
        sched_flags: U64::new(sched.flags),
        runtime: U64::new(sched.runtime),
        deadline: U64::new(sched.deadline),
        period: U64::new(sched.period),
        slack: U64::new(slack.into()),
        death_signal: U32::new(if same { UNKNOWN } else { death_signal }),
        cpus_len: U32::new(cpus.len() as u32),
    };
    stream.record(kind::THREAD_ATTR, 0, &attributes, &[cpus])?;
    Ok(())
}
