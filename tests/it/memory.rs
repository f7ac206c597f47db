//! Memory: contents, mappings, what costs nothing.

use crate::common::{Job, Spec, assert_refused, is_root, kill, wait_until};

cycles! {
    heap, mmap_private, mmap_zero, mmap_file_private, mmap_file_deleted, mmap_file_shared,
    mmap_anon_shared, mmap_memfd,
    mmap_and_fd, stack_grow, mlock_madvise, maps_same, guard_regions, sysv_ipc, writer_snapshot,
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

/// Numbers of the keyed segment, the semaphores, the queue; the key; the segment without one.
fn ids_of(job: &Job) -> [i32; 5] {
    let text = std::fs::read_to_string(job.path("ids")).expect("the file with the numbers");
    let ids: Vec<i32> = text.split(' ').map(|id| id.parse().expect("a number")).collect();
    ids.try_into().expect("five numbers")
}

/// As a boot would.
fn remove_ipc([keyed, sem, queue, _, private]: [i32; 5]) {
    // SAFETY: takes numbers only.
    unsafe {
        for id in [keyed, private] {
            assert_eq!(libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()), 0);
        }
        assert_eq!(libc::semctl(sem, 0, libc::IPC_RMID), 0);
        assert_eq!(libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()), 0);
    }
}

#[test]
fn sysv_ipc_of_a_user() {
    if is_root() {
        Spec::new("sysv_ipc").user(65534).start().expect("a user may start it").cycle();
    }
}

/// What is not in the kernel any more is made again, with its key and its number.
#[test]
fn sysv_ipc_after_a_boot() {
    let Some(mut job) = Spec::new("sysv_ipc").start() else { return };
    if !is_root() {
        return;
    }
    let ids = ids_of(&job);
    let image = job.checkpoint();
    job.sigkill();
    remove_ipc(ids);
    job.restart();
    job.go("after all had gone");
    job.checkpoint();
    job.sigkill();
    remove_ipc(ids);
    // SAFETY: takes numbers only.
    let other = unsafe { libc::semget(ids[3], 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o600) };
    assert!(other >= 0);
    let refused = job.selfckpt(&["restart".as_ref(), image.path.as_os_str()]);
    assert_refused(&refused, 125, &["System V semaphores", &format!("its key belongs to number {other}")]);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::semctl(other, 0, libc::IPC_RMID) }, 0);
    job.restart();
    job.end("after the key was free again");
}

/// Somebody else has the memory, too: a notice, and its contents are theirs.
#[test]
fn sysv_memory_of_others() {
    let Some(mut job) = Spec::new("sysv_ipc").start() else { return };
    let [keyed, sem, queue, _, private] = ids_of(&job);
    // SAFETY: a mapping of its own, given back below.
    let at = unsafe { libc::shmat(keyed, std::ptr::null(), 0) };
    assert_ne!(at as isize, -1);
    let image = job.checkpoint();
    let shown = job.selfckpt(&["inspect".as_ref(), image.path.as_os_str()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains(&format!("System V shared memory {keyed} is used by another process")), "{text}");
    // SAFETY: inside the segment, past what the program checks.
    unsafe { at.cast::<u8>().add(40000).write(77) };
    job.sigkill();
    job.restart();
    // SAFETY: as above.
    assert_eq!(unsafe { at.cast::<u8>().add(40000).read() }, 77, "a restart has changed memory that another uses");
    // SAFETY: as above.
    unsafe { at.cast::<u8>().add(40000).write(0) };
    // SAFETY: nothing refers to it any more.
    assert_eq!(unsafe { libc::shmdt(at) }, 0);
    job.go("beside another user");
    // Who comes in between is not overwritten.
    job.checkpoint();
    job.sigkill();
    // SAFETY: as above.
    let at = unsafe { libc::shmat(private, std::ptr::null(), 0) };
    let newest = job.list_images().pop().expect("an image").path;
    let refused = job.selfckpt(&["restart".as_ref(), newest.as_os_str()]);
    assert_refused(&refused, 125, &[&format!("System V shared memory {private}"), "used by another process now"]);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::shmdt(at) }, 0);
    remove_ipc([keyed, sem, queue, 0, private]);
}

/// The program goes on long before the image is on the disk.
#[test]
fn pause_is_a_part() {
    let Some(mut job) = Spec::directory_last("memory_fill").arg("200").arg("dense").start() else { return };
    let answer = job.selfckpt(&["checkpoint", "--json", &job.pid().to_string()]);
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let number = |name: &str| -> u64 {
        let after = text.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {text}"));
        after.split([',', '}']).next().and_then(|digits| digits.trim().parse().ok()).expect("a number")
    };
    let (pause, total) = (number("pause_ns"), number("total_ns"));
    assert!(pause > 0 && pause * 2 < total, "it stood still for {pause} of {total} ns");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}

/// Killed while the image is being written: that one is not there, the one before it is.
#[test]
fn killed_while_writing() {
    let Some(mut job) = Spec::directory_last("memory_fill").arg("300").arg("dense").start() else { return };
    job.checkpoint();
    assert!(kill(job.pid(), libc::SIGUSR2));
    let temporary = job.path("images/.memory_fill.000002.ckpt.tmp");
    // The writer is a child of the program.
    let children = format!("/proc/{0}/task/{0}/children", job.pid());
    let begun = wait_until(|| std::fs::read(&children).ok().filter(|pids| !pids.is_empty()));
    begun.expect("a writer has been forked");
    job.sigkill();
    wait_until(|| (!temporary.exists()).then_some(())).expect("what was begun is removed");
    assert_eq!(job.list_images().len(), 1);
    job.restart();
    job.end("after a restart from the first image");
}
