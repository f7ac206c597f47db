//! [NORMAL] Functions of libc whose waits are noted in programs that limit those of sockets when they have made threads
//! already, where the [kernel's entry](crate::arch::vsyscall) stays as it is: the loaded objects call them by tables, which
//! are changed.
#![allow(unsafe_code)] // Reads what the dynamic linker has loaded, and writes into its tables.

use super::objects::{Object, Slot};
use super::waits::noted;
use crate::sys::process;
use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a program calls that may wait for a socket.
const NAMES: [&CStr; COUNT] = [
    c"read",
    c"__read",
    c"__read_chk",
    c"readv",
    c"recv",
    c"__recv_chk",
    c"recvfrom",
    c"__recvfrom_chk",
    c"recvmsg",
    c"recvmmsg",
    c"__recvmmsg64",
    c"write",
    c"__write",
    c"writev",
    c"send",
    c"__send",
    c"sendto",
    c"sendmsg",
    c"sendmmsg",
    c"accept",
    c"accept4",
    c"connect",
    c"__connect",
];
const COUNT: usize = 23;

/// libc's.
static NEXT: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

/// With as many arguments as any of them has: what is read beyond those of a call lies on its caller's stack.
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> isize;

/// In front of the function with this number.
///
/// # Safety
/// As that.
unsafe extern "C" fn front<const N: usize>(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    // The first two arguments are those of the system call.
    noted(true, [a, b], || {
        // SAFETY: libc's function, which leaves those arguments alone that it does not have.
        unsafe { core::mem::transmute::<usize, Function>(NEXT[N].load(Relaxed))(a, b, c, d, e, f) }
    })
}

macro_rules! fronts {
    ($($n:literal)*) => { [$(front::<$n>),*] };
}
static FRONTS: [Function; COUNT] = fronts!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22);

/// How many objects had been loaded when the tables were changed.
static LOADED: AtomicU64 = AtomicU64::new(0);

/// Leads the calls of all loaded objects to the fronts; again after others have been loaded.
pub fn change() {
    for (next, name) in NEXT.iter().zip(NAMES) {
        if next.load(Relaxed) == 0 {
            // SAFETY: a string with its NUL.
            next.store(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize, Relaxed);
        }
    }
    let mut loaded = 0u64;
    // SAFETY: `change_one` takes what it is called with.
    unsafe { libc::dl_iterate_phdr(Some(change_one), (&raw mut loaded).cast()) };
    LOADED.store(loaded, Relaxed);
}

unsafe extern "C" fn change_one(info: *mut libc::dl_phdr_info, _size: usize, loaded: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker describes an object, and `loaded` is that of `change`.
    let (info, loaded) = unsafe { (&*info, &mut *loaded.cast::<u64>()) };
    *loaded = info.dlpi_adds;
    if *loaded == LOADED.load(Relaxed) {
        return 1;
    }
    // SAFETY: as above; an object stays while the dynamic linker is told of it.
    let Some(object) = (unsafe { Object::new(info) }) else { return 0 };
    if object.contains(FRONTS.as_ptr() as usize) {
        return 0;
    }
    object.for_each_slot(|name, slot| {
        let found = NAMES.iter().position(|known| *known == name);
        let Some((next, front)) = found.and_then(|at| Some((NEXT.get(at)?.load(Relaxed), *FRONTS.get(at)?))) else {
            return;
        };
        let value = slot.value();
        let is_to_be_looked_up = || slot.is_of_function && object.contains(value) && is_found_first(name, next);
        if next != 0 && (value == next || is_to_be_looked_up()) {
            set(&object, &slot, front as usize);
        }
    });
    0
}

/// Not the program's own function of that name, or one of a library that is preloaded before this one.
fn is_found_first(name: &CStr, function: usize) -> bool {
    // SAFETY: a string with its NUL.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) as usize == function }
}

/// Other threads call by it at the same time, and may find either.
fn set(object: &Object, slot: &Slot, value: usize) {
    let Some((start, len)) = object.protected_around(slot.address) else {
        slot.set(value);
        return;
    };
    if process::protect(start, len, process::PROT_READ | process::PROT_WRITE).is_ok() {
        slot.set(value);
        // It was so before.
        let _ = process::protect(start, len, process::PROT_READ);
    }
}
