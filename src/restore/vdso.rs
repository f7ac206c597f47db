//! [NORMAL] The kernel's code and data pages: moved to where the program knows them.

use super::layout::Mapping;
use crate::format::image::Image;
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
}

fn is_kernel(name: &str) -> bool {
    name == "[vdso]" || name.starts_with("[vvar")
}

/// Decides how. `hole` finds room for `len` bytes that is free here and in the image.
pub fn plan_vdso(
    image: &Image,
    source: &File,
    own: &[Mapping],
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
    let mut plan = VdsoPlan { moves: Vec::new(), patches: Vec::new(), keep_old_code: false };
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
    if same_shape && (code.is_none() || new.as_deref() == Some(old.as_slice())) {
        if let Some(code) = code.filter(|_| image.clock_offsets.is_some() && !is_in_time_namespace()) {
            let why = "there is no time namespace here as there was; restart it by 'selfckpt restart' without '--pid new', \
                       or from another generation";
            check_not_inside(image, code.vma.start.get(), code.vma.end.get(), &symbols(&old)?, why)?;
        }
        plan.moves = here
            .iter()
            .zip(&there)
            .map(|(here, (start, ..))| Move { from: here.start, len: here.end - here.start, to: *start })
            .collect();
        return Ok(plan);
    }
    // Another kernel: its vdso stays whole, elsewhere, and the old entry points lead there.
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
    let new_symbols = symbols(&new)?;
    let old_symbols = symbols(&old)?;
    let why = format!(
        "this kernel's vdso is another one; restart it from another generation, or on the kernel {}",
        image.release
    );
    check_not_inside(image, code.vma.start.get(), code.vma.end.get(), &old_symbols, &why)?;
    for (name, offset) in old_symbols {
        let Some((_, target)) = new_symbols.iter().find(|(new, _)| *new == name) else {
            return Err(format!("this kernel's vdso has no {name}, which the program may call"));
        };
        let from = code.vma.start.get() + offset;
        let to = base + (new_start - first) + target;
        let distance = (to as u32).wrapping_sub(from as u32).wrapping_sub(5);
        let mut jump = [0xe9, 0, 0, 0, 0];
        jump[1..].copy_from_slice(&distance.to_le_bytes());
        plan.patches.push((from, jump));
    }
    plan.keep_old_code = true;
    Ok(plan)
}

/// Length of the jump that is written over an entry point, and of `__kernel_vsyscall` at most.
const JUMP: u64 = 5;
const VSYSCALL: u64 = 32;

/// The old code cannot go on where it reads the old kernel's data. In a system call it can: behind the
/// call it only pops registers and returns.
fn check_not_inside(image: &Image, start: u64, end: u64, symbols: &[(String, u64)], why: &str) -> Result<(), String> {
    let vsyscall = symbols.iter().find(|(name, _)| name == "__kernel_vsyscall").map(|(_, offset)| start + offset);
    for thread in &image.threads {
        let ip = thread.cpu.ip.get();
        let in_call = vsyscall.is_some_and(|entry| (entry + JUMP..entry + VSYSCALL).contains(&ip));
        if (start..end).contains(&ip) && !in_call {
            return Err(format!(
                "the program was reading the clock ({ip:#x}, in the vdso) when the image was taken, and {why}"
            ));
        }
    }
    Ok(())
}

/// In one, the code in the vdso reads the kernel's data at another place, where outside there is nothing.
fn is_in_time_namespace() -> bool {
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
