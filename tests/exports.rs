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
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}; run make", path.display()));
    check(ElfFile32::parse(&*bytes).expect("a 32-bit ELF file"));
}

#[test]
fn exports_are_those_listed() {
    let listed: BTreeSet<&str> =
        include_str!("../src/exports.txt").lines().filter(|l| !l.starts_with('#')).collect();
    with_library(|library| {
        let exported: BTreeSet<&str> = library
            .dynamic_symbols()
            .filter(|s| s.is_definition())
            .map(|s| s.name().expect("a name"))
            .collect();
        assert_eq!(exported, listed);
    });
}

#[test]
fn dynamic_section_is_as_meant() {
    with_library(|library| {
        let table = library.elf_dynamic_table().expect("a dynamic section");
        let strings = |tag| -> Vec<&str> {
            let entries = table.iter().filter(|d| d.tag == tag);
            entries
                .map(|d| std::str::from_utf8(table.string(d).expect("a string")).unwrap())
                .collect()
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
