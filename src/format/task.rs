//! [NORMAL, SIGNAL] TASK, PROGRAM, RUNTIME: the process, what it runs, and the library inside it.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// TASK. A STRING, the name of the task (comm), follows. All records up to the next TASK belong
/// to this one; an image of this revision holds exactly one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Task {
    /// Kernel's task state; a task that checkpoints itself is running: 0.
    pub state: U32,
    pub exit_state: U32,
    pub exit_code: U32,
    /// Signal that the parent gets when the task ends.
    pub exit_signal: U32,
    pub pid: U32,
    pub ppid: U32,
    pub pgid: U32,
    pub sid: U32,
    pub uid: U32,
    pub euid: U32,
    pub gid: U32,
    pub egid: U32,
    pub umask: U32,
    pub personality: U32,
    pub threads: U32,
    pub dumpable: U32,
}
const _: () = assert!(size_of::<Task>() == 64);

/// Stands behind the working directory of PROGRAM when that has been removed, as in /proc/self/cwd.
pub const DELETED: &[u8] = b" (deleted)";

/// PROGRAM. Four byte strings follow in the same record, in the order of the lengths.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Program {
    /// Target of /proc/self/exe.
    pub exe_len: U32,
    pub cwd_len: U32,
    /// /proc/self/cmdline: arguments, each ended by a NUL.
    pub cmdline_len: U32,
    /// /proc/self/environ: variables, each ended by a NUL.
    pub environ_len: U32,
}
const _: () = assert!(size_of::<Program>() == 16);

/// RUNTIME. Three byte strings follow: image directory, image name, path of the library.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Runtime {
    /// Address of the library's [`RestartInfo`], which a restart fills in.
    pub restart_info: U64,
    pub restart_info_size: U32,
    /// Number of this image.
    pub generation: U32,
    /// Address of the code in the saved library (`selfckpt_leave`) that is the last step of a restart:
    /// it unmaps the restorer and returns into the program.
    pub leave: U64,
    /// Descriptor on which the library held the lock; a restart puts the new lock there.
    pub lock_fd: U32,
    pub dir_len: U32,
    pub name_len: U32,
    pub library_len: U32,
    /// Seconds between automatic checkpoints; 0 for none.
    pub every: U32,
    /// Signal that takes a checkpoint.
    pub trigger: U32,
}
const _: () = assert!(size_of::<Runtime>() == 48);

/// Longest directory and name that [`RestartInfo`] carries.
pub const RESTART_DIR_MAX: usize = 4096;
pub const RESTART_NAME_MAX: usize = 224;

/// What a restart tells the restored library. Lives in the library's writable data; its address
/// and size stand in RUNTIME, its layout belongs to the revision of the stream.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RestartInfo {
    /// 1 after a restart; the library sets it back when it has taken the values over.
    pub valid: U32,
    /// Generation that was restarted.
    pub generation: U32,
    /// 0 until every thread is back and the restorer's memory is gone. A futex.
    pub gate: U32,
    pub lock_fd: U32,
    /// Threads that wait for that. A futex.
    pub waiting: U32,
    /// 0 keeps the level of before; else 1 + the new level.
    pub log_level: U32,
    pub dir_len: U32,
    pub name_len: U32,
    /// Differs from restart to restart.
    pub epoch: U32,
    /// The program's pid outside of its pid namespace; 0: the same as inside.
    pub outside_pid: U32,
    pub dir: [u8; RESTART_DIR_MAX],
    pub name: [u8; RESTART_NAME_MAX],
    /// Settings of before stay where these are 0.
    pub keep: U32,
    pub stop_code: U32,
    /// Milliseconds between automatic checkpoints; with `auto_mtbf`, until one has been measured.
    pub every_ms: U32,
    /// Seconds between failures of the machine, where the period is to be chosen from it.
    pub auto_mtbf: U32,
    /// 1: checkpoints with live children fail. 2: the children are ignored.
    pub children: U32,
    /// 1: connections to other processes are reset. 2: checkpoints fail while there are some.
    pub sockets: U32,
    pub reserved_settings: [U32; 2],
}
const _: () = assert!(size_of::<RestartInfo>() == 40 + RESTART_DIR_MAX + RESTART_NAME_MAX + 32);

/// Where the clocks of a program go on by a front: how the library reads them, in its memory. Written by a restart, zeros
/// before the first one that needs it. Its layout belongs to the revision of the stream, as that of [`RestartInfo`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FrontInfo {
    /// Differs from restart to restart; 0 without a front.
    pub epoch: U32,
    /// The kernel's functions, of which the program's vdso leads to the front; 0 where it has none.
    pub clock_gettime: U32,
    pub clock_gettime64: U32,
    /// The kernel's entry for system calls, likewise.
    pub vsyscall: U32,
    /// What the program's clocks show more than the kernel's.
    pub monotonic: Shift,
    pub boottime: Shift,
}
const _: () = assert!(size_of::<FrontInfo>() == 48);

/// A length of time that is added to a time: nanoseconds are less than a second.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Shift {
    pub sec: U64,
    pub nsec: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<Shift>() == 16);
