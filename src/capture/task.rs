//! [SIGNAL] What the image was taken on, and the process as a whole.

use super::failure::{Failure, fail, refuse, unreadable};
use super::notices::{Notices, notice};
use super::vmas::VmaTable;
use super::{Context, Stream};
use crate::arch::cpu::{Cpu, MAX_COMPONENTS};
use crate::format::header::{Component, Header};
use crate::format::ids::{Ids, MOST};
use crate::format::task::{DELETED, Program, Runtime, Task};
use crate::format::{ARCH_X86_32, FLAG_OPTIONAL, MAGIC_HEAD, REV, kind, notice::code};
use crate::sys::lines::{field, parse_dec, parse_hex, parse_oct};
use crate::sys::{Errno, fs, ids, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// The library in the program's memory, for RUNTIME.
pub struct Library<'a> {
    /// Address of its `RestartInfo`.
    pub restart_info: usize,
    pub restart_info_size: usize,
    pub leave: usize,
    pub lock_fd: i32,
    pub dir: &'a [u8],
    pub name: &'a [u8],
    pub path: &'a [u8],
    /// Seconds between automatic checkpoints, 0 for none, and the signal that takes one.
    pub every: u32,
    pub trigger: u32,
}

/// End of user addresses for this task: a 64-bit kernel gives it all but the last two pages, a
/// 32-bit one 3 GiB, as does the personality ADDR_LIMIT_3GB.
pub fn task_size() -> u64 {
    const ADDR_LIMIT_3GB: u32 = 0x0800_0000;
    let native = crate::arch::tls::first_entry() == 6;
    if native || process::personality() & ADDR_LIMIT_3GB != 0 { 0xc000_0000 } else { 0xffff_e000 }
}

/// Resident memory of the process, bytes; 0 if it cannot be told.
pub fn resident_bytes(buf: &mut [u8]) -> u64 {
    let statm = fs::read_file(b"/proc/thread-self/statm\0", buf).unwrap_or(&[]);
    let mut fields = statm.split(|&b| b == b' ');
    fields.nth(1).and_then(parse_dec).unwrap_or(0) * 4096
}

fn nul_terminated(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or(&[])
}

/// HEADER, three BUFFERs, HEADER_ARCH.
pub fn capture_header(stream: &mut Stream<'_>, cpu: &Cpu, task_size: u64) -> Result<(), Failure> {
    let uts = process::uname();
    let [_, _, release, version, machine, _] = &uts.fields;
    let (release, version, machine) = (nul_terminated(release), nul_terminated(version), nul_terminated(machine));
    let mut numbers = release.split(|b| !b.is_ascii_digit()).map(|part| parse_dec(part).unwrap_or(0) as u16);
    let time = process::clock(process::CLOCK_REALTIME);
    let header = Header {
        magic: U64::new(MAGIC_HEAD),
        arch: U16::new(ARCH_X86_32),
        kernel_major: U16::new(numbers.next().unwrap_or(0)),
        kernel_minor: U16::new(numbers.next().unwrap_or(0)),
        kernel_patch: U16::new(numbers.next().unwrap_or(0)),
        rev: U16::new(REV),
        reserved: [U16::new(0); 3],
        time: U64::new(time.sec as u64),
        flags: U64::new(0),
        release_len: U32::new(release.len() as u32),
        version_len: U32::new(version.len() as u32),
        machine_len: U32::new(machine.len() as u32),
        time_nsec: U32::new(time.nsec as u32),
    };
    stream.record(kind::HEADER, 0, &header, &[])?;
    for text in [release, version, machine] {
        stream.bytes(kind::BUFFER, text)?;
    }
    let mut components = [Component::default(); MAX_COMPONENTS];
    let (arch, n) = cpu.describe(task_size, &mut components);
    stream.record(kind::HEADER_ARCH, 0, &arch, &[components.get(..n).unwrap_or(&[]).as_bytes()])?;
    Ok(())
}

/// TASK with its STRING, PROGRAM, RUNTIME.
pub fn capture_task(stream: &mut Stream<'_>, context: &Context<'_>, buf: &mut [u8]) -> Result<(), Failure> {
    let status = fs::read_file(b"/proc/thread-self/status\0", buf)
        .map_err(|errno| unreadable(errno, "/proc/thread-self/status"))?;
    let number = |name: &[u8], parse: fn(&[u8]) -> Option<u64>| field(status, name).and_then(parse).unwrap_or(0) as u32;
    let umask = field(status, b"Umask")
        .and_then(parse_oct)
        .ok_or_else(|| refuse!(Errno::ENOSYS, "/proc/thread-self/status does not tell the umask (Linux 4.7 does)"))?;
    const SIGCHLD: u32 = 17;
    let task = Task {
        state: U32::new(0),
        exit_state: U32::new(0),
        exit_code: U32::new(0),
        exit_signal: U32::new(SIGCHLD),
        pid: U32::new(process::getpid()),
        ppid: U32::new(process::getppid()),
        pgid: U32::new(process::getpgrp()),
        sid: U32::new(process::getsid()),
        uid: U32::new(process::getuid()),
        euid: U32::new(process::geteuid()),
        gid: U32::new(process::getgid()),
        egid: U32::new(process::getegid()),
        umask: U32::new(umask as u32),
        personality: U32::new(process::personality()),
        threads: U32::new(number(b"Threads", parse_dec)),
        dumpable: U32::new(context.dumpable),
    };
    stream.record(kind::TASK, 0, &task, &[])?;
    stream.bytes(kind::STRING, nul_terminated(&process::comm()))?;
    capture_program(stream, context.started, buf)?;
    let library = &context.library;
    let runtime = Runtime {
        restart_info: U64::new(library.restart_info as u64),
        restart_info_size: U32::new(library.restart_info_size as u32),
        generation: U32::new(context.generation),
        leave: U64::new(library.leave as u64),
        lock_fd: U32::new(library.lock_fd as u32),
        dir_len: U32::new(library.dir.len() as u32),
        name_len: U32::new(library.name.len() as u32),
        library_len: U32::new(library.path.len() as u32),
        every: U32::new(library.every),
        trigger: U32::new(library.trigger),
    };
    stream.record(kind::RUNTIME, 0, &runtime, &[library.dir, library.name, library.path])?;
    let ids = Ids {
        table: U64::new(ids::table_address() as u64),
        capacity: U32::new(MOST as u32),
        uses: U32::new(ids::uses()),
    };
    stream.record(kind::IDS, FLAG_OPTIONAL, &ids, &[])?;
    Ok(())
}

fn capture_program(stream: &mut Stream<'_>, started: Option<(&[u8], &[u8])>, buf: &mut [u8]) -> Result<(), Failure> {
    let half = buf.len() / 2;
    let (first, second) = buf.split_at_mut(half);
    let mut exe = [0u8; 4096];
    let mut cwd = [0u8; 4096];
    let exe = fs::readlink(fs::AT_FDCWD, b"/proc/thread-self/exe\0", &mut exe)
        .map_err(|errno| fail!(errno, "cannot read the program's path from /proc/thread-self/exe"))?;
    let cwd = fs::readlink(fs::AT_FDCWD, b"/proc/thread-self/cwd\0", &mut cwd)
        .map_err(|errno| fail!(errno, "cannot read the working directory from /proc/thread-self/cwd"))?;
    // The kernel marks a directory that has been removed as gone; one whose name just looks so gets a slash.
    let gone = fs::stat(b"/proc/thread-self/cwd\0").is_ok_and(|stat| stat.nlink == 0);
    let slash: &[u8] = if cwd.ends_with(DELETED) && !gone { b"/" } else { b"" };
    let (cmdline, environ) = match started {
        Some(kept) => kept,
        None => (
            fs::read_file(b"/proc/thread-self/cmdline\0", first)
                .map_err(|errno| fail!(errno, "cannot read /proc/thread-self/cmdline"))?,
            fs::read_file(b"/proc/thread-self/environ\0", second)
                .map_err(|errno| fail!(errno, "cannot read /proc/thread-self/environ"))?,
        ),
    };
    let program = Program {
        exe_len: U32::new(exe.len() as u32),
        cwd_len: U32::new((cwd.len() + slash.len()) as u32),
        cmdline_len: U32::new(cmdline.len() as u32),
        environ_len: U32::new(environ.len() as u32),
    };
    stream.record(kind::PROGRAM, 0, &program, &[exe, cwd, slash, cmdline, environ])?;
    Ok(())
}

/// MM and the VMAs.
pub fn write_mm(stream: &mut Stream<'_>, table: &VmaTable<'_>, task_size: u64, buf: &mut [u8]) -> Result<(), Failure> {
    let (first, second) = buf.split_at_mut(64 << 10);
    let auxv = fs::read_file(b"/proc/thread-self/auxv\0", first)
        .map_err(|errno| fail!(errno, "cannot read /proc/thread-self/auxv"))?;
    let stat = fs::read_file(b"/proc/thread-self/stat\0", second)
        .map_err(|errno| fail!(errno, "cannot read /proc/thread-self/stat"))?;
    table.write(stream, task_size, auxv, stat)
}

/// Tells what this revision does not carry over, so that nothing is lost in silence.
pub fn note_what_is_lost(context: &Context<'_>, notices: &mut Notices<'_>, buf: &mut [u8]) {
    if context.ignored_children != 0 {
        notice!(
            notices,
            code::CHILDREN_IGNORED,
            context.ignored_children.into(),
            "{} child processes are not part of the image, as SELFCKPT_CHILDREN=ignore says",
            context.ignored_children
        );
    }
    let status = fs::read_file(b"/proc/thread-self/status\0", buf).unwrap_or(&[]);
    if field(status, b"Seccomp").and_then(parse_hex).is_some_and(|mode| mode != 0) {
        notice!(
            notices,
            code::STATE_NOT_SAVED,
            0,
            "the seccomp filter is not saved; it is not in force after a restart"
        );
    }
}
