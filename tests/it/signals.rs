//! Signals: dispositions, masks, stacks, what is pending, handlers under way.

use crate::common::{SIGUSR2, Spec, kill};

cycles! {
    signal_dispositions, signal_mask, signal_altstack, signal_pending, signal_nested,
    small_stack, sigaltstack_small, errno_kept, trigger_hidden, trigger_shared,
}

/// A hundred requests one upon the other: whatever number of them is served, the program does not
/// notice.
#[test]
fn storm() {
    for name in ["errno_kept", "regs", "signal_pending"] {
        let Some(mut job) = Spec::new(name).start() else { continue };
        for _ in 0..100 {
            assert!(kill(job.pid(), SIGUSR2));
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        job.go("after a storm of signals");
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.end("after a restart that followed");
    }
}
