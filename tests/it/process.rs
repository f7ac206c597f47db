//! What the kernel and /proc know of the process.

use crate::common::{NOBODY, Spec, is_root, skipped};

cycles! {
    rseq, rseq_section, robust_list, clear_tid, attr_process, attr_thread,
}

#[test]
fn proc_self() {
    if let Some(job) = Spec::new("proc_self").arg("an argument").arg("").env("TEST_TITLE", "some text").start() {
        job.cycle();
    }
}

/// Without any privilege.
#[test]
fn attributes_of_another_user() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    for name in ["attr_process", "attr_thread"] {
        Spec::new(name).user(NOBODY).start().expect("a start").cycle();
    }
}

/// Whose own /proc the library may not read as another user. The command may not either: it is asked by signal.
#[test]
fn not_dumpable() {
    for user in [None, Some(NOBODY).filter(|_| is_root())] {
        let spec = Spec::new("attr_process").arg("undumpable");
        let mut job = user.map_or(spec.clone(), |uid| spec.user(uid)).start().expect("a start");
        job.checkpoint_by_signal();
        job.go("after a checkpoint");
        for generation in 1..=2 {
            job.checkpoint_by_signal();
            job.sigkill();
            job.restart();
            job.go(&format!("after restart {generation}"));
        }
        job.end("at the end");
    }
}

/// Started again by somebody who may have less: the restart says what, and goes on.
#[test]
fn attributes_that_are_not_allowed() {
    if !is_root() {
        eprintln!("skipped: needs another user");
        return;
    }
    let mut job = Spec::new("attr_process").user(NOBODY).start().expect("a start");
    let image = job.checkpoint();
    job.sigkill();
    job.restart_from(&image.path, &["nice", "-n", "12", "prlimit", "--core=1000:1000"], &[]);
    job.go_without_waiting(true);
    job.wait_exit();
    let story = job.story();
    for words in ["RLIMIT_CORE was 12345", "cannot be more than 1000 here", "the nice value "] {
        assert!(story.contains(words), "{words}\n{story}");
    }
}

/// Threads in the middle of restartable sequences, which come back on another processor; registered by glibc, or by the
/// program in its place.
#[test]
fn sequences_on_another_cpu() {
    let [here, there, ..] = usable_cpus()[..] else { return skipped("needs two processors") };
    let cpus = [here.to_string(), there.to_string()];
    for (argument, tunables) in [("", ""), ("own", "glibc.pthread.rseq=0")] {
        let spec = Spec::new("rseq_section").arg(argument).env("GLIBC_TUNABLES", tunables);
        let Some(mut job) = spec.prefix(&["taskset", "-c", &cpus[0]]).start() else { return };
        for generation in 1..=4 {
            let image = job.checkpoint();
            job.go(&format!("after checkpoint {generation}"));
            job.sigkill();
            job.rewind(job.round() - 1);
            job.restart_from(&image.path, &["taskset", "-c", &cpus[generation % 2]], &[]);
            job.go(&format!("after restart {generation}"));
        }
        job.end("at the end");
    }
}

/// Those that a program was started on are not its own: it comes back on those of each restart.
#[test]
fn cpus_of_each_restart() {
    let [here, there, ..] = usable_cpus()[..] else { return skipped("needs two processors") };
    let cpus = [here.to_string(), there.to_string()];
    let mut job = Spec::new("heap").prefix(&["taskset", "-c", &cpus[0]]).start().expect("a start");
    for generation in 1..=4 {
        job.checkpoint();
        job.sigkill();
        let (images, cpu) = (job.images.clone(), &cpus[generation % 2]);
        job.restart_from(&images, &["taskset", "-c", cpu], &[]);
        job.go(&format!("after restart {generation}"));
        let status = std::fs::read_to_string(format!("/proc/{}/status", job.program_pid())).expect("status");
        let found = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
        assert_eq!(found, Some(cpu.as_str()), "after restart {generation}");
    }
    job.end("at the end");
}

fn usable_cpus() -> Vec<usize> {
    // SAFETY: the set is a plain array of bits, of the size that is said.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
        set
    };
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// A filter of system calls is told of, and not in force after a restart.
#[test]
fn seccomp_filter() {
    let filter = crate::common::program("no_clone3");
    let mut job = Spec::new("heap").prefix(&[filter.to_str().expect("UTF-8"), "38"]).start().expect("a start");
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("the seccomp filter is not saved"), "{text}");
    job.sigkill();
    job.restart();
    job.end("after a restart without the filter");
}
