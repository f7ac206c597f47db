//! Memory: contents, mappings, what costs nothing.

use crate::common::Spec;

cycles! {
    heap, mmap_private, mmap_zero, mmap_file_private, mmap_file_deleted, mmap_file_shared,
    mmap_anon_shared, mmap_memfd,
    mmap_and_fd, stack_grow, mlock_madvise, maps_same, guard_regions,
}

/// Untouched pages and pages full of zeros are not in the image: mmap_zero has 1152 MB of address
/// space, of which 32 MB hold something.
#[test]
fn zeros_cost_nothing() {
    let Some(mut job) = Spec::new("mmap_zero").start() else { return };
    let image = job.checkpoint();
    let size = image.size();
    assert!(size > 32 << 20, "{size} bytes cannot hold the 32 MB that are used");
    assert!(size < 44 << 20, "{size} bytes for 32 MB in use");
    job.end("after the checkpoint");
}

/// A small program makes a small image.
#[test]
fn small_program_small_image() {
    let Some(mut job) = Spec::new("tls").start() else { return };
    let size = job.checkpoint().size();
    assert!(size < 8 << 20, "{size} bytes for a program without data");
    job.end("after the checkpoint");
}

#[test]
fn dense_and_sparse_and_zeros() {
    for (kind, low, high) in [("dense", 40, 50), ("sparse", 20, 30), ("zeros", 20, 30)] {
        let spec = Spec::directory_last("memory_fill").arg("40").arg(kind);
        let Some(mut job) = spec.start() else { return };
        let megabytes = job.checkpoint().size() >> 20;
        assert!((low..high).contains(&megabytes), "{kind}: {megabytes} MB");
        job.sigkill();
        job.restart();
        job.end("after a restart");
    }
}
