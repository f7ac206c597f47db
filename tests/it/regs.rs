//! The state of the processor.

cycles! {
    regs, eflags, eflags_ac, eflags_tf, segments, x87, x87_control, mmx, sse, sse_stack_align, avx,
    avx512, pkru, debugregs, tls,
}
