//! [NORMAL, SIGNAL] The functions to which the vdso of a restarted program leads where its clocks go on by a front: the
//! kernel's time, and what [`FrontInfo`] adds to it.
#![allow(unsafe_code)] // Assembly: callers align the stack as little as the vdso's demand.

use crate::format::task::{FrontInfo, Shift};
use crate::sys::clock_front::{FRONT_INFO, WITH_BOOTTIME, WITH_MONOTONIC};
use crate::sys::nr;
use core::arch::global_asm;
use core::mem::offset_of;

global_asm!(
    ".pushsection .text.selfckpt_clock,\"ax\",@progbits",
    // (clock, time), cdecl. Where the nanoseconds of the time lie is where its seconds end.
    ".macro selfckpt_clock name, function, number, nsec",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name, @function",
    "\\name:",
    ".cfi_startproc",
    "pushl %ebx",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset %ebx, 0",
    "call 1f",
    "1: popl %ebx", // where this is
    // A restart in between has changed the clock that was read as well as what is added: all is done again.
    "2: pushl {info} + {epoch} - 1b(%ebx)",
    ".cfi_adjust_cfa_offset 4",
    "pushl 16(%esp)", // the epoch, ebx, the return address and the clock lie before the time
    ".cfi_adjust_cfa_offset 4",
    "pushl 16(%esp)",
    ".cfi_adjust_cfa_offset 4",
    "movl {info} + \\function - 1b(%ebx), %eax",
    "testl %eax, %eax",
    "jz 3f",
    "call *%eax",
    "jmp 4f",
    "3: pushl %ebx",
    ".cfi_adjust_cfa_offset 4",
    "movl 4(%esp), %ebx",
    "movl 8(%esp), %ecx",
    "movl $\\number, %eax",
    "int $0x80",
    "popl %ebx",
    ".cfi_adjust_cfa_offset -4",
    "4: addl $8, %esp",
    ".cfi_adjust_cfa_offset -8",
    "testl %eax, %eax",
    "jnz 9f",
    "movl 12(%esp), %ecx",
    "cmpl $31, %ecx", // CPU-time clocks are negative
    "ja 7f",
    "leal {info} + {monotonic} - 1b(%ebx), %edx",
    "movl ${with_monotonic}, %eax",
    "btl %ecx, %eax",
    "jc 5f",
    "leal {info} + {boottime} - 1b(%ebx), %edx",
    "movl ${with_boottime}, %eax",
    "btl %ecx, %eax",
    "jnc 7f",
    "5: movl 16(%esp), %ecx",
    "movl {sec}(%edx), %eax",
    "addl %eax, (%ecx)",
    ".if \\nsec == 8",
    "movl {sec} + 4(%edx), %eax",
    "adcl %eax, 4(%ecx)",
    ".endif",
    "movl {nsec}(%edx), %eax",
    "addl \\nsec(%ecx), %eax",
    "cmpl $1000000000, %eax",
    "jb 6f",
    "subl $1000000000, %eax",
    "addl $1, (%ecx)",
    ".if \\nsec == 8",
    "adcl $0, 4(%ecx)",
    ".endif",
    "6: movl %eax, \\nsec(%ecx)",
    "7: xorl %eax, %eax",
    "popl %ecx",
    ".cfi_adjust_cfa_offset -4",
    "cmpl {info} + {epoch} - 1b(%ebx), %ecx",
    "jne 2b",
    "8: popl %ebx",
    ".cfi_adjust_cfa_offset -4",
    ".cfi_restore %ebx",
    "ret",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset %ebx, 4",
    "9: addl $4, %esp",
    ".cfi_adjust_cfa_offset -4",
    "jmp 8b",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "selfckpt_clock selfckpt_clock_gettime, {clock_gettime}, {clock_gettime_nr}, 4",
    "selfckpt_clock selfckpt_clock_gettime64, {clock_gettime64}, {clock_gettime64_nr}, 8",
    ".purgem selfckpt_clock",
    ".popsection",
    info = sym FRONT_INFO,
    epoch = const offset_of!(FrontInfo, epoch),
    clock_gettime = const offset_of!(FrontInfo, clock_gettime),
    clock_gettime64 = const offset_of!(FrontInfo, clock_gettime64),
    monotonic = const offset_of!(FrontInfo, monotonic),
    boottime = const offset_of!(FrontInfo, boottime),
    sec = const offset_of!(Shift, sec),
    nsec = const offset_of!(Shift, nsec),
    with_monotonic = const WITH_MONOTONIC,
    with_boottime = const WITH_BOOTTIME,
    clock_gettime_nr = const nr::CLOCK_GETTIME,
    clock_gettime64_nr = const nr::CLOCK_GETTIME64,
    options(att_syntax), // the other syntax has no difference of symbols
);

unsafe extern "C" {
    fn selfckpt_clock_gettime();
    fn selfckpt_clock_gettime64();
}

/// What stands in the place of the vdso's `clock_gettime` and `clock_gettime64`.
pub fn functions() -> [usize; 2] {
    [selfckpt_clock_gettime as *const () as usize, selfckpt_clock_gettime64 as *const () as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{abi::Timespec64, clock_front, process};
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U32, U64};

    const SECOND: i128 = 1_000_000_000;
    type Function = unsafe extern "C" fn(u32, *mut i32) -> i32;

    /// What both functions say, in nanoseconds.
    fn read(clock: u32) -> [Result<i128, i32>; 2] {
        let [narrow, wide] = functions().map(|function| {
            // SAFETY: of this type, and `time` has room for either.
            let function = unsafe { core::mem::transmute::<usize, Function>(function) };
            let mut time = [0i32; 4];
            // SAFETY: as above.
            let result = unsafe { function(clock, time.as_mut_ptr()) };
            if result == 0 { Ok(time) } else { Err(result) }
        });
        let seconds = |low: i32, high: i32| i128::from(i64::from(high) << 32 | i64::from(low as u32));
        [
            narrow.map(|[sec, nsec, ..]| i128::from(sec) * SECOND + i128::from(nsec)),
            wide.map(|[sec, high, nsec, _]| seconds(sec, high) * SECOND + i128::from(nsec)),
        ]
    }

    fn of_kernel(clock: u32) -> i128 {
        let Timespec64 { sec, nsec } = process::clock(clock);
        i128::from(sec) * SECOND + i128::from(nsec)
    }

    fn put(info: &FrontInfo) {
        // SAFETY: what is read at the same time is words.
        unsafe { FRONT_INFO.0.get().write_volatile(info.as_bytes().try_into().expect("its size")) };
    }

    /// The clocks that are moved, and by how much; no other test reads what is set here.
    #[test]
    fn clocks_are_moved() {
        const EINVAL: i32 = 22;
        let shift = |sec: u64, nsec: u32| Shift { sec: U64::new(sec), nsec: U32::new(nsec), reserved: U32::new(0) };
        let mut info = FrontInfo::default();
        for (monotonic, boottime) in [((0, 0), (0, 0)), ((1000, 999_999_999), (3, 500_000_000))] {
            info.monotonic = shift(monotonic.0, monotonic.1);
            info.boottime = shift(boottime.0, boottime.1);
            put(&info);
            let in_nanoseconds = |(sec, nsec): (u64, u32)| i128::from(sec) * SECOND + i128::from(nsec);
            for (clock, more) in [
                (process::CLOCK_REALTIME, 0),
                (process::CLOCK_MONOTONIC, in_nanoseconds(monotonic)),
                (2, 0),                         // CLOCK_PROCESS_CPUTIME_ID
                (4, in_nanoseconds(monotonic)), // CLOCK_MONOTONIC_RAW
                (6, in_nanoseconds(monotonic)), // CLOCK_MONOTONIC_COARSE
                (process::CLOCK_BOOTTIME, in_nanoseconds(boottime)),
                (-2i32 as u32, 0), // of this process
            ] {
                // Nanoseconds of all kinds.
                for _ in 0..100 {
                    let before = of_kernel(clock) + more;
                    let shown = read(clock).map(|shown| shown.expect("a clock"));
                    let after = of_kernel(clock) + more;
                    assert!(
                        shown.iter().all(|shown| (before..=after).contains(shown)),
                        "{clock}: {shown:?}, not {before}..{after}"
                    );
                    assert_eq!(i128::from(clock_front::offset_of(clock)), more);
                }
            }
            // CLOCK_BOOTTIME_ALARM, which only a machine with a clock for alarms has.
            assert_eq!(i128::from(clock_front::offset_of(9)), in_nanoseconds(boottime));
            assert_eq!(read(1000), [Err(-EINVAL); 2]);
        }
        put(&FrontInfo::default());
    }
}
