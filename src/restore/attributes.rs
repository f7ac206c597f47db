//! [NORMAL] Attributes of the process and of its threads. What this process may not have is said, and never ends a
//! restart.

use super::plan::Inputs;
use super::steps::Steps;
use crate::format::attributes::{Attributes, Inherited, LIMITS, ThreadAttr, UNKNOWN, policy};
use crate::format::image::{Image, ThreadEntry};
use crate::sys::attributes::{self as sys, SchedAttr};
use crate::sys::{nr, process};
use zerocopy::IntoBytes;

type Warn<'a> = &'a mut dyn FnMut(String);

/// What this process has and may have.
pub struct Here {
    /// Before anything was changed.
    pub inherited: Inherited,
    /// CPUs that it may bind itself to.
    allowed: Vec<u8>,
    sched: SchedAttr,
    nice: i32,
    ioprio: u32,
    slack: u32,
}

/// Looks at this process; `inherited` is what it was started with.
pub fn look_around(inherited: Inherited, slack: u32) -> Here {
    let mut allowed = inherited.cpus.to_vec();
    // The kernel takes from a set what there is.
    if sys::set_affinity(&vec![0xff; allowed.len()]).is_ok() {
        let _ = sys::affinity(0, &mut allowed);
        let _ = sys::set_affinity(&inherited.cpus);
    }
    Here {
        inherited,
        allowed,
        sched: sys::sched_attr(0).unwrap_or_default(),
        nice: sys::nice(0),
        ioprio: sys::ioprio(0),
        slack,
    }
}

/// Whatever can be set before the address space is replaced.
pub fn restore_process(image: &Image, warn: Warn<'_>) {
    let Some(attributes) = &image.attributes else { return };
    restore_flags(attributes, warn);
    restore_files(attributes, warn);
    restore_barriers(attributes);
    for (resource, (limit, name)) in attributes.limits.iter().zip(LIMITS).enumerate() {
        let (resource, wanted) = (resource as u32, [limit.soft.get(), limit.hard.get()]);
        let Ok([soft, hard]) = sys::limit(resource) else { continue };
        // To raise a hard limit takes a privilege. The rest comes at the end of the plan.
        if hard < wanted[1] && sys::set_limit(resource, [soft, wanted[1]]).is_err() && hard < wanted[0] {
            warn(format!("{name} was {}, and cannot be more than {hard} here", wanted[0]));
        }
    }
}

fn restore_flags(attributes: &Attributes, warn: Warn<'_>) {
    let get = |option: u32| process::prctl(option, 0, 0, 0, 0).unwrap_or(0) as u32;
    let flags = [
        ("keep-capabilities flag", sys::PR_GET_KEEPCAPS, sys::PR_SET_KEEPCAPS, attributes.keepcaps),
        ("secure bits", sys::PR_GET_SECUREBITS, sys::PR_SET_SECUREBITS, attributes.securebits),
        ("no_new_privs flag", sys::PR_GET_NO_NEW_PRIVS, sys::PR_SET_NO_NEW_PRIVS, attributes.no_new_privs),
        ("flag against huge pages", sys::PR_GET_THP_DISABLE, sys::PR_SET_THP_DISABLE, attributes.thp_disable),
        ("flag to merge memory", sys::PR_GET_MEMORY_MERGE, sys::PR_SET_MEMORY_MERGE, attributes.memory_merge),
    ];
    for (name, get_option, set_option, wanted) in flags {
        let (here, wanted) = (get(get_option), wanted.get());
        if here == wanted {
            continue;
        }
        // What PR_GET_THP_DISABLE tells is the flag and, above it, which memory it leaves out.
        let (value, more) = if set_option == sys::PR_SET_THP_DISABLE && wanted & 1 != 0 {
            (1, (wanted & !1) as usize)
        } else {
            (wanted as usize, 0)
        };
        if let Err(errno) = process::prctl(set_option, value, more, 0, 0) {
            warn(format!("the {name} was {wanted:#x} and stays {here:#x}: {errno}"));
        }
    }
    let subreaper = attributes.subreaper.get() as usize;
    if let Err(errno) = process::prctl(sys::PR_SET_CHILD_SUBREAPER, subreaper, 0, 0, 0) {
        warn(format!("the process is no reaper of its descendants any more: {errno}"));
    }
}

fn restore_files(attributes: &Attributes, warn: Warn<'_>) {
    let mut put = |path: &str, wanted: String, here: Option<bool>| {
        if here == Some(true) {
            return;
        }
        if let Err(error) = std::fs::write(path, &wanted) {
            warn(format!("{path} was {wanted} and cannot be set: {error}"));
        }
    };
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let (path, wanted) = ("/proc/self/oom_score_adj", attributes.oom_score_adj.get() as i32);
    put(path, wanted.to_string(), read(path).map(|text| text.trim().parse() == Ok(wanted)));
    let (path, wanted) = ("/proc/self/coredump_filter", attributes.coredump_filter.get());
    if wanted != UNKNOWN {
        let same = read(path).map(|text| u32::from_str_radix(text.trim(), 16) == Ok(wanted));
        put(path, format!("{wanted:#x}"), same);
    }
}

/// Registers for what the process had registered for; where that is not known, for all there is.
fn restore_barriers(attributes: &Attributes) {
    const REGISTER: [u32; 4] = [1 << 2, 1 << 4, 1 << 6, 1 << 8];
    for command in REGISTER {
        if attributes.membarrier.get() & command != 0 {
            // A kernel without it never promised it; where it is not known, nobody may have asked for it.
            let _ = sys::membarrier(command);
        }
    }
}

/// At the very end: the limits hold for what the restart itself does, too.
pub fn restore_limits(inputs: &Inputs<'_>, steps: &mut Steps) {
    let Some(attributes) = &inputs.image.attributes else { return };
    for (resource, (limit, name)) in attributes.limits.iter().zip(LIMITS).enumerate() {
        let Ok([soft, hard]) = sys::limit(resource as u32) else { continue };
        let wanted = [limit.soft.get().min(hard), limit.hard.get().min(hard)];
        if wanted != [soft, hard] {
            let at = steps.bytes(wanted.as_bytes());
            steps.say(&format!("{name} is not restored"));
            steps.tell(nr::PRLIMIT64, &[0, resource as u32, at, 0]);
        }
    }
}

/// Tells the restored library what this process was started with.
pub fn pass_inherited(inputs: &Inputs<'_>, steps: &mut Steps) {
    if let Some(attributes) = &inputs.image.attributes {
        steps.copy(inputs.attributes.inherited.as_bytes(), attributes.inherited.get() as u32);
    }
}

/// Says which threads were bound to CPUs that are not there.
pub fn tell_missing_cpus(image: &Image, here: &Here, warn: Warn<'_>) {
    let mut told: Vec<&[u8]> = Vec::new();
    for (_, cpus, tid) in bound_threads(image) {
        let found = intersect(cpus, &here.allowed);
        if told.contains(&cpus) || found.iter().zip(cpus).all(|(a, b)| a == b) {
            continue;
        }
        told.push(cpus);
        let now = if found.iter().all(|&byte| byte == 0) {
            format!("it may run on {}", list_cpus(&here.inherited.cpus))
        } else {
            format!("of which there are {}", list_cpus(&found))
        };
        warn(format!("thread {tid} was bound to the CPUs {}; {now}", list_cpus(cpus)));
    }
}

fn bound_threads(image: &Image) -> impl Iterator<Item = (&ThreadAttr, &[u8], u32)> {
    image.threads.iter().filter_map(|entry| {
        let (attr, cpus) = entry.attr.as_ref()?;
        (!cpus.is_empty()).then_some((attr, cpus.as_slice(), entry.thread.tid.get()))
    })
}

fn intersect(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a & b).collect()
}

/// `0-3,8`
fn list_cpus(set: &[u8]) -> String {
    let has = |cpu: usize| set.get(cpu / 8).is_some_and(|byte| byte & (1 << (cpu % 8)) != 0);
    let mut ranges: Vec<String> = Vec::new();
    let mut cpu = 0;
    while cpu < 8 * set.len() {
        let first = cpu;
        while has(cpu) {
            cpu += 1;
        }
        match cpu - first {
            0 => cpu += 1,
            1 => ranges.push(first.to_string()),
            _ => ranges.push(format!("{first}-{}", cpu - 1)),
        }
    }
    ranges.join(",")
}

/// What a thread sets for itself, last of all: it may be slow from then on.
pub fn restore_thread(inputs: &Inputs<'_>, entry: &ThreadEntry, steps: &mut Steps) {
    let Some((attr, cpus)) = &entry.attr else { return };
    let (here, tid) = (&inputs.attributes, entry.thread.tid.get());
    let first = inputs.image.threads.first();
    let is_main = first.is_some_and(|main| main.thread.tid == entry.thread.tid);
    // A thousand threads with the same priority are worth one warning.
    let as_main = !is_main && first.and_then(|main| main.attr.as_ref()).is_some_and(|(main, _)| main == attr);
    let set = |steps: &mut Steps, what: &str, number: u32, args: &[u32]| {
        if as_main {
            steps.attempt(number, args);
        } else {
            steps.say(&format!("{what} of thread {tid} is not restored"));
            steps.tell(number, args);
        }
    };
    let found = intersect(cpus, &here.allowed);
    if found.iter().any(|&byte| byte != 0) {
        let at = steps.bytes(&found);
        set(steps, "the set of CPUs", nr::SCHED_SETAFFINITY, &[0, found.len() as u32, at]);
    }
    if attr.slack.get() != 0 && attr.slack.get() != here.slack.into() {
        set(steps, "the timer slack", nr::PRCTL, &[sys::PR_SET_TIMERSLACK, attr.slack.get() as u32, 0, 0, 0]);
    }
    let signal = attr.death_signal.get();
    if signal != UNKNOWN && (is_main || signal != 0) {
        set(steps, "the parent-death signal", nr::PRCTL, &[sys::PR_SET_PDEATHSIG, signal, 0, 0, 0]);
    }
    if attr.ioprio.get() != here.ioprio {
        const IOPRIO_WHO_PROCESS: u32 = 1;
        set(steps, "the I/O priority", nr::IOPRIO_SET, &[IOPRIO_WHO_PROCESS, 0, attr.ioprio.get()]);
    }
    let nice = attr.nice.get() as i32;
    let wanted = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: attr.policy.get(),
        flags: attr.sched_flags.get(),
        nice,
        priority: attr.priority.get(),
        runtime: attr.runtime.get(),
        deadline: attr.deadline.get(),
        period: attr.period.get(),
    };
    let fair = matches!(wanted.policy, policy::OTHER | policy::BATCH);
    if nice != here.nice {
        let what = format!("the nice value {nice}");
        set(steps, &what, nr::SETPRIORITY, &[0, 0, nice as u32]);
    }
    let same = |here: &SchedAttr| {
        (here.policy, here.flags, here.priority) == (wanted.policy, wanted.flags, wanted.priority) && fair
    };
    if !same(&here.sched) {
        let words = [
            u64::from(wanted.size) | u64::from(wanted.policy) << 32,
            wanted.flags,
            u64::from(wanted.nice as u32) | u64::from(wanted.priority) << 32,
            wanted.runtime,
            wanted.deadline,
            wanted.period,
        ];
        let at = steps.bytes(words.as_bytes());
        let what = format!("the scheduling ({}, priority {})", policy::name(wanted.policy), wanted.priority);
        set(steps, &what, nr::SCHED_SETATTR, &[0, at, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::list_cpus;

    #[test]
    fn cpus_in_words() {
        assert_eq!(list_cpus(&[0b1000_1111, 1]), "0-3,7-8");
        assert_eq!(list_cpus(&[0b0000_0100]), "2");
        assert_eq!(list_cpus(&[0]), "");
    }
}
