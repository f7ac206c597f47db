//! The same pid and thread ids after a restart: beside this process where its rights allow it, in a namespace else.

use crate::common::{Job, NOBODY, SIGKILL, SIGUSR1, SIGUSR2, Spec, assert_refused, gone, is_root, kill, wait_until};
use std::fs;
use std::os::unix::process::ExitStatusExt;

/// A job as root and as an unprivileged user, where that can be tried.
fn each_user(spec: &Spec, test: impl Fn(Job)) {
    test(spec.clone().start().expect("a start"));
    if is_root() {
        test(spec.clone().user(NOBODY).start().expect("a start"));
    }
}

/// A field of DIR/NAME.status.json or of the command's JSON.
fn number(text: &str, name: &str) -> i32 {
    let start = text.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len() + 3;
    let digits: String = text[start..].trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} in {text}"))
}

/// The pid by which others know the program, from `selfckpt list`.
fn listed_pid(job: &Job) -> i32 {
    let found = wait_until(|| {
        let output = job.selfckpt(&["list", "--json", job.images.to_str().expect("UTF-8")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("\"pid\"").then(|| number(&text, "pid"))
    });
    found.unwrap_or_else(|| panic!("nobody holds the lock\n{}", job.story()))
}

#[test]
fn same_ids() {
    each_user(&Spec::new("same_ids"), |job| job.generations(4));
}

/// What carries ids, with the kernel's own and translated ones, and from one way to the other and back.
#[test]
fn known_ids() {
    each_user(&Spec::new("known_ids"), |mut job| {
        job.checkpoint();
        job.go("without a restart");
        for (generation, way) in ["new", "new", "same", "new", "same"].into_iter().enumerate() {
            job.checkpoint();
            job.sigkill();
            let images = job.images.clone();
            job.restart_from(&images, &[], &["--pid", way]);
            job.go(&format!("after restart {generation}, --pid {way}"));
        }
        job.checkpoint_by_signal();
        job.sigkill();
        job.restart_by_environment();
        job.end("after a restart by SELFCKPT_RESTART");
    });
}

/// A second copy while the first one has the ids.
#[test]
fn same_ids_while_they_are_taken() {
    each_user(&Spec::new("same_ids"), |mut first| {
        let image = first.checkpoint();
        let other = first.path("other");
        fs::create_dir(&other).expect("mkdir");
        if let Some(uid) = first.user() {
            std::os::unix::fs::chown(&other, Some(uid), Some(uid)).expect("chown");
        }
        let copy = image.keep_as(&other.join("same_ids.000001.ckpt"));
        if let Some(uid) = first.user() {
            std::os::unix::fs::chown(&copy.path, Some(uid), Some(uid)).expect("chown");
        }
        // The first one stays where it is, stopped.
        let (original, taken) = first.set_aside();
        assert!(kill(taken, libc::SIGSTOP));
        first.restart_from(&copy.path, &[], &["--pid", "same"]);
        first.end("with ids that another process has, too");
        assert!(!gone(taken));
        drop(original);
    });
}

/// By the pid of the command and by that of the program: checkpoints by command and signal; what is shown; the end of
/// the command is the program's.
#[test]
fn reached_by_both_pids() {
    each_user(&Spec::new("same_ids"), |mut job| {
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.checkpoint();
        job.checkpoint_by_signal();
        let program = listed_pid(&job);
        assert_ne!(program, job.pid());
        let status = fs::read_to_string(job.images.join("same_ids.status.json")).expect("a status");
        assert_eq!(number(&status, "pid"), program);
        let asked = job.selfckpt(&["checkpoint", "--json", &program.to_string()]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let before = job.list_images().pop();
        assert!(kill(program, SIGUSR2));
        assert!(wait_until(|| (job.list_images().pop() != before).then_some(())).is_some(), "{}", job.story());
        job.go("after four checkpoints");
        assert!(kill(job.pid(), SIGKILL));
        assert!(wait_until(|| gone(program).then_some(())).is_some(), "it outlives the command");
        job.wait_exit();
        job.restart();
        job.end("after the command was killed");
    });
}

#[test]
fn ends_are_passed_on() {
    for (how, code, signal) in
        [("42", Some(42), None), ("abort", None, Some(libc::SIGABRT)), ("term", None, Some(libc::SIGTERM))]
    {
        each_user(&Spec::new("ends_by").arg(how), |mut job| {
            job.checkpoint();
            job.sigkill();
            job.restart();
            job.go_without_waiting(true);
            let status = job.wait_exit();
            assert_eq!((status.code(), status.signal()), (code, signal), "{how}\n{}", job.story());
        });
    }
    // A signal to the command, and a killed program.
    each_user(&Spec::new("ends_by"), |mut job| {
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.go("after a restart");
        assert!(kill(job.pid(), libc::SIGTERM));
        assert_eq!(job.wait_exit().signal(), Some(libc::SIGTERM));
        job.rewind(1);
        job.restart();
        job.go("after another restart");
        assert!(kill(listed_pid(&job), SIGKILL));
        assert_eq!(job.wait_exit().signal(), Some(SIGKILL));
    });
}

/// An ordinary user stays who he is, in a user namespace as well.
#[test]
fn users_own() {
    if is_root() {
        Spec::new("user_own").user(NOBODY).start().expect("a start").cycle();
    } else if let Some(job) = Spec::new("user_own").start() {
        job.cycle();
    }
}

/// Signals to the command reach the program: each once, those that queue up in order and with their values.
#[test]
fn signals_are_passed_on() {
    each_user(&Spec::new("signals_passed").arg("from the test"), |mut job| {
        let send = |job: &Job, values_from: u32| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, SIGUSR1, libc::SIGWINCH, libc::SIGURG] {
                assert!(kill(job.pid(), signal));
            }
            for value in values_from..values_from + 3 {
                let value = libc::sigval { sival_ptr: value as usize as *mut libc::c_void };
                // SAFETY: takes numbers; the pointer is one for the kernel.
                assert_eq!(unsafe { libc::sigqueue(job.pid(), libc::SIGRTMIN() + 3, value) }, 0);
            }
        };
        for generation in 1..=3 {
            job.checkpoint();
            job.sigkill();
            job.restart();
            job.checkpoint();
            send(&job, 100 * job.round());
            job.go(&format!("after restart {generation}"));
        }
        send(&job, 100 * job.round());
        job.end("at the end");
    });
}

/// What a program leaves running goes on when it and the command have ended.
#[test]
fn orphans_outlive_the_command() {
    each_user(&Spec::new("ends_by").arg("orphan"), |mut job| {
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.end("after a restart");
        fs::write(job.path("let-go"), "").expect("write");
        let seen = wait_until(|| job.path("orphan").exists().then_some(()));
        assert!(seen.is_some(), "it was killed\n{}", job.story());
    });
}

/// `--pid new` and the fallback where no namespace can be had: another pid, a line that says so, and it runs.
#[test]
fn new_pid() {
    let Some(mut job) = Spec::new("heap").start() else { return };
    job.checkpoint();
    job.sigkill();
    let images = job.images.clone();
    job.restart_from(&images, &[], &["--pid", "new"]);
    job.go("after a restart with a new pid");
    assert_eq!(listed_pid(&job), job.pid());
    job.checkpoint();
    job.sigkill();
    if !is_root() {
        return;
    }
    let limited = "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_pid_namespaces; exec \"$@\"";
    let prefix = ["unshare", "--map-root-user", "sh", "-c", limited, "sh"];
    job.restart_from(&images, &prefix, &["--pid", "same"]);
    assert_eq!(job.wait_exit().code(), Some(125));
    let said = fs::read_to_string(job.path("restart-2.stderr")).expect("stderr");
    assert!(said.contains("with the pid that it had: cannot make a user and pid namespace"), "{said}");
    job.restart_from(&images, &prefix, &[]);
    job.end("after a restart where no namespace can be made");
    let said = fs::read_to_string(job.path("restart-3.stderr")).expect("stderr");
    assert!(said.contains("gets a new pid: cannot make a user and pid namespace"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Ten restarts, each of a program that runs in a namespace: it is always one below that of the command.
#[test]
fn namespaces_do_not_nest() {
    if !is_root() {
        return;
    }
    let mut job = Spec::new("same_ids").user(NOBODY).start().expect("a start");
    let pid = job.pid();
    for generation in 1..=10 {
        job.checkpoint();
        job.sigkill();
        job.restart();
        job.go(&format!("after restart {generation}"));
        let status = fs::read_to_string(format!("/proc/{}/status", listed_pid(&job))).expect("status");
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("NSpid");
        let ids: Vec<i32> = ids.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        assert_eq!(ids, [listed_pid(&job), pid], "generation {generation}");
    }
    job.end("after ten restarts");
}

/// With new ids a thread may get the id by which the program knows another one: both are reached; they cannot have it
/// both again, which the next restart says.
#[test]
fn one_id_for_two_threads() {
    if !is_root() {
        return;
    }
    let mut job = Spec::new("thread_twin").start().expect("never skipped");
    job.checkpoint();
    job.sigkill();
    let images = job.images.clone();
    // Ids are chosen in there.
    let prefix = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    job.restart_from(&images, &prefix, &["--pid", "new"]);
    job.go("after a restart with new ids");
    fs::write(job.path("make-twin"), "").expect("write");
    job.go("with a thread that has the old id of another one");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.pid())).expect("children");
    let asked = job.selfckpt(&["checkpoint", children.trim()]);
    assert!(asked.status.success(), "{}\n{}", String::from_utf8_lossy(&asked.stderr), job.story());
    job.sigkill();
    job.restart_from(&images, &[], &["--pid", "same"]);
    assert_eq!(job.wait_exit().code(), Some(125), "{}", job.story());
    let said = fs::read_to_string(job.path("restart-2.stderr")).expect("stderr");
    assert!(said.contains("a thread that it has made since it got new ids has the id of another one"), "{said}");
    for generation in 1..=2 {
        job.restart_from(&images, &[], &[]);
        job.go(&format!("after restart {generation} with new ids"));
        job.checkpoint();
        job.sigkill();
    }
    job.restart_from(&images, &[], &["--pid", "new"]);
    job.end("after the last restart");
}

/// Within a container: a pid namespace with its own /proc, as root there and as another user.
#[test]
fn same_ids_within_a_namespace() {
    if !is_root() {
        return;
    }
    each_user(&Spec::new("same_ids"), |mut job| {
        let pid = job.pid();
        job.checkpoint();
        job.sigkill();
        let images = job.images.clone();
        let prefix = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
        job.restart_from(&images, &prefix, &["--pid", "same"]);
        job.go(&format!("as process {pid} of a namespace within another one"));
        job.end("at the end");
    });
}

/// What forbids namespaces by a filter, as containers do, answers with one of these errors. With the first one libc makes no
/// threads either.
#[test]
fn without_the_calls_for_namespaces() {
    for (errno, name) in [(libc::EPERM, "heap"), (libc::ENOSYS, "known_ids")] {
        each_user(&Spec::new(name), |mut job| {
            job.checkpoint();
            job.sigkill();
            let filter = crate::common::program("no_clone3").to_str().expect("UTF-8").to_string();
            let filter = if job.user().is_some() { job.lend(&filter) } else { filter };
            let (number, images) = (errno.to_string(), job.images.clone());
            let prefix = [filter.as_str(), number.as_str()];
            job.restart_from(&images, &prefix, &["--pid", "same"]);
            assert_eq!(job.wait_exit().code(), Some(125), "{}", job.story());
            job.restart_from(&images, &prefix, &[]);
            job.go("after a restart where new processes cannot be given a pid");
            let said = fs::read_to_string(job.path("restart-2.stderr")).expect("stderr");
            assert!(said.contains("gets a new pid: cannot make a user and pid namespace"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            job.sigkill();
            job.rewind(1);
            job.restart_from(&images, &[], &["--pid", "same"]);
            job.end("without the filter");
        });
    }
}

#[test]
fn pid_takes_three_words() {
    let Some(mut job) = Spec::new("heap").start() else { return };
    job.checkpoint();
    let images = job.images.to_str().expect("UTF-8").to_string();
    assert_refused(&job.selfckpt(&["restart", "--pid", "old", &images]), 2, &["--pid old"]);
    job.end("after a wrong option");
}
