//! [SIGNAL] System V shared memory that is attached, semaphores and message queues that this process uses.
//!
//! The kernel does not keep who uses a set or a queue. It knows who changed each semaphore last, who sent and who
//! received last: what bears this process's pid is taken for its own, unless a live process stands beside it.

use super::Stream;
use super::failure::{Failure, fail, refuse};
use super::notices::{Notices, notice};
use super::vmas::VmaSlot;
use crate::format::ipc::{Ipc, Semaphore, flag, what};
use crate::format::memory::{is_segment as is_segment_name, vma_flag, vma_kind};
use crate::format::{kind, notice::code};
use crate::sys::ipc::{self, Listed, SEM_NOWAIT, SEM_UNDO, Sembuf, Table};
use crate::sys::lines::Lines;
use crate::sys::{Errno, fs, process};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I16, U16, U32, U64};

/// Calls `each` for every object of a table. Without System V IPC in the kernel there is none.
fn for_each_listed(
    table: Table,
    lines: &mut [u8],
    mut each: impl FnMut(Listed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Ok(fd) = fs::open(table.path(), fs::O_RDONLY | fs::O_CLOEXEC, 0) else { return Ok(()) };
    let fd = fs::OwnedFd(fd);
    let mut lines = Lines::new(fd.0, lines);
    loop {
        let line = lines.next_line().map_err(|errno| fail!(errno, "cannot read /proc/sysvipc"))?;
        match line {
            Some(line) => table.parse(line).map_or(Ok(()), &mut each)?,
            None => return Ok(()),
        }
    }
}

/// Mappings that show a whole segment become mappings of it; others stay memory of this process, with a notice.
pub fn classify_segments(
    vmas: &mut [VmaSlot],
    names: &[u8],
    notices: &mut Notices<'_>,
    lines: &mut [u8],
) -> Result<(), Failure> {
    let is_segment = |vma: &VmaSlot| vma.kind == vma_kind::ANON_SHARED && is_segment_name(vma.name(names));
    if vmas.iter().any(is_segment) {
        for_each_listed(Table::SharedMemory, lines, |listed| {
            let len = listed.size.next_multiple_of(4096);
            for first in 0..vmas.len() {
                let rest = vmas.get_mut(first..).unwrap_or(&mut []);
                let Some(vma) = rest.first().filter(|vma| is_segment(vma) && vma.ino == u64::from(listed.id)) else {
                    continue;
                };
                if vma.offset != 0 || vma.flags & vma_flag::HUGETLB != 0 {
                    continue;
                }
                let (start, dev, ino) = (vma.start, vma.dev, vma.ino);
                let mut end = start;
                let parts = rest.iter().take_while(|part| {
                    let goes_on =
                        part.start == end && (part.dev, part.ino) == (dev, ino) && part.offset == (end - start) as u64;
                    end = if goes_on { part.end } else { end };
                    goes_on
                });
                let parts = parts.count();
                if (end - start) as u64 == len {
                    for part in rest.iter_mut().take(parts) {
                        part.kind = vma_kind::SEGMENT;
                    }
                }
            }
            Ok(())
        })?;
    }
    for vma in vmas {
        if vma.kind != vma_kind::SEGMENT {
            vma.flags &= !vma_flag::MAY_WRITE;
        }
        if is_segment(vma) {
            notice!(
                notices,
                code::MAPPING_NOT_SAVED,
                vma.start as u64,
                "the mapping {:#x}-{:#x} of part of the System V shared memory {}, or of huge pages, is saved as memory \
                 of this process alone; after a restart it has no identifier",
                vma.start,
                vma.end,
                vma.ino
            );
        }
    }
    Ok(())
}

/// Writes what there is.
pub fn capture_ipc(
    stream: &mut Stream<'_>,
    vmas: &[VmaSlot],
    notices: &mut Notices<'_>,
    lines: &mut [u8],
    buf: &mut [u8],
) -> Result<(), Failure> {
    let segment = |vma: &&VmaSlot| vma.kind == vma_kind::SEGMENT;
    if vmas.iter().any(|vma| segment(&vma)) {
        for_each_listed(Table::SharedMemory, lines, |listed| {
            let own = vmas.iter().filter(|vma| vma.ino == u64::from(listed.id) && segment(vma)).count() as u32;
            if own == 0 {
                return Ok(());
            }
            let others = listed.count > own;
            if others {
                notice!(
                    notices,
                    code::STATE_NOT_SAVED,
                    listed.id.into(),
                    "the System V shared memory {} is used by another process as well; if that still has it at a \
                     restart, its contents are left as they are then",
                    listed.id
                );
            }
            let flags = if others { flag::OTHERS } else { 0 };
            write(stream, what::SHARED_MEMORY, &listed, listed.size, flags, &[])
        })?;
    }
    for_each_listed(Table::Semaphores, lines, |listed| {
        let users = if listed.time == 0 { Users::default() } else { sem_users(&listed) };
        if !users.ask("semaphores", listed.id, notices) {
            return Ok(());
        }
        capture_semaphores(stream, &listed, buf)
    })?;
    for_each_listed(Table::Queues, lines, |listed| {
        let mut users = Users::default();
        // A queue may be older than this process, whose number was another's. One that it must not read is not its own.
        if ipc::queue_limit(listed.id) != Err(Errno::EACCES) {
            listed.pids.into_iter().for_each(|pid| users.add(pid));
        }
        if !users.ask("message queue", listed.id, notices) {
            return Ok(());
        }
        capture_queue(stream, &listed, buf)
    })
}

/// Who has touched an object.
#[derive(Default)]
struct Users {
    this: bool,
    /// A live process.
    other: u32,
}

impl Users {
    fn add(&mut self, pid: u32) {
        let me = process::getpid();
        // For a message that a thread has waited for, the kernel notes that thread's own id.
        if pid == me || (pid != 0 && process::tgkill(me, pid, 0).is_ok()) {
            self.this = true;
        } else if pid != 0 && process::kill(pid, 0) != Err(Errno::ESRCH) {
            self.other = pid;
        }
    }

    /// Whether the object is to be saved.
    fn ask(&self, what: &str, id: u32, notices: &mut Notices<'_>) -> bool {
        if self.this && self.other != 0 {
            notice!(
                notices,
                code::STATE_NOT_SAVED,
                id.into(),
                "the System V {what} {id} are used by process {} as well and are not saved; after a restart they are \
                 as they are then",
                self.other
            );
        }
        self.this && self.other == 0
    }
}

fn sem_users(listed: &Listed) -> Users {
    let mut users = Users::default();
    for number in 0..listed.size as u32 {
        match ipc::sem_pid(listed.id, number) {
            Ok(pid) => users.add(pid),
            Err(_) => break,
        }
    }
    users
}

fn write(
    stream: &mut Stream<'_>,
    what: u32,
    listed: &Listed,
    size: u64,
    flags: u32,
    bytes: &[u8],
) -> Result<(), Failure> {
    let head = Ipc {
        what: U32::new(what),
        id: U32::new(listed.id),
        key: U32::new(listed.key),
        mode: U32::new(listed.mode),
        size: U64::new(size),
        flags: U32::new(flags),
        len: U32::new(bytes.len() as u32),
    };
    Ok(stream.record(kind::IPC, 0, &head, &[bytes])?)
}

/// Most semaphores of a set, by the kernel's own limit.
const MAX_SEMAPHORES: usize = 32_000;

fn capture_semaphores(stream: &mut Stream<'_>, listed: &Listed, buf: &mut [u8]) -> Result<(), Failure> {
    let id = listed.id;
    let count = (listed.size as usize).min(MAX_SEMAPHORES);
    let mut values = [0u16; MAX_SEMAPHORES];
    let values = values.get_mut(..count).unwrap_or(&mut []);
    ipc::sem_values(id, values).map_err(|errno| fail!(errno, "cannot read the System V semaphores {id}"))?;
    let out = buf.get_mut(..count * size_of::<Semaphore>()).unwrap_or(&mut []);
    for ((place, number), value) in out.chunks_exact_mut(size_of::<Semaphore>()).zip(0..).zip(values) {
        let semaphore = Semaphore { value: U16::new(*value), adjust: I16::new(undo_of(id, number, *value)) };
        place.copy_from_slice(semaphore.as_bytes());
    }
    write(stream, what::SEMAPHORES, listed, count as u64, 0, out)
}

/// What the kernel would add to a semaphore at the end of this process. It does not tell, but refuses to let the
/// number leave its range: found by halving, with operations that cannot all succeed, so that none is carried out.
fn undo_of(id: u32, number: u16, value: u16) -> i16 {
    const LOWEST: i32 = -0x8000;
    // Whether the number is below `bound`.
    let below = |bound: i32| {
        let mut ops = [Sembuf::default(); 16];
        let mut used = 0;
        let mut push = |op: i32, flags: i16| {
            if let Some(place) = ops.get_mut(used) {
                *place = Sembuf { number, op: op as i16, flags };
                used += 1;
            }
        };
        let low = value <= 0x3fff;
        let mut left = bound - LOWEST;
        while left > 0 {
            let step = left.min(0x3fff);
            let (first, second) = if low { ((step, SEM_UNDO), (-step, 0)) } else { ((-step, 0), (step, SEM_UNDO)) };
            push(first.0, first.1);
            push(second.0, second.1);
            left -= step;
        }
        // Waits for zero, which it is not.
        if low {
            push(1, 0);
        }
        push(0, SEM_NOWAIT);
        ipc::semop(id, ops.get(..used).unwrap_or(&[])) == Err(Errno(34))
    };
    if !below(0) && below(1) {
        return 0;
    }
    let (mut low, mut high) = (LOWEST, 0x8000);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if below(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    low as i16
}

fn capture_queue(stream: &mut Stream<'_>, listed: &Listed, buf: &mut [u8]) -> Result<(), Failure> {
    let id = listed.id;
    let failed = |errno| fail!(errno, "cannot read the System V message queue {id}");
    let limit = ipc::queue_limit(id).map_err(failed)?;
    write(stream, what::QUEUE, listed, limit.into(), 0, &[])?;
    for index in 0.. {
        let len = match ipc::peek_message(id, index, buf) {
            Ok(len) => len,
            Err(Errno(42)) => break,
            Err(Errno(7)) => {
                return Err(refuse!(Errno(7), "a message in the System V message queue {id} is too large to be saved"));
            }
            Err(errno) => return Err(failed(errno)),
        };
        let (head, bytes) = buf.split_at(4);
        let mtype = crate::arch::frame::u32_at(head, 0);
        write(stream, what::MESSAGE, listed, mtype.into(), 0, bytes.get(..len).unwrap_or(&[]))?;
    }
    Ok(())
}
