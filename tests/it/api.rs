//! ckpt_now() and the rest of include/selfckpt.h.

use crate::common::Spec;

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

cycles! { thread_ckpt_now, api_events, api_exclude }
