//! The examples of the C API in each language: they run without the library, take checkpoints of themselves with it, and
//! go on from them.

use crate::common::{TempDir, assert_success, build_dir, images_in, library, missing_package, selfckpt_command};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The loop's result: what the examples print.
fn sum(steps: u32) -> String {
    let sum = (0..steps).fold(1u32, |sum, _| sum.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    format!("{sum}\n")
}

fn carry(name: &str, command: impl Fn() -> Command, expected: &str) {
    let temp = TempDir::new(name);
    let images = temp.path();
    let run = |command: &mut Command| command.stdin(Stdio::null()).current_dir(images).output().expect("an example");
    let (out, err) = text(&run(&mut command()));
    assert!(out == expected && err.contains("runs without checkpoints"), "{name} alone: {out}{err}");

    let (out, err) = text(&run(command().env("LD_PRELOAD", library()).env("SELFCKPT_NAME", "example")));
    assert!(out == expected && !err.contains("without"), "{name}: {out}{err}");
    let count = err.matches("is written").count() as u32;
    assert!(count >= 3, "{name}: {err}");
    let last = format!("generation {count} is written");
    assert!(err.contains(&last), "{name}: {err}");

    // From the one before the last: there is another one to come.
    let image = images_in(images).into_iter().find(|image| image.generation == count - 1).expect("an image");
    let output = selfckpt_command().arg("restart").arg(&image.path).output().expect("selfckpt restart");
    assert_success(&output);
    let (out, err) = text(&output);
    let restarted = format!("restarted from generation {}", count - 1);
    assert!(out == expected && err.contains(&restarted) && err.contains("is written"), "{name}: {out}{err}");
}

fn compiled(name: &str) -> Option<PathBuf> {
    let program = build_dir().join("examples").join(name);
    if !program.exists() {
        missing_package(&format!("examples/{name}: no compiler for 32-bit programs, see scripts/languages-root.sh"));
        return None;
    }
    Some(program)
}

#[test]
fn in_c() {
    let program = compiled("now").expect("gcc compiles it");
    carry("now", || Command::new(&program), &sum(100_000_000));
}

#[test]
fn in_cpp() {
    let Some(program) = compiled("now_cpp") else { return };
    carry("now_cpp", || Command::new(&program), &sum(100_000_000));
}

#[test]
fn in_rust() {
    let program = compiled("now_rust").expect("rustc compiles it");
    carry("now_rust", || Command::new(&program), &sum(100_000_000));
}

#[test]
fn in_fortran() {
    let Some(program) = compiled("now_fortran") else { return };
    carry("now_fortran", || Command::new(&program), &sum(40_000_000));
}

#[test]
fn in_python() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ask = |what: &str| {
        let output = Command::new(source.join("scripts/i386-run")).args([what, "python3"]).output().expect("i386-run");
        assert_success(&output);
        text(&output).0
    };
    let (path, variables) = (ask("--path"), ask("--env"));
    let command = || {
        let mut command = Command::new(path.trim());
        command.envs(variables.lines().filter_map(|line| line.split_once('=')));
        command.arg(source.join("examples/now_python.py"));
        command
    };
    carry("now_python", command, &sum(400_000));
}
