//! [NORMAL] `selfckpt inspect`: limits, priorities and flags, for people and as JSON.

use selfckpt::format::attributes::{Attributes, LIMITS, ThreadAttr, UNKNOWN, policy};
use selfckpt::format::image::{Image, ThreadEntry};
use selfckpt::settings::signal_name;
use serde_json::{Map, Value, json};
use std::fmt::Write;

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_string() } else { value.to_string() }
}

fn known(value: u32) -> Option<u32> {
    (value != UNKNOWN).then_some(value)
}

/// Flags by name, and what they are.
fn flags(a: &Attributes) -> [(&'static str, u32); 6] {
    [
        ("child_subreaper", a.subreaper.get()),
        ("no_new_privs", a.no_new_privs.get()),
        ("keepcaps", a.keepcaps.get()),
        ("securebits", a.securebits.get()),
        ("thp_disable", a.thp_disable.get()),
        ("memory_merge", a.memory_merge.get()),
    ]
}

/// Of the process.
pub fn page(out: &mut String, image: &Image) {
    let Some(a) = &image.attributes else { return };
    out.push_str("\nlimits:\n");
    for (name, value) in LIMITS.iter().zip(&a.limits) {
        let _ = writeln!(out, "  {name:<17} {} of {}", limit(value.soft.get()), limit(value.hard.get()));
    }
    let set: Vec<String> =
        flags(a).iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!("{name} {value:#x}")).collect();
    let filter = known(a.coredump_filter.get()).map_or("unknown".to_string(), |bits| format!("{bits:#x}"));
    let _ = writeln!(out, "  oom_score_adj {}, coredump_filter {filter}", a.oom_score_adj.get() as i32);
    if !set.is_empty() {
        let _ = writeln!(out, "  {}", set.join(", "));
    }
}

/// Of a thread.
pub fn thread_lines(out: &mut String, entry: &ThreadEntry) {
    let Some((a, cpus)) = &entry.attr else { return };
    let _ = writeln!(
        out,
        "  {} priority {} nice {}, I/O priority {:#x}, timer slack {} ns",
        policy::name(a.policy.get()),
        a.priority,
        a.nice.get() as i32,
        a.ioprio.get(),
        a.slack
    );
    if !cpus.is_empty() {
        let _ = writeln!(out, "  bound to the CPUs {}", list_cpus(cpus));
    }
    if let Some(signal) = known(a.death_signal.get()).filter(|signal| *signal != 0) {
        let _ = writeln!(out, "  {} when the parent dies", signal_name(signal));
    }
}

fn list_cpus(set: &[u8]) -> String {
    let cpus = (0..8 * set.len()).filter(|cpu| set[cpu / 8] & (1 << (cpu % 8)) != 0);
    cpus.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(" ")
}

pub fn json(image: &Image) -> Value {
    let Some(a) = &image.attributes else { return Value::Null };
    let limits: Map<String, Value> = LIMITS
        .iter()
        .zip(&a.limits)
        .map(|(name, value)| {
            let pair = json!({ "soft": limit(value.soft.get()), "hard": limit(value.hard.get()) });
            ((*name).to_string(), pair)
        })
        .collect();
    let flags: Map<String, Value> =
        flags(a).iter().map(|(name, value)| ((*name).to_string(), (*value).into())).collect();
    json!({
        "limits": limits,
        "flags": flags,
        "oom_score_adj": a.oom_score_adj.get() as i32,
        "coredump_filter": known(a.coredump_filter.get()),
        "membarrier": known(a.membarrier.get()),
        "inherited": format!("{:#x}", a.inherited.get()),
    })
}

pub fn thread_json(entry: &ThreadEntry) -> Value {
    let Some((a, cpus)) = &entry.attr else { return Value::Null };
    let ThreadAttr { priority, sched_flags, runtime, deadline, period, slack, .. } = a;
    json!({
        "policy": policy::name(a.policy.get()),
        "priority": priority.get(),
        "nice": a.nice.get() as i32,
        "flags": sched_flags.get(),
        "runtime": runtime.get(),
        "deadline": deadline.get(),
        "period": period.get(),
        "ioprio": a.ioprio.get(),
        "timer_slack": slack.get(),
        "death_signal": known(a.death_signal.get()),
        "cpus": if cpus.is_empty() { Value::Null } else { list_cpus(cpus).into() },
    })
}
