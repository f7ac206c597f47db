//! libselfckpt.so exports the names of src/exports.txt and no other, needs libc alone, and is linked
//! as build.rs says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use object::elf::{DF_1_INITFIRST, DF_1_NODELETE, DF_1_NOW, DT_FLAGS_1, DT_NEEDED, DT_SONAME};
use object::elf::{DT_TEXTREL, PF_X, PT_GNU_STACK};
use object::read::elf::{ElfFile32, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

/// Calls `check` with the library that the Makefile has built.
fn with_library(check: impl FnOnce(ElfFile32<Endianness>)) {
    let build = std::env::var_os("SELFCKPT_BUILD")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("build"), PathBuf::from);
    let path = build.join("libselfckpt.so");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}; run make", path.display()));
    check(ElfFile32::parse(&*bytes).expect("a 32-bit ELF file"));
}

#[test]
fn exports_are_those_listed() {
    let listed: BTreeSet<&str> = include_str!("../src/exports.txt").lines().filter(|l| !l.starts_with('#')).collect();
    with_library(|library| {
        let exported: BTreeSet<&str> =
            library.dynamic_symbols().filter(|s| s.is_definition()).map(|s| s.name().expect("a name")).collect();
        assert_eq!(exported, listed);
    });
}

#[test]
fn dynamic_section_is_as_meant() {
    with_library(|library| {
        let table = library.elf_dynamic_table().expect("a dynamic section");
        let strings = |tag| -> Vec<&str> {
            let entries = table.iter().filter(|d| d.tag == tag);
            entries.map(|d| std::str::from_utf8(table.string(d).expect("a string")).unwrap()).collect()
        };
        assert_eq!(strings(DT_SONAME), ["libselfckpt.so"]);
        let allowed = ["libc.so.6", "ld-linux.so.2"];
        assert!(strings(DT_NEEDED).iter().all(|n| allowed.contains(n)), "{:?}", strings(DT_NEEDED));

        let flags = table.iter().find(|d| d.tag == DT_FLAGS_1).expect("flags").val;
        let wanted = DF_1_NOW.0 | DF_1_NODELETE.0 | DF_1_INITFIRST.0;
        assert_eq!(flags & wanted, wanted, "DT_FLAGS_1 is {flags:#x}");
        assert!(table.iter().all(|d| d.tag != DT_TEXTREL), "relocations in the text");
    });
}

#[test]
fn stack_stays_not_executable() {
    with_library(|library| {
        let endian = library.endian();
        let headers = library.elf_program_headers();
        let stack = headers.iter().find(|h| h.p_type(endian) == PT_GNU_STACK).expect("a note");
        assert_eq!(stack.p_flags(endian).0 & PF_X.0, 0);
    });
}

/// The restorer runs where the library is not mapped: its code must not refer to anything outside itself.
#[test]
fn restorer_is_closed() {
    with_library(|library| {
        let address = |name: &str| {
            let found = library.symbols().find(|s| s.name() == Ok(name));
            found.unwrap_or_else(|| panic!("no symbol {name}")).address()
        };
        let (start, end) = (address("selfckpt_restorer"), address("selfckpt_restorer_end"));
        assert!((64..4096).contains(&(end - start)), "{start:#x}-{end:#x}");
        let relocated: Vec<u64> = library
            .dynamic_relocations()
            .into_iter()
            .flatten()
            .map(|(at, _)| at)
            .filter(|at| (start..end).contains(at))
            .collect();
        assert!(relocated.is_empty(), "relocations at {relocated:x?}");

        let build = std::env::var_os("SELFCKPT_BUILD")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("build"), PathBuf::from);
        let output = std::process::Command::new("objdump")
            .args(["-d", "--no-show-raw-insn", "-M", "intel"])
            .arg(format!("--start-address={start:#x}"))
            .arg(format!("--stop-address={end:#x}"))
            .arg(build.join("libselfckpt.so"))
            .output()
            .expect("objdump");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut instructions = 0;
        for line in text.lines().filter_map(|line| line.split_once(":\t").map(|(_, code)| code.trim())) {
            instructions += 1;
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or("");
            let operand = words.next().unwrap_or("");
            assert_ne!(name, "call", "{line}");
            assert!(!line.contains("ds:0x"), "an absolute address: {line}");
            if name.starts_with('j') && operand != "edx" {
                let target = u64::from_str_radix(operand.trim_start_matches("0x"), 16);
                let target = target.unwrap_or_else(|_| panic!("a jump to {operand}: {line}"));
                assert!((start..end).contains(&target), "a jump out of the restorer: {line}");
            }
        }
        assert!(instructions > 40, "only {instructions} instructions:\n{text}");
    });
}
