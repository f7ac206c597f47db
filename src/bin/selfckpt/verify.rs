//! [NORMAL] `selfckpt verify`: reads all of an image and says whether this machine could restart it.

use crate::failure::{FAILED, Failure, Outcome};
use crate::verb::{Arguments, Operands, Verb};
use crate::{complain, decode, inspect, program};
use selfckpt::catalog;
use selfckpt::format::files::file_kind;
use selfckpt::format::image::{FileEntry, Image};
use selfckpt::format::memory::vma_kind;
use selfckpt::format::reader::PageData;
use selfckpt::format::task::DELETED;
use selfckpt::restore::check::{Host, Problem, check_image};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb {
    name: "verify",
    synopsis: "IMAGE|DIR",
    summary: "checks whether an image is whole and can be restarted here",
    description: &[
        "Reads every byte of the image and checks every checksum; then whether this machine could restart it: CPU \
         features, kernel, the program, the files that it had open. Each thing that is wrong is one line on standard \
         error. What is suspicious but no obstacle is a line that starts with 'warning'.",
        "A directory stands for its newest image, damaged or not, DIR/NAME for the newest of that job.",
    ],
    options: &[],
    operands: Operands { least: 1, most: 1, rest_is_raw: false },
    exit_status: &["0    the image is whole and can be restarted here", "125  it cannot"],
    examples: &["selfckpt verify ckpt/app.000003.ckpt && selfckpt restart ckpt/app.000003.ckpt"],
    run,
};

fn fatal(text: String) -> Problem {
    Problem { fatal: true, text }
}

fn warning(text: String) -> Problem {
    Problem { fatal: false, text }
}

fn run(arguments: &Arguments) -> Outcome {
    let path = inspect::newest_path(Path::new(&arguments.operands[0]))?;
    let (_, image) = catalog::read(&path, PageData::Check).map_err(|error| Failure::failed(error.to_string()))?;
    let mut problems = machine_problems(&image);
    problems.extend(program_problem(&image));
    problems.extend(directory_problem(&image));
    let own_proc = format!("/proc/{}", image.task.pid.get());
    let files = image.files.iter().filter(|entry| !Path::new(OsStr::from_bytes(&entry.path)).starts_with(&own_proc));
    problems.extend(files.filter_map(|entry| file_problem(&image, entry)));
    problems.extend(mapping_problems(&image));
    for problem in &problems {
        let sign = if problem.fatal { "" } else { "warning: " };
        complain(format!("{}: {sign}{}", path.display(), problem.text));
    }
    if problems.iter().any(|problem| problem.fatal) {
        return Ok(FAILED);
    }
    crate::print(&format!(
        "{}: ok, generation {} of {}, {} bytes, taken {}\n",
        path.display(),
        image.runtime.generation,
        decode::text(&image.name),
        image.bytes,
        decode::date(image.header.time.get())
    ))
}

/// What of the image this CPU and kernel cannot take, or should not.
pub fn machine_problems(image: &Image) -> Vec<Problem> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_image(image, &Host::detect(release.trim().to_string()))
}

fn program_problem(image: &Image) -> Option<Problem> {
    let exe = Path::new(OsStr::from_bytes(&image.exe));
    program::check(exe, "restart").err().map(|failure| fatal(failure.to_string()))
}

fn directory_problem(image: &Image) -> Option<Problem> {
    if image.cwd.ends_with(DELETED) {
        return None; // made again
    }
    let cwd = Path::new(OsStr::from_bytes(&image.cwd));
    match std::fs::metadata(cwd) {
        Ok(meta) if meta.is_dir() => None,
        Ok(_) => Some(fatal(format!("the working directory {} is no directory any more", cwd.display()))),
        Err(error) => Some(fatal(format!("the working directory {}: {error}", cwd.display()))),
    }
}

/// Files that are mapped shared: their pages belong to the file, which must be there. Of private
/// mappings the image holds what it needs.
fn mapping_problems(image: &Image) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in image.vmas.iter().filter(|entry| entry.vma.kind.get() == vma_kind::FILE_SHARED) {
        let path = Path::new(OsStr::from_bytes(&entry.name));
        let size = entry.vma.file_size.get();
        let problem = match std::fs::metadata(path) {
            Ok(meta) if meta.len() >= size => continue,
            Ok(meta) => {
                format!("mapped file {} has {} bytes, {size} at the checkpoint", path.display(), meta.len())
            }
            Err(error) => format!("mapped file {}: {error}", path.display()),
        };
        // A file that is mapped in several parts is told once.
        let problem = fatal(problem);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// Access mode bits of open(2).
const O_ACCMODE: u32 = 3;

/// The name that an inode has in the directory of a path. A restart looks closer.
fn find_inode(path: &Path, inode: u64) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(path.parent()?).ok()?.flatten();
    entries.find(|entry| entry.ino() == inode).map(|entry| entry.path())
}

fn file_problem(image: &Image, entry: &FileEntry) -> Option<Problem> {
    let users = image.fds.iter().filter(|fd| fd.file == entry.file.id);
    let fds = users.map(|fd| fd.fd.get().to_string()).collect::<Vec<_>>().join(", ");
    let fds = if fds.is_empty() { "in a message that waits" } else { &fds };
    let file = &entry.file;
    let path = Path::new(OsStr::from_bytes(&entry.path));
    let kind = file.kind.get();
    if !matches!(kind, file_kind::REGULAR | file_kind::DIRECTORY | file_kind::DEVICE) {
        return None;
    }
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return Some(match find_inode(path, file.ino.get()) {
                Some(name) => warning(format!("fd {fds}: {} is called {} by now", path.display(), name.display())),
                None => fatal(format!("fd {fds}: {}: {error}", path.display())),
            });
        }
    };
    match kind {
        file_kind::DIRECTORY if !meta.is_dir() => {
            Some(fatal(format!("fd {fds}: {} is no directory any more", path.display())))
        }
        file_kind::REGULAR if !meta.is_file() => {
            Some(fatal(format!("fd {fds}: {} is no regular file any more", path.display())))
        }
        file_kind::REGULAR => {
            let size = file.size.get();
            let same_time =
                meta.mtime() as u64 == file.mtime.get() && meta.mtime_nsec() as u32 == file.mtime_nsec.get();
            if meta.len() < size {
                Some(fatal(format!(
                    "fd {fds}: {} has {} bytes, {size} at the checkpoint; what is missing cannot be made up",
                    path.display(),
                    meta.len()
                )))
            } else if file.flags.get() & O_ACCMODE == 0 && !(same_time && meta.len() == size) {
                // A file open for writing has often grown since; a restart cuts it back.
                Some(warning(format!("fd {fds}: {} has changed since the checkpoint", path.display())))
            } else {
                None
            }
        }
        _ => None,
    }
}
