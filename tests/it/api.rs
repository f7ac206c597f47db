//! ckpt_now() and the rest of include/selfckpt.h.

use crate::common::{SIGUSR2, Spec, kill};

/// The number that a line of the result holds.
fn number(text: &str, word: &str) -> i32 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {word:?} in {text}"))
}

/// One call, three kinds of return: the generation, 0 after a restart, -1 (the program checks that).
#[test]
fn three_returns() {
    let Some(mut job) = Spec::new("api_now").start() else { return };
    let text = job.go("in the first run");
    assert_eq!(number(&text, "available"), 1);
    let first = number(&text, "returned");
    assert!(first > 0, "{text}");
    let second = number(&job.go("in the first run"), "returned");
    assert!(second > first);

    for _ in 0..2 {
        job.sigkill();
        job.rewind(2);
        // The restarted program is inside its second ckpt_now(), after next_round().
        job.restart();
        let text = job.result(2);
        assert_eq!(number(&text, "returned"), 0, "{text}");
        assert!(text.contains("PASS"), "{text}\n{}", job.story());
        job.rewind(3);
    }
    let third = number(&job.go("after a restart"), "returned");
    assert!(third > second, "generation {third} after {second}");
    job.end("at the end");
}

/// The same program, not linked with anything, runs without the library.
#[test]
fn without_library() {
    let Some(mut job) = Spec::new("api_now").without_library().start() else { return };
    let text = job.go("without the library");
    assert_eq!((number(&text, "available"), number(&text, "returned")), (0, -1));
    job.end("without the library");
}

/// Requests by signal within a blocked section are kept until its end.
#[test]
fn requests_in_a_blocked_section() {
    let Some(mut job) = Spec::new("api_block").start() else { return };
    for restarts in 0..3 {
        if restarts > 0 {
            job.checkpoint();
            job.sigkill();
            job.restart();
        }
        let round = job.go_without_waiting(restarts == 2);
        job.wait_file(&format!("blocked.{round}"));
        let program = job.program_pid();
        let before = job.list_images().pop();
        for _ in 0..3 {
            assert!(kill(program, SIGUSR2));
        }
        assert_eq!(job.list_images().pop(), before, "an image of a blocked section");
        job.publish(&format!("sent.{round}"), "");
        assert_eq!(job.result(round), "PASS\n", "after {restarts} restarts");
    }
    assert!(job.wait_exit().success());
}

cycles! { thread_ckpt_now, api_events, api_exclude }
