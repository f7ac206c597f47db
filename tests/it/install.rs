//! What `make install` and `make deb` put where, and that it can be used from there.

use crate::common::{TempDir, assert_success, build_dir, missing_package, run_selfckpt};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// `make` in a copy of what it needs: `build/` here may be another than the sources' own.
fn make(root: &Path, target: &str) {
    let mut command = Command::new("make");
    command.args(["-s", target, "PREFIX=/usr"]).arg(format!("DESTDIR={}", root.display()));
    // Not the variables of a `make test` that runs this.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS").current_dir(source(""));
    assert_success(&command.output().expect("make"));
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable").flatten() {
            if entry.file_type().expect("a kind").is_dir() {
                dirs.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).expect("inside").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn verbs() -> Vec<String> {
    let output = run_selfckpt(&["help", "--commands"]);
    assert_success(&output);
    out(&output).split_whitespace().map(str::to_string).collect()
}

fn expected() -> Vec<String> {
    let mut files: Vec<String> = [
        "usr/bin/selfckpt",
        "usr/include/selfckpt.h",
        "usr/lib/pkgconfig/selfckpt.pc",
        "usr/lib/selfckpt/i686/libselfckpt.so",
        "usr/share/bash-completion/completions/selfckpt",
        "usr/share/man/man1/selfckpt.1",
    ]
    .map(String::from)
    .into();
    files.extend(verbs().iter().map(|verb| format!("usr/share/man/man1/selfckpt-{verb}.1")));
    files.sort();
    files
}

#[test]
fn install_and_uninstall() {
    let temp = TempDir::new("install");
    let root = temp.path();
    make(root, "install");
    assert_eq!(files(root), expected());
    use_installed(root);
    fs::write(root.join("usr/bin/other"), "").expect("write");
    make(root, "uninstall");
    assert_eq!(files(root), ["usr/bin/other"]);
    assert!(!root.join("usr/lib/selfckpt").exists());
}

/// The command finds its library beside itself, and the example compiles by what pkg-config says and runs.
fn use_installed(root: &Path) {
    let mut command = Command::new(root.join("usr/bin/selfckpt"));
    command.args(["run", "--dir"]).arg(root.join("ckpt")).arg("--").arg(build_dir().join("programs/counter"));
    let output = command.args(["3", "0"]).env_remove("SELFCKPT_LIBRARY").output().expect("selfckpt");
    assert_success(&output);
    assert_eq!(out(&output).lines().count(), 3);
    fs::remove_dir_all(root.join("ckpt")).expect("removed");

    let config = |what: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.args(what).arg("selfckpt").env("PKG_CONFIG_LIBDIR", root.join("usr/lib/pkgconfig"));
        command.env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1").env("PKG_CONFIG_SYSROOT_DIR", root).output()
    };
    let text = fs::read_to_string(root.join("usr/lib/pkgconfig/selfckpt.pc")).expect("selfckpt.pc");
    assert!(!text.contains('@') && text.contains("prefix=/usr\n"), "{text}");
    let flags = match config(&["--cflags", "--libs"]) {
        Ok(output) => {
            assert_success(&output);
            assert_eq!(out(&config(&["--modversion"]).expect("pkg-config")), env!("CARGO_PKG_VERSION"));
            assert!(out(&config(&["--variable=library"]).expect("pkg-config")).ends_with("i686/libselfckpt.so"));
            out(&output)
        }
        Err(_) => {
            // What it would say.
            assert!(text.contains("Cflags: -I${includedir}"), "{text}");
            format!("-I{}/usr/include", root.display())
        }
    };
    let program = root.join("now");
    let mut gcc = Command::new("gcc");
    gcc.args(["-m32", "-o"]).arg(&program).args(flags.split_whitespace()).arg(source("examples/now.c"));
    assert_success(&gcc.output().expect("gcc"));
    let output = Command::new(&program).output().expect("now");
    assert_success(&output);
    fs::remove_file(program).expect("removed");
}

/// The completion is good shell, and offers what there is.
#[test]
fn completion() {
    let temp = TempDir::new("completion");
    let file = temp.path().join("selfckpt");
    let output = run_selfckpt(&["help", "--completion"]);
    assert_success(&output);
    fs::write(&file, &output.stdout).expect("write");
    assert_success(&Command::new("bash").arg("-n").arg(&file).output().expect("bash"));
    let complete = |words: &[&str]| {
        let script =
            "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _selfckpt; echo \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", script, "bash"]).arg(&file).args(words);
        out(&command.output().expect("bash"))
    };
    assert_eq!(complete(&["selfckpt", "re"]), "restart");
    assert_eq!(complete(&["selfckpt", "ch"]), "checkpoint");
    let all = complete(&["selfckpt", ""]);
    assert!(verbs().iter().all(|verb| all.split(' ').any(|word| word == verb)), "{all}");
    assert_eq!(complete(&["selfckpt", "run", "--stop"]), "--stop-signal --stop-code");
    assert_eq!(complete(&["selfckpt", "help", "ins"]), "inspect");
    assert_eq!(complete(&["selfckpt", "run", "fi"]), "");
}

/// Each command has a manual page with the same text as its help.
#[test]
fn manual_pages() {
    for verb in verbs() {
        let page = out(&run_selfckpt(&["help", "--man", &verb]));
        assert!(page.starts_with(".TH"), "{page}");
        let help = out(&run_selfckpt(&["help", &verb]));
        for option in help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let option = option.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            assert!(page.replace('\\', "").contains(option), "{option} is missing from the page of {verb}");
        }
    }
}

#[test]
fn debian_package() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        missing_package("the Debian package: no dpkg-deb");
        return;
    }
    let mut command = Command::new(source("scripts/deb.sh"));
    command.arg(env!("CARGO_PKG_VERSION")).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    assert_success(&command.output().expect("scripts/deb.sh"));
    let package = source("build").join(format!("selfckpt_{}_amd64.deb", env!("CARGO_PKG_VERSION")));
    let ask = |option: &str, field: &str| {
        out(&Command::new("dpkg-deb").args([option]).arg(&package).arg(field).output().expect("dpkg-deb"))
    };
    assert_eq!(ask("-f", "Package"), "selfckpt");
    assert_eq!(ask("-f", "Version"), env!("CARGO_PKG_VERSION"));
    assert!(ask("-f", "Depends").contains("libc6"));
    let temp = TempDir::new("deb");
    let root = temp.path().join("root");
    assert_success(&Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root).output().expect("dpkg-deb"));
    let there = files(&root);
    for file in expected() {
        let file = if file.contains("/man/") { format!("{file}.gz") } else { file };
        assert!(there.contains(&file), "{file} is missing: {there:?}");
    }
    for file in ["copyright", "changelog.gz", "batch.md", "examples/slurm.sh", "examples/now_python.py"] {
        assert!(there.contains(&format!("usr/share/doc/selfckpt/{file}")), "{file} is missing: {there:?}");
    }
    use_installed(&root);
    install_package(&package, &temp.path().join("clean"));
}

/// On a system that has of Debian 12 what every one has: dpkg's own check of what the package depends on, installation,
/// use, and a removal that leaves nothing.
fn install_package(package: &Path, root: &Path) {
    let admin = root.join("var/lib/dpkg");
    for dir in ["info", "updates"] {
        fs::create_dir_all(admin.join(dir)).expect("mkdir");
    }
    let mut status = String::new();
    for (name, version) in [("libc6", "2.36-9"), ("libgcc-s1", "12.2.0-14")] {
        status += &format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: nobody <nobody@localhost>\n\
             Architecture: amd64\nMulti-Arch: same\nVersion: {version}\nDescription: of Debian 12\n\n"
        );
    }
    fs::write(admin.join("status"), status).expect("write");
    let dpkg = |options: &[&str]| {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", root.display())).args(["--force-not-root", "--log=/dev/null"]).args(options);
        // Where a user's PATH has no /sbin, dpkg asks for it.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("dpkg")
    };
    let state = || String::from_utf8_lossy(&dpkg(&["-s", "selfckpt"]).stdout).into_owned();
    assert_success(&dpkg(&["-i", package.to_str().expect("UTF-8")]));
    assert!(state().contains("Status: install ok installed"), "{}", state());
    let changed = dpkg(&["-V", "selfckpt"]);
    assert_success(&changed);
    assert_eq!(out(&changed), "", "files are not what the package says");
    use_installed(root);
    assert_success(&dpkg(&["-P", "selfckpt"]));
    assert!(!root.join("usr").exists(), "left behind: {:?}", files(root));
}
