//! An image that was written once and is read for ever: the format cannot change unnoticed.
//!
//! A wanted change takes a new revision of the format and a new file: run this test with
//! SELFCKPT_WRITE_GOLDEN=1 and look at what `git diff tests/data` says.

mod synthetic;

use selfckpt::format::reader::PageData;
use selfckpt::format::{Image, REV};
use std::path::{Path, PathBuf};
use std::process::Command;
use synthetic::Choice;

fn data(ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden-{REV}.{ending}"))
}

/// What `inspect --json` says, without the path.
fn inspect(image: &Path) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_selfckpt")).args(["inspect", "--json"]).arg(image).output();
    let out = out.expect("selfckpt runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("JSON is UTF-8");
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("  \"file\": "));
    lines.collect()
}

#[test]
fn golden_image_reads_as_ever() {
    let image = data("ckpt");
    if std::env::var_os("SELFCKPT_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(image.parent().expect("tests/data")).expect("create tests/data");
        std::fs::write(&image, synthetic::image(&Choice::default())).expect("write the image");
        std::fs::write(data("json"), inspect(&image)).expect("write what is in it");
    }
    // Every field: inspect --json leaves none out.
    let expected = std::fs::read_to_string(data("json")).expect("tests/data is in the repository");
    assert_eq!(inspect(&image), expected);

    // And some of them not by way of inspect.
    let bytes = std::fs::read(&image).expect("tests/data is in the repository");
    let image = Image::read(bytes.as_slice(), PageData::Check).expect("a valid image");
    assert_eq!(image.bytes, bytes.len() as u64);
    assert_eq!(image.header.time.get(), 1_700_000_000);
    assert_eq!((image.release.as_str(), image.machine.as_str()), ("6.1.0-13-amd64", "x86_64"));
    assert_eq!(image.args(), [&b"./app"[..], b"--size", b"two words"]);
    assert_eq!(image.env().len(), 3);
    assert_eq!((image.name.as_slice(), image.runtime.generation.get()), (&b"app"[..], 7));
    assert_eq!(image.vmas.len(), 5);
    assert_eq!(image.vmas[1].name, b"[heap]");
    assert_eq!(image.files[1].path, b"/work/out.\xff");
    assert_eq!(image.fds.iter().map(|fd| fd.fd.get()).collect::<Vec<_>>(), [0, 1, 2, 5]);
    assert_eq!(image.threads[0].cpu.ip.get(), 0x0804_8456);
    assert_eq!(image.threads[0].fpu.as_ref().and_then(|fpu| fpu.part(2)).map(<[u8]>::len), Some(256));
    assert_eq!(image.runs.len(), 1);
    let run = image.runs[0];
    assert_eq!((run.addr, run.bytes, run.offset % 4096), (0x0804_a000, 4096, 0));
    assert_eq!(bytes[run.offset as usize..][..3], [0, 7, 14]);
}

#[test]
fn golden_image_is_written_as_ever() {
    let golden = std::fs::read(data("ckpt")).expect("tests/data is in the repository");
    let written = synthetic::image(&Choice::default());
    assert_eq!(written.len(), golden.len());
    let first = written.iter().zip(&golden).position(|(a, b)| a != b);
    assert_eq!(first, None, "offset of the first byte that differs");
}
