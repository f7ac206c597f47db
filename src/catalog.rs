//! [NORMAL] The images of a directory: how their files are named, which there are, which is the
//! newest that can be read. Called by the command line and, at a restart, by the library.
//!
//! ```text
//! DIR/NAME.000001.ckpt        an image; the number is its generation
//! DIR/.NAME.000002.ckpt.tmp   an image that is being written, or that was given up
//! DIR/NAME.lock               held by the running program
//! DIR/NAME.status.json        how the newest checkpoints went
//! ```

use crate::format::reader::PageData;
use crate::format::{FormatError, Image};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// End of an image's file name.
pub const SUFFIX: &[u8] = b".ckpt";
/// What a file name has after [`SUFFIX`] while the image is written. Such a name starts with a dot.
pub const TEMPORARY_SUFFIX: &[u8] = b".tmp";
/// End of a lock's file name.
pub const LOCK_SUFFIX: &[u8] = b".lock";
/// Fewest digits of a generation in a file name.
const DIGITS: usize = 6;
/// Longest image name: leaves room for what stands around it in a file name of 255 bytes.
pub const NAME_MAX: usize = 224;
/// Longest name that a job can be given: its descendants' names have a pid after it.
pub const JOB_NAME_MAX: usize = 200;

/// Whether `name` can be the stem of file names.
pub fn valid_name(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name != b"." && name != b".." && !name.iter().any(|&b| b == b'/' || b == 0)
}

/// `NAME.000001.ckpt`.
pub fn image_file_name(name: &[u8], generation: u32) -> OsString {
    let number = format!(".{generation:0DIGITS$}");
    OsString::from_vec([name, number.as_bytes(), SUFFIX].concat())
}

/// `.NAME.000001.ckpt.tmp`.
pub fn temporary_file_name(name: &[u8], generation: u32) -> OsString {
    OsString::from_vec([b".", image_file_name(name, generation).as_bytes(), TEMPORARY_SUFFIX].concat())
}

/// `NAME.lock`.
pub fn lock_file_name(name: &[u8]) -> OsString {
    OsString::from_vec([name, LOCK_SUFFIX].concat())
}

/// `NAME.status.json`.
pub fn status_file_name(name: &[u8]) -> OsString {
    OsString::from_vec([name, b".status.json"].concat())
}

/// `.NAME.status.json.tmp`.
pub fn temporary_status_file_name(name: &[u8]) -> OsString {
    OsString::from_vec([b".", status_file_name(name).as_bytes(), TEMPORARY_SUFFIX].concat())
}

/// Name and generation of [`image_file_name`].
pub fn parse_image_file_name(file: &[u8]) -> Option<(&[u8], u32)> {
    let stem = file.strip_suffix(SUFFIX)?;
    let dot = stem.iter().rposition(|&byte| byte == b'.')?;
    let (name, digits) = (&stem[..dot], &stem[dot + 1..]);
    let padded = digits.len() == DIGITS || digits.len() > DIGITS && digits[0] != b'0';
    if !padded || !valid_name(name) {
        return None;
    }
    let generation = u32::try_from(crate::settings::parse_number(digits)?).ok().filter(|&n| n != 0)?;
    Some((name, generation))
}

/// Name and generation of [`temporary_file_name`].
pub fn parse_temporary_file_name(file: &[u8]) -> Option<(&[u8], u32)> {
    parse_image_file_name(file.strip_prefix(b".")?.strip_suffix(TEMPORARY_SUFFIX)?)
}

/// Name of [`lock_file_name`].
pub fn parse_lock_file_name(file: &[u8]) -> Option<&[u8]> {
    file.strip_suffix(LOCK_SUFFIX).filter(|name| valid_name(name))
}

/// An image file, not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub generation: u32,
    pub path: PathBuf,
    pub size: u64,
    pub modified: SystemTime,
}

/// The images of a directory: those of one name together, the newest generation first; the name
/// whose newest image is the youngest file comes first.
///
/// # Errors
/// The directory cannot be read. A file that vanishes meanwhile is none.
pub fn scan(dir: &Path) -> Result<Vec<Entry>, CatalogError> {
    let fail = |error| CatalogError::Io { what: "read directory", path: dir.to_path_buf(), error };
    let mut entries = Vec::new();
    for item in std::fs::read_dir(dir).map_err(fail)? {
        let item = item.map_err(fail)?;
        let file_name = item.file_name();
        let Some((name, generation)) = parse_image_file_name(file_name.as_bytes()) else { continue };
        let path = item.path();
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => entries.push(Entry {
                name: name.to_vec(),
                generation,
                size: meta.len(),
                modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            }),
            _ => {}
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name).then(b.generation.cmp(&a.generation)));
    let mut jobs: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        match jobs.last_mut() {
            Some(job) if job[0].name == entry.name => job.push(entry),
            _ => jobs.push(vec![entry]),
        }
    }
    jobs.sort_by(|a, b| b[0].modified.cmp(&a[0].modified));
    Ok(jobs.into_iter().flatten().collect())
}

/// An image that has been read, and how it was found.
#[derive(Debug)]
pub struct Chosen {
    pub path: PathBuf,
    /// The file that `image` was read from, so that a renamed or removed path does no harm.
    pub file: File,
    pub image: Image,
    /// Newer images that cannot be used, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Why there is no image to restart from.
#[derive(Debug)]
pub enum CatalogError {
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// The image that was asked for cannot be read.
    Image {
        path: PathBuf,
        error: FormatError,
    },
    /// No image in the directory; of this name, if one was asked for.
    Empty {
        dir: PathBuf,
        name: Option<Vec<u8>>,
    },
    /// Images of several names, and none was asked for.
    SeveralNames {
        dir: PathBuf,
        names: Vec<Vec<u8>>,
    },
    /// There are images, but none that can be read.
    NoneValid {
        dir: PathBuf,
        skipped: Vec<(PathBuf, String)>,
    },
    /// Neither a file nor a directory.
    NotAFile {
        path: PathBuf,
    },
}

/// A name, for messages.
fn show(name: &[u8]) -> std::path::Display<'_> {
    Path::new(OsStr::from_bytes(name)).display()
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogError::Io { what, path, error } => write!(f, "cannot {what} {}: {error}", path.display()),
            CatalogError::Image { path, error } => write!(f, "{}: {error}", path.display()),
            CatalogError::Empty { dir, name: None } => write!(f, "no image in directory {}", dir.display()),
            CatalogError::Empty { dir, name: Some(name) } => {
                write!(f, "no image of {} in directory {}", show(name), dir.display())
            }
            CatalogError::SeveralNames { dir, names } => {
                write!(f, "directory {} holds images of several jobs; name one of them:", dir.display())?;
                for name in names {
                    write!(f, " {}", dir.join(OsStr::from_bytes(name)).display())?;
                }
                Ok(())
            }
            CatalogError::NoneValid { dir, skipped } => {
                write!(f, "no image in directory {} can be used", dir.display())?;
                for (i, (path, reason)) in skipped.iter().enumerate() {
                    let sign = if i == 0 { ':' } else { ';' };
                    let file = Path::new(path.file_name().unwrap_or(path.as_os_str()));
                    write!(f, "{sign} {}: {reason}", file.display())?;
                }
                Ok(())
            }
            CatalogError::NotAFile { path } => write!(f, "{} is neither an image nor a directory", path.display()),
        }
    }
}

impl std::error::Error for CatalogError {}

/// The newest image of a directory that can be read whole, every checksum included.
///
/// # Errors
/// There is none, or it is not clear of which job.
pub fn newest_valid(dir: &Path, name: Option<&[u8]>) -> Result<Chosen, CatalogError> {
    let mut entries = scan(dir)?;
    match name {
        Some(name) => entries.retain(|entry| entry.name == name),
        None => {
            let mut names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
            names.dedup();
            if names.len() > 1 {
                names.sort();
                return Err(CatalogError::SeveralNames { dir: dir.to_path_buf(), names });
            }
        }
    }
    if entries.is_empty() {
        return Err(CatalogError::Empty { dir: dir.to_path_buf(), name: name.map(<[u8]>::to_vec) });
    }
    let mut skipped = Vec::new();
    for entry in entries {
        match read(&entry.path, PageData::Check) {
            Ok((file, image)) => return Ok(Chosen { path: entry.path, file, image, skipped }),
            Err(CatalogError::Image { path, error }) => skipped.push((path, error.to_string())),
            Err(other) => skipped.push((entry.path, other.to_string())),
        }
    }
    Err(CatalogError::NoneValid { dir: dir.to_path_buf(), skipped })
}

/// Reads the image in `path`.
///
/// # Errors
/// It cannot be opened, or is no whole and undamaged image.
pub fn read(path: &Path, pages: PageData) -> Result<(File, Image), CatalogError> {
    let file =
        File::open(path).map_err(|error| CatalogError::Io { what: "open image", path: path.to_path_buf(), error })?;
    let image = Image::read(&file, pages).map_err(|error| CatalogError::Image { path: path.to_path_buf(), error })?;
    Ok((file, image))
}

/// What an image argument stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An image file.
    Image(PathBuf),
    /// The newest image of a directory; of this name, if one is given.
    Newest { dir: PathBuf, name: Option<Vec<u8>> },
}

/// Tells what `path` stands for: a file is an image, a directory stands for its newest image, and
/// `DIR/NAME` for the newest one of that name where there is no such file.
///
/// # Errors
/// There is nothing of that name.
pub fn target(path: &Path) -> Result<Target, CatalogError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(Target::Newest { dir: path.to_path_buf(), name: None }),
        Ok(meta) if meta.is_file() => Ok(Target::Image(path.to_path_buf())),
        Ok(_) => Err(CatalogError::NotAFile { path: path.to_path_buf() }),
        Err(error) => {
            if let (io::ErrorKind::NotFound, Some(parent), Some(name)) = (error.kind(), path.parent(), path.file_name())
            {
                let dir = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let name = name.as_bytes();
                if scan(dir).is_ok_and(|entries| entries.iter().any(|entry| entry.name == name)) {
                    return Ok(Target::Newest { dir: dir.to_path_buf(), name: Some(name.to_vec()) });
                }
            }
            Err(CatalogError::Io { what: "open image", path: path.to_path_buf(), error })
        }
    }
}

/// The image that `path` stands for (see [`target`]), read whole.
///
/// # Errors
/// There is none that can be used.
pub fn resolve(path: &Path) -> Result<Chosen, CatalogError> {
    match target(path)? {
        Target::Newest { dir, name } => newest_valid(&dir, name.as_deref()),
        Target::Image(path) => {
            let (file, image) = read(&path, PageData::Check)?;
            Ok(Chosen { path, file, image, skipped: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_go_both_ways() {
        assert_eq!(image_file_name(b"app", 3), "app.000003.ckpt");
        assert_eq!(temporary_file_name(b"app", 3), ".app.000003.ckpt.tmp");
        assert_eq!(lock_file_name(b"app"), "app.lock");
        for (name, generation) in [
            (&b"app"[..], 1),
            (b"a.out", 999_999),
            (b"app.000001.ckpt", 1_000_000),
            (b"\xff\xfe", u32::MAX),
            (b".hidden", 7),
        ] {
            let file = image_file_name(name, generation);
            assert_eq!(parse_image_file_name(file.as_bytes()), Some((name, generation)));
            let file = temporary_file_name(name, generation);
            assert_eq!(parse_temporary_file_name(file.as_bytes()), Some((name, generation)));
            assert_eq!(parse_image_file_name(file.as_bytes()), None);
        }
        assert_eq!(parse_lock_file_name(b"app.lock"), Some(&b"app"[..]));
        assert_eq!(parse_lock_file_name(b".lock"), None);
    }

    #[test]
    fn foreign_file_names_are_none_of_ours() {
        for file in [
            "app.ckpt",
            "app.1.ckpt",
            "app.00001.ckpt",
            "app.0000001.ckpt",
            "app.000000.ckpt",
            "app.00000x.ckpt",
            "app.+00001.ckpt",
            "app.4294967296.ckpt",
            ".000001.ckpt",
            "000001.ckpt",
            "app.000001.ckpt.tmp",
            "app.000001.ckpt~",
            "app.000001",
            "",
        ] {
            assert_eq!(parse_image_file_name(file.as_bytes()), None, "{file}");
        }
    }

    #[test]
    fn names_that_can_stand_in_a_directory() {
        assert!(valid_name(b"app") && valid_name(b"..."));
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; NAME_MAX + 1]] {
            assert!(!valid_name(name), "{name:?}");
        }
        let longest = [b'x'; NAME_MAX];
        assert!(temporary_file_name(&longest, u32::MAX).len() <= 255);
    }

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("selfckpt-catalog-{name}-{}", std::process::id()));
            std::fs::create_dir(&dir).expect("a fresh directory");
            Scratch(dir)
        }

        fn put(&self, file: &str, age: u64) {
            let path = self.0.join(file);
            std::fs::write(&path, file).expect("write");
            let when = SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().write(true).open(path).and_then(|f| f.set_modified(when)).expect("set time");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn scan_puts_the_newest_first() {
        let dir = Scratch::new("scan");
        dir.put("old.000009.ckpt", 50);
        dir.put("old.000010.ckpt", 40);
        dir.put("app.000001.ckpt", 10);
        dir.put("app.000002.ckpt", 20);
        dir.put(".app.000003.ckpt.tmp", 0);
        dir.put("app.lock", 0);
        std::fs::create_dir(dir.0.join("app.000004.ckpt")).expect("a directory of that name");
        let found: Vec<_> = scan(&dir.0).expect("readable").into_iter().map(|e| (e.name, e.generation)).collect();
        let expected = [("app", 2), ("app", 1), ("old", 10), ("old", 9)];
        assert_eq!(found, expected.map(|(name, n)| (name.as_bytes().to_vec(), n)));
    }

    #[test]
    fn what_cannot_be_chosen_is_told() {
        let dir = Scratch::new("choose");
        let at = |name: &str| dir.0.join(name);
        assert!(matches!(resolve(&dir.0), Err(CatalogError::Empty { .. })));
        assert!(matches!(resolve(&at("app")), Err(CatalogError::Io { .. })));
        dir.put("app.000001.ckpt", 10);
        dir.put("app.000002.ckpt", 0);
        match resolve(&dir.0) {
            Err(CatalogError::NoneValid { skipped, .. }) => {
                assert_eq!(skipped.len(), 2);
                assert_eq!(skipped[0].0, at("app.000002.ckpt"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            target(&at("app")).expect("a name"),
            Target::Newest { dir: dir.0.clone(), name: Some(b"app".to_vec()) }
        );
        dir.put("other.000001.ckpt", 0);
        let error = resolve(&dir.0).expect_err("two names").to_string();
        assert!(error.contains("/app ") && error.ends_with("/other"), "{error}");
        assert!(matches!(resolve(&at("app.000001.ckpt")), Err(CatalogError::Image { .. })));
        assert!(matches!(resolve(Path::new("/dev/null")), Err(CatalogError::NotAFile { .. })));
    }
}
