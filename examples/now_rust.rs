//! ckpt_now() from Rust, by dlsym: the same program runs without the library.
//!
//!     rustc -O --target i686-unknown-linux-gnu examples/now_rust.rs
//!     LD_PRELOAD=$PWD/build/libselfckpt.so ./now_rust
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Calls a function of the library; `None` where it is not loaded. All of them take nothing and return an int.
fn call(name: &CStr) -> Option<i32> {
    // SAFETY: the name ends with a NUL; a null handle stands for all that is loaded (RTLD_DEFAULT).
    let function = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
    if function.is_null() {
        return None;
    }
    // SAFETY: selfckpt.h declares the functions so.
    let function: extern "C" fn() -> c_int = unsafe { std::mem::transmute(function) };
    Some(function())
}

fn checkpoint(step: u32) {
    match call(c"ckpt_now") {
        None => {}
        Some(0) => {
            let generation = call(c"ckpt_generation").unwrap_or(0);
            eprintln!("step {step}: restarted from generation {generation}");
        }
        Some(generation) if generation > 0 => eprintln!("step {step}: generation {generation} is written"),
        Some(_) => eprintln!("step {step}: no checkpoint: {}", std::io::Error::last_os_error()),
    }
}

fn main() {
    if call(c"ckpt_available") != Some(1) {
        eprintln!("runs without checkpoints: libselfckpt.so is not loaded");
    }
    let mut sum = 1u32;
    for step in 1..=100_000_000u32 {
        sum = sum.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if step % 25_000_000 == 0 {
            checkpoint(step);
        }
    }
    println!("{sum}");
}
