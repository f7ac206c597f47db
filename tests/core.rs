//! `selfckpt core`: the core file of the golden image, taken apart.

use object::LittleEndian;
use object::elf::{self, FileHeader32};
use object::read::elf::{FileHeader, ProgramHeader};
use selfckpt::format::REV;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden-{REV}.ckpt"))
}

fn core(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfckpt"));
    command.arg("core").arg(golden()).args(args).current_dir(dir).output().expect("selfckpt runs")
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("selfckpt-core-{name}-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a fresh directory");
    dir
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[test]
fn core_of_the_golden_image() {
    let dir = scratch("golden");
    let out = core(&dir, &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let path = dir.join("app.000007.core");
    let mode = std::fs::metadata(&path).expect("written").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(&dir).expect("readable").count(), 1, "nothing else stays");
    let bytes = std::fs::read(&path).expect("readable");
    std::fs::remove_dir_all(&dir).expect("remove");

    let data = bytes.as_slice();
    let header = FileHeader32::<LittleEndian>::parse(data).expect("ELF");
    let endian = header.endian().expect("little-endian");
    assert_eq!((header.e_type(endian), header.e_machine(endian)), (elf::ET_CORE, elf::EM_386));
    let segments = header.program_headers(endian, data).expect("program headers");

    let mut notes = Vec::new();
    let mut iterator = segments[0].notes(endian, data).expect("valid").expect("PT_NOTE first");
    while let Some(note) = iterator.next().expect("valid") {
        notes.push((note.name().to_vec(), note.n_type(endian).0, note.desc().to_vec()));
    }
    let find = |kind: u32| &notes.iter().find(|note| note.1 == kind).unwrap_or_else(|| panic!("note {kind:#x}")).2;
    let status = find(1);
    assert_eq!(status.len(), 144);
    assert_eq!(word(status, 72 + 12 * 4), 0x0804_8456, "eip");
    assert_eq!(word(status, 140), 1, "fpvalid");
    let process = find(3);
    assert_eq!(process.len(), 124);
    assert!(process[44..].starts_with(b"./app --size two words\0"));
    assert_eq!(find(2).len(), 108);
    assert_eq!(find(0x46e6_2b7f).len(), 512);
    let extended = find(0x202);
    assert_eq!((extended.len(), word(extended, 464)), (832, 7));
    assert_eq!(extended[..464], find(0x46e6_2b7f)[..464]);
    assert_eq!(word(find(6), 0), 6, "AT_PAGESZ");
    let files = find(0x4649_4c45);
    assert_eq!((word(files, 0), word(files, 4), word(files, 8)), (1, 4096, 0x0804_8000));
    assert!(files.ends_with(b"/opt/app/bin/app\0"));

    let loads: Vec<_> = segments[1..].iter().map(|s| (s.p_vaddr(endian), s.p_memsz(endian))).collect();
    assert_eq!(loads[..2], [(0x0804_8000, 0x2000), (0x0804_a000, 0x2000)]);
    assert_eq!(loads.len(), 5);
    for segment in &segments[1..] {
        assert_eq!(segment.p_type(endian), elf::PT_LOAD);
        assert_eq!(segment.p_offset(endian) % 4096, 0);
    }
    assert_eq!(segments[1].p_filesz(endian), 0, "left to the file");
    let heap = segments[2].data(endian, data).expect("inside the file");
    assert_eq!((heap.len(), &heap[..3]), (0x2000, &[0u8, 7, 14][..]));
    assert!(heap[0x1000..].iter().all(|&byte| byte == 0));
}

#[test]
fn core_goes_to_regular_files_only() {
    let dir = scratch("refused");
    for to in ["-", "/dev/null", ".", "no/such/directory/file"] {
        let out = core(&dir, &["-o", to]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), text.lines().count()), (Some(125), 1), "{to}: {text}");
    }
    assert_eq!(std::fs::read_dir(&dir).expect("readable").count(), 0);
    // The image cannot be overwritten with its own core.
    let image = dir.join("app.000007.ckpt");
    std::fs::copy(golden(), &image).expect("copy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfckpt"));
    let out = command.arg("core").arg(&image).arg("-o").arg(&image).output().expect("selfckpt runs");
    assert_eq!(out.status.code(), Some(125));
    assert_eq!(std::fs::read(&image).expect("there"), std::fs::read(golden()).expect("there"));
    std::fs::remove_dir_all(&dir).expect("remove");
}
