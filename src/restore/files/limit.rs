//! [NORMAL] The limit of open files: during a restart every file has two descriptors, so the limit is raised as far as
//! the kernel allows. The program's own limits come at the end of the plan (`restore::attributes`).
#![allow(unsafe_code)] // getrlimit(2), setrlimit(2).

use crate::format::image::Image;

/// Descriptors of the restart itself: image, libraries, lock, directories.
const SPARE: u64 = 64;

/// Raises the soft limit up to the hard one, and that, with the privilege for it, to what a restart of `image` takes.
pub fn raise_limit(image: &Image) {
    let highest = image.fds.last().map_or(2, |fd| u64::from(fd.fd.get()));
    let mut given = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `given` takes the two limits.
    unsafe { libc::getrlimit64(libc::RLIMIT_NOFILE, &raw mut given) };
    let enough = highest + image.files.len() as u64 + SPARE;
    if given.rlim_max < enough && set(enough) {
        return;
    }
    set(given.rlim_max);
}

fn set(limit: u64) -> bool {
    let limit = libc::rlimit64 { rlim_cur: limit, rlim_max: limit };
    // SAFETY: reads two limits. If they stay as they are, opening files tells.
    unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}
