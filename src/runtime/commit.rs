//! [SIGNAL] The image file: written beside, synced, renamed, the directory synced; old ones removed.

use super::config::Config;
use crate::capture::failure::{Failure, fail};
use crate::sys::lines::parse_dec;
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, text::text};

/// Where a checkpoint goes until it is committed.
pub struct Target {
    dir: fs::OwnedFd,
    image: fs::OwnedFd,
    pub generation: u32,
    /// Path for messages.
    path: Text<4400>,
    temporary: Text<300>,
    final_name: Text<300>,
}

fn dir_path(config: &Config) -> Text<4100> {
    let mut path = Text::from_bytes(config.dir.as_bytes());
    path.push(b"\0");
    path
}

/// Name of an image that is being written.
fn temporary_name(config: &Config, generation: u32) -> Text<300> {
    text!(".{}.{generation:06}.ckpt.tmp\0", Bytes(config.name.as_bytes()))
}

/// Removes what a process has left that was killed while it wrote.
pub fn remove_unfinished(config: &Config, generation: u32) {
    let flags = fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC;
    if let Ok(dir) = fs::open(dir_path(config).as_bytes(), flags, 0) {
        let dir = fs::OwnedFd(dir);
        let _ = fs::unlinkat(dir.0, temporary_name(config, generation).as_bytes());
    }
}

impl Target {
    /// Chooses the next generation and creates the temporary file.
    pub fn open(config: &Config, buf: &mut [u8]) -> Result<Target, Failure> {
        let dir = fs::open(dir_path(config).as_bytes(), fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0)
            .map_err(|errno| fail!(errno, "cannot open the directory {}", Bytes(config.dir.as_bytes())))?;
        let dir = fs::OwnedFd(dir);
        let mut newest = config.generation;
        each_generation(&dir, config.name.as_bytes(), buf, |generation| newest = newest.max(generation))
            .map_err(|errno| fail!(errno, "cannot read the directory {}", Bytes(config.dir.as_bytes())))?;
        let generation = newest + 1;
        let name = Bytes(config.name.as_bytes());
        let temporary = temporary_name(config, generation);
        let final_name: Text<300> = text!("{name}.{generation:06}.ckpt\0");
        let path: Text<4400> = text!("{}/{name}.{generation:06}.ckpt", Bytes(config.dir.as_bytes()));
        // One of a killed program may still have a writer.
        let _ = fs::unlinkat(dir.0, temporary.as_bytes());
        let flags = fs::O_RDWR | fs::O_CREAT | fs::O_TRUNC | fs::O_CLOEXEC | fs::O_NOFOLLOW;
        let image = fs::openat(dir.0, temporary.as_bytes(), flags, 0o600)
            .map_err(|errno| fail!(errno, "cannot create {}", Bytes(path.as_bytes())))?;
        // Whatever the program's umask is. File systems without modes keep their own.
        let _ = fs::fchmod(image, 0o600);
        Ok(Target { dir, image: fs::OwnedFd(image), generation, path, temporary, final_name })
    }

    pub fn dir_fd(&self) -> i32 {
        self.dir.0
    }

    pub fn image_fd(&self) -> i32 {
        self.image.0
    }

    pub fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// Makes the image durable and visible, in this order; not if `wanted` says no in between.
    pub fn commit(&self, wanted: impl Fn() -> bool) -> Result<Text<4400>, Failure> {
        let path = Bytes(self.path.as_bytes());
        fs::fsync(self.image.0).map_err(|errno| fail!(errno, "cannot write {path} to the disk"))?;
        // Syncing may have taken long.
        if !wanted() {
            return Err(fail!(Errno::ESRCH, "the program has ended"));
        }
        fs::renameat(self.dir.0, self.temporary.as_bytes(), self.final_name.as_bytes())
            .map_err(|errno| fail!(errno, "cannot rename the finished image to {path}"))?;
        // Some file systems cannot sync a directory; the image itself is on the disk.
        match fs::fsync(self.dir.0) {
            Ok(()) | Err(Errno::EINVAL) => Ok(self.path),
            Err(errno) => Err(fail!(errno, "cannot write the directory of {path} to the disk")),
        }
    }

    /// Removes what was written so far, unless it is another's file by now.
    pub fn abandon(&self) {
        const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
        let own = fs::fstat(self.image.0);
        let there = fs::statx(self.dir.0, self.temporary.as_bytes(), AT_SYMLINK_NOFOLLOW);
        if own.is_ok_and(|own| there.is_ok_and(|there| own.ino != there.ino)) {
            return;
        }
        let _ = fs::unlinkat(self.dir.0, self.temporary.as_bytes());
    }

    /// Removes generations beyond those that are kept. A file that cannot be removed stays.
    pub fn remove_old(&self, config: &Config, buf: &mut [u8]) {
        let mut old = [0u32; 64];
        let mut count = 0;
        let keep_from = self.generation.saturating_sub(config.keep - 1);
        let _ = each_generation(&self.dir, config.name.as_bytes(), buf, |generation| {
            if let Some(slot) = old.get_mut(count).filter(|_| generation < keep_from) {
                *slot = generation;
                count += 1;
            }
        });
        for generation in old.get(..count).unwrap_or(&[]) {
            let name: Text<300> = text!("{}.{generation:06}.ckpt\0", Bytes(config.name.as_bytes()));
            let _ = fs::unlinkat(self.dir.0, name.as_bytes());
        }
    }
}

/// Calls `each` for every `NAME.NNNNNN.ckpt` in a directory.
fn each_generation(dir: &fs::OwnedFd, name: &[u8], buf: &mut [u8], mut each: impl FnMut(u32)) -> Result<(), Errno> {
    fs::seek_to(dir.0, 0, 0)?;
    fs::for_each_name(dir.0, buf, |entry| {
        let generation = entry
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|rest| rest.strip_suffix(b".ckpt"))
            .filter(|digits| digits.len() >= 6)
            .and_then(parse_dec)
            .and_then(|generation| u32::try_from(generation).ok());
        if let Some(generation) = generation {
            each(generation);
        }
        Ok::<(), Errno>(())
    })
}
