//! Many generations, users, layouts of the address space.

use crate::common::{LAYOUTS, NOBODY, Spec, is_root};

/// Twenty checkpoints, kills and restarts, each on top of the one before.
fn twenty(name: &str, user: Option<u32>) {
    let mut spec = Spec::new(name);
    if let Some(uid) = user {
        if !is_root() {
            eprintln!("skipped: only root can run programs as another user");
            return;
        }
        spec = spec.user(uid);
    }
    if let Some(job) = spec.start() {
        job.generations(20);
    }
}

#[test]
fn twenty_heap() {
    twenty("heap", None);
}

#[test]
fn twenty_maps() {
    twenty("maps_same", None);
}

#[test]
fn twenty_output() {
    twenty("fd_output_cut", None);
}

#[test]
fn twenty_as_nobody() {
    twenty("heap", Some(NOBODY));
}

#[test]
fn twenty_output_as_nobody() {
    twenty("fd_output_cut", Some(NOBODY));
}

/// Each state once more without any privilege.
#[test]
fn cycles_as_nobody() {
    if !is_root() {
        eprintln!("skipped: only root can run programs as another user");
        return;
    }
    for name in [
        "regs",
        "x87",
        "avx",
        "segments",
        "tls",
        "debugregs",
        "mmap_private",
        "mmap_file_private",
        "mmap_anon_shared",
        "mlock_madvise",
        "maps_same",
        "stack_grow",
        "fd_offset",
        "fd_dir",
        "fd_corners",
        "signal_pending",
        "signal_nested",
        "rseq",
        "cwd_umask",
        "proc_self",
    ] {
        if let Some(job) = Spec::new(name).user(NOBODY).start() {
            job.cycle();
        }
    }
}

/// From every layout into every other, in one chain of restarts for each.
fn layouts(name: &str) {
    for start in LAYOUTS {
        let Some(mut job) = Spec::new(name).prefix(start).start() else { return };
        for target in LAYOUTS {
            job.checkpoint();
            job.sigkill();
            let images = job.images.clone();
            job.restart_from(&images, target, &[]);
            job.go(&format!("started under {start:?}, restarted under {target:?}"));
        }
        job.end("at the end");
    }
}

#[test]
fn layouts_heap() {
    layouts("heap");
}

#[test]
fn layouts_maps() {
    layouts("maps_same");
}

#[test]
fn layouts_stack() {
    layouts("stack_grow");
}

/// Ten restarts from one image.
#[test]
fn ten_from_one() {
    let Some(mut job) = Spec::new("mmap_private").start() else { return };
    let image = job.checkpoint();
    for n in 1..=10 {
        job.sigkill();
        job.rewind(1);
        job.restart_from(&image.path, &[], &[]);
        job.go(&format!("restart {n} from one image"));
    }
    job.end("at the end");
}
