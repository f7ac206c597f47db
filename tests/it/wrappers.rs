//! The ready job scripts for batch systems that are not here, with what those set faked: stopped by the batch system's
//! signal, run again, ended with the right output. Slurm's run under a real one (`slurm.rs`).

use crate::common::{TempDir, images_in, kill, library, program, wait_until};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const LINES: usize = 60;

struct Place {
    temp: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    fn new(name: &str, variables: &[(&'static str, &str)]) -> Place {
        let temp = TempDir::new(name);
        let dir = temp.path();
        symlink(program("batch_app"), dir.join("app")).expect("a link");
        let input = (0..LINES).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n") + "\n";
        fs::write(dir.join("input"), input).expect("write");
        // The batch system's command: it says what it was told.
        let command = dir.join("qsub");
        fs::write(&command, "#!/bin/sh\necho \"$@\" >>qsub.told\n").expect("write");
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("chmod");
        let variables = variables.iter().map(|(name, value)| (*name, value.to_string())).collect();
        Place { temp, variables }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn start(&self, mut command: Command) -> Child {
        let bin = Path::new(env!("CARGO_BIN_EXE_selfckpt")).parent().expect("a directory");
        let append = |name: &str| File::options().create(true).append(true).open(self.path(name)).expect("a file");
        command.env("PATH", format!("{}:{}:/usr/bin:/bin", bin.display(), self.temp.path().display()));
        command.env("SELFCKPT_LIBRARY", library()).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.temp.path()).stdin(Stdio::null()).stdout(append("out")).stderr(append("err"));
        command.spawn().expect("a job")
    }

    fn lines(&self) -> usize {
        fs::read_to_string(self.path("out")).unwrap_or_default().lines().count()
    }

    /// Stopped by `signal` with `stopped` for its status, run again, ended.
    fn carry(&self, command: impl Fn() -> Command, signal: i32, stopped: i32) {
        let mut child = self.start(command());
        assert!(wait_until(|| (self.lines() >= 5).then_some(())).is_some(), "no output: {}", self.errors());
        assert!(kill(child.id() as i32, signal));
        assert_eq!(child.wait().expect("wait").code(), Some(stopped), "{}", self.errors());
        assert!(self.lines() < LINES, "it was not stopped");
        let names = fs::read_dir(self.temp.path()).expect("readable").flatten().map(|entry| entry.file_name());
        let images = names
            .filter(|name| name.to_string_lossy().starts_with("ckpt"))
            .map(|name| self.path(&name.to_string_lossy()));
        assert_eq!(images.map(|dir| images_in(&dir).len()).sum::<usize>(), 1, "one image");
        let mut child = self.start(command());
        assert_eq!(child.wait().expect("wait").code(), Some(0), "{}", self.errors());
        assert!(self.errors().contains("selfckpt: resuming"), "{}", self.errors());
        let mut reference = Command::new(program("batch_app"));
        let reference = reference.arg(self.path("input")).arg("0").output().expect("batch_app").stdout;
        assert!(fs::read(self.path("out")).expect("the output") == reference, "wrong output");
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.path("err")).unwrap_or_default()
    }
}

fn wrapper(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/wrappers").join(name)
}

fn script(name: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(wrapper(name));
    command
}

#[test]
fn grid_engine() {
    let variables = [("JOB_ID", "4711"), ("SGE_TASK_ID", "undefined")];
    let place = Place::new("sge", &variables);
    place.carry(|| script("sge.sh"), libc::SIGUSR1, 99);
    let place = Place::new("sge", &[("JOB_ID", "4711"), ("SGE_TASK_ID", "3")]);
    place.carry(|| script("sge.sh"), libc::SIGUSR2, 99);
}

#[test]
fn lsf() {
    let place = Place::new("lsf", &[("LSB_JOBID", "4711"), ("LSB_JOBINDEX", "0")]);
    place.carry(|| script("lsf.sh"), libc::SIGURG, 85);
}

/// It has no status for "again": the script submits itself.
#[test]
fn pbs() {
    let mut place = Place::new("pbs", &[("PBS_JOBID", "4711.server")]);
    place.variables.push(("PBS_O_WORKDIR", place.temp.path().display().to_string()));
    place.carry(|| script("pbs.sh"), libc::SIGTERM, 0);
    let told = fs::read_to_string(place.path("qsub.told")).expect("qsub was called");
    assert_eq!(told, format!("{}/pbs.sh\n", place.temp.path().display()));
}

/// The command that the submit file names.
#[test]
fn htcondor() {
    let text = fs::read_to_string(wrapper("htcondor.sub")).expect("the file");
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split('=').next().is_some_and(|word| word.trim() == name));
        line.and_then(|line| line.split_once('=')).expect(name).1.trim().trim_matches('"').to_string()
    };
    assert!(value("executable").ends_with("/selfckpt"));
    assert_eq!(value("checkpoint_exit_code"), "85");
    assert_eq!(value("kill_sig"), "SIGTERM");
    assert!(value("transfer_checkpoint_files").split(',').any(|file| file.trim() == "ckpt"));
    let arguments = value("arguments");
    let place = Place::new("condor", &[]);
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfckpt"));
        command.args(arguments.split_whitespace());
        command
    };
    place.carry(command, libc::SIGTERM, 85);
}

/// Without RequeueExit: the script puts itself back, by a command that is faked here.
#[test]
fn slurm_by_scontrol() {
    for signal in [libc::SIGUSR1, libc::SIGTERM] {
        let place = Place::new("slurm", &[("SLURM_JOB_ID", "4711")]);
        fs::copy(place.path("qsub"), place.path("scontrol")).expect("copy");
        place.carry(|| script("slurm.sh"), signal, 0);
        assert_eq!(fs::read_to_string(place.path("qsub.told")).expect("it was called"), "requeue 4711\n");
    }
}
