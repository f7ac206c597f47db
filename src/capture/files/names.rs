//! [SIGNAL] What open files are called. A name that follows from one that was read before is not read again: programs
//! with very many descriptors have many of a kind.

use super::{FdSlot, Path};
use crate::sys::abi::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};
use crate::sys::{Errno, Text, fs, text::text};

/// What was found out of a file.
struct Known {
    dev: u64,
    ino: u64,
    mount: u64,
    path: Path,
    at_its_path: Option<bool>,
}

impl Known {
    /// No file is on mount 0.
    const NONE: Known = Known { dev: 0, ino: 0, mount: 0, path: Path::new(), at_its_path: None };
}

const REMEMBERED: usize = 8;

pub struct Names {
    /// Directory fd of the thread in /proc.
    links: i32,
    /// Devices of all pipes and of all sockets, which the kernel names by their inodes alone.
    pipes: Option<u64>,
    sockets: Option<u64>,
    recent: [Known; REMEMBERED],
}

impl Names {
    pub fn new(links: i32) -> Names {
        Names { links, pipes: None, sockets: None, recent: [const { Known::NONE }; REMEMBERED] }
    }

    /// Puts the name of the file into `path`, which is empty. Returns whether it can be found again by that, if it is known.
    pub fn find(&mut self, slot: &FdSlot, path: &mut Path) -> Result<Option<bool>, Errno> {
        let of_all = match slot.mode & S_IFMT {
            S_IFIFO => Some(("pipe", &mut self.pipes)),
            S_IFSOCK => Some(("socket", &mut self.sockets)),
            _ => None,
        };
        let by_inode = |what| -> Text<40> { text!("{what}:[{}]", slot.ino) };
        match of_all {
            Some((what, Some(dev))) if *dev == slot.dev => path.push(by_inode(what).as_bytes()),
            Some((what, dev)) => {
                read(self.links, slot.fd, path)?;
                if path.as_bytes() == by_inode(what).as_bytes() {
                    *dev = Some(slot.dev);
                }
            }
            None if slot.eventfd.is_some() => path.push(super::event::EVENTFD),
            None => return self.find_known(slot, path),
        }
        Ok(None)
    }

    fn find_known(&mut self, slot: &FdSlot, path: &mut Path) -> Result<Option<bool>, Errno> {
        let links = self.links;
        let Some(known) = self.place(slot) else {
            read(links, slot.fd, path)?;
            return Ok(None);
        };
        if (known.dev, known.ino, known.mount) != (slot.dev, slot.ino, slot.mount) {
            *known = Known::NONE;
            read(links, slot.fd, &mut known.path)?;
            (known.dev, known.ino, known.mount) = (slot.dev, slot.ino, slot.mount);
        }
        path.push(known.path.as_bytes());
        Ok(known.at_its_path)
    }

    /// Keeps what was found out of the file that `find` was called for last.
    pub fn note(&mut self, slot: &FdSlot, at_its_path: Option<bool>) {
        if let Some(known) = self.place(slot) {
            known.at_its_path = at_its_path;
        }
    }

    /// Where a file is remembered that has one name only, on its mount.
    fn place(&mut self, slot: &FdSlot) -> Option<&mut Known> {
        let has_one_name = match slot.mode & S_IFMT {
            S_IFREG | S_IFCHR => slot.nlink == 1,
            S_IFDIR => slot.nlink != 0,
            _ => false,
        };
        let at = (slot.ino % REMEMBERED as u64) as usize;
        if has_one_name && slot.mount != 0 { self.recent.get_mut(at) } else { None }
    }
}

fn read(links: i32, fd: i32, path: &mut Path) -> Result<(), Errno> {
    let number: Text<16> = text!("{fd}\0");
    let mut link = [0u8; 4096];
    path.push(fs::readlink(links, number.as_bytes(), &mut link)?);
    Ok(())
}
