//! [NORMAL] `selfckpt list`: the jobs of a directory, their images, and who is running.

use crate::failure::{Failure, Outcome};
use crate::process::{self, Owner};
use crate::verb::{Arguments, Operands, Opt, Verb};
use crate::{batch, decode};
use selfckpt::catalog::{self, Entry};
use selfckpt::format::reader::PageData;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub const VERB: Verb = Verb {
    name: "list",
    synopsis: "[--json] [--quick] [DIR]",
    summary: "lists the jobs of a directory and their images",
    description: &[
        "One line per image, the newest first: job, generation, whether it is whole, size, age, and the pid of the \
         program that holds the job's lock. DIR is SELFCKPT_DIR if that is set, else the working directory.",
    ],
    options: &[
        Opt {
            short: None,
            long: "json",
            value: None,
            help: "Print a JSON array with one object per image. 'generation' is null for a job that runs and has no \
                   image yet.",
        },
        Opt {
            short: None,
            long: "quick",
            value: None,
            help: "Do not read the contents of the memory: large images are listed at once, damage inside is not \
                   found.",
        },
    ],
    operands: Operands { least: 0, most: 1, rest_is_raw: false },
    exit_status: &["0    also when there are no images or damaged ones", "125  the directory cannot be read"],
    examples: &["selfckpt list ckpt"],
    run,
};

/// A line of the list.
struct Row {
    name: Vec<u8>,
    entry: Option<Entry>,
    /// What is wrong with the image.
    error: Option<String>,
    owner: Option<Owner>,
}

fn run(arguments: &Arguments) -> Outcome {
    let dir = match (arguments.operands.first(), std::env::var_os("SELFCKPT_DIR").filter(|dir| !dir.is_empty())) {
        (Some(given), _) => given.clone(),
        (None, Some(dir)) => batch::expand(&dir, None)
            .map_err(|problem| Failure::failed(format!("SELFCKPT_DIR={}: {problem}", dir.to_string_lossy())))?,
        (None, None) => OsString::from("."),
    };
    let dir = PathBuf::from(dir);
    let pages = if arguments.has("quick") { PageData::Skip } else { PageData::Check };
    let rows = rows(&dir, pages)?;
    crate::print(&if arguments.has("json") { as_json(&rows) } else { table(&rows) })
}

fn rows(dir: &Path, pages: PageData) -> Result<Vec<Row>, Failure> {
    let entries = catalog::scan(dir).map_err(|error| Failure::failed(error.to_string()))?;
    let mut rows = Vec::new();
    // Running jobs without an image come first: they are the newest.
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let file_name = file.file_name();
        let Some(name) = catalog::parse_lock_file_name(file_name.as_bytes()) else { continue };
        if entries.iter().any(|entry| entry.name == name) {
            continue;
        }
        if let Some(owner) = process::lock_owner(&file.path()) {
            rows.push(Row { name: name.to_vec(), entry: None, error: None, owner: Some(owner) });
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let error = catalog::read(&entry.path, pages).err().map(|error| match error {
            catalog::CatalogError::Image { error, .. } => error.to_string(),
            other => other.to_string(),
        });
        let owner = process::lock_owner(&dir.join(catalog::lock_file_name(&entry.name)));
        rows.push(Row { name: entry.name.clone(), entry: Some(entry), error, owner });
    }
    Ok(rows)
}

fn seconds_since(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).map_or(0, |age| age.as_secs())
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let names: Vec<String> = rows.iter().map(|row| decode::text(&row.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    let mut out =
        format!("{:<width$} {:>10} {:<8} {:>10} {:>8}  RUNNING\n", "NAME", "GENERATION", "STATE", "SIZE", "AGE");
    for (row, name) in rows.iter().zip(names) {
        let (generation, size, age) = match &row.entry {
            Some(e) => (e.generation.to_string(), decode::size(e.size), decode::age(seconds_since(e.modified))),
            None => ("-".to_string(), "-".to_string(), "-".to_string()),
        };
        let state = match (&row.entry, &row.error) {
            (None, _) => "none",
            (_, None) => "valid",
            (_, Some(_)) => "damaged",
        };
        let owner = row.owner.as_ref().map_or_else(|| "-".to_string(), Owner::to_string);
        let _ = write!(out, "{name:<width$} {generation:>10} {state:<8} {size:>10} {age:>8}  {owner}");
        if let Some(error) = &row.error {
            let _ = write!(out, "  ({error})");
        }
        out.push('\n');
    }
    out
}

fn as_json(rows: &[Row]) -> String {
    let list: Vec<Value> = rows
        .iter()
        .map(|row| {
            let entry = row.entry.as_ref();
            json!({
                "name": String::from_utf8_lossy(&row.name),
                "generation": entry.map(|e| e.generation),
                "path": entry.map(|e| e.path.to_string_lossy()),
                "valid": entry.map(|_| row.error.is_none()),
                "error": row.error,
                "bytes": entry.map(|e| e.size),
                "modified": entry.map(|e| decode::epoch(e.modified)),
                "age": entry.map(|e| seconds_since(e.modified)),
                "running": row.owner.as_ref().map(|owner| json!({ "pid": owner.pid, "host": owner.host })),
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(list))
}
