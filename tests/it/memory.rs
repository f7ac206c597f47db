//! Memory: contents, mappings, what costs nothing.

use crate::common::{
    Job, SIGKILL, Spec, assert_refused, is_root, kill, selfckpt_command, skipped, wait_until, writer_of,
};
use std::process::Stdio;

cycles! {
    heap, mmap_private, mmap_zero, mmap_file_private, mmap_file_deleted, mmap_file_shared,
    mmap_anon_shared, mmap_memfd,
    aio_contexts, mmap_and_fd, stack_grow, mlock_madvise, maps_same, guard_regions, mseal, sysv_ipc, shm_posix, mq_posix, writer_snapshot,
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

/// So many huge pages are set aside for the time of a test.
struct HugePages(String);

impl HugePages {
    const POOL: &str = "/proc/sys/vm/nr_hugepages";

    fn set(count: u32) -> bool {
        // There may be fewer than one has asked for.
        std::fs::write(HugePages::POOL, count.to_string()).is_ok()
            && std::fs::read_to_string(HugePages::POOL).is_ok_and(|text| text.trim() == count.to_string())
    }

    fn allow(count: u32) -> Option<HugePages> {
        let pages = HugePages(std::fs::read_to_string(HugePages::POOL).ok()?);
        HugePages::set(count).then_some(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(HugePages::POOL, &self.0);
    }
}

/// Huge pages come back as such; where there are none at the restart, as normal ones, with a warning for each mapping and
/// each memfd.
#[test]
fn huge_pages() {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:")?.split_whitespace().next());
    let (Some(size), Some(_pages)) = (kilobytes.and_then(|size| size.parse::<u32>().ok()), HugePages::allow(8)) else {
        skipped("huge pages: they cannot be had here");
        return;
    };
    let start = || Spec::new("huge_pages").arg((size << 10).to_string()).start();
    let Some(mut job) = start() else {
        skipped("huge pages: the memory for them is in pieces");
        return;
    };
    job.checkpoint_without_notices();
    job.cycle();

    let mut job = start().expect("huge pages, as above");
    job.checkpoint();
    job.sigkill();
    assert!(HugePages::set(0), "the pages are still in use");
    std::fs::write(job.path("normal"), "").expect("normal");
    job.restart();
    job.go("without huge pages");
    const NONE: &str = "has pages of normal size, for want of huge ones";
    let told = |what: &str| job.story().lines().filter(|line| line.contains(what) && line.contains(NONE)).count();
    let all = ["/anon_hugepage (deleted) has", "the memory of /anon_hugepage", "(/memfd:huge)", "(/memfd:alone)"];
    assert_eq!(all.map(told), [2, 1, 1, 1], "{}", job.story());
    job.generations(2);
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
    let text = job.inspect(&image);
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

/// A queue that the program must not read is not its own, whatever pid the kernel notes: it may be older.
#[test]
fn queue_that_cannot_be_read() {
    if !is_root() {
        return;
    }
    let mut job = Spec::new("sysv_ipc").user(65534).start().expect("a user may start it");
    let ids = ids_of(&job);
    // SAFETY: a structure of numbers, which the kernel fills in and reads.
    unsafe {
        let mut queue: libc::msqid_ds = std::mem::zeroed();
        assert_eq!(libc::msgctl(ids[2], libc::IPC_STAT, &mut queue), 0);
        queue.msg_perm.mode = 0;
        assert_eq!(libc::msgctl(ids[2], libc::IPC_SET, &mut queue), 0);
    }
    job.checkpoint();
    job.sigkill();
    remove_ipc(ids);
}

#[test]
fn queues_of_a_user() {
    if is_root() {
        Spec::new("mq_posix").user(65534).start().expect("a user may start it").cycle();
    }
}

/// POSIX shared memory and named semaphores that a boot has taken away are made again.
#[test]
fn shm_posix_after_a_boot() {
    let Some(mut job) = Spec::new("shm_posix").start() else { return };
    let names = std::fs::read_to_string(job.path("names")).expect("the file with the names");
    for when in ["after all had gone", "after all had gone again"] {
        job.checkpoint();
        job.sigkill();
        for name in names.split(' ') {
            std::fs::remove_file(format!("/dev/shm{name}")).expect("a file in memory");
        }
        job.restart();
        job.go(when);
    }
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("with all of it there");
}

#[test]
fn shm_posix_of_a_user() {
    if is_root() {
        Spec::new("shm_posix").user(65534).start().expect("a user may start it").cycle();
    }
}

/// The name of mq_posix's queue and, with "-empty" in it, of the other one.
fn queue_names(job: &Job) -> [std::ffi::CString; 2] {
    let name = std::fs::read_to_string(job.path("names")).expect("the file with the name");
    let empty = name.replace("-test-", "-test-empty-");
    [name, empty].map(|name| std::ffi::CString::new(name).expect("no NUL"))
}

/// Queues that are gone are made again.
#[test]
fn queues_after_a_boot() {
    let Some(mut job) = Spec::new("mq_posix").start() else { return };
    let names = queue_names(&job);
    job.checkpoint();
    job.sigkill();
    for name in &names {
        // SAFETY: NUL-terminated.
        assert_eq!(unsafe { libc::mq_unlink(name.as_ptr()) }, 0);
    }
    job.restart();
    job.go("after all had gone");
    let image = job.checkpoint();
    job.sigkill();
    // Another queue of that name.
    // SAFETY: NUL-terminated; the attributes are the system's.
    unsafe {
        libc::mq_unlink(names[0].as_ptr());
        let other =
            libc::mq_open(names[0].as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600, std::ptr::null::<libc::mq_attr>());
        assert!(other >= 0);
        libc::mq_close(other);
    }
    let refused = job.selfckpt(&["restart".as_ref(), image.path.as_os_str()]);
    assert_refused(&refused, 125, &["POSIX message queue", "is another one than at the checkpoint"]);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::mq_unlink(names[0].as_ptr()) }, 0);
    job.restart();
    job.end("after the name was free again");
}

/// Somebody else has the queue, too: a notice, and nothing of it is touched.
#[test]
fn queue_of_others() {
    let Some(mut job) = Spec::new("mq_posix").start() else { return };
    let [name, _] = queue_names(&job);
    // SAFETY: NUL-terminated.
    let ours = unsafe { libc::mq_open(name.as_ptr(), libc::O_RDWR) };
    assert!(ours >= 0);
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("are not saved: another process has it, too"), "{text}");
    job.sigkill();
    let (mut got, mut priority) = ([0u8; 200], 0);
    // SAFETY: the buffers are as long as they are said to be.
    unsafe {
        assert_eq!(libc::mq_send(ours, c"ours".as_ptr(), 4, 31000), 0);
        job.restart();
        assert_eq!(libc::mq_receive(ours, got.as_mut_ptr().cast(), got.len(), &raw mut priority), 4);
        assert_eq!(libc::mq_close(ours), 0);
    }
    assert_eq!(priority, 31000, "a restart has changed a queue that another uses");
    job.go("beside another user");
    job.checkpoint();
    job.sigkill();
    // What came after the checkpoint goes, now that it is the program's alone.
    // SAFETY: as above.
    unsafe {
        let ours = libc::mq_open(name.as_ptr(), libc::O_RDWR);
        assert_eq!(libc::mq_send(ours, c"ours".as_ptr(), 4, 31000), 0);
        assert_eq!(libc::mq_close(ours), 0);
    }
    job.restart();
    job.end("alone");
}

/// Taking messages out and putting them back must not notify anybody.
#[test]
fn queue_notification() {
    let Some(mut job) = Spec::new("mq_notify").start() else { return };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("the notification of messages in the POSIX message queue"), "{text}");
    assert!(text.contains("are not saved: the notification of the next one would be sent"), "{text}");
    job.go("after a checkpoint");
    job.checkpoint_by_signal();
    job.go("after another one");
    job.sigkill();
    job.rewind(1);
    job.restart_from(&image.path, &[], &[]);
    job.end("after a restart");
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
    wait_until(|| writer_of(job.pid())).expect("a writer has been forked");
    job.sigkill();
    wait_until(|| (!temporary.exists()).then_some(())).expect("what was begun is removed");
    assert_eq!(job.list_images().len(), 1);
    job.restart();
    job.end("after a restart from the first image");
}

/// The writer alone is killed, as by a machine that is out of memory: the command says so at once, and the next
/// checkpoint; the program goes on.
#[test]
fn writer_is_killed() {
    let Some(mut job) = Spec::directory_last("memory_fill").arg("300").arg("dense").start() else { return };
    job.checkpoint();
    wait_until(|| writer_of(job.pid()).is_none().then_some(())).expect("the first writer ends");
    let temporary = job.path("images/.memory_fill.000002.ckpt.tmp");
    let mut command = selfckpt_command();
    command.arg("checkpoint").arg(job.pid().to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let asking = command.spawn().expect("selfckpt checkpoint");
    let writer = wait_until(|| writer_of(job.pid())).expect("a writer has been forked");
    assert!(kill(writer, SIGKILL));
    let answer = asking.wait_with_output().expect("an answer");
    assert_refused(&answer, 125, &["the process that wrote the image was killed; the program goes on"]);
    assert_eq!(job.list_images().len(), 1);
    assert!(temporary.exists());

    job.go("after the writer was killed");
    assert_eq!(job.checkpoint().generation, 2);
    assert!(!temporary.exists());
    let said = std::fs::read_to_string(job.path("stderr")).expect("stderr");
    assert!(said.contains("no checkpoint: the process that wrote generation 2 died of signal 9"), "{said}");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}
