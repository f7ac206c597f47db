//! [SIGNAL, NORMAL] The kernel's signal frame of a 32-bit task: taken apart at a checkpoint, put
//! together at a restart. Plain code over bytes.
//!
//! Layout: arch/x86/include/asm/sigframe.h (`rt_sigframe_ia32`) and uapi/asm/sigcontext.h. The
//! frame starts with the handler's return address; rt_sigreturn(2) finds it at esp - 4.

use super::cpu::Cpu as HostCpu;
use crate::format::thread::{Cpu, CpuFpu, FpuComponent, SSE_SIZE, X87_SIZE};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// Offset of ucontext in the frame.
pub const UCONTEXT: usize = 144;
/// Size of the kernel's ucontext; libc's is larger and must never be copied.
pub const UCONTEXT_SIZE: usize = 116;
/// Bytes of the frame before the floating-point state: ucontext and 8 bytes of return code.
pub const FRAME_SIZE: usize = UCONTEXT + UCONTEXT_SIZE + 8;

/// Offsets in ucontext.
pub mod uc {
    pub const FLAGS: usize = 0;
    pub const STACK: usize = 8;
    pub const GS: usize = 20;
    pub const FS: usize = 24;
    pub const ES: usize = 28;
    pub const DS: usize = 32;
    pub const EDI: usize = 36;
    pub const ESI: usize = 40;
    pub const EBP: usize = 44;
    pub const ESP: usize = 48;
    pub const EBX: usize = 52;
    pub const EDX: usize = 56;
    pub const ECX: usize = 60;
    pub const EAX: usize = 64;
    pub const EIP: usize = 76;
    pub const CS: usize = 80;
    pub const EFLAGS: usize = 84;
    pub const SP_AT_SIGNAL: usize = 88;
    pub const SS: usize = 92;
    pub const FPSTATE: usize = 96;
    pub const SIGMASK: usize = 108;
}

/// Offsets in the floating-point state: 112 bytes as FSAVE stores them, then the xsave area.
pub mod fp {
    pub const XSAVE: usize = 112;
    pub const MXCSR: usize = XSAVE + 24;
    pub const MXCSR_MASK: usize = XSAVE + 28;
    pub const XMM: usize = XSAVE + 160;
    pub const SW_RESERVED: usize = XSAVE + 464;
    pub const SW_EXTENDED_SIZE: usize = SW_RESERVED + 4;
    pub const SW_XFEATURES: usize = SW_RESERVED + 8;
    pub const SW_XSTATE_SIZE: usize = SW_RESERVED + 16;
    pub const XSTATE_BV: usize = XSAVE + 512;
}
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// ucontext flag: the floating-point state is an xsave area.
const UC_FP_XSTATE: u32 = 1;

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Bytes that the floating-point state of a frame takes, from its first 624 bytes at least.
pub fn fpstate_size(start: &[u8]) -> usize {
    if u32_at(start, fp::SW_RESERVED) == MAGIC1 {
        fp::XSAVE + u32_at(start, fp::SW_XSTATE_SIZE) as usize + 4
    } else {
        fp::XSAVE + 512
    }
}

/// General registers of an interrupted thread. `ax` is the caller's to change.
pub fn read_cpu(ucontext: &[u8]) -> Cpu {
    let reg = |at| U64::new(u32_at(ucontext, at).into());
    let selector = |at| U64::new(u64::from(u32_at(ucontext, at) & 0xffff));
    let zero = U64::new(0);
    Cpu {
        r15: zero,
        r14: zero,
        r13: zero,
        r12: zero,
        bp: reg(uc::EBP),
        bx: reg(uc::EBX),
        r11: zero,
        r10: zero,
        r9: zero,
        r8: zero,
        ax: reg(uc::EAX),
        cx: reg(uc::ECX),
        dx: reg(uc::EDX),
        si: reg(uc::ESI),
        di: reg(uc::EDI),
        orig_ax: U64::new(0xffff_ffff), // not in a system call
        ip: reg(uc::EIP),
        cs: selector(uc::CS),
        flags: reg(uc::EFLAGS),
        sp: reg(uc::ESP),
        ss: selector(uc::SS),
        ds: selector(uc::DS),
        es: selector(uc::ES),
        fs: selector(uc::FS),
        gs: selector(uc::GS),
        debugreg0: zero,
        debugreg1: zero,
        debugreg2: zero,
        debugreg3: zero,
        debugreg6: zero,
        debugreg7: zero,
        uses_debug: U32::new(0),
        used_math: U32::new(0),
    }
}

/// One component of a frame: number, name, bytes.
pub struct Part<'a> {
    pub id: u32,
    pub bytes: &'a [u8],
}

/// The floating-point state of a frame, component by component.
pub struct FpuParts<'a> {
    pub head: CpuFpu,
    pub parts: [Option<Part<'a>>; super::cpu::MAX_COMPONENTS],
}

/// Takes the floating-point state apart. Components in their initial state are left out.
pub fn read_fpu<'a>(fpstate: &'a [u8], cpu: &HostCpu) -> FpuParts<'a> {
    let has_xsave = u32_at(fpstate, fp::SW_RESERVED) == MAGIC1;
    let (xfeatures, xstate_bv) =
        if has_xsave { (u64_at(fpstate, fp::SW_XFEATURES), u64_at(fpstate, fp::XSTATE_BV)) } else { (3, 3) };
    let mut parts = [const { None }; super::cpu::MAX_COMPONENTS];
    let mut count = 0;
    for (i, slot) in parts.iter_mut().enumerate() {
        let range = match i {
            0 => 0..X87_SIZE as usize,
            1 => fp::XMM..fp::XMM + SSE_SIZE as usize,
            _ => {
                let extent = cpu.extents.get(i).copied().unwrap_or_default();
                if (xfeatures & xstate_bv) & (1 << i) == 0 || extent.size == 0 {
                    continue;
                }
                let start = fp::XSAVE + extent.offset as usize;
                start..start + extent.size as usize
            }
        };
        if let Some(bytes) = fpstate.get(range) {
            *slot = Some(Part { id: i as u32, bytes });
            count += 1;
        }
    }
    let head = CpuFpu {
        xstate_bv: U64::new(xstate_bv),
        xfeatures: U64::new(xfeatures),
        mxcsr: U32::new(u32_at(fpstate, fp::MXCSR)),
        components: U32::new(count),
    };
    FpuParts { head, parts }
}

/// Table entry of a component that lies `offset` bytes after the table.
pub fn component_entry(part: &Part<'_>, offset: usize) -> FpuComponent {
    let mut name = [0u8; 16];
    for (place, byte) in name.iter_mut().take(15).zip(crate::format::header::component_name(part.id).bytes()) {
        *place = byte;
    }
    FpuComponent {
        id: U32::new(part.id),
        offset: U32::new(offset as u32),
        size: U32::new(part.bytes.len() as u32),
        reserved: U32::new(0),
        name,
    }
}

/// Number and bytes of a component.
pub type Stored<'a> = (u32, &'a [u8]);

/// What a frame is made of.
pub struct FrameParts<'a> {
    pub cpu: &'a Cpu,
    pub sigmask: u64,
    /// mxcsr, and (component, bytes) of what is not in its initial state; `None` without FPU state.
    pub fpu: Option<(u32, &'a [Stored<'a>])>,
    /// sp, flags, size of the alternate stack.
    pub altstack: [u32; 3],
}

/// Bytes of floating-point state that a frame for this host needs.
pub fn built_fpstate_size(host: &HostCpu, parts: &[Stored<'_>]) -> usize {
    if !host.has_xsave {
        return fp::XSAVE + 512;
    }
    let set = parts.iter().fold(3u64, |set, (id, _)| set | (1 << id));
    fp::XSAVE + host.area_size(set) as usize + 4
}

/// Builds a frame that lies at address `at`, for rt_sigreturn(2) on this host. `out` must be zeroed
/// and [`FRAME_SIZE`] + [`built_fpstate_size`] long, plus up to 63 bytes between the two.
pub fn build(out: &mut [u8], at: u32, host: &HostCpu, parts: &FrameParts<'_>) {
    let cpu = parts.cpu;
    let u = UCONTEXT;
    let mut word = |offset: usize, value: u64| put(out, u + offset, (value as u32).as_bytes());
    word(uc::GS, cpu.gs.get());
    word(uc::FS, cpu.fs.get());
    word(uc::ES, cpu.es.get());
    word(uc::DS, cpu.ds.get());
    word(uc::EDI, cpu.di.get());
    word(uc::ESI, cpu.si.get());
    word(uc::EBP, cpu.bp.get());
    word(uc::ESP, cpu.sp.get());
    word(uc::EBX, cpu.bx.get());
    word(uc::EDX, cpu.dx.get());
    word(uc::ECX, cpu.cx.get());
    word(uc::EAX, cpu.ax.get());
    word(uc::EIP, cpu.ip.get());
    word(uc::CS, cpu.cs.get());
    word(uc::EFLAGS, cpu.flags.get());
    word(uc::SP_AT_SIGNAL, cpu.sp.get());
    word(uc::SS, cpu.ss.get());
    word(uc::SIGMASK, parts.sigmask);
    word(uc::SIGMASK + 4, parts.sigmask >> 32);
    for (i, value) in parts.altstack.into_iter().enumerate() {
        word(uc::STACK + 4 * i, value.into());
    }
    let Some((mxcsr, components)) = parts.fpu else { return };
    let fp_at = fpstate_offset(at);
    word(uc::FPSTATE, u64::from(at) + fp_at as u64);
    if host.has_xsave {
        word(uc::FLAGS, UC_FP_XSTATE.into());
    }
    let mut present = 3u64;
    for &(id, bytes) in components {
        let offset = match id {
            0 => 0,
            1 => fp::XMM,
            _ => fp::XSAVE + host.extents.get(id as usize).map_or(0, |extent| extent.offset as usize),
        };
        put(out, fp_at + offset, bytes);
        present |= 1 << id;
    }
    put(out, fp_at + fp::MXCSR, mxcsr.as_bytes());
    put(out, fp_at + fp::MXCSR_MASK, host.mxcsr_mask.as_bytes());
    if host.has_xsave {
        let size = host.area_size(present);
        put(out, fp_at + fp::SW_RESERVED, MAGIC1.as_bytes());
        put(out, fp_at + fp::SW_EXTENDED_SIZE, (size + 4 + fp::XSAVE as u32).as_bytes());
        put(out, fp_at + fp::SW_XFEATURES, present.as_bytes());
        put(out, fp_at + fp::SW_XSTATE_SIZE, size.as_bytes());
        put(out, fp_at + fp::XSTATE_BV, present.as_bytes());
        put(out, fp_at + fp::XSAVE + size as usize, MAGIC2.as_bytes());
    }
}

/// Offset of the floating-point state in a frame at address `at`: the xsave area behind the FSAVE
/// part gets the alignment of 64 that XRSTOR wants.
pub fn fpstate_offset(at: u32) -> usize {
    let unaligned = at as usize + FRAME_SIZE + fp::XSAVE;
    FRAME_SIZE + (unaligned.next_multiple_of(64) - unaligned)
}

/// Most bytes that [`build`] needs for these components.
pub fn built_size(host: &HostCpu, parts: &[Stored<'_>]) -> usize {
    FRAME_SIZE + 64 + built_fpstate_size(host, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_reads_back() {
        let host = HostCpu::detect();
        let mut ucontext = [0u8; UCONTEXT_SIZE];
        for (i, byte) in ucontext.iter_mut().enumerate() {
            *byte = i as u8 ^ 0x5a;
        }
        let cpu = read_cpu(&ucontext);
        let x87 = [0x11u8; X87_SIZE as usize];
        let sse = [0x22u8; SSE_SIZE as usize];
        let avx = vec![0x33u8; host.extents[2].size as usize];
        let mut parts: Vec<(u32, &[u8])> = vec![(0, &x87), (1, &sse)];
        if !avx.is_empty() {
            parts.push((2, &avx));
        }
        let at = 0x1234_5670;
        let mut out = vec![0u8; built_size(&host, &parts)];
        let frame =
            FrameParts { cpu: &cpu, sigmask: 0x8000_0000_0000_0001, fpu: Some((0x1f80, &parts)), altstack: [0; 3] };
        build(&mut out, at, &host, &frame);
        let back = read_cpu(&out[UCONTEXT..]);
        assert_eq!(back.as_bytes(), cpu.as_bytes());
        assert_eq!(u64_at(&out, UCONTEXT + uc::SIGMASK), 0x8000_0000_0000_0001);
        let fp_at = (u32_at(&out, UCONTEXT + uc::FPSTATE) - at) as usize;
        assert_eq!((at as usize + fp_at + fp::XSAVE) % 64, 0);
        assert!(fp_at + fpstate_size(&out[fp_at..]) <= out.len());
        let fpu = read_fpu(&out[fp_at..], &host);
        assert_eq!(fpu.head.mxcsr.get(), 0x1f80);
        assert_eq!(fpu.head.components.get() as usize, parts.len());
        for (id, bytes) in parts {
            assert_eq!(fpu.parts[id as usize].as_ref().map(|part| part.bytes), Some(bytes));
        }
    }
}
