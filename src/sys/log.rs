//! [SIGNAL, NORMAL] The log: one line a message, written by one system call, to stderr or a file.

use super::{fs, text::Text};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    Error = 0,
    Warn = 1,
    Info = 2,
    Debug = 3,
}

static LEVEL: AtomicU32 = AtomicU32::new(Level::Warn as u32);

/// NUL-terminated path of the log file; empty for stderr.
struct LogPath(UnsafeCell<[u8; 4096]>);
// SAFETY: written by `set_file` alone, which its contract restricts to times when nothing logs.
unsafe impl Sync for LogPath {}
static PATH: LogPath = LogPath(UnsafeCell::new([0; 4096]));

pub fn set_level(level: u32) {
    LEVEL.store(level.min(Level::Debug as u32), Ordering::Relaxed);
}

pub fn level() -> u32 {
    LEVEL.load(Ordering::Relaxed)
}

pub fn enabled(level: Level) -> bool {
    level as u32 <= LEVEL.load(Ordering::Relaxed)
}

/// Sends the log to a file, opened anew for each line: the program may close any descriptor, and
/// none of its numbers may be taken.
///
/// # Safety
/// No other thread may log meanwhile: the constructor and a resumed restart call it.
pub unsafe fn set_file(path: &[u8]) -> bool {
    // SAFETY: exclusive by the contract above.
    let place = unsafe { &mut *PATH.0.get() };
    if path.len() >= place.len() {
        return false;
    }
    place.fill(0);
    if let Some(to) = place.get_mut(..path.len()) {
        to.copy_from_slice(path);
    }
    true
}

/// Writes `selfckpt: ` and the message as one line.
pub fn write(level: Level, message: &[u8]) {
    if !enabled(level) {
        return;
    }
    let mut line: Text<1400> = Text::from_bytes(b"selfckpt: ");
    line.push(message.get(..message.len().min(1380)).unwrap_or(&[]));
    line.push(b"\n");
    // SAFETY: `set_file` never runs at the same time as this.
    let path = unsafe { &*PATH.0.get() };
    if path.first() == Some(&0) {
        let _ = fs::write_all(2, line.as_bytes());
        return;
    }
    match fs::open(path, fs::O_WRONLY | fs::O_APPEND | fs::O_CREAT | fs::O_CLOEXEC, 0o600) {
        Ok(fd) => {
            let _ = fs::write_all(fd, line.as_bytes());
            fs::close(fd);
        }
        Err(_) => {
            let _ = fs::write_all(2, line.as_bytes());
        }
    }
}

/// Calls it with a stack frame of its own: who logs may have a small stack, and the text takes more than a kilobyte.
#[cold]
#[inline(never)]
pub fn apart(write: impl FnOnce()) {
    write();
}

/// Logs a formatted line.
macro_rules! log {
    ($level:ident, $($arg:tt)*) => {{
        if $crate::sys::log::enabled($crate::sys::log::Level::$level) {
            $crate::sys::log::apart(|| {
                let text: $crate::sys::Text<1380> = $crate::sys::text::text!($($arg)*);
                $crate::sys::log::write($crate::sys::log::Level::$level, text.as_bytes());
            });
        }
    }};
}
pub(crate) use log;
