//! A program that somebody traces: its debug registers cannot be read, which is a notice and no failure.

use crate::common::{Spec, assert_success, run_selfckpt};
use std::sync::mpsc;
use std::thread;

/// Traces `pid` until the channel closes: lets every stop go on, passes every signal on.
fn trace(pid: i32, ready: &mpsc::Sender<()>, done: &mpsc::Receiver<()>) {
    // SAFETY: ptrace and waitpid on a process that the test has started; no memory is passed but the
    // status word.
    unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, pid, none, none), 0, "{}", std::io::Error::last_os_error());
        ready.send(()).expect("the test waits");
        loop {
            let mut status = 0;
            if libc::waitpid(pid, &mut status, libc::__WALL | libc::WNOHANG) == pid && libc::WIFSTOPPED(status) {
                let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
                libc::ptrace(libc::PTRACE_CONT, pid, none, signal as usize as *mut libc::c_void);
            }
            match done.try_recv() {
                Err(mpsc::TryRecvError::Empty) => thread::yield_now(),
                _ => return, // the kernel detaches when this thread ends
            }
        }
    }
}

#[test]
fn debug_registers_of_a_traced_program() {
    let mut job = Spec::new("heap").start().expect("a start");
    let pid = job.pid();
    let (ready_tx, ready_rx) = mpsc::channel();
    let (done_tx, done_rx) = mpsc::channel::<()>();
    let tracer = thread::spawn(move || trace(pid, &ready_tx, &done_rx));
    ready_rx.recv().expect("the tracer has attached");
    let output = job.selfckpt(&["checkpoint", &pid.to_string()]);
    drop(done_tx);
    tracer.join().expect("the tracer has ended");
    assert_success(&output);
    let image = job.list_images().pop().expect("an image");
    let text = run_selfckpt(&["inspect", image.path.to_str().expect("UTF-8")]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("debug registers of thread"), "no notice:\n{text}");
    job.go("after the checkpoint");
    job.sigkill();
    job.restart();
    job.end("after a restart");
}
