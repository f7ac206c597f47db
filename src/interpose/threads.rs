//! [NORMAL] New threads and spawned programs begin with the signal mask that the program gives them.
#![allow(unsafe_code)] // Functions that C calls with pointers.

use super::Sigset;
use super::guard::unmaskable;
use super::next::call_next;
use crate::arch::control_block::note_thread;
use crate::arch::thread_view;
use crate::sys::process::{self, SIG_BLOCK, SIG_UNBLOCK};
use core::ffi::{c_char, c_int, c_void};

const ENOMEM: c_int = 12;
const ENOSYS: c_int = 38;
/// `thrd_nomem`, `thrd_error` of <threads.h>.
const THRD_NOMEM: c_int = 3;
const THRD_ERROR: c_int = 2;

type Pointer = *mut c_void;
type Routine = unsafe extern "C" fn(Pointer) -> Pointer;

/// What a new thread takes from its creator.
pub struct Record {
    view: u64,
    routine: usize,
    argument: usize,
}

/// Called by a thread that begins with trigger signals blocked: address of what it is to run in the low half, the
/// argument in the high half.
pub extern "C" fn selfckpt_begin_thread(record: *mut Record) -> u64 {
    // SAFETY: `start_with` has passed it to this thread alone.
    let Record { view, routine, argument } = unsafe { record.read() };
    // SAFETY: it came from malloc.
    unsafe { libc::free(record.cast()) };
    thread_view::set(view);
    // An attribute may have blocked them.
    process::sigprocmask(SIG_UNBLOCK, view);
    routine as u64 | ((argument as u64) << 32)
}

/// Calls `create` with the routine and argument that lead to those given, with `view` as the thread's.
fn start_with(
    view: u64,
    routine: usize,
    argument: Pointer,
    no_memory: c_int,
    create: impl FnOnce(Routine, Pointer) -> c_int,
) -> c_int {
    // SAFETY: takes a number.
    let record = unsafe { libc::malloc(size_of::<Record>()) }.cast::<Record>();
    if record.is_null() {
        return no_memory;
    }
    // SAFETY: fresh memory of that size.
    unsafe { record.write(Record { view, routine, argument: argument as usize }) };
    let result = create(thread_view::thread_entry(), record.cast());
    if result != 0 {
        // SAFETY: no thread has been started that could have it.
        unsafe { libc::free(record.cast()) };
    }
    result
}

/// # Safety
/// As pthread_create(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: Pointer,
    attributes: Pointer,
    routine: Routine,
    argument: Pointer,
) -> c_int {
    note_thread();
    let create = |routine: Routine, argument: Pointer| {
        call_next!(
            PTHREAD_CREATE as fn(Pointer, Pointer, Routine, Pointer) -> c_int,
            (thread, attributes, routine, argument),
            else ENOSYS
        )
    };
    match view_of_attributes(attributes).unwrap_or_else(thread_view::get) {
        0 => create(routine, argument),
        view => start_with(view, routine as usize, argument, ENOMEM, create),
    }
}

/// Trigger signals in the mask that the attributes have, if they have one.
fn view_of_attributes(attributes: Pointer) -> Option<u64> {
    if attributes.is_null() {
        return None;
    }
    let mut mask = Sigset::new(0);
    let found = call_next!(
        PTHREAD_ATTR_GETSIGMASK as fn(Pointer, *mut Sigset) -> c_int,
        (attributes, &raw mut mask),
        else -1
    );
    (found == 0).then(|| mask.get() & unmaskable())
}

/// # Safety
/// As thrd_create(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thrd_create(thread: Pointer, routine: Routine, argument: Pointer) -> c_int {
    note_thread();
    let create = |routine: Routine, argument: Pointer| {
        call_next!(
            THRD_CREATE as fn(Pointer, Routine, Pointer) -> c_int,
            (thread, routine, argument),
            else THRD_ERROR
        )
    };
    match thread_view::get() {
        0 => create(routine, argument),
        view => start_with(view, routine as usize, argument, THRD_NOMEM, create),
    }
}

type Vector = *const *const c_char;

/// Lets the kernel see the program's mask for as long as a child takes it over. What its attributes say reaches the
/// child as it is: there the library, if it is loaded, unblocks what it needs.
fn with_real_mask(spawn: impl FnOnce() -> c_int) -> c_int {
    let view = thread_view::get();
    if view == 0 {
        return spawn();
    }
    process::sigprocmask(SIG_BLOCK, view);
    let result = spawn();
    process::sigprocmask(SIG_UNBLOCK, view);
    result
}

/// # Safety
/// As posix_spawn(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: Pointer,
    path: *const c_char,
    actions: Pointer,
    attributes: Pointer,
    argv: Vector,
    envp: Vector,
) -> c_int {
    with_real_mask(|| {
        call_next!(
            POSIX_SPAWN as fn(Pointer, *const c_char, Pointer, Pointer, Vector, Vector) -> c_int,
            (pid, path, actions, attributes, argv, envp),
            else ENOSYS
        )
    })
}

/// # Safety
/// As posix_spawnp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: Pointer,
    file: *const c_char,
    actions: Pointer,
    attributes: Pointer,
    argv: Vector,
    envp: Vector,
) -> c_int {
    with_real_mask(|| {
        call_next!(
            POSIX_SPAWNP as fn(Pointer, *const c_char, Pointer, Pointer, Vector, Vector) -> c_int,
            (pid, file, actions, attributes, argv, envp),
            else ENOSYS
        )
    })
}
