//! [NORMAL, SIGNAL] THREAD, THREAD_TLS, LDT, CPU, CPU_FPU: what makes a thread.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// THREAD, the main thread first. Its THREAD_TLS (if any entry is set), LDT (first thread, if any), CPU and
/// CPU_FPU follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Thread {
    /// TLS entries that the kernel's GDT has per thread: 3.
    pub gdt_tls_entries: U32,
    /// Size of one [`TlsEntry`].
    pub tls_entry_size: U32,
    /// Entries that are set.
    pub ntls: U32,
    /// GDT index of slot 0: 12 on a 64-bit kernel, 6 on a 32-bit one.
    pub gdt_first: U32,
    pub tid: U32,
    /// Bits of [`flag`].
    pub flags: U32,
    /// Blocked signals, bit n-1 for signal n.
    pub sigmask: U64,
    pub altstack_sp: U64,
    pub altstack_size: U64,
    pub altstack_flags: U32,
    pub robust_len: U32,
    pub robust_head: U64,
    pub clear_child_tid: U64,
    /// Registered restartable-sequence area; 0 if none.
    pub rseq_addr: U64,
    pub rseq_len: U32,
    pub rseq_sig: U32,
    /// Memory below the thread's stack pointer that the checkpoint's signal frame took, and that a
    /// restart may use for its own.
    pub frame_addr: U64,
    pub frame_size: U32,
    /// By what id the program knows it, since a restart that could not give it the same; 0: by `tid`.
    pub known_tid: U32,
    pub name: [u8; 16],
}
const _: () = assert!(size_of::<Thread>() == 120);

impl Thread {
    /// The id by which the program knows the thread.
    pub fn known(&self) -> u32 {
        if self.known_tid.get() == 0 { self.tid.get() } else { self.known_tid.get() }
    }
}

/// Bits of [`Thread::flags`].
pub mod flag {
    /// The main thread has ended (pthread_exit) while others run: it has no registers.
    pub const EXITED: u32 = 1;
}

/// One TLS or LDT entry: the fields of `struct user_desc`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TlsEntry {
    /// Slot relative to the first TLS entry, or index in the LDT.
    pub slot: U32,
    /// The bit field of `user_desc`: see [`desc`].
    pub flags: U32,
    pub base: U64,
    pub limit: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<TlsEntry>() == 24);

/// Bits of [`TlsEntry::flags`], as in `struct user_desc`.
pub mod desc {
    pub const SEG_32BIT: u32 = 1;
    pub const CONTENTS: u32 = 6;
    pub const READ_EXEC_ONLY: u32 = 8;
    pub const LIMIT_IN_PAGES: u32 = 16;
    pub const SEG_NOT_PRESENT: u32 = 32;
    pub const USEABLE: u32 = 64;
    pub const ALL: u32 = 127;
}

/// CPU: general, segment and debug registers, in the origin's order.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Cpu {
    pub r15: U64,
    pub r14: U64,
    pub r13: U64,
    pub r12: U64,
    pub bp: U64,
    pub bx: U64,
    pub r11: U64,
    pub r10: U64,
    pub r9: U64,
    pub r8: U64,
    pub ax: U64,
    pub cx: U64,
    pub dx: U64,
    pub si: U64,
    pub di: U64,
    pub orig_ax: U64,
    pub ip: U64,
    pub cs: U64,
    pub flags: U64,
    pub sp: U64,
    pub ss: U64,
    pub ds: U64,
    pub es: U64,
    pub fs: U64,
    pub gs: U64,
    pub debugreg0: U64,
    pub debugreg1: U64,
    pub debugreg2: U64,
    pub debugreg3: U64,
    pub debugreg6: U64,
    pub debugreg7: U64,
    /// 1 if a debug register was set.
    pub uses_debug: U32,
    /// 1 if CPU_FPU follows.
    pub used_math: U32,
}
const _: () = assert!(size_of::<Cpu>() == 256);

/// RESTART_BLOCK: the thread waited in a system call with a time limit, which a restart goes on with for the
/// time that was left. The registers in CPU are those of a call that a signal has ended (EINTR).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RestartBlock {
    /// Number of the system call.
    pub nr: U32,
    /// Size of what `resume` finds at its stack pointer.
    pub resume_size: U32,
    /// Nanoseconds.
    pub left: U64,
    /// Address of the code in the saved library that goes on with the wait.
    pub resume: U64,
    /// Descriptor of the socket whose time limit it is (SO_RCVTIMEO, SO_SNDTIMEO).
    pub fd: U32,
    /// Where on the thread's stack the `Resume` goes; 0: into the signal frame, which is on the same stack.
    pub place: U32,
}
const _: () = assert!(size_of::<RestartBlock>() == 32);

/// CPU_FPU. `components` [`FpuComponent`]s follow, then their bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CpuFpu {
    /// Components that were not in their initial state; zero for a frame without xsave area.
    pub xstate_bv: U64,
    /// Components that the frame carried.
    pub xfeatures: U64,
    pub mxcsr: U32,
    pub components: U32,
}
const _: () = assert!(size_of::<CpuFpu>() == 24);

/// One component in CPU_FPU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FpuComponent {
    /// Bit number in XCR0. x87 is stored as the 112 bytes of the kernel's fsave frame, SSE as the
    /// 256 bytes of xmm0..15 (xmm8..15 are zero for a 32-bit program), the others as the CPU has them.
    pub id: U32,
    /// Offset of the bytes, counted from the end of the table.
    pub offset: U32,
    pub size: U32,
    pub reserved: U32,
    pub name: [u8; 16],
}
const _: () = assert!(size_of::<FpuComponent>() == 32);

/// Size of the x87 component as stored: the fsave part of an ia32 signal frame, status word included.
pub const X87_SIZE: u32 = 112;
/// Size of the SSE component as stored: xmm0 to xmm15.
pub const SSE_SIZE: u32 = 256;
