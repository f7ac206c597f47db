//! [SIGNAL] DIR/NAME.status.json: how the newest checkpoints went, for whoever watches the job. A file of its own is
//! written beside it and renamed into its place: a reader sees the old one or the new one, whole.

use super::config::Config;
use crate::sys::text::Bytes;
use crate::sys::{Errno, Text, fs, process, text::text};

/// The newest image, as the status tells of it.
#[derive(Clone, Copy)]
pub struct Newest {
    pub generation: u32,
    /// Seconds since 1970.
    pub time: i64,
    pub bytes: u64,
    pub pause_ns: u64,
    pub total_ns: u64,
    pub notices: u32,
}

impl Newest {
    pub const NONE: Newest = Newest { generation: 0, time: 0, bytes: 0, pause_ns: 0, total_ns: 0, notices: 0 };
}

/// What has just happened.
pub enum State<'a> {
    Running,
    /// The program exits with its stop code.
    Stopped,
    /// There is no new image, for this reason; the program goes on.
    Failed(&'a [u8]),
}

/// A JSON string.
struct Quoted<'a>(&'a [u8]);

impl core::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        struct Escape<'a, 'b>(&'a mut core::fmt::Formatter<'b>);
        impl core::fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> core::fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '"' | '\\' => write!(self.0, "\\{c}"),
                    c if (c as u32) < 0x20 => write!(self.0, "\\u{:04x}", c as u32),
                    c => write!(self.0, "{c}"),
                })
            }
        }
        f.write_str("\"")?;
        core::fmt::Write::write_fmt(&mut Escape(f), format_args!("{}", Bytes(self.0)))?;
        f.write_str("\"")
    }
}

/// Writes the file. A status that cannot be written is no reason to fail a checkpoint.
pub fn tell(config: &Config, state: &State<'_>) {
    let name = Bytes(config.name.as_bytes());
    let temporary: Text<300> = text!(".{name}.status.json.tmp\0");
    let place: Text<300> = text!("{name}.status.json\0");
    let mut dir: Text<4100> = Text::from_bytes(config.dir.as_bytes());
    let Some(dir) = dir.as_path() else { return };
    let Ok(dir) = fs::open(dir, fs::O_RDONLY | fs::O_DIRECTORY | fs::O_CLOEXEC, 0) else { return };
    let dir = fs::OwnedFd(dir);
    let done = write(config, state, dir.0, temporary.as_bytes())
        .and_then(|()| fs::renameat(dir.0, temporary.as_bytes(), place.as_bytes()));
    if done.is_err() {
        let _ = fs::unlinkat(dir.0, temporary.as_bytes());
    }
}

fn write(config: &Config, state: &State<'_>, dir: i32, temporary: &[u8]) -> Result<(), Errno> {
    let flags = fs::O_WRONLY | fs::O_CREAT | fs::O_TRUNC | fs::O_CLOEXEC | fs::O_NOFOLLOW;
    let file = fs::OwnedFd(fs::openat(dir, temporary, flags, 0o600)?);
    let put = |text: Text<1024>| fs::write_all(file.0, text.as_bytes());
    let uts = process::uname();
    let host = uts.fields[1].split(|&b| b == 0).next().unwrap_or(&[]);
    let word = if matches!(state, State::Stopped) { "stopped" } else { "running" };
    let now = process::clock(process::CLOCK_REALTIME).sec;
    put(text!("{{\"name\":{},\"state\":\"{word}\",\"time\":{now},", Quoted(config.name.as_bytes())))?;
    put(text!("\"pid\":{},\"host\":{},", config.shown_pid(), Quoted(host)))?;
    let newest = &config.newest;
    if newest.generation == 0 {
        put(text!("\"generation\":null,\"image\":null,"))?;
    } else {
        let image: Text<300> = text!("{}.{:06}.ckpt", Bytes(config.name.as_bytes()), newest.generation);
        put(text!("\"generation\":{},\"image\":{},", newest.generation, Quoted(image.as_bytes())))?;
    }
    put(text!("\"taken\":{},\"bytes\":{},\"notices\":{},", newest.time, newest.bytes, newest.notices))?;
    put(text!("\"pause_ns\":{},\"total_ns\":{},", newest.pause_ns, newest.total_ns))?;
    put(text!("\"every_ms\":{},\"last_error\":", config.period.every))?;
    match state {
        State::Failed(reason) => {
            // Escapes make it longer; a second piece of room is cheaper than a broken line.
            let reason: Text<4600> = text!("{}", Quoted(reason));
            fs::write_all(file.0, reason.as_bytes())?;
        }
        _ => put(text!("null"))?,
    }
    put(text!("}}\n"))
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn strings_are_json() {
        assert_eq!(Quoted(b"a \"b\" \\ \n\xc3\xa4\xff").to_string(), "\"a \\\"b\\\" \\\\ \\u000a\u{e4}?\"");
    }
}
