//! [NORMAL] `selfckpt inspect --json`: the same as the page for people, for programs. Addresses and
//! registers are hexadecimal strings (a JSON number is a double in many readers); sizes, counts,
//! descriptors and the like are numbers.

use crate::decode::{self, X87};
use crate::inspect::{
    ITIMERS, VECTORS, aux_label, component, features, notified, padded_text, register, stored, vector, vma_flags,
};
use crate::inspect_attributes;
use selfckpt::format::files::file_kind;
use selfckpt::format::header::component_name;
use selfckpt::format::image::{Fpu, Image, ThreadEntry};
use selfckpt::format::memory::vma_kind;
use selfckpt::format::thread::TlsEntry;
use selfckpt::format::timers::clock;
use selfckpt::format::{kind, notice};
use selfckpt::settings::signal_name;
use serde_json::{Map, Value, json};
use std::path::Path;

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn texts(list: &[Vec<u8>]) -> Vec<String> {
    list.iter().map(|bytes| text(bytes)).collect()
}

fn finish(value: &Value) -> String {
    format!("{value:#}\n")
}

/// One object per record.
pub fn records(image: &Image) -> String {
    let list: Vec<Value> = image
        .records
        .iter()
        .map(|line| {
            json!({
                "offset": line.offset,
                "type": line.kind,
                "name": kind::name(line.kind),
                "len": line.len,
                "optional": line.optional,
            })
        })
        .collect();
    finish(&Value::Array(list))
}

/// Everything. `error` says what is wrong with a damaged image; null if nothing is.
pub fn page(path: &Path, image: &Image, error: Option<&str>) -> String {
    let h = &image.header;
    let value = json!({
        "file": path.to_string_lossy(),
        "error": error,
        "bytes": image.bytes,
        "stored_bytes": image.stored_bytes(),
        "records": image.records.len(),
        "header": {
            "arch": "x86_32",
            "revision": h.rev.get(),
            "time": h.time.get(),
            "time_nsec": h.time_nsec.get(),
            "flags": h.flags.get(),
            "kernel": [h.kernel_major.get(), h.kernel_minor.get(), h.kernel_patch.get()],
            "release": padded_text(image.release.as_bytes()),
            "version": padded_text(image.version.as_bytes()),
            "machine": padded_text(image.machine.as_bytes()),
        },
        "cpu": cpu(image),
        "program": {
            "exe": text(&image.exe),
            "args": texts(&image.args()),
            "cwd": text(&image.cwd),
            "environ": texts(&image.env()),
        },
        "task": task(image),
        "runtime": {
            "name": text(&image.name),
            "dir": text(&image.dir),
            "generation": image.runtime.generation.get(),
            "library": text(&image.library),
            "restart_info": hex(image.runtime.restart_info.get()),
            "restart_info_size": image.runtime.restart_info_size.get(),
            "leave": hex(image.runtime.leave.get()),
            "lock_fd": image.runtime.lock_fd.get(),
            "every": image.runtime.every.get(),
            "signal": signal_name(image.runtime.trigger.get()).to_string(),
        },
        "threads": image.threads.iter().map(thread).collect::<Vec<_>>(),
        "ldt": image.ldt.iter().map(descriptor).collect::<Vec<_>>(),
        "memory": memory(image),
        "files": files(image),
        "signals": signals(image),
        "timers": timers(image),
        "clocks": image.clocks.map(|clocks| json!({
            "monotonic_ns": clocks.monotonic.get(),
            "boottime_ns": clocks.boottime.get(),
        })),
        "clock_offsets": image.clock_offsets.map(|offsets| json!({
            "monotonic_ns": offsets.monotonic.get() as i64,
            "boottime_ns": offsets.boottime.get() as i64,
        })),
        "clock_front": image.clock_front.map(|front| json!({
            "info": hex(front.info.get()),
            "info_size": front.info_size.get(),
            "in_use": front.in_use.get() != 0,
            "clock_gettime": hex(front.clock_gettime.get()),
            "clock_gettime64": hex(front.clock_gettime64.get()),
            "vsyscall": hex(front.vsyscall.get()),
            "monotonic_ns": front.monotonic.get(),
            "boottime_ns": front.boottime.get(),
        })),
        "attributes": inspect_attributes::json(image),
        "notices": image.notices.iter().map(|entry| json!({
            "code": entry.notice.code.get(),
            "name": notice::code::name(entry.notice.code.get()),
            "number": entry.notice.number.get(),
            "text": entry.text,
        })).collect::<Vec<_>>(),
    });
    finish(&value)
}

fn cpu(image: &Image) -> Value {
    let a = &image.arch;
    json!({
        "vendor": padded_text(&a.vendor),
        "brand": padded_text(&a.brand),
        "fxsr": a.has_fxsr.get() != 0,
        "xsave": a.has_xsave.get() != 0,
        "hardware_fp": a.has_hwfp.get() != 0,
        "xcr0": hex(a.xcr0.get()),
        "xstate_size": a.xstate_size.get(),
        "mxcsr_mask": hex(a.mxcsr_mask.get().into()),
        "task_size": hex(a.task_size.get()),
        "features": features(image),
        "feature_words": a.features.iter().map(|word| hex(word.get().into())).collect::<Vec<_>>(),
        "components": image.components.iter().map(|c| json!({
            "id": c.id.get(),
            "name": component_name(c.id.get()),
            "offset": c.offset.get(),
            "size": c.size.get(),
        })).collect::<Vec<_>>(),
    })
}

fn task(image: &Image) -> Value {
    let t = &image.task;
    json!({
        "comm": text(&image.comm),
        "state": t.state.get(),
        "exit_state": t.exit_state.get(),
        "exit_code": t.exit_code.get(),
        "exit_signal": signal_name(t.exit_signal.get()).to_string(),
        "pid": t.pid.get(),
        "ppid": t.ppid.get(),
        "pgid": t.pgid.get(),
        "sid": t.sid.get(),
        "uid": t.uid.get(),
        "euid": t.euid.get(),
        "gid": t.gid.get(),
        "egid": t.egid.get(),
        "umask": format!("{:03o}", t.umask.get()),
        "personality": hex(t.personality.get().into()),
        "threads": t.threads.get(),
        "dumpable": t.dumpable.get(),
    })
}

fn descriptor(entry: &TlsEntry) -> Value {
    json!({
        "slot": entry.slot.get(),
        "base": hex(entry.base.get()),
        "limit": hex(entry.limit.get().into()),
        "flags": hex(entry.flags.get().into()),
        "attributes": decode::descriptor(entry),
    })
}

fn thread(entry: &ThreadEntry) -> Value {
    let t = &entry.thread;
    let c = &entry.cpu;
    let first = t.gdt_first.get();
    let mut registers = Map::new();
    for (name, value) in [
        ("eax", c.ax),
        ("ebx", c.bx),
        ("ecx", c.cx),
        ("edx", c.dx),
        ("esi", c.si),
        ("edi", c.di),
        ("ebp", c.bp),
        ("esp", c.sp),
        ("eip", c.ip),
        ("eflags", c.flags),
        ("orig_eax", c.orig_ax),
        ("cs", c.cs),
        ("ss", c.ss),
        ("ds", c.ds),
        ("es", c.es),
        ("fs", c.fs),
        ("gs", c.gs),
    ] {
        registers.insert(name.to_string(), hex(value.get()).into());
    }
    let selectors: Map<String, Value> =
        [("cs", c.cs), ("ss", c.ss), ("ds", c.ds), ("es", c.es), ("fs", c.fs), ("gs", c.gs)]
            .iter()
            .map(|(name, value)| ((*name).to_string(), decode::selector(value.get(), first).into()))
            .collect();
    let mut page = json!({
        "tid": t.tid.get(),
        "name": padded_text(&t.name),
        "registers": registers,
        "eflags": decode::eflags(c.flags.get()),
        "selectors": selectors,
        "debug": {
            "in_use": c.uses_debug.get() != 0,
            "dr0": hex(c.debugreg0.get()),
            "dr1": hex(c.debugreg1.get()),
            "dr2": hex(c.debugreg2.get()),
            "dr3": hex(c.debugreg3.get()),
            "dr6": hex(c.debugreg6.get()),
            "dr7": hex(c.debugreg7.get()),
            "watchpoints": decode::watchpoints(c.debugreg7.get()),
        },
        "tls": {
            "gdt_first": first,
            "gdt_entries": t.gdt_tls_entries.get(),
            "entries": entry.tls.iter().map(descriptor).collect::<Vec<_>>(),
        },
        "attributes": inspect_attributes::thread_json(entry),
        "blocked": decode::signals(t.sigmask.get()),
        "altstack": {
            "sp": hex(t.altstack_sp.get()),
            "size": t.altstack_size.get(),
            "flags": decode::altstack_flags(t.altstack_flags.get()),
        },
        "robust_list": { "head": hex(t.robust_head.get()), "len": t.robust_len.get() },
        "clear_child_tid": hex(t.clear_child_tid.get()),
        "rseq": {
            "addr": hex(t.rseq_addr.get()),
            "len": t.rseq_len.get(),
            "signature": hex(t.rseq_sig.get().into()),
        },
        "frame": { "addr": hex(t.frame_addr.get()), "size": t.frame_size.get() },
        "fpu": entry.fpu.as_ref().map(fpu),
    });
    if let Some(wait) = &entry.wait {
        page["wait"] = json!({ "nr": wait.nr.get(), "left_ns": wait.left.get() });
    }
    page
}

fn fpu(fpu: &Fpu) -> Value {
    let head = &fpu.head;
    let x87 = fpu.part(component::X87).and_then(X87::new).map(|x87| {
        let (address, selector, opcode) = x87.instruction();
        let (operand, operand_selector) = x87.operand();
        json!({
            "control": hex(x87.control().into()),
            "control_text": decode::x87_control(x87.control()),
            "status": hex(x87.status().into()),
            "status_text": decode::x87_status(x87.status()),
            "tags": hex(x87.tags().into()),
            "instruction": { "selector": hex(selector.into()), "address": hex(address.into()), "opcode": hex(opcode.into()) },
            "operand": { "selector": hex(operand_selector.into()), "address": hex(operand.into()) },
            "st": (0..8).map(|i| json!({
                "bytes": decode::register_hex(&x87.st(i)),
                "tag": x87.tag(i),
                "value": decode::extended(x87.st(i)),
            })).collect::<Vec<_>>(),
        })
    });
    let vectors: Map<String, Value> = (0..VECTORS)
        .filter_map(|i| vector(fpu, i))
        .map(|(name, bytes)| (name, decode::register_hex(&bytes).into()))
        .collect();
    let masks: Vec<String> =
        (0..VECTORS).filter_map(|i| register(fpu, component::OPMASK, i, 8)).map(decode::register_hex).collect();
    json!({
        "xstate_bv": hex(head.xstate_bv.get()),
        "xfeatures": hex(head.xfeatures.get()),
        "mxcsr": hex(head.mxcsr.get().into()),
        "mxcsr_text": decode::mxcsr(head.mxcsr.get()),
        "x87": x87,
        "vectors": vectors,
        "opmask": masks,
        "pkru": register(fpu, component::PKRU, 0, 4).map(decode::register_hex),
        "components": fpu.parts.iter().map(|part| json!({
            "id": part.id,
            "name": part.name,
            "bytes": decode::hex(&part.bytes),
        })).collect::<Vec<_>>(),
    })
}

fn memory(image: &Image) -> Value {
    let m = &image.mm;
    json!({
        "start_code": hex(m.start_code.get()),
        "end_code": hex(m.end_code.get()),
        "start_data": hex(m.start_data.get()),
        "end_data": hex(m.end_data.get()),
        "start_brk": hex(m.start_brk.get()),
        "brk": hex(m.brk.get()),
        "start_stack": hex(m.start_stack.get()),
        "arg_start": hex(m.arg_start.get()),
        "arg_end": hex(m.arg_end.get()),
        "env_start": hex(m.env_start.get()),
        "env_end": hex(m.env_end.get()),
        "task_size": hex(m.task_size.get()),
        "auxv": decode::auxv(&image.auxv).into_iter().map(|(number, value)| json!({
            "type": number,
            "name": aux_label(number),
            "value": hex(value.into()),
        })).collect::<Vec<_>>(),
        "vmas": image.vmas.iter().map(|entry| {
            let v = &entry.vma;
            json!({
                "start": hex(v.start.get()),
                "end": hex(v.end.get()),
                "bytes": v.end.get().saturating_sub(v.start.get()),
                "stored": stored(image, entry),
                "prot": decode::protection(v.prot.get()),
                "kind": vma_kind::name(v.kind.get()),
                "flags": vma_flags(v.flags.get()),
                "name": text(&entry.name),
                "offset": v.offset.get(),
                "dev": hex(v.dev.get()),
                "ino": v.ino.get(),
                "file_size": v.file_size.get(),
                "file_mtime": v.file_mtime.get(),
                "file_mtime_nsec": v.file_mtime_nsec.get(),
            })
        }).collect::<Vec<_>>(),
        "runs": image.runs.iter().map(|run| json!({
            "addr": hex(run.addr),
            "bytes": run.bytes,
            "offset": run.offset,
        })).collect::<Vec<_>>(),
    })
}

fn files(image: &Image) -> Value {
    let list = image.files.iter().map(|entry| {
        let f = &entry.file;
        let fds: Vec<Value> = image
            .fds
            .iter()
            .filter(|fd| fd.file.get() == f.id.get())
            .map(|fd| json!({ "fd": fd.fd.get(), "close_on_exec": fd.flags.get() & 1 != 0 }))
            .collect();
        json!({
            "id": f.id.get(),
            "fds": fds,
            "kind": file_kind::name(f.kind.get()),
            "path": text(&entry.path),
            "flags": decode::open_flags(f.flags.get()),
            "flag_bits": hex(f.flags.get().into()),
            "mode": format!("{:06o}", f.mode.get()),
            "offset": f.pos.get(),
            "size": f.size.get(),
            "dev": hex(f.dev.get()),
            "ino": f.ino.get(),
            "rdev": hex(f.rdev.get()),
            "mtime": f.mtime.get(),
            "mtime_nsec": f.mtime_nsec.get(),
        })
    });
    Value::Array(list.collect())
}

fn signals(image: &Image) -> Value {
    json!({
        "actions": image.actions.iter().enumerate().map(|(i, action)| json!({
            "signal": i + 1,
            "name": signal_name(i as u32 + 1).to_string(),
            "handler": decode::handler(action.handler.get()),
            "flags": decode::action_flags(action.flags.get()),
            "flag_bits": hex(action.flags.get()),
            "restorer": hex(action.restorer.get()),
            "mask": decode::signals(action.mask.get()),
        })).collect::<Vec<_>>(),
        "pending": image.pending.iter().map(|pending| json!({
            "tid": pending.tid.get(),
            "signal": pending.signo.get(),
            "name": signal_name(pending.signo.get()).to_string(),
            "siginfo": decode::hex(&pending.siginfo),
        })).collect::<Vec<_>>(),
    })
}

fn timers(image: &Image) -> Value {
    json!({
        "interval": image.itimers.iter().zip(ITIMERS).map(|(itimer, name)| json!({
            "name": name,
            "left_us": itimer.left_us.get(),
            "every_us": itimer.every_us.get(),
        })).collect::<Vec<_>>(),
        "posix": image.timers.iter().map(|timer| json!({
            "id": timer.id.get(),
            "clock": timer.clock.get() as i32,
            "clock_name": clock::name(timer.clock.get()),
            "notifies": notified(timer),
            "signal": timer.signo.get(),
            "value": hex(timer.value.get().into()),
            "left_ns": timer.left_ns.get(),
            "every_ns": timer.every_ns.get(),
        })).collect::<Vec<_>>(),
    })
}
