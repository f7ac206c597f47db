//! Integration tests: real i686 programs are run, checkpointed, killed and restarted.
//!
//! One crate, so that it links once; one module per subject. tests/README.md says how to add one.

/// A test for each program of tests/programs named here: the whole cycle of [`common::Job::cycle`].
macro_rules! cycles {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            if let Some(job) = crate::common::Spec::new(stringify!($name)).start() {
                job.cycle();
            }
        }
    )*};
}

mod common;

mod api;
mod children;
mod errors;
mod examples;
mod files;
mod generations;
mod identity;
mod images;
mod install;
mod locks;
mod memory;
mod names;
mod other_kernel;
mod process;
mod programs;
mod real_programs;
mod regs;
mod resume;
mod signals;
mod slurm;
mod soak;
mod sockets;
mod terminal;
mod thread_programs;
mod times;
mod traced;
mod triggers;
mod upgrade;
mod waits;
mod wrappers;
