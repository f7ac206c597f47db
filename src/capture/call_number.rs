//! [SIGNAL] Which system call a stopped thread is in, as far as it can be proven: by what a sibling saw, and by the code
//! around the instruction that makes it.

use super::threads::{Frame, ThreadState};
use crate::arch::frame::{self, uc};
use crate::arch::vsyscall;
use crate::sys::{fs, nr, process};

/// `int 0x80`.
pub const INT80: [u8; 2] = [0xcd, 0x80];

pub fn register(frame: Frame, at: usize) -> u32 {
    frame::u32_at(frame.ucontext(), at)
}

pub fn arguments(frame: Frame) -> [u32; 6] {
    [uc::EBX, uc::ECX, uc::EDX, uc::ESI, uc::EDI, uc::EBP].map(|at| register(frame, at))
}

/// Where a thread goes on that stands before a call.
pub fn behind_call(frame: Frame) -> u32 {
    register(frame, uc::EIP).wrapping_add(INT80.len() as u32)
}

/// The number of the call that has ended with EINTR.
pub fn number(state: &ThreadState, leader: bool) -> Option<u32> {
    let frame = state.frame();
    match told_number(state, leader) {
        // Of a call that has been interrupted before, by a stop of the whole program (SIGSTOP) or by a signal that
        // another thread has taken.
        Some(nr::RESTART_SYSCALL) => number_in_code(frame, register(frame, uc::EIP)),
        Some(nr) => Some(nr),
        None if may_follow_a_handler(state, leader) => None,
        None => number_in_code(frame, register(frame, uc::EIP)),
    }
}

/// The call that a sibling saw the thread wait in, if the frame is of that same call. Nobody has looked at the leader.
pub fn told_number(state: &ThreadState, leader: bool) -> Option<u32> {
    is_same_call(state, leader, register(state.frame(), uc::EIP)).then_some(u32::try_from(state.call.nr).ok()?)
}

/// Whether it is the one that the frame is of, behind which the thread goes on at `after`.
fn is_same_call(state: &ThreadState, leader: bool, after: u32) -> bool {
    let (frame, call) = (state.frame(), &state.call);
    !leader
        && call.pc == after
        && call.sp == register(frame, uc::ESP)
        && call.args == arguments(frame)
        && ends_call(call.pc)
}

/// Whether the kernel is about to do a call by itself once more, before which the thread stands.
pub fn is_done_again(state: &ThreadState, leader: bool) -> bool {
    let (nr, after) = (register(state.frame(), uc::EAX), behind_call(state.frame()));
    // One that the thread is about to make may be of a kind that no signal ends: read(2) of a file. In the vdso it makes
    // a call by another instruction, and this one is there to do it again.
    let seen = u32::try_from(state.call.nr) == Ok(nr) && is_same_call(state, leader, after);
    const SYSENTER: [u8; 2] = [0x0f, 0x34];
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let is_behind = |instruction| code_before(after - 2, &mut [0; 2]) == Some(instruction);
    seen || ends_call(after) && is_at_vsyscall_end(after) && (is_behind(&SYSENTER[..]) || is_behind(&SYSCALL[..]))
}

/// Whether the instruction before an address is a system call.
pub fn ends_call(end: u32) -> bool {
    code_before(end, &mut [0; 2]) == Some(&INT80[..])
}

/// The `out.len()` bytes of memory before an address.
fn code_before(end: u32, out: &mut [u8]) -> Option<&[u8]> {
    read_memory(end.checked_sub(out.len() as u32)?, out)
}

/// Memory that may not be there, or not be readable.
fn read_memory(at: u32, out: &mut [u8]) -> Option<&[u8]> {
    let len = out.len();
    read_what_is_there(at, out).filter(|read| read.len() == len)
}

/// The same up to where the memory ends.
pub fn read_what_is_there(at: u32, out: &mut [u8]) -> Option<&[u8]> {
    let mem = fs::OwnedFd(fs::open(b"/proc/self/mem\0", fs::O_RDONLY | fs::O_CLOEXEC, 0).ok()?);
    let len = fs::pread(mem.0, out, u64::from(at)).ok()?;
    out.get(..len)
}

pub fn read_word(at: u32) -> Option<u32> {
    let mut word = [0; 4];
    read_memory(at, &mut word)?;
    Some(u32::from_le_bytes(word))
}

/// With a trigger (for other threads than the leader: a stop signal) that waits while another signal's handler runs,
/// the frame may be that of the return from the handler, and the EINTR the program's own.
pub fn may_follow_a_handler(state: &ThreadState, leader: bool) -> bool {
    const STOP: u64 = 1 << (33 - 1);
    let stopped_by = if leader { state.own } else { STOP };
    (1..=64u32).filter(|signal| (state.own | STOP) & (1 << (signal - 1)) == 0).any(|signal| {
        process::sigaction(signal, None).is_ok_and(|action| {
            action.handler > 1 && stopped_by & (u64::from(action.mask[0]) | (u64::from(action.mask[1]) << 32)) != 0
        })
    })
}

/// The number from the code around the call that ends at `after`.
pub fn number_in_code(frame: Frame, after: u32) -> Option<u32> {
    let esp = register(frame, uc::ESP);
    if let Some(place) = vsyscall::number_of_shifted(after, esp) {
        return read_word(place);
    }
    if !ends_call(after) {
        return None;
    }
    if !is_at_vsyscall_end(after) {
        return number_before(after - 2, None);
    }
    // call gs:0x10, as glibc calls it.
    const CALL: [u8; 7] = [0x65, 0xff, 0x15, 0x10, 0, 0, 0];
    let mut back = read_word(esp.checked_add(12)?)?;
    let mut caller = esp.checked_add(16)?;
    let front = vsyscall::frame_of(back);
    if front != 0 {
        caller = caller.checked_add(front)?;
        back = read_word(caller.checked_sub(4)?)?;
    }
    if code_before(back, &mut [0; 7]) != Some(&CALL[..]) {
        return None;
    }
    let call = back - CALL.len() as u32;
    // glibc's way of passing six arguments: a function of its own, called with the number in eax.
    const SIX: [u8; 11] = [0x53, 0x57, 0x55, 0x8b, 0x1f, 0x8b, 0x6f, 0x08, 0x8b, 0x7f, 0x04];
    if code_before(call, &mut [0; 11]) != Some(&SIX[..]) {
        return number_before(call, Some(caller));
    }
    let outer = read_word(caller.checked_add(12)?)?;
    let mut near = [0; 5];
    code_before(outer, &mut near)?;
    let [0xe8, a, b, c, d] = near else { return None };
    let target = outer.wrapping_add(u32::from_le_bytes([a, b, c, d]));
    if target != call - SIX.len() as u32 { None } else { number_before(outer - 5, None) }
}

/// Whether __kernel_vsyscall goes on here behind its call: pop ebp, pop edx, pop ecx, ret.
fn is_at_vsyscall_end(after: u32) -> bool {
    const END: [u8; 4] = [0x5d, 0x5a, 0x59, 0xc3];
    read_memory(after, &mut [0; 4]) == Some(&END[..])
}

/// `mov eax, NUMBER`, and up to `end` instructions that leave eax alone; or, as in syscall(2)'s wrapper,
/// the number loaded from the stack, whose pointer is `esp` at the call.
fn number_before(end: u32, esp: Option<u32>) -> Option<u32> {
    const MOV_EAX: usize = 5;
    let mut window = [0; 32];
    code_before(end, &mut window)?;
    if let (Some(esp), [.., 0x8b, 0x44, 0x24, offset]) = (esp, window) {
        return read_word(esp.checked_add(u32::from(offset))?);
    }
    for after in (MOV_EAX..=window.len()).rev() {
        let [0xb8, a, b, c, d] = *window.get(after - MOV_EAX..after)? else { continue };
        if leaves_eax_alone(window.get(after..)?) {
            return Some(u32::from_le_bytes([a, b, c, d])).filter(|nr| *nr < 512);
        }
    }
    None
}

/// Whether `code` is a run of whole instructions that only move arguments into other registers or memory.
fn leaves_eax_alone(mut code: &[u8]) -> bool {
    while let [opcode, rest @ ..] = code {
        let modrm = rest.first().copied().unwrap_or(0);
        let (reg, registers, rm) = (modrm >> 3 & 7, modrm >> 6 == 3, modrm & 7);
        let len = match opcode {
            0xb9..=0xbf => Some(5),
            0x8b if reg != 0 => operand_length(rest).map(|n| 1 + n),
            0x8d if reg != 0 && !registers => operand_length(rest).map(|n| 1 + n),
            0x89 if !registers || rm != 0 => operand_length(rest).map(|n| 1 + n),
            0x31 if registers && rm != 0 => Some(2),
            0x33 if registers && reg != 0 => Some(2),
            0xc7 if !registers => operand_length(rest).map(|n| 1 + n + 4),
            _ => None,
        };
        match len.and_then(|len| code.get(len..)) {
            Some(rest) => code = rest,
            None => return false,
        }
    }
    true
}

/// Bytes of ModRM, SIB and displacement.
fn operand_length(code: &[u8]) -> Option<usize> {
    let modrm = *code.first()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let sib = usize::from(mode != 3 && rm == 4);
    let base = if sib == 1 { code.get(1)? & 7 } else { rm };
    let displacement = match mode {
        0 if base == 5 => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(1 + sib + displacement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_may_be_loaded_after_the_number() {
        // mov ecx, [esp+0x24]; mov ebp, edx; xor edi, edi; mov esi, 8; mov dword [esp+0x38], -1
        let code = [
            0x8b, 0x4c, 0x24, 0x24, 0x89, 0xd5, 0x31, 0xff, 0xbe, 8, 0, 0, 0, 0xc7, 0x44, 0x24, 0x38, 0xff, 0xff, 0xff,
            0xff,
        ];
        assert!(leaves_eax_alone(&code));
        assert!(!leaves_eax_alone(&code[..code.len() - 1]));
    }

    #[test]
    fn what_changes_eax_or_jumps_is_no_proof() {
        for code in [&[0x8b, 0x44, 0x24, 4][..], &[0x89, 0xd0], &[0x31, 0xc0], &[0x33, 0xc3], &[0xeb, 0], &[0xb8]] {
            assert!(!leaves_eax_alone(code), "{code:x?}");
        }
    }
}
