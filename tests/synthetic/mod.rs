//! A small image with every kind of record and fixed values, made by the writer itself.

#![allow(dead_code)] // each test takes what it needs

use selfckpt::format::files::{Fd, File, file_kind};
use selfckpt::format::header::{Component, Header, HeaderArch};
use selfckpt::format::memory::{Mm, PageRun, Vma, vma_flag, vma_kind};
use selfckpt::format::notice;
use selfckpt::format::signals::{NSIG, SigAction, SigPending};
use selfckpt::format::task::{Program, RestartInfo, Runtime, Task};
use selfckpt::format::thread::{Cpu, CpuFpu, FpuComponent, SSE_SIZE, Thread, TlsEntry, X87_SIZE, desc};
use selfckpt::format::{ARCH_X86_32, FLAG_OPTIONAL, MAGIC_HEAD, PAGE, REV, Sink, Writer, kind};
use std::convert::Infallible;
use zerocopy::little_endian::{U16, U32, U64};

/// What can be chosen about the image.
pub struct Choice<'a> {
    pub exe: &'a str,
    pub args: &'a [&'a str],
    pub name: &'a str,
    pub generation: u32,
    pub arch: u16,
    pub rev: u16,
    pub uid: u32,
}

impl Default for Choice<'_> {
    fn default() -> Self {
        Choice {
            exe: "/opt/app/bin/app",
            args: &["./app", "--size", "two words"],
            name: "app",
            generation: 7,
            arch: ARCH_X86_32,
            rev: REV,
            uid: 1000,
        }
    }
}

struct Bytes(Vec<u8>);

impl Sink for &mut Bytes {
    type Error = Infallible;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn write_memory(&mut self, pages: &'static [u8]) -> Result<(), Infallible> {
        self.write(pages)
    }
}

fn u16(n: u16) -> U16 {
    U16::new(n)
}

fn u32(n: u32) -> U32 {
    U32::new(n)
}

fn u64(n: u64) -> U64 {
    U64::new(n)
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    out[..text.len()].copy_from_slice(text.as_bytes());
    out
}

fn len(bytes: &[u8]) -> U32 {
    u32(bytes.len() as u32)
}

/// The image's bytes.
pub fn image(choice: &Choice) -> Vec<u8> {
    let mut out = Bytes(Vec::new());
    let mut buf = vec![0; 64 << 10];
    let mut w = Writer::new(&mut out, &mut buf);
    write(&mut w, choice).expect("fits");
    w.finish().expect("fits");
    out.0
}

/// An image that was given up: everything up to TASK, then ERROR and the reason.
pub fn aborted(reason: &str) -> Vec<u8> {
    let mut out = Bytes(Vec::new());
    let mut buf = vec![0; 64 << 10];
    let mut w = Writer::new(&mut out, &mut buf);
    head(&mut w, &Choice::default()).expect("fits");
    w.record(kind::ERROR, 0, &[u32(28), u32(0)], &[]).expect("fits");
    w.bytes(kind::STRING, &[b"\0", reason.as_bytes()].concat()).expect("fits");
    w.finish().expect("fits");
    out.0
}

type Written = std::result::Result<(), selfckpt::format::writer::WriteError<Infallible>>;

fn head(w: &mut Writer<&mut Bytes>, choice: &Choice) -> Written {
    let uts = ["6.1.0-13-amd64", "#1 SMP PREEMPT_DYNAMIC", "x86_64"];
    let header = Header {
        magic: u64(MAGIC_HEAD),
        arch: u16(choice.arch),
        kernel_major: u16(6),
        kernel_minor: u16(1),
        kernel_patch: u16(55),
        rev: u16(choice.rev),
        reserved: [u16(0); 3],
        time: u64(1_700_000_000),
        flags: u64(0),
        release_len: u32(uts[0].len() as u32),
        version_len: u32(uts[1].len() as u32),
        machine_len: u32(uts[2].len() as u32),
        time_nsec: u32(123_456_789),
    };
    w.record(kind::HEADER, 0, &header, &[])?;
    for text in uts {
        w.bytes(kind::BUFFER, text.as_bytes())?;
    }
    w.begin(kind::HEADER_ARCH)?;
    w.put_struct(&HeaderArch {
        has_fxsr: u16(1),
        has_xsave: u16(1),
        xstate_size: u16(832),
        has_hwfp: u16(1),
        xcr0: u64(7),
        mxcsr_mask: u32(0xffff),
        components: u32(1),
        task_size: u64(0xffff_e000),
        features: [0x1c00_0000, 0x0780_0000, 0x20, 0, 0, 0, 0].map(U32::new),
        reserved: u32(0),
        vendor: padded("GenuineIntel"),
        brand: padded("A CPU of the golden image"),
    });
    w.put_struct(&Component { id: u32(2), offset: u32(576), size: u32(256), reserved: u32(0) });
    w.end(0)
}

fn write(w: &mut Writer<&mut Bytes>, choice: &Choice) -> Written {
    head(w, choice)?;
    let task = Task {
        state: u32(0),
        exit_state: u32(0),
        exit_code: u32(0),
        exit_signal: u32(17),
        pid: u32(4711),
        ppid: u32(4700),
        pgid: u32(4710),
        sid: u32(4600),
        uid: u32(choice.uid),
        euid: u32(choice.uid),
        gid: u32(100),
        egid: u32(100),
        umask: u32(0o027),
        personality: u32(8),
        threads: u32(1),
        dumpable: u32(1),
    };
    w.record(kind::TASK, 0, &task, &[])?;
    w.bytes(kind::STRING, b"app")?;
    let exe = choice.exe.as_bytes();
    let cmdline: Vec<u8> = choice.args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    let environ = b"PATH=/usr/bin\0SELFCKPT_SIGNAL=USR1\0LD_PRELOAD=/lib/libselfckpt.so\0";
    let program = Program { exe_len: len(exe), cwd_len: u32(5), cmdline_len: len(&cmdline), environ_len: len(environ) };
    w.record(kind::PROGRAM, 0, &program, &[exe, b"/work", &cmdline, environ])?;
    let (dir, name, library) = (b"/work/ckpt", choice.name.as_bytes(), b"/lib/libselfckpt.so");
    let runtime = Runtime {
        restart_info: u64(0xf7f0_2000),
        restart_info_size: u32(size_of::<RestartInfo>() as u32),
        generation: u32(choice.generation),
        leave: u64(0xf7f0_0100),
        lock_fd: u32(1000),
        dir_len: len(dir),
        name_len: len(name),
        library_len: len(library),
        every: u32(900),
        trigger: u32(10),
    };
    w.record(kind::RUNTIME, 0, &runtime, &[dir, name, library])?;
    memory(w)?;
    files(w)?;
    signals(w)?;
    thread(w)?;
    let run = PageRun { addr: u64(0x0804_a000), pages: u32(1), reserved: u32(0) };
    w.begin_pages(&[run])?;
    let page: Vec<u8> = (0..PAGE).map(|i| (i * 7 % 251) as u8).collect();
    w.page_copy(&page)?;
    w.end_run()?;
    w.end_pages()?;
    w.notice(notice::code::FD_NOT_SAVED, 5, b"fd 5 is a TCP connection; it will be closed")?;
    // A record of a later version that may be skipped.
    w.record(9000, FLAG_OPTIONAL, &[u32(1), u32(2)], &[])
}

fn memory(w: &mut Writer<&mut Bytes>) -> Written {
    let auxv: Vec<u8> = [6u32, 4096, 25, 0xffbf_f00b, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let vmas = [
        (0x0804_8000, 0x0804_a000, 5, vma_kind::FILE_PRIVATE, 0, "/opt/app/bin/app"),
        (0x0804_a000, 0x0804_c000, 3, vma_kind::ANON, vma_flag::LOCKED, "[heap]"),
        (0xf7f0_0000, 0xf7f0_2000, 5, vma_kind::VDSO, 0, "[vdso]"),
        (0xf7f0_2000, 0xf7f0_4000, 3, vma_kind::ANON, 0, ""),
        (0xffbd_f000, 0xffc0_0000, 3, vma_kind::ANON, vma_flag::GROWSDOWN, "[stack]"),
    ];
    let mm = Mm {
        start_code: u64(0x0804_8000),
        end_code: u64(0x0804_9800),
        start_data: u64(0x0804_9900),
        end_data: u64(0x0804_9a00),
        start_brk: u64(0x0804_a000),
        brk: u64(0x0804_c000),
        start_stack: u64(0xffbf_e000),
        arg_start: u64(0xffbf_f100),
        arg_end: u64(0xffbf_f200),
        env_start: u64(0xffbf_f200),
        env_end: u64(0xffbf_f300),
        task_size: u64(0xffff_e000),
        vmas: u32(vmas.len() as u32),
        auxv_len: len(&auxv),
    };
    w.record(kind::MM, 0, &mm, &[&auxv])?;
    for (start, end, prot, kind, flags, name) in vmas {
        let is_file = kind == vma_kind::FILE_PRIVATE;
        let file = |n: u64| u64(if is_file { n } else { 0 });
        let vma = Vma {
            start: u64(start),
            end: u64(end),
            prot: u32(prot),
            kind: u32(kind),
            flags: u64(flags),
            offset: file(0x1000),
            dev: file(0x0000_0008_0000_0001),
            ino: file(1234),
            file_size: file(9000),
            file_mtime: file(1_600_000_000),
            file_mtime_nsec: u32(if is_file { 5 } else { 0 }),
            name_len: len(name.as_bytes()),
        };
        w.record(kind::VMA, 0, &vma, &[name.as_bytes()])?;
    }
    Ok(())
}

fn files(w: &mut Writer<&mut Bytes>) -> Written {
    for (id, file_kind, flags, mode, pos, size, path) in [
        (0, file_kind::TERMINAL, 2, 0o020_620, 0, 0, &b"/dev/pts/3"[..]),
        (1, file_kind::REGULAR, 0o102_001, 0o100_644, 10, 20, b"/work/out.\xff"),
        (2, file_kind::CLOSED_PEER, 2, 0o140_777, 0, 0, b"socket:[99]"),
    ] {
        let file = File {
            id: u32(id),
            kind: u32(file_kind),
            flags: u32(flags),
            mode: u32(mode),
            pos: u64(pos),
            dev: u64(0x0000_0008_0000_0001),
            ino: u64(5678),
            rdev: u64(0),
            size: u64(size),
            mtime: u64(1_690_000_000),
            mtime_nsec: u32(6),
            path_len: len(path),
        };
        w.record(kind::FILE, 0, &file, &[path])?;
    }
    for (fd, file, flags) in [(0, 0, 0), (1, 1, 0), (2, 0, 0), (5, 2, 1)] {
        w.record(kind::FD, 0, &Fd { fd: u32(fd), file: u32(file), flags: u32(flags), reserved: u32(0) }, &[])?;
    }
    Ok(())
}

fn signals(w: &mut Writer<&mut Bytes>) -> Written {
    let mut actions = [SigAction::default(); NSIG];
    actions[12].handler = u64(1); // PIPE ignored
    actions[9] = SigAction {
        handler: u64(0x0804_8123),
        flags: u64(0x1400_0004),
        restorer: u64(0xf7f0_0200),
        mask: u64(1 << 14),
    };
    w.begin(kind::SIGACTIONS)?;
    for action in &actions {
        w.put_struct(action);
    }
    w.end(0)?;
    let mut siginfo = [0; 128];
    siginfo[0] = 15;
    w.record(kind::SIGPENDING, 0, &SigPending { tid: u32(4711), signo: u32(15), siginfo }, &[])
}

fn thread(w: &mut Writer<&mut Bytes>) -> Written {
    let thread = Thread {
        gdt_tls_entries: u32(3),
        tls_entry_size: u32(size_of::<TlsEntry>() as u32),
        ntls: u32(1),
        gdt_first: u32(12),
        tid: u32(4711),
        flags: u32(0),
        sigmask: u64(1 << 14),
        altstack_sp: u64(0x0804_b000),
        altstack_size: u64(2048),
        altstack_flags: u32(0),
        robust_len: u32(12),
        robust_head: u64(0x0804_a100),
        clear_child_tid: u64(0x0804_a200),
        rseq_addr: u64(0x0804_a300),
        rseq_len: u32(32),
        rseq_sig: u32(0x5305_3053),
        frame_addr: u64(0xffbf_d000),
        frame_size: u32(4096),
        known_tid: u32(0),
        name: padded("app"),
    };
    w.record(kind::THREAD, 0, &thread, &[])?;
    let tls = TlsEntry {
        slot: u32(0),
        flags: u32(desc::SEG_32BIT | desc::LIMIT_IN_PAGES | desc::USEABLE),
        base: u64(0x0804_a080),
        limit: u32(0xf_ffff),
        reserved: u32(0),
    };
    w.record(kind::THREAD_TLS, 0, &tls, &[])?;
    w.record(kind::LDT, 0, &TlsEntry { slot: u32(2), flags: u32(desc::SEG_32BIT), limit: u32(0xfff), ..tls }, &[])?;
    let zero = u64(0);
    let cpu = Cpu {
        r15: zero,
        r14: zero,
        r13: zero,
        r12: zero,
        bp: u64(0xffbf_e100),
        bx: u64(0x1111_1111),
        r11: zero,
        r10: zero,
        r9: zero,
        r8: zero,
        ax: zero,
        cx: u64(0x2222_2222),
        dx: u64(0x3333_3333),
        si: u64(0x4444_4444),
        di: u64(0x5555_5555),
        orig_ax: u64(0xffff_ffff),
        ip: u64(0x0804_8456),
        cs: u64(0x23),
        flags: u64(0x246),
        sp: u64(0xffbf_e000),
        ss: u64(0x2b),
        ds: u64(0x2b),
        es: u64(0x2b),
        fs: zero,
        gs: u64(0x63),
        debugreg0: u64(0x0804_a010),
        debugreg1: zero,
        debugreg2: zero,
        debugreg3: zero,
        debugreg6: u64(0xffff_0ff0),
        debugreg7: u64(0x000d_0001),
        uses_debug: u32(1),
        used_math: u32(1),
    };
    w.record(kind::CPU, 0, &cpu, &[])?;
    let mut x87 = [0u8; X87_SIZE as usize];
    x87[0..4].copy_from_slice(&0xffff_037f_u32.to_le_bytes());
    x87[4..8].copy_from_slice(&0xffff_3800_u32.to_le_bytes()); // top 7
    x87[8..12].copy_from_slice(&0xffff_3fff_u32.to_le_bytes()); // register 7 valid
    x87[28..38].copy_from_slice(&[0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40]); // pi
    let xmm: [u8; SSE_SIZE as usize] = std::array::from_fn(|i| if i < 128 { i as u8 } else { 0 });
    let ymm: [u8; 256] = std::array::from_fn(|i| if i < 128 { i as u8 | 0x80 } else { 0 });
    let head = CpuFpu { xstate_bv: u64(7), xfeatures: u64(7), mxcsr: u32(0x1fa0), components: u32(3) };
    w.begin(kind::CPU_FPU)?;
    w.put_struct(&head);
    let mut offset = 0;
    for (id, name, size) in [(0, "x87", x87.len()), (1, "SSE", xmm.len()), (2, "AVX", ymm.len())] {
        w.put_struct(&FpuComponent {
            id: u32(id),
            offset: u32(offset as u32),
            size: u32(size as u32),
            reserved: u32(0),
            name: padded(name),
        });
        offset += size;
    }
    for bytes in [&x87[..], &xmm, &ymm] {
        w.put(bytes);
    }
    w.end(0)
}
