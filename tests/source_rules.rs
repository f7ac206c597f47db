//! What the code promises of itself: which layer may use which, which code runs in a signal handler,
//! and that the restorer's code refers to nothing outside itself.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// (layer, path, text without its tests) of every module of the library.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths
        .into_iter()
        .filter(|path| !path.starts_with(root.join("bin")) && *path != root.join("lib.rs"))
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("below src");
            let first = relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("UTF-8");
            let text = text.split("#[cfg(test)]").next().unwrap_or("").to_string();
            (first.trim_end_matches(".rs").to_string(), path, text)
        })
        .collect()
}

/// Layers from the bottom up: a layer uses itself and those before it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("format", &[]),
    ("settings", &[]),
    ("placeholders", &["settings"]),
    ("control", &[]),
    // What a restart writes into the saved library, and it reads.
    ("sys", &["format::ids", "format::task"]),
    ("catalog", &["format", "settings"]),
    // The handlers' entries, a thread's start and the front of the kernel's entry name the functions that they call.
    (
        "arch",
        &[
            "format",
            "sys",
            "runtime::trigger::selfckpt_on_signal",
            "runtime::quiesce::selfckpt_on_stop",
            "interpose::threads::selfckpt_begin_thread",
            "interpose::shift::",
        ],
    ),
    ("restorer", &["sys"]),
    ("interpose", &["format::ids", "sys", "arch", "control"]),
    ("capture", &["format", "sys", "arch", "control"]),
    ("restore", &["format", "sys", "arch", "restorer"]),
    (
        "runtime",
        &[
            "format",
            "settings",
            "placeholders",
            "control",
            "sys",
            "catalog",
            "arch",
            "restorer",
            "interpose",
            "capture",
            "restore",
        ],
    ),
    ("capi", &["sys", "runtime"]),
];

#[test]
fn nothing_imports_upward() {
    let mut wrong = Vec::new();
    for (layer, path, text) in modules() {
        let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == layer).unwrap_or_else(|| panic!("layer {layer}?"));
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let fine = used.starts_with(&format!("{layer}::"))
                    || used.starts_with(&format!("{layer};"))
                    || allowed.iter().any(|name| used.starts_with(name));
                if !fine {
                    wrong.push(format!("{}:{}: {layer} uses {used}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_where_it_runs() {
    for (_, path, text) in modules() {
        let first = text.lines().next().unwrap_or("");
        let marked = ["//! [SIGNAL", "//! [NORMAL", "//! [RESTORER"].iter().any(|mark| first.starts_with(mark));
        assert!(marked, "{} starts with: {first}", path.display());
    }
}

/// Code that runs in the handler uses `core` and raw system calls: nothing that allocates, locks,
/// prints, or panics on purpose.
#[test]
fn signal_code_is_fenced() {
    const FORBIDDEN: &[&str] = &[
        "std::",
        "libc::",
        "vec!",
        "format!(",
        "String",
        "Box::",
        "Mutex",
        "OnceLock",
        "thread_local",
        "println!",
        "eprintln!",
        ".unwrap()",
        ".expect(",
        "panic!",
        "unreachable!",
        "to_vec()",
        "to_string()",
    ];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (_, path, text) in modules() {
        let first = text.lines().next().unwrap_or("");
        // The constructor's files run in both; what they do with libc is outside the handler.
        if !first.contains("SIGNAL") || first.contains("NORMAL") && path.ends_with("runtime/period.rs") {
            continue;
        }
        seen += 1;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(seen > 20, "only {seen} modules are marked [SIGNAL]");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
