//! [NORMAL, SIGNAL] HEADER and HEADER_ARCH: which kernel and which CPU an image was taken on.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// HEADER. Three BUFFERs follow: uts release, version, machine.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: U64,
    pub arch: U16,
    pub kernel_major: U16,
    pub kernel_minor: U16,
    pub kernel_patch: U16,
    pub rev: U16,
    pub reserved: [U16; 3],
    /// CLOCK_REALTIME of the checkpoint, seconds.
    pub time: U64,
    /// No flag is defined yet: zero.
    pub flags: U64,
    pub release_len: U32,
    pub version_len: U32,
    pub machine_len: U32,
    pub time_nsec: U32,
}
const _: () = assert!(size_of::<Header>() == 56);

/// HEADER_ARCH. `components` [`Component`]s follow in the same record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HeaderArch {
    pub has_fxsr: U16,
    pub has_xsave: U16,
    /// Size of the uncompacted xsave area for all enabled components.
    pub xstate_size: U16,
    pub has_hwfp: U16,
    pub xcr0: U64,
    pub mxcsr_mask: U32,
    pub components: U32,
    /// End of user addresses as this kernel has it for a 32-bit task.
    pub task_size: U64,
    /// CPUID leaf 1 ecx, edx; leaf 7 ebx, ecx, edx; leaf 0x80000001 ecx, edx.
    pub features: [U32; 7],
    pub reserved: U32,
    pub vendor: [u8; 16],
    pub brand: [u8; 48],
}
const _: () = assert!(size_of::<HeaderArch>() == 128);

/// One component of the extended state, as CPUID leaf 0xD tells.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Component {
    /// Bit number in XCR0.
    pub id: U32,
    /// Offset in the uncompacted area.
    pub offset: U32,
    pub size: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Component>() == 16);

/// Name of an extended-state component.
pub fn component_name(id: u32) -> &'static str {
    match id {
        0 => "x87",
        1 => "SSE",
        2 => "AVX",
        3 => "MPX bounds",
        4 => "MPX status",
        5 => "AVX-512 opmask",
        6 => "AVX-512 ZMM_Hi256",
        7 => "AVX-512 Hi16_ZMM",
        8 => "PT",
        9 => "PKRU",
        10 => "PASID",
        11 => "CET user",
        12 => "CET supervisor",
        17 => "AMX tile config",
        18 => "AMX tile data",
        _ => "unnamed",
    }
}

/// CPUID feature bits that compilers and libc choose code by: (index into
/// [`HeaderArch::features`], bit, name).
pub const FEATURE_NAMES: &[(usize, u32, &str)] = &[
    (1, 8, "cmpxchg8b"),
    (1, 15, "cmov"),
    (1, 23, "mmx"),
    (1, 24, "fxsr"),
    (1, 25, "sse"),
    (1, 26, "sse2"),
    (0, 0, "sse3"),
    (0, 1, "pclmulqdq"),
    (0, 9, "ssse3"),
    (0, 12, "fma"),
    (0, 19, "sse4.1"),
    (0, 20, "sse4.2"),
    (0, 22, "movbe"),
    (0, 23, "popcnt"),
    (0, 25, "aes"),
    (0, 26, "xsave"),
    (0, 28, "avx"),
    (0, 29, "f16c"),
    (0, 30, "rdrand"),
    (2, 3, "bmi1"),
    (2, 5, "avx2"),
    (2, 8, "bmi2"),
    (2, 9, "erms"),
    (2, 11, "rtm"),
    (2, 16, "avx512f"),
    (2, 17, "avx512dq"),
    (2, 18, "rdseed"),
    (2, 19, "adx"),
    (2, 28, "avx512cd"),
    (2, 29, "sha"),
    (2, 30, "avx512bw"),
    (2, 31, "avx512vl"),
    (3, 1, "avx512vbmi"),
    (3, 6, "avx512vbmi2"),
    (3, 8, "gfni"),
    (3, 9, "vaes"),
    (3, 10, "vpclmulqdq"),
    (3, 11, "avx512vnni"),
    (3, 14, "avx512vpopcntdq"),
    (5, 5, "lzcnt"),
    (5, 6, "sse4a"),
];
