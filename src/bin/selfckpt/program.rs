//! [NORMAL] What there is to know about a program before it is executed: where it is, whether the
//! library can be loaded into it, and with which environment.

use crate::failure::{FAILED, Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::system;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// File name of the library.
pub const LIBRARY: &str = "libselfckpt.so";

/// What the first bytes of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// ELF for i386. `dynamic`: a dynamic loader comes into play, so that LD_PRELOAD works.
    Elf32 {
        dynamic: bool,
        shared_object: bool,
    },
    Elf64,
    /// ELF for another CPU.
    Foreign,
    /// `#!` and the interpreter.
    Script(PathBuf),
    Other,
}

const EM_386: u16 = 3;
const EM_486: u16 = 6;
const ET_DYN: u16 = 3;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_SONAME: u32 = 14;
/// The kernel reads as much of a `#!` line.
const SCRIPT_LINE: usize = 256;
/// Interpreters of interpreters that the kernel follows.
const SCRIPT_DEPTH: usize = 4;

fn read_up_to(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Looks at the start of a file.
pub fn file_kind(file: &File) -> io::Result<FileKind> {
    let start = read_up_to(file, 0, SCRIPT_LINE)?;
    if let Some(rest) = start.strip_prefix(b"#!") {
        let line = rest.split(|&b| b == b'\n').next().unwrap_or(rest).trim_ascii();
        let end = line.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(line.len());
        return Ok(match &line[..end] {
            b"" => FileKind::Other,
            interpreter => FileKind::Script(PathBuf::from(OsStr::from_bytes(interpreter))),
        });
    }
    if !start.starts_with(b"\x7fELF") || start.len() < 52 {
        return Ok(FileKind::Other);
    }
    let machine = u16_at(&start, 18);
    match (start[4], machine) {
        (2, _) => return Ok(FileKind::Elf64),
        (1, EM_386 | EM_486) => {}
        _ => return Ok(FileKind::Foreign),
    }
    let size = usize::from(u16_at(&start, 42)).max(32);
    let headers = read_up_to(file, u32_at(&start, 28).into(), size * usize::from(u16_at(&start, 44)))?;
    let mut dynamic = false;
    for header in headers.chunks_exact(size) {
        match u32_at(header, 0) {
            PT_INTERP => dynamic = true,
            // The loader itself (`ld-linux.so.2 ./app`) has no interpreter, but a name; a static
            // position-independent program has neither.
            PT_DYNAMIC => {
                let len = (u32_at(header, 16) as usize).min(1 << 16);
                let entries = read_up_to(file, u32_at(header, 4).into(), len)?;
                dynamic |= entries.chunks_exact(8).any(|entry| u32_at(entry, 0) == DT_SONAME);
            }
            _ => {}
        }
    }
    Ok(FileKind::Elf32 { dynamic, shared_object: u16_at(&start, 16) == ET_DYN })
}

/// A program that can be run with the library.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// The ELF file behind it: itself, or the interpreter of a script.
    pub exe: PathBuf,
    pub is_script: bool,
}

/// Checks that the library can be loaded into the program at `path`. `doing` is the verb for
/// messages.
pub fn check(path: &Path, doing: &str) -> Result<Program, Failure> {
    let mut exe = path.to_path_buf();
    let mut via = String::new();
    for _ in 0..=SCRIPT_DEPTH {
        let fail =
            |status, reason: &str| Failure::new(status, format!("cannot {doing} {}{via}: {reason}", path.display()));
        let meta = match std::fs::metadata(&exe) {
            Ok(meta) => meta,
            Err(error) => {
                let missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                let status = if missing && via.is_empty() { NOT_FOUND } else { NOT_EXECUTABLE };
                return Err(fail(status, &error.to_string()));
            }
        };
        if !meta.is_file() {
            return Err(fail(NOT_EXECUTABLE, "not a regular file"));
        }
        if !system::may_execute(&exe) {
            return Err(fail(NOT_EXECUTABLE, "not executable"));
        }
        let kind = File::open(&exe)
            .and_then(|file| file_kind(&file))
            .map_err(|error| fail(FAILED, &format!("cannot be read to see whether it is a 32-bit program: {error}")))?;
        match kind {
            FileKind::Script(interpreter) => {
                via = format!(" (interpreter {})", interpreter.display());
                exe = interpreter;
                continue;
            }
            FileKind::Elf64 => {
                return Err(fail(
                    FAILED,
                    "it is a 64-bit program; only 32-bit x86 (i386) programs can be checkpointed",
                ));
            }
            FileKind::Foreign => {
                return Err(fail(FAILED, "it is for another CPU; only 32-bit x86 (i386) programs can be checkpointed"));
            }
            FileKind::Other => return Err(fail(NOT_EXECUTABLE, "it is neither an ELF program nor a script")),
            FileKind::Elf32 { dynamic: false, .. } => {
                return Err(fail(
                    FAILED,
                    "it is statically linked, so the library cannot be loaded into it; link it dynamically",
                ));
            }
            FileKind::Elf32 { .. } => {}
        }
        if meta.mode() & 0o6000 != 0 || system::has_file_capabilities(&exe) {
            return Err(fail(
                FAILED,
                "it is setuid, setgid or has file capabilities, so the library cannot be loaded into it; \
                 use a copy without them",
            ));
        }
        return Ok(Program { path: path.to_path_buf(), is_script: !via.is_empty(), exe });
    }
    let reason = "too many interpreters of interpreters";
    Err(Failure::new(NOT_EXECUTABLE, format!("cannot {doing} {}: {reason}", path.display())))
}

/// Finds a program as a shell does: by path if the name has a slash, else along PATH.
pub fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut unusable = None;
    if !name.is_empty() {
        for dir in std::env::split_paths(&path) {
            let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
            let candidate = dir.join(name);
            match std::fs::metadata(&candidate) {
                Ok(meta) if meta.is_file() && system::may_execute(&candidate) => return Ok(candidate),
                Ok(_) => unusable = unusable.or(Some(candidate)),
                Err(_) => {}
            }
        }
    }
    let name = name.to_string_lossy();
    Err(match unusable {
        Some(file) => Failure::new(NOT_EXECUTABLE, format!("cannot run {name}: {} is not executable", file.display())),
        None => Failure::new(NOT_FOUND, format!("cannot run {name}: not found in PATH; give its path")),
    })
}

/// Finds libselfckpt.so and checks that it is one for i386.
pub fn find_library() -> Result<PathBuf, Failure> {
    let mut places = Vec::new();
    if let Some(given) = std::env::var_os("SELFCKPT_LIBRARY").filter(|value| !value.is_empty()) {
        places.push(PathBuf::from(given));
    } else {
        if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            places.push(dir.join(LIBRARY));
            places.push(dir.join("../lib/selfckpt/i686").join(LIBRARY));
        }
        if let Some(prefix) = option_env!("SELFCKPT_PREFIX") {
            places.push(Path::new(prefix).join("lib/selfckpt/i686").join(LIBRARY));
        }
    }
    for place in &places {
        let file = match File::open(place) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::failed(format!("cannot open {}: {error}", place.display()))),
        };
        let kind =
            file_kind(&file).map_err(|error| Failure::failed(format!("cannot read {}: {error}", place.display())))?;
        if !matches!(kind, FileKind::Elf32 { shared_object: true, .. }) {
            let text = format!("{} is not a shared library for 32-bit x86 (i386)", place.display());
            return Err(Failure::failed(text));
        }
        let path = tidy(place);
        // ld.so(8): no escaping is possible.
        if path.as_os_str().as_bytes().iter().any(|b| matches!(b, b' ' | b':')) {
            return Err(Failure::failed(format!(
                "cannot preload {}: LD_PRELOAD splits at spaces and colons; \
                 set SELFCKPT_LIBRARY to a symbolic link whose path has none",
                path.display()
            )));
        }
        return Ok(path);
    }
    let looked: Vec<String> = places.iter().map(|place| tidy(place).display().to_string()).collect();
    Err(Failure::failed(format!(
        "cannot find {LIBRARY} (looked at {}); set SELFCKPT_LIBRARY to its path",
        looked.join(", ")
    )))
}

/// An absolute path without `..`, for the eye. Symbolic links are not followed but by `..`.
fn tidy(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (absolute.parent().and_then(|dir| dir.canonicalize().ok()), absolute.file_name()) {
        (Some(dir), Some(name)) if absolute.components().any(|c| c.as_os_str() == "..") => dir.join(name),
        _ => absolute,
    }
}

/// An environment: `NAME=value` strings, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<OsString>);

impl Environment {
    pub fn new(strings: Vec<Vec<u8>>) -> Environment {
        Environment(strings.into_iter().map(OsString::from_vec).collect())
    }

    /// That of this process, as it was given.
    pub fn current() -> Environment {
        Environment(
            std::env::vars_os()
                .map(|(name, value)| {
                    let mut both = name;
                    both.push("=");
                    both.push(value);
                    both
                })
                .collect(),
        )
    }

    fn value_of<'a>(entry: &'a OsStr, name: &str) -> Option<&'a [u8]> {
        entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find_map(|entry| Self::value_of(entry, name))
    }

    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let mut entry = OsString::from(name);
        entry.push("=");
        entry.push(value);
        match self.0.iter().position(|old| Self::value_of(old, name).is_some()) {
            Some(place) => self.0[place] = entry,
            None => self.0.push(entry),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|entry| Self::value_of(entry, name).is_none());
    }

    pub fn strings(&self) -> &[OsString] {
        &self.0
    }

    /// Puts the library first into LD_PRELOAD; another libselfckpt.so there gives way.
    pub fn preload(&mut self, library: &Path) {
        let old = self.get("LD_PRELOAD").unwrap_or_default().to_vec();
        let others = old
            .split(|b| matches!(b, b' ' | b':'))
            .filter(|entry| !entry.is_empty() && entry.rsplit(|&b| b == b'/').next() != Some(LIBRARY.as_bytes()));
        let mut value = library.as_os_str().to_os_string();
        for other in others {
            value.push(":");
            value.push(OsStr::from_bytes(other));
        }
        self.set("LD_PRELOAD", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_keeps_its_order() {
        let mut env = Environment::new(vec![b"A=1".to_vec(), b"AB=2".to_vec(), b"odd".to_vec()]);
        env.set("AB", "3");
        env.set("C", "");
        assert_eq!(env.strings(), ["A=1", "AB=3", "odd", "C="]);
        assert_eq!(env.get("A"), Some(&b"1"[..]));
        assert_eq!(env.get("odd"), None);
        env.remove("A");
        assert_eq!(env.strings(), ["AB=3", "odd", "C="]);
    }

    #[test]
    fn preload_replaces_an_older_library() {
        let mut env = Environment::default();
        env.preload(Path::new("/new/libselfckpt.so"));
        assert_eq!(env.get("LD_PRELOAD"), Some(&b"/new/libselfckpt.so"[..]));
        env.set("LD_PRELOAD", "/a/x.so /old/libselfckpt.so:libselfckpt.so::y.so");
        env.preload(Path::new("/new/libselfckpt.so"));
        assert_eq!(env.get("LD_PRELOAD"), Some(&b"/new/libselfckpt.so:/a/x.so:y.so"[..]));
    }

    fn kind_of(name: &str, bytes: &[u8]) -> FileKind {
        let path = std::env::temp_dir().join(format!("selfckpt-program-{name}-{}", std::process::id()));
        std::fs::write(&path, bytes).expect("write");
        let kind = file_kind(&File::open(&path).expect("open")).expect("read");
        std::fs::remove_file(&path).expect("remove");
        kind
    }

    /// An ELF header for i386 and the program headers that follow it at once.
    fn elf(headers: &[[u32; 8]], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 52];
        out[..6].copy_from_slice(b"\x7fELF\x01\x01");
        out[16] = 3;
        out[18] = 3;
        out[28] = 52;
        out[42] = 32;
        out[44] = headers.len() as u8;
        out.extend(headers.iter().flatten().flat_map(|word| word.to_le_bytes()));
        out.extend(data);
        out
    }

    #[test]
    fn file_kinds() {
        assert_eq!(kind_of("empty", b""), FileKind::Other);
        assert_eq!(kind_of("text", b"hello"), FileKind::Other);
        assert_eq!(kind_of("script", b"#! /bin/sh -e\n:"), FileKind::Script("/bin/sh".into()));
        assert_eq!(kind_of("bare", b"#!\n"), FileKind::Other);
        let of = |dynamic| FileKind::Elf32 { dynamic, shared_object: true };
        assert_eq!(kind_of("interp", &elf(&[[PT_INTERP, 0, 0, 0, 0, 0, 0, 0]], &[])), of(true));
        assert_eq!(kind_of("static", &elf(&[], &[])), of(false));
        // PT_DYNAMIC right after the headers, 16 bytes of it.
        let dynamic = [PT_DYNAMIC, 84, 0, 0, 16, 0, 0, 0];
        let soname: Vec<u8> = [DT_SONAME, 1, 0, 0].iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        assert_eq!(kind_of("loader", &elf(&[dynamic], &soname)), of(true));
        assert_eq!(kind_of("static-pie", &elf(&[dynamic], &[0; 16])), of(false));
        let mut wide = elf(&[], &[]);
        wide[4] = 2;
        assert_eq!(kind_of("64", &wide), FileKind::Elf64);
        wide[4] = 1;
        wide[18] = 40;
        assert_eq!(kind_of("arm", &wide), FileKind::Foreign);
    }
}
