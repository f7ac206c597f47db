//! [SIGNAL, NORMAL] What is particular to x86: registers, extended state, TLS, debug registers, and
//! all assembly but the restorer's.
//!
//! `began`, `cpu`, `frame` and `resume` are plain code over bytes and compile on every x86 host, so that a 64-bit
//! `selfckpt verify` judges an image with the code that a restart uses. The rest is i686 only.

pub mod began;
pub mod cpu;
pub mod frame;
pub mod resume;

#[cfg(target_arch = "x86")]
pub mod clock_entry;
#[cfg(target_arch = "x86")]
pub mod control_block;
#[cfg(target_arch = "x86")]
pub mod debug_registers;
#[cfg(target_arch = "x86")]
pub mod entry;
#[cfg(target_arch = "x86")]
pub mod helper;
#[cfg(target_arch = "x86")]
pub mod pending;
#[cfg(target_arch = "x86")]
pub mod thread_view;
#[cfg(target_arch = "x86")]
pub mod tls;
#[cfg(target_arch = "x86")]
pub mod vsyscall;
