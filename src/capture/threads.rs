//! [SIGNAL] A thread's registers and kernel state into THREAD, THREAD_TLS, LDT, CPU, CPU_FPU.
#![allow(unsafe_code)] // Reads the signal frame that the kernel put on the thread's stack.

use super::Stream;
use super::failure::Failure;
use super::notices::{Notices, notice};
use crate::arch::cpu::Cpu as HostCpu;
use crate::arch::{debug_registers, frame, tls};
use crate::format::thread::{Thread, TlsEntry};
use crate::format::{kind, notice::code};
use crate::sys::process;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// The signal frame of a stopped thread.
#[derive(Clone, Copy)]
pub struct Frame {
    ucontext: usize,
}

impl Frame {
    /// # Safety
    /// `ucontext` is the third argument of a signal handler that has not returned.
    pub unsafe fn new(ucontext: usize) -> Frame {
        Frame { ucontext }
    }

    pub fn ucontext(&self) -> &[u8] {
        // SAFETY: by the contract of `new`, the kernel's ucontext lies there.
        unsafe { core::slice::from_raw_parts(self.ucontext as *const u8, frame::UCONTEXT_SIZE) }
    }

    /// First byte of the whole frame.
    pub fn start(&self) -> usize {
        self.ucontext - frame::UCONTEXT
    }

    /// Floating-point state, as long as it says it is; empty if there is none.
    fn fpstate(&self) -> &[u8] {
        let at = frame::u32_at(self.ucontext(), frame::uc::FPSTATE) as usize;
        if at == 0 {
            return &[];
        }
        const FIXED: usize = frame::fp::XSAVE + 512;
        // SAFETY: the kernel stores at least the FSAVE part and the legacy area.
        let fixed = unsafe { core::slice::from_raw_parts(at as *const u8, FIXED) };
        // SAFETY: the kernel wrote the length that these bytes tell.
        unsafe { core::slice::from_raw_parts(at as *const u8, frame::fpstate_size(fixed)) }
    }

    /// Bytes from the start of the frame to the end of its floating-point state.
    fn size(&self) -> usize {
        let fpstate = self.fpstate();
        let end = if fpstate.is_empty() {
            self.start() + frame::FRAME_SIZE
        } else {
            fpstate.as_ptr() as usize + fpstate.len()
        };
        end - self.start()
    }

    pub fn sigmask(&self) -> u64 {
        frame::u64_at(self.ucontext(), frame::uc::SIGMASK)
    }

    /// Makes the interrupted code see `value` in eax when the handler returns.
    pub fn set_eax(&self, value: u32) {
        let place = (self.ucontext + frame::uc::EAX) as *mut u32;
        // SAFETY: inside the frame; the kernel reads it at sigreturn.
        unsafe { place.write_unaligned(value) };
    }
}

/// What glibc registered for the thread beside what the kernel tells.
#[derive(Clone, Copy, Default)]
pub struct Rseq {
    pub addr: usize,
    pub len: u32,
    pub sig: u32,
}

/// Writes the records of the calling thread. Returns the pages that it watches by debug registers.
pub fn capture_thread(
    stream: &mut Stream<'_>,
    stopped: &Frame,
    rseq: Rseq,
    cpu: &HostCpu,
    helper_stack_top: usize,
    ldt_buf: &mut [u8],
    notices: &mut Notices<'_>,
) -> Result<[usize; 4], Failure> {
    let tid = process::gettid();
    let first = tls::first_entry();
    let (entries, ntls) = tls::capture_tls(first);
    // In the handler the alternate stack reads as in use when the frame lies on it; the frame's own
    // record of it is what the thread had.
    let altstack = |i: usize| frame::u32_at(stopped.ucontext(), frame::uc::STACK + 4 * i);
    let (robust_head, robust_len) = process::robust_list();
    let thread = Thread {
        gdt_tls_entries: U32::new(tls::ENTRIES),
        tls_entry_size: U32::new(size_of::<TlsEntry>() as u32),
        ntls: U32::new(ntls as u32),
        gdt_first: U32::new(first),
        tid: U32::new(tid),
        reserved: U32::new(0),
        sigmask: U64::new(stopped.sigmask()),
        altstack_sp: U64::new(altstack(0).into()),
        altstack_flags: U32::new(altstack(1)),
        altstack_size: U64::new(altstack(2).into()),
        robust_len: U32::new(robust_len as u32),
        robust_head: U64::new(robust_head as u64),
        clear_child_tid: U64::new(process::clear_child_tid() as u64),
        rseq_addr: U64::new(rseq.addr as u64),
        rseq_len: U32::new(rseq.len),
        rseq_sig: U32::new(rseq.sig),
        frame_addr: U64::new(stopped.start() as u64),
        frame_size: U32::new(stopped.size() as u32),
        reserved2: U32::new(0),
        name: process::comm(),
    };
    stream.record(kind::THREAD, 0, &thread, &[])?;
    if ntls != 0 {
        let entries = entries.get(..ntls).unwrap_or(&[]);
        stream.begin(kind::THREAD_TLS)?;
        stream.put(entries.as_bytes());
        stream.end(0)?;
    }
    capture_ldt(stream, ldt_buf)?;

    let mut regs = frame::read_cpu(stopped.ucontext());
    let mut watched = [0; 4];
    // SAFETY: the scratch memory sets this stack aside for the helper.
    match unsafe { debug_registers::capture(helper_stack_top) } {
        Ok(found) => {
            let [a0, a1, a2, a3] = found.address.map(|address| U64::new(address.into()));
            regs.debugreg0 = a0;
            regs.debugreg1 = a1;
            regs.debugreg2 = a2;
            regs.debugreg3 = a3;
            watched = found.address.map(|address| address as usize & !4095);
            if found.in_use() {
                regs.debugreg6 = U64::new(found.dr6.into());
                regs.debugreg7 = U64::new(found.dr7.into());
                regs.uses_debug = U32::new(1);
            }
        }
        Err(errno) => notice!(
            notices,
            code::DEBUG_REGISTERS,
            tid.into(),
            "the debug registers of thread {tid} cannot be read ({errno}); watchpoints are not restored"
        ),
    }
    let fpstate = stopped.fpstate();
    regs.used_math = U32::new((!fpstate.is_empty()).into());
    stream.record(kind::CPU, 0, &regs, &[])?;
    if !fpstate.is_empty() {
        capture_fpu(stream, fpstate, cpu)?;
    }
    Ok(watched)
}

fn capture_fpu(stream: &mut Stream<'_>, fpstate: &[u8], cpu: &HostCpu) -> Result<(), Failure> {
    let fpu = frame::read_fpu(fpstate, cpu);
    stream.begin(kind::CPU_FPU)?;
    stream.put_struct(&fpu.head);
    let mut offset = 0;
    for part in fpu.parts.iter().flatten() {
        stream.put_struct(&frame::component_entry(part, offset));
        offset += part.bytes.len();
    }
    for part in fpu.parts.iter().flatten() {
        stream.put(part.bytes);
    }
    stream.end(0)?;
    Ok(())
}

fn capture_ldt(stream: &mut Stream<'_>, buf: &mut [u8]) -> Result<(), Failure> {
    // A kernel without modify_ldt has no LDT to save.
    let Ok(raw) = tls::read_ldt(buf.get_mut(..tls::LDT_BYTES).unwrap_or(&mut [])) else { return Ok(()) };
    let entries = raw
        .chunks_exact(8)
        .enumerate()
        .filter_map(|(i, bytes)| tls::ldt_entry(i as u32, bytes.try_into().unwrap_or([0; 8])));
    let mut open = false;
    for entry in entries {
        if !open {
            stream.begin(kind::LDT)?;
            open = true;
        }
        stream.put_struct(&entry);
    }
    if open {
        stream.end(0)?;
    }
    Ok(())
}
