//! [NORMAL] What the dynamic linker has loaded: strings, and the words by which functions of others are called.
#![allow(unsafe_code)] // Reads ELF structures where they have been loaded.

use core::ffi::CStr;

/// `Elf32_Phdr`, by word.
type Header = [usize; 8];
const TYPE: usize = 0;
const ADDRESS: usize = 2;
const SIZE: usize = 5;

const PT_LOAD: usize = 1;
const PT_DYNAMIC: usize = 2;
const PT_PHDR: usize = 6;
const PT_GNU_RELRO: usize = 0x6474_e552;

const DT_PLTRELSZ: usize = 2;
const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
const DT_STRSZ: usize = 10;
const DT_REL: usize = 17;
const DT_RELSZ: usize = 18;
const DT_JMPREL: usize = 23;

const PAGE: usize = 4096;

/// A loaded object.
pub struct Object {
    base: usize,
    headers: &'static [Header],
    dynamic: &'static [[usize; 2]],
}

/// A word that holds the address of a function of another object.
pub struct Slot {
    pub address: usize,
    /// It is only called by, so it may lead to the dynamic linker until the first call (R_386_JMP_SLOT).
    pub is_of_function: bool,
}

impl Slot {
    pub fn value(&self) -> usize {
        // SAFETY: the object's relocations name it as such a word.
        unsafe { (self.address as *const usize).read_volatile() }
    }

    pub fn set(&self, value: usize) {
        // SAFETY: as above; the caller has made it writable.
        unsafe { (self.address as *mut usize).write_volatile(value) };
    }
}

impl Object {
    /// # Safety
    /// It stays loaded.
    pub unsafe fn new(info: &libc::dl_phdr_info) -> Option<Object> {
        // SAFETY: by the contract above.
        unsafe { Object::find(Some(info.dlpi_addr as usize), info.dlpi_phdr as usize, info.dlpi_phnum.into()) }
    }

    /// The main program, as the kernel tells it.
    pub fn main() -> Option<Object> {
        // SAFETY: takes a number.
        let [headers, count] = [libc::AT_PHDR, libc::AT_PHNUM].map(|of| unsafe { libc::getauxval(of) } as usize);
        // SAFETY: the kernel has told where the program headers lie and how many there are.
        if headers == 0 { None } else { unsafe { Object::find(None, headers, count) } }
    }

    /// # Safety
    /// There are so many headers, of an object that stays loaded.
    unsafe fn find(base: Option<usize>, headers_at: usize, count: usize) -> Option<Object> {
        // SAFETY: by the contract above.
        let headers = unsafe { core::slice::from_raw_parts(headers_at as *const Header, count) };
        let find = |kind| headers.iter().find(|header| header[TYPE] == kind);
        let base = base.or_else(|| Some(headers_at.wrapping_sub(find(PT_PHDR)?[ADDRESS])))?;
        let dynamic = find(PT_DYNAMIC)?;
        let (at, len) = (base.wrapping_add(dynamic[ADDRESS]), dynamic[SIZE] / size_of::<[usize; 2]>());
        // SAFETY: its dynamic section, mapped with it.
        let dynamic = unsafe { core::slice::from_raw_parts(at as *const [usize; 2], len) };
        Some(Object { base, headers, dynamic })
    }

    fn value(&self, tag: usize) -> Option<usize> {
        self.dynamic.iter().find(|entry| entry[0] == tag).map(|entry| entry[1])
    }

    /// The dynamic linker has added the base, where it may write.
    fn address(&self, tag: usize) -> Option<usize> {
        self.value(tag).map(|at| if at < self.base { self.base + at } else { at })
    }

    /// All strings of its symbols.
    pub fn strings(&self) -> Option<&'static [u8]> {
        let (at, size) = (self.address(DT_STRTAB)?, self.value(DT_STRSZ)?);
        // SAFETY: its string table.
        Some(unsafe { core::slice::from_raw_parts(at as *const u8, size) })
    }

    pub fn contains(&self, address: usize) -> bool {
        let mut loads = self.headers.iter().filter(|header| header[TYPE] == PT_LOAD);
        loads.any(|header| address.wrapping_sub(self.base.wrapping_add(header[ADDRESS])) < header[SIZE])
    }

    /// Start and length of what is read-only since it has been relocated, if the address is in it.
    pub fn protected_around(&self, address: usize) -> Option<(usize, usize)> {
        let header = self.headers.iter().find(|header| header[TYPE] == PT_GNU_RELRO)?;
        let start = self.base.wrapping_add(header[ADDRESS]);
        let (start, end) = (start & !(PAGE - 1), start.wrapping_add(header[SIZE]) & !(PAGE - 1));
        (start..end).contains(&address).then_some((start, end - start))
    }

    /// The words that hold addresses of what other objects define, and its names.
    pub fn for_each_slot(&self, mut each: impl FnMut(&CStr, Slot)) {
        const R_386_GLOB_DAT: usize = 6;
        const R_386_JMP_SLOT: usize = 7;
        let (Some(symbols), Some(strings)) = (self.address(DT_SYMTAB), self.strings()) else { return };
        for (table, size) in [(DT_JMPREL, DT_PLTRELSZ), (DT_REL, DT_RELSZ)] {
            let (Some(at), Some(size)) = (self.address(table), self.value(size)) else { continue };
            // SAFETY: its relocations: where, and what.
            let relocations = unsafe { core::slice::from_raw_parts(at as *const [usize; 2], size / 8) };
            for &[offset, what] in relocations {
                let kind = what & 0xff;
                if !matches!(kind, R_386_GLOB_DAT | R_386_JMP_SLOT) {
                    continue;
                }
                // SAFETY: its symbol: the place of its name, value, size, and what tells in which section it is defined.
                let [name, _, _, kind_and_section] = unsafe { (symbols as *const [usize; 4]).add(what >> 8).read() };
                let is_defined = kind_and_section >> 16 != 0;
                let name = strings.get(name..).and_then(|name| CStr::from_bytes_until_nul(name).ok());
                let address = self.base.wrapping_add(offset);
                if let Some(name) = name.filter(|_| !is_defined) {
                    each(name, Slot { address, is_of_function: kind == R_386_JMP_SLOT });
                }
            }
        }
    }
}
