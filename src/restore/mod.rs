//! [NORMAL] An image into a checked plan. Changes nothing of the process.
//!
//! `check` holds the image against this machine, `files` opens what the program had open, `memory`
//! decides what each mapping is made from, `layout` finds room for the restorer, `vdso` brings the
//! kernel's pages to their place, `clock_front` says what is added to its clocks, `plan`, `threads` and `timers` write the
//! restorer's steps. `runtime::takeover` calls them
//! in order.

#[cfg(target_arch = "x86")]
pub(crate) mod aio;
#[cfg(target_arch = "x86")]
pub(crate) mod attributes;
pub mod check;
mod check_files;
mod check_ipc;
mod check_threads;
mod check_timers;

#[cfg(target_arch = "x86")]
pub(crate) mod absent;
#[cfg(target_arch = "x86")]
pub(crate) mod clock_front;
#[cfg(target_arch = "x86")]
pub(crate) mod files;
#[cfg(target_arch = "x86")]
mod huge;
#[cfg(target_arch = "x86")]
pub(crate) mod ids;
#[cfg(target_arch = "x86")]
pub(crate) mod ipc;
#[cfg(target_arch = "x86")]
pub(crate) mod layout;
#[cfg(target_arch = "x86")]
pub(crate) mod memory;
#[cfg(target_arch = "x86")]
pub(crate) mod plan;
#[cfg(target_arch = "x86")]
pub(crate) mod steps;
#[cfg(target_arch = "x86")]
pub(crate) mod threads;
#[cfg(target_arch = "x86")]
pub(crate) mod timers;
#[cfg(target_arch = "x86")]
pub(crate) mod vdso;
