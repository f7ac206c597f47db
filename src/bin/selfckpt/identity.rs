//! [NORMAL] A restarted program under the ids that it had: as a child that asks the kernel for its old pid, or, where
//! that is taken or this user may not ask, in a pid namespace of its own.
//!
//! In a namespace there is one process more, its init, between this command and the program: it has made the program,
//! reaps what the program leaves behind, and tells this command by a socket how the program is. It dies with this
//! command, and everything in the namespace with it. Whatever fails on the way there has changed nothing outside.

use crate::namespace;
use crate::process;
use crate::restart::Start;
use crate::system::{self, Change};
use selfckpt::format::Image;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Tells the library which pid the program has outside of its namespace.
const OUTSIDE: &str = "SELFCKPT_PID_OUTSIDE";
/// Tells the library to give up the capability to choose ids when it has done so.
const DROP: &str = "SELFCKPT_DROP_CHECKPOINT_RESTORE";

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Same,
    New,
    /// The same where the system allows it.
    Auto,
}

impl Wish {
    pub fn parse(value: &[u8]) -> Option<Wish> {
        match value {
            b"same" => Some(Wish::Same),
            b"new" => Some(Wish::New),
            b"auto" | b"" => Some(Wish::Auto),
            _ => None,
        }
    }
}

/// The ids of an image's program.
pub struct Ids {
    pid: u32,
    tids: Vec<u32>,
}

impl Ids {
    pub fn of(image: &Image) -> Ids {
        let tids: Vec<u32> = image.threads.iter().map(|entry| entry.thread.known()).collect();
        Ids { pid: tids.first().copied().unwrap_or(0), tids }
    }

    fn highest(&self) -> u32 {
        self.tids.iter().copied().max().unwrap_or(0).max(self.pid)
    }

    fn stand_twice(&self) -> bool {
        let mut sorted = self.tids.clone();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Whether all are free; those of a program that is about to end are waited for.
    fn all_free(&self) -> bool {
        const ENDS_WITHIN: Duration = Duration::from_secs(1);
        // What has been sent a SIGKILL a moment ago looks alive, and what has ended waits for its parent.
        const MAY_END_WITHIN: Duration = Duration::from_millis(50);
        let begin = Instant::now();
        // /proc answers for the ids of threads as well.
        while self.tids.iter().chain([&self.pid]).any(|id| Path::new(&format!("/proc/{id}")).exists()) {
            let limit = if process::is_dying(self.pid) { ENDS_WITHIN } else { MAY_END_WITHIN };
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// The program, as the command that waits for it sees it.
pub struct Child {
    pub pid: u32,
    /// The other end has the init of its namespace.
    keeper: Option<UnixStream>,
}

impl Child {
    /// A child of this process.
    pub fn own(pid: u32) -> Child {
        Child { pid, keeper: None }
    }

    /// A change of its state, if there is one that has not been told yet.
    pub fn change(&self) -> io::Result<Option<Change>> {
        let Some(keeper) = &self.keeper else { return system::child_change(self.pid) };
        match receive(keeper) {
            Ok(Some((STATUS, status))) => Ok(Some(system::change_of(status as i32))),
            // Its init has been killed, and the program with it.
            Ok(_) => Ok(Some(Change::Killed(9))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Starts the program with the ids that it had; every signal is blocked in this process and in that one. An error says
/// why that is not possible here.
pub fn start(start: &Start, ids: &Ids) -> Result<Child, String> {
    if ids.pid == 1 {
        return Err("it was process 1".to_string());
    }
    if ids.stand_twice() {
        return Err("a thread that it has made since it got new ids has the id of another one".to_string());
    }
    if namespace::may_choose_pids() && ids.all_free() {
        // Where this is not possible, a namespace may be all the same.
        if let Ok(child) = start_beside(start, ids) {
            return Ok(child);
        }
    }
    start_in_namespace(start, ids)
}

/// As a child with that pid in the namespace of this process.
fn start_beside(start: &Start, ids: &Ids) -> io::Result<Child> {
    let parent = std::process::id();
    let before = start.continue_clocks();
    let pid = namespace::fork_with(0, Some(ids.pid));
    if let Some(before) = before.filter(|_| !matches!(pid, Ok(0))) {
        before.put_back();
    }
    let pid = pid?;
    if pid == 0 {
        namespace::die_with_parent(true);
        if system::parent() != parent {
            namespace::leave(crate::failure::FAILED);
        }
        become_program(start, &[]);
    }
    Ok(Child::own(pid))
}

/// In the process that is to be the program.
fn become_program(start: &Start, more: &[(&str, String)]) -> ! {
    let mut env: Vec<(&str, String)> = more.to_vec();
    // Root has its capabilities by what it is. A failure shows when the first thread is made.
    if system::real_uid() != 0 && namespace::keep_choosing().is_ok() {
        env.push((DROP, "1".to_string()));
    }
    let failure = start.exec_with(&env);
    crate::complain(failure.to_string());
    namespace::leave(failure.status)
}

/// Kinds of messages from the init of a namespace, and what goes with them.
const STARTED: u32 = 1; // pid outside
const FAILED: u32 = 2; // length of the reason, which follows
const STATUS: u32 = 3; // of waitpid(2)

fn send(socket: &UnixStream, kind: u32, value: u32) -> io::Result<()> {
    let mut message = [0; 8];
    message[..4].copy_from_slice(&kind.to_ne_bytes());
    message[4..].copy_from_slice(&value.to_ne_bytes());
    (&mut &*socket).write_all(&message)
}

/// `None` at the end.
fn receive(socket: &UnixStream) -> io::Result<Option<(u32, u32)>> {
    let mut message = [0; 8];
    match (&mut &*socket).read_exact(&mut message) {
        Ok(()) => {
            let word = |at: usize| u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
            Ok(Some((word(0), word(4))))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(None),
        Err(error) => Err(error),
    }
}

fn start_in_namespace(start: &Start, ids: &Ids) -> Result<Child, String> {
    let why = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let (ours, theirs) = UnixStream::pair().map_err(why("make a socket"))?;
    let users = (!namespace::may_make_namespaces()).then(system::effective_ids);
    let flags = namespace::NEW_PID_AND_MOUNTS | users.map_or(0, |_| namespace::NEW_USER);
    let init = namespace::fork_with(flags, None)
        .map_err(why("make a user and pid namespace (see user.max_user_namespaces, unprivileged_userns_clone)"))?;
    if init == 0 {
        drop(ours);
        be_init(&theirs, start, ids, users);
    }
    drop(theirs);
    let result = match receive(&ours).map_err(why("hear from the namespace's init"))? {
        Some((STARTED, pid)) => return follow(ours, pid).map_err(why("listen to the namespace's init")),
        Some((FAILED, len)) => {
            let mut reason = vec![0; len.min(4096) as usize];
            (&ours).read_exact(&mut reason).map_err(why("hear from the namespace's init"))?;
            String::from_utf8_lossy(&reason).into_owned()
        }
        _ => "the namespace's init has died".to_string(),
    };
    // It has ended or is about to: it must not be taken for the program.
    system::collect(init);
    Err(result)
}

/// From now on each message of the init's comes with a SIGIO.
fn follow(socket: UnixStream, pid: u32) -> io::Result<Child> {
    socket.set_nonblocking(true)?;
    system::signal_on_input(socket.as_raw_fd())?;
    Ok(Child { pid, keeper: Some(socket) })
}

/// The life of process 1 of the namespace. All signals are blocked.
fn be_init(socket: &UnixStream, start: &Start, ids: &Ids, users: Option<(u32, u32)>) -> ! {
    namespace::die_with_parent(true);
    let program = match set_up(socket, start, ids, users) {
        Ok(program) => program,
        Err(reason) => {
            let told = send(socket, FAILED, reason.len() as u32);
            let _ = told.and_then(|()| (&mut &*socket).write_all(reason.as_bytes()));
            namespace::leave(crate::failure::FAILED)
        }
    };
    // What this process keeps open would not be closed when the program closes it.
    namespace::close_all_but(socket.as_raw_fd());
    let _ = std::env::set_current_dir("/");
    while let Ok((pid, status)) = namespace::any_child_change() {
        if pid != program {
            continue;
        }
        if system::change_of(status).is_end() {
            // What the program leaves running goes on without the command.
            namespace::die_with_parent(false);
        }
        if send(socket, STATUS, status as u32).is_err() {
            break;
        }
    }
    namespace::leave(0)
}

/// Makes the namespace what it has to be, and starts the program in it.
fn set_up(socket: &UnixStream, start: &Start, ids: &Ids, users: Option<(u32, u32)>) -> Result<u32, String> {
    let why = |what: String| move |error: io::Error| format!("cannot {what}: {error}");
    if let Some((uid, gid)) = users {
        keep_user(uid, gid).map_err(why("map this user into a namespace".to_string()))?;
    }
    let outside = std::fs::File::open("/proc").map_err(why("open /proc".to_string()))?;
    namespace::mount_own_proc().map_err(why("mount /proc in a namespace".to_string()))?;
    // Ids that are given out from now on lie above those of the program, as they did.
    let _ = std::fs::write("/proc/sys/kernel/ns_last_pid", ids.highest().to_string());
    // The init stays in the new one: it does not look at clocks.
    start.continue_clocks();
    let pid = namespace::fork_with(0, Some(ids.pid)).map_err(why(format!("get pid {} in a namespace", ids.pid)))?;
    if pid != 0 {
        return Ok(pid);
    }
    let link = std::fs::read_link(format!("/proc/self/fd/{}/self", outside.as_raw_fd()));
    let pid = link.ok().and_then(|link| link.to_str()?.parse().ok()).unwrap_or(0);
    if send(socket, STARTED, pid).is_err() {
        namespace::leave(crate::failure::FAILED);
    }
    become_program(start, &[(OUTSIDE, pid.to_string())])
}

/// Gives this process the user and group in its namespace that it has outside.
fn keep_user(uid: u32, gid: u32) -> io::Result<()> {
    // Without this an unprivileged user could drop groups that deny access.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
