//! [SIGNAL, NORMAL] What this CPU has, as CPUID tells: the source of HEADER_ARCH and the measure
//! that an image is held against.
#![allow(unsafe_code)] // CPUID, XGETBV and FXSAVE; each is used only where the CPU says it exists.

use crate::format::header::{Component, HeaderArch};
#[cfg(target_arch = "x86")]
use core::arch::x86 as intrinsics;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as intrinsics;
use zerocopy::little_endian::{U16, U32, U64};

/// Components that can exist in XCR0.
pub const MAX_COMPONENTS: usize = 32;
/// Components that a task must ask for first (AMX); no 32-bit program has them.
const ON_DEMAND: u64 = (1 << 17) | (1 << 18);

/// Offset and size of a component in the uncompacted xsave area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub offset: u32,
    pub size: u32,
}

/// A CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub has_fxsr: bool,
    pub has_xsave: bool,
    pub xcr0: u64,
    /// By component number; size 0 where there is none. 0 and 1 lie in the legacy area.
    pub extents: [Extent; MAX_COMPONENTS],
    pub mxcsr_mask: u32,
    pub features: [u32; 7],
    pub vendor: [u8; 16],
    pub brand: [u8; 48],
}

/// Default mask where FXSAVE stores none (Intel SDM, volume 1, 11.6.6).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    #[allow(unused_unsafe)] // It is safe to call in later versions of Rust.
    // SAFETY: every CPU that runs Linux today has CPUID; unknown leaves return data, no fault.
    let r = unsafe { intrinsics::__cpuid_count(leaf, subleaf) };
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// # Safety
/// The CPU has XSAVE and the kernel uses it.
#[target_feature(enable = "xsave")]
unsafe fn read_xcr0() -> u64 {
    // SAFETY: register 0 exists wherever OSXSAVE is set, which the caller has checked.
    unsafe { intrinsics::_xgetbv(0) }
}

/// # Safety
/// The CPU has FXSR.
#[target_feature(enable = "fxsr")]
unsafe fn read_mxcsr_mask() -> u32 {
    #[repr(C, align(16))]
    struct Area([u8; 512]);
    let mut area = Area([0; 512]);
    // SAFETY: 512 bytes, aligned to 16, as FXSAVE demands.
    unsafe { intrinsics::_fxsave(area.0.as_mut_ptr()) };
    let mut mask = [0u8; 4];
    if let Some(bytes) = area.0.get(28..32) {
        mask.copy_from_slice(bytes);
    }
    u32::from_le_bytes(mask)
}

impl Cpu {
    /// Looks at the CPU. Some thirty CPUID instructions; under a hypervisor each may take 2 us.
    pub fn detect() -> Cpu {
        let [max_leaf, b, c, d] = cpuid(0, 0);
        let mut vendor = [0u8; 16];
        for (place, word) in vendor.chunks_exact_mut(4).zip([b, d, c]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let [_, _, leaf1_c, leaf1_d] = cpuid(1, 0);
        let [_, leaf7_b, leaf7_c, leaf7_d] = if max_leaf >= 7 { cpuid(7, 0) } else { [0; 4] };
        let [max_ext, ..] = cpuid(0x8000_0000, 0);
        let [_, _, ext_c, ext_d] = if max_ext >= 0x8000_0001 { cpuid(0x8000_0001, 0) } else { [0; 4] };
        let mut brand = [0u8; 48];
        if max_ext >= 0x8000_0004 {
            for (i, part) in brand.chunks_exact_mut(16).enumerate() {
                for (place, word) in part.chunks_exact_mut(4).zip(cpuid(0x8000_0002 + i as u32, 0)) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
        let has_fxsr = leaf1_d & (1 << 24) != 0;
        let has_xsave = leaf1_c & (1 << 27) != 0; // OSXSAVE: the kernel uses it
        let mut extents = [Extent::default(); MAX_COMPONENTS];
        let mut xcr0 = 3;
        if has_xsave {
            // SAFETY: OSXSAVE is set.
            xcr0 = unsafe { read_xcr0() } & !ON_DEMAND;
            for (i, extent) in extents.iter_mut().enumerate().skip(2) {
                if xcr0 & (1 << i) != 0 {
                    let [size, offset, ..] = cpuid(0xd, i as u32);
                    *extent = Extent { offset, size };
                }
            }
        }
        let mut mxcsr_mask = DEFAULT_MXCSR_MASK;
        if has_fxsr {
            // SAFETY: FXSR is there.
            let found = unsafe { read_mxcsr_mask() };
            if found != 0 {
                mxcsr_mask = found;
            }
        }
        Cpu {
            has_fxsr,
            has_xsave,
            xcr0,
            extents,
            mxcsr_mask,
            features: [leaf1_c, leaf1_d, leaf7_b, leaf7_c, leaf7_d, ext_c, ext_d],
            vendor,
            brand,
        }
    }

    /// Size of the uncompacted area that holds the components of `set`.
    pub fn area_size(&self, set: u64) -> u32 {
        let mut size = 512 + 64;
        for (i, extent) in self.extents.iter().enumerate() {
            if set & (1 << i) != 0 {
                size = size.max(extent.offset + extent.size);
            }
        }
        size
    }

    /// HEADER_ARCH and how many components `out` got.
    pub fn describe(&self, task_size: u64, out: &mut [Component; MAX_COMPONENTS]) -> (HeaderArch, usize) {
        let mut n = 0;
        for (i, extent) in self.extents.iter().enumerate().filter(|(_, extent)| extent.size != 0) {
            if let Some(place) = out.get_mut(n) {
                place.id = U32::new(i as u32);
                place.offset = U32::new(extent.offset);
                place.size = U32::new(extent.size);
                place.reserved = U32::new(0);
                n += 1;
            }
        }
        let xstate_size = if self.has_xsave { self.area_size(self.xcr0) } else { 512 };
        let head = HeaderArch {
            has_fxsr: U16::new(self.has_fxsr.into()),
            has_xsave: U16::new(self.has_xsave.into()),
            xstate_size: U16::new(xstate_size as u16),
            has_hwfp: U16::new((self.features[1] & 1).try_into().unwrap_or(0)),
            xcr0: U64::new(self.xcr0),
            mxcsr_mask: U32::new(self.mxcsr_mask),
            components: U32::new(n as u32),
            task_size: U64::new(task_size),
            features: self.features.map(U32::new),
            reserved: U32::new(0),
            vendor: self.vendor,
            brand: self.brand,
        };
        (head, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_makes_sense() {
        let cpu = Cpu::detect();
        assert!(cpu.has_fxsr);
        assert_eq!(cpu.xcr0 & 3, 3);
        assert!(cpu.mxcsr_mask & 0x1f80 == 0x1f80);
        assert!(cpu.area_size(3) == 576);
        let mut components = [Component::default(); MAX_COMPONENTS];
        let (head, n) = cpu.describe(0xffff_e000, &mut components);
        assert_eq!(head.components.get() as usize, n);
    }
}
