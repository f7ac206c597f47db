//! Descriptors: files, directories, devices, and what an image cannot hold.

use crate::common::{Job, NOBODY, Spec, is_root};
use std::io::{BufRead, BufReader, Write};

cycles! {
    pty_pair,
    fd_offset, fd_output_cut, fd_dir, fd_devices, fd_unsaved, cwd_umask,
    fd_pipe, fd_fifo, fd_event, fd_epoll, fd_deleted, fd_corners,
    fd_owner, fd_lock, fd_large, fd_seals, fd_places, fd_many, fd_inotify, fd_watches,
}

/// A line in, an answer out.
struct Pipes {
    stdin: std::process::ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Pipes {
    fn of(job: &mut Job) -> Pipes {
        Pipes { stdin: job.take_stdin(), stdout: BufReader::new(job.take_stdout()) }
    }

    fn round(&mut self, job: &mut Job, when: &str) {
        let round = job.round();
        writeln!(self.stdin, "line {round}").expect("write to the program");
        job.go(when);
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("read from the program");
        assert_eq!(answer, format!("answer to line {round}\n"), "{when}");
    }
}

/// Pipes to the outside become those of the restarting command.
#[test]
fn stdio_pipe() {
    let Some(mut job) = Spec::new("stdio_pipe").pipes().start() else { return };
    let mut pipes = Pipes::of(&mut job);
    job.checkpoint();
    pipes.round(&mut job, "after a checkpoint");
    for generation in 0..3 {
        job.checkpoint();
        job.sigkill();
        job.restart();
        pipes = Pipes::of(&mut job);
        pipes.round(&mut job, &format!("after restart {generation}"));
    }
}

/// `--stdio inherit`: a standard output that was a file becomes the restarting command's none the less.
#[test]
fn stdio_inherit() {
    let Some(mut job) = Spec::new("fd_output_cut").start() else { return };
    let image = job.checkpoint();
    job.sigkill();
    let before = std::fs::read(job.path("stdout")).expect("stdout");
    job.restart_from(&image.path, &[], &["--stdio", "inherit"]);
    // The lines of standard output are then in two places: the old file has those up to the kill.
    let round = job.go_without_waiting(true);
    job.result(round);
    job.wait_exit();
    let after = std::fs::read(job.path("stdout")).expect("stdout");
    assert_eq!(before.len(), after.len(), "the old output was written to");
    let new = std::fs::read_to_string(job.path("restart-1.stdout")).expect("the command's stdout");
    assert!(new.ends_with(" of the output\n"), "nothing came to the command's output: {new:?}");
}

/// An output file that a restart has cut back is not taken for changed by the next restart of the same image.
#[test]
fn cut_back_twice() {
    let mut job = Spec::new("heap").env("SELFCKPT_KEEP", "9").start().expect("never skipped");
    let output = job.path("stdout");
    let mut append = std::fs::OpenOptions::new().append(true).open(&output).expect("stdout");
    append.write_all(b"before\n").expect("write");
    let image = job.checkpoint();
    append.write_all(b"after\n").expect("write");
    job.sigkill();
    for _ in 0..2 {
        job.restart_from(&image.path, &[], &[]);
        // The program is there then.
        job.checkpoint();
        assert_eq!(std::fs::read(&output).expect("stdout"), b"before\n");
        job.sigkill();
    }
    job.restart_from(&image.path, &[], &[]);
    job.end("after the third restart");
    for restart in 1..=3 {
        let said = std::fs::read_to_string(job.path(&format!("restart-{restart}.stderr"))).expect("stderr");
        assert_eq!(said, "", "restart {restart}");
    }
}

/// A pipe to another process on a number above the standard streams: after a restart it is what the command has there,
/// else a closed peer, and both are said.
#[test]
fn fd_outside() {
    let Some(mut job) = Spec::new("fd_outside").start() else { return };
    let got = |job: &Job| std::fs::read_to_string(job.path("got")).expect("got");
    let image = job.checkpoint();
    job.go("after a checkpoint");
    assert_eq!(got(&job), "-1", "nobody has written yet");
    assert!(job.story().contains("fd 9 (pipe:"), "no notice\n{}", job.story());
    for generation in 0..3 {
        job.sigkill();
        if generation == 0 {
            job.rewind(1);
        }
        job.restart_from(&image.path, &["sh", "-c", "exec 9</dev/zero; exec \"$@\"", "sh"], &[]);
        job.go("with the command's");
        assert_eq!(got(&job), "1", "not the command's fd 9\n{}", job.story());
        job.sigkill();
        job.rewind(1);
        job.restart_from(&image.path, &[], &[]);
        job.go("without any");
        assert_eq!(got(&job), "0", "no end of file\n{}", job.story());
        assert!(job.story().contains("fd 9 led to another process"), "{}", job.story());
        job.rewind(1);
    }
    job.sigkill();
}

/// Each descriptor that cannot be saved, or not with all that it holds, is named by a notice.
#[test]
fn fd_notices() {
    let Some(mut job) = Spec::new("fd_notices").start() else { return };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    let noticed = std::fs::read_to_string(job.path("noticed")).expect("noticed");
    for line in noticed.lines() {
        let (fd, what) = line.split_once(' ').expect("number and name");
        let named = |notice: &&str| match what {
            "inotify" => notice.contains(&format!("events that wait in inotify fd {fd} are not saved")),
            _ => notice.contains(&format!("fd {fd} (")) && notice.contains(what) && notice.contains("cannot be saved"),
        };
        assert_eq!(text.lines().filter(named).count(), 1, "{what}: {text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("notice")).count(), noticed.lines().count(), "{text}");
    job.cycle();
}

/// The writing end of a FIFO that another process reads: opened again by its name; if nobody reads by then, that is what the program is told.
#[test]
fn fifo_writer() {
    let mut job = Spec::new("fifo_writer").arg("read").spawn();
    job.wait_file("fifo");
    let open = |job: &Job| BufReader::new(std::fs::File::open(job.path("fifo")).expect("fifo"));
    let mut reader = open(&job);
    job.wait_file("ready");
    let expect = |job: &mut Job, reader: &mut BufReader<std::fs::File>, when: &str| {
        let round = job.round();
        job.go(when);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        assert_eq!(line, format!("round {round}\n"), "{when}");
    };
    job.checkpoint();
    expect(&mut job, &mut reader, "after a checkpoint");
    for generation in 0..3 {
        job.checkpoint();
        job.sigkill();
        job.restart();
        expect(&mut job, &mut reader, &format!("after restart {generation}"));
    }
    job.checkpoint();
    job.sigkill();
    drop(reader);
    std::fs::write(job.path("gone"), "").expect("gone");
    job.restart();
    job.go("without a reader");
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after another restart");
}

/// Of so many descriptors a second process looks at some, where there can be one.
#[test]
fn many_descriptors_without_a_helper() {
    // Root may start processes in spite of the limit.
    let spec = Spec::new("fd_many").arg("2000").env("TEST_ALONE", "1");
    let spec = if is_root() { spec.user(NOBODY) } else { spec };
    spec.start().expect("a start").cycle();
}

/// What a checkpoint of many descriptors costs grows with their number, not with its square.
#[test]
fn many_descriptors_in_proportion() {
    let pause = |count: &str| {
        let mut job = Spec::new("fd_many").arg(count).start()?;
        let mut best = f64::INFINITY;
        for _ in 0..4 {
            job.checkpoint();
            best = best.min(job.pause_ns("fd_many"));
        }
        job.end("after the checkpoints");
        Some(best)
    };
    let (Some(few), Some(many)) = (pause("1000"), pause("10000")) else { return };
    assert!(many < 25.0 * few, "10000 descriptors: {many} ns, 1000: {few} ns");
}
