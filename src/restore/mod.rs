//! [NORMAL] An image into a checked plan. Changes nothing of the process until all is known.
//!
//! The phases, in order: choose and verify the image (`catalog`), check it against this machine
//! (`check`), take the name's lock, open the files (`files`), compare mapped files (`memory`), find
//! room for the restorer (`layout`), write the plan (`plan`), cut back output files and put
//! descriptors in place (`files`), and hand over to the restorer.

pub mod check;

#[cfg(target_arch = "x86")]
mod files;
#[cfg(target_arch = "x86")]
mod layout;
#[cfg(target_arch = "x86")]
mod memory;
#[cfg(target_arch = "x86")]
mod plan;
#[cfg(target_arch = "x86")]
mod steps;
#[cfg(target_arch = "x86")]
mod takeover;
#[cfg(target_arch = "x86")]
mod vdso;

#[cfg(target_arch = "x86")]
pub use takeover::restart;
