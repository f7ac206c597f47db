//! How the i686 shared library is linked. Nothing here touches the build of the host command.
//!
//! The exported names are those of the functions marked `#[unsafe(no_mangle)]`: rustc gives the linker
//! a list of them and hides the rest. src/exports.txt says which they shall be, and tests/exports.rs
//! compares it with the library's dynamic symbol table. Code that assembly calls is therefore named
//! by a `sym` operand, never by `no_mangle`, which would export it.

use std::env;
use std::path::Path;
use std::process::Command;

/// - soname: what a program that is linked with the library asks the loader for.
/// - now: no lazy binding, so that no call out of a signal handler enters the loader's resolver.
/// - initfirst: our initializer runs before those of every other library: a restart happens there,
///   and nothing may have been done twice.
/// - nodelete: handlers and mappings refer to our code; dlclose must not unmap it.
/// - defs: a symbol that is not found is an error here, not in the user's program.
/// - noexecstack: an assembly file without a note must not make the program's stack executable.
const LINK_ARGS: &[&str] = &[
    "-Wl,-soname,libselfckpt.so",
    "-Wl,-z,now",
    "-Wl,-z,initfirst",
    "-Wl,-z,nodelete",
    "-Wl,-z,defs",
    "-Wl,-z,noexecstack",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86") {
        for arg in LINK_ARGS {
            println!("cargo::rustc-link-arg-cdylib={arg}");
        }
        link_unwinder();
    }
}

/// std wants the unwinder for its backtraces. Linked in, it spares every preloaded program
/// libgcc_s.so.1, which is not on each machine for i686.
fn link_unwinder() {
    let asked = Command::new("cc").args(["-m32", "-print-file-name=libgcc_eh.a"]).output();
    let Ok(answer) = asked.map(|output| output.stdout) else { return };
    // A name that is not found comes back as it is, without a directory.
    let path = String::from_utf8_lossy(&answer).trim().to_owned();
    if let Some(dir) = Path::new(&path).parent().filter(|dir| dir.is_absolute()) {
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
