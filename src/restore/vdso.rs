//! [NORMAL] The kernel's code and data pages: moved to where the program knows them.

use super::layout::Mapping;
use crate::format::image::{Image, VmaEntry};
use crate::format::memory::vma_kind;
use std::fs::File;

/// A move of one of the kernel's mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub from: u64,
    pub len: u64,
    pub to: u64,
}

/// How the program gets its vdso.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VdsoPlan {
    pub moves: Vec<Move>,
    /// Bytes to write over the old entry points, where the vdso of this kernel differs: (address,
    /// instruction).
    pub patches: Vec<(u64, [u8; 5])>,
    /// The image's own copy of the vdso is put back as plain memory.
    pub keep_old_code: bool,
    /// Where the vdso of the program leads to the fronts that its clocks need: what stands behind them.
    pub front: Option<KernelFunctions>,
}

/// Addresses of this kernel's functions; 0 where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFunctions {
    pub clock_gettime: u32,
    pub clock_gettime64: u32,
    pub vsyscall: u32,
}

impl KernelFunctions {
    /// Of a vdso with these `symbols`, at `start`.
    fn find(symbols: &[(String, u64)], start: u64) -> KernelFunctions {
        let address = |wanted| symbols.iter().find(|(name, _)| name == wanted).map_or(0, |(_, at)| (start + at) as u32);
        KernelFunctions {
            clock_gettime: address(CLOCK_GETTIME),
            clock_gettime64: address(CLOCK_GETTIME64),
            vsyscall: address(KERNEL_VSYSCALL),
        }
    }
}

const CLOCK_GETTIME: &str = "__vdso_clock_gettime";
const CLOCK_GETTIME64: &str = "__vdso_clock_gettime64";
const KERNEL_VSYSCALL: &str = "__kernel_vsyscall";

fn is_kernel(name: &str) -> bool {
    name == "[vdso]" || name.starts_with("[vvar")
}

/// Decides how. With `go_back`, a clock of the program would: a front is put before the vdso if it can. `hole` finds room
/// for `len` bytes that is free here and in the image.
pub fn plan_vdso(
    image: &Image,
    source: &File,
    own: &[Mapping],
    go_back: bool,
    hole: &mut dyn FnMut(u64) -> Option<u64>,
) -> Result<VdsoPlan, String> {
    let here: Vec<&Mapping> = own.iter().filter(|mapping| is_kernel(&mapping.name)).collect();
    let there: Vec<(u64, u64, String)> = image
        .vmas
        .iter()
        .filter(|entry| matches!(entry.vma.kind.get(), vma_kind::VDSO | vma_kind::VVAR))
        .map(|entry| {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            (entry.vma.start.get(), entry.vma.end.get(), name)
        })
        .collect();
    let mut plan = VdsoPlan { moves: Vec::new(), patches: Vec::new(), keep_old_code: false, front: None };
    if there.is_empty() {
        return Ok(plan);
    }
    // vvar lies at a fixed distance from the code, which addresses it relative to itself.
    let same_shape = here.len() == there.len()
        && here.iter().zip(&there).all(|(here, (start, end, name))| {
            here.name == *name
                && here.end - here.start == end - start
                && here.start.wrapping_sub(there_base(own)) == start.wrapping_sub(there[0].0)
        });
    let code = image.vmas.iter().find(|entry| entry.vma.kind.get() == vma_kind::VDSO);
    let old = match code {
        Some(entry) => super::memory::read_pages(image, source, entry.vma.start.get(), entry.vma.end.get())?,
        None => Vec::new(),
    };
    let new = here.iter().find(|mapping| mapping.name == "[vdso]").map(|mapping| own_bytes(mapping));
    let is_same = same_shape && (code.is_none() || new.as_deref() == Some(old.as_slice()));
    let old_symbols = if code.is_some() { symbols(&old)? } else { Vec::new() };
    let inside = code.and_then(|code| find_inside(image, code, &old_symbols));
    let in_front = image.clock_front.filter(|front| front.in_use.get() != 0);
    // Who reads the clock in the vdso as it was goes on there: then it stays without.
    let new_front = image.clock_front.filter(|_| go_back && in_front.is_none() && inside.is_none());
    if is_same && new_front.is_none() {
        if let Some(ip) = inside.filter(|_| image.clock_offsets.is_some() && !is_in_time_namespace()) {
            return Err(cannot_go_on(
                ip,
                "there is no time namespace here as there was; restart it by 'selfckpt restart' without '--pid new', \
                 or from another generation",
            ));
        }
        plan.front =
            code.filter(|_| in_front.is_some()).map(|code| KernelFunctions::find(&old_symbols, code.vma.start.get()));
        plan.moves = here
            .iter()
            .zip(&there)
            .map(|(here, (start, ..))| Move { from: here.start, len: here.end - here.start, to: *start })
            .collect();
        return Ok(plan);
    }
    // Another kernel, or a front: this kernel's vdso stays whole, elsewhere, and the old entry points lead there.
    let (Some(new), Some(code)) = (new, code) else {
        return Err("the program uses a vdso, and this kernel has none".to_string());
    };
    let (first, last) = (here[0].start, here[here.len() - 1].end);
    let base = hole(last - first).ok_or("there is no room for this kernel's vdso")?;
    plan.moves = here
        .iter()
        .map(|here| Move { from: here.start, len: here.end - here.start, to: base + here.start - first })
        .collect();
    let new_start = here.iter().find(|mapping| mapping.name == "[vdso]").map_or(0, |mapping| mapping.start);
    let new_start = base + (new_start - first);
    let new_symbols = symbols(&new)?;
    if let Some(ip) = inside {
        let why = format!(
            "this kernel's vdso is another one; restart it from another generation, or on the kernel {}",
            image.release
        );
        return Err(cannot_go_on(ip, &why));
    }
    for (name, offset) in old_symbols {
        let of_kernel = new_symbols.iter().find(|(new, _)| *new == name).map(|(_, target)| new_start + target);
        let target = match (name.as_str(), new_front) {
            (CLOCK_GETTIME, Some(front)) => Some(front.clock_gettime.get()),
            (CLOCK_GETTIME64, Some(front)) => Some(front.clock_gettime64.get()),
            (KERNEL_VSYSCALL, Some(front)) => Some(front.vsyscall.get()),
            _ => of_kernel,
        };
        let to = target.ok_or_else(|| format!("this kernel's vdso has no {name}, which the program may call"))?;
        let from = code.vma.start.get() + offset;
        let distance = (to as u32).wrapping_sub(from as u32).wrapping_sub(5);
        let mut jump = [0xe9, 0, 0, 0, 0];
        jump[1..].copy_from_slice(&distance.to_le_bytes());
        plan.patches.push((from, jump));
    }
    plan.front = in_front.or(new_front).map(|_| KernelFunctions::find(&new_symbols, new_start));
    plan.keep_old_code = true;
    Ok(plan)
}

/// Length of the jump that is written over an entry point, and of `__kernel_vsyscall` at most.
const JUMP: u64 = 5;
const VSYSCALL: u64 = 32;

/// Where a thread is in the old code and cannot go on there: that reads the old kernel's data. In a system call it can:
/// behind the call it only pops registers and returns.
fn find_inside(image: &Image, code: &VmaEntry, symbols: &[(String, u64)]) -> Option<u64> {
    let (start, end) = (code.vma.start.get(), code.vma.end.get());
    let vsyscall = symbols.iter().find(|(name, _)| name == KERNEL_VSYSCALL).map(|(_, offset)| start + offset);
    let in_call = |ip: u64| vsyscall.is_some_and(|entry| (entry + JUMP..entry + VSYSCALL).contains(&ip));
    let mut ips = image.threads.iter().map(|thread| thread.cpu.ip.get());
    ips.find(|ip| (start..end).contains(ip) && !in_call(*ip))
}

fn cannot_go_on(ip: u64, why: &str) -> String {
    format!("the program was reading the clock ({ip:#x}, in the vdso) when the image was taken, and {why}")
}

/// In one, the code in the vdso reads the kernel's data at another place, where outside there is nothing.
pub fn is_in_time_namespace() -> bool {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offsets.split_whitespace().any(|word| word.parse::<i64>().is_ok_and(|number| number != 0))
}

fn there_base(own: &[Mapping]) -> u64 {
    own.iter().find(|mapping| is_kernel(&mapping.name)).map_or(0, |mapping| mapping.start)
}

#[allow(unsafe_code)] // Reads the vdso, which is mapped readable for the life of the process.
fn own_bytes(mapping: &Mapping) -> Vec<u8> {
    let len = (mapping.end - mapping.start) as usize;
    // SAFETY: /proc/self/maps lists the mapping; the vdso is always readable.
    unsafe { std::slice::from_raw_parts(mapping.start as usize as *const u8, len) }.to_vec()
}

/// Functions that a vdso exports, and their offsets.
pub fn symbols(vdso: &[u8]) -> Result<Vec<(String, u64)>, String> {
    use object::read::elf::ElfFile32;
    use object::{Object, ObjectSymbol};
    let file: ElfFile32<'_> = ElfFile32::parse(vdso).map_err(|error| format!("cannot understand the vdso: {error}"))?;
    Ok(file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == object::SymbolKind::Text)
        .filter_map(|symbol| Some((symbol.name().ok()?.to_string(), symbol.address())))
        .collect())
}
