//! [NORMAL] The address space of this process: what is mapped, and where there is room for the
//! restorer in the old and in the new one.

use crate::format::Image;
use crate::format::memory::vma_flag;

/// A mapping of this process.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub name: String,
}

/// Reads /proc/self/maps.
pub fn own_mappings() -> Result<Vec<Mapping>, String> {
    let text = std::fs::read("/proc/self/maps").map_err(|error| format!("cannot read /proc/self/maps: {error}"))?;
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let range = fields.next().and_then(|range| range.split_once('-'));
            let (start, end) = range.ok_or_else(|| format!("cannot understand /proc/self/maps: {line}"))?;
            let parse = |text| u64::from_str_radix(text, 16).map_err(|_| format!("cannot understand: {line}"));
            let name = fields.nth(4).unwrap_or("").to_string();
            Ok(Mapping { start: parse(start)?, end: parse(end)?, name })
        })
        .collect()
}

/// A mapping that grows down may take what lies below it at any time.
const GROWTH: u64 = 1 << 20;

/// Lowest address at which `len` bytes are free both here and in the image.
pub fn find_hole(own: &[Mapping], image: &Image, len: u64) -> Option<u64> {
    let mut taken: Vec<(u64, u64)> = own
        .iter()
        .map(|mapping| (mapping.start.saturating_sub(GROWTH), mapping.end))
        .chain(image.vmas.iter().map(|entry| {
            let below = if entry.vma.flags.get() & vma_flag::GROWSDOWN != 0 { GROWTH } else { 0 };
            (entry.vma.start.get().saturating_sub(below), entry.vma.end.get())
        }))
        .collect();
    taken.sort_unstable();
    let mut at = 0x10000;
    for (start, end) in taken {
        if start >= at + len {
            break;
        }
        at = at.max(end);
    }
    (at + len <= 0xbfff_0000.max(image.mm.task_size.get())).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_mappings_hold_this_code() {
        let here = own_mappings as *const () as u64;
        assert!(own_mappings().unwrap().iter().any(|mapping| (mapping.start..mapping.end).contains(&here)));
    }
}
