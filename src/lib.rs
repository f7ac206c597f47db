//! libselfckpt: lets unmodified 32-bit x86 Linux programs checkpoint themselves and be restarted.
//!
//! DESIGN.md names the phases of a checkpoint and of a restart, each with its file. The first line
//! of every module says in which context its code runs: `[SIGNAL]` (a handler in the stopped
//! program: raw system calls only, no allocation, no lock, no libc), `[RESTORER]` (while the
//! address space is replaced: assembly only) or `[NORMAL]`.
#![deny(unsafe_code)]

pub mod arch;
pub mod catalog;
pub mod control;
pub mod format;
pub mod placeholders;
pub mod restore;
pub mod settings;

#[cfg(target_arch = "x86")]
mod capi;
#[cfg(target_arch = "x86")]
mod capture;
#[cfg(target_arch = "x86")]
mod interpose;
#[cfg(target_arch = "x86")]
mod restorer;
#[cfg(target_arch = "x86")]
mod runtime;
#[cfg(target_arch = "x86")]
mod sys;
