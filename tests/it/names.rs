//! Names of jobs from what batch systems say, by the command and by the library.

use crate::common::{Spec, TempDir, assert_refused, program, run_selfckpt, selfckpt_command};
use std::fs;

/// What is left of `run --keep-images` with a checkpoint: none is taken, so the status tells the name.
fn named(options: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let temp = TempDir::new("names");
    let mut command = selfckpt_command();
    command.current_dir(temp.path()).arg("run").arg("--keep-images").args(options);
    command.arg("--").arg(program("counter")).args(["2", "0"]).envs(variables.iter().copied());
    let output = command.output().expect("selfckpt run");
    crate::common::assert_success(&output);
    let mut names = Vec::new();
    for dir in [temp.path().to_path_buf()]
        .into_iter()
        .chain(fs::read_dir(temp.path()).expect("dir").flatten().map(|e| e.path()))
    {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_file() {
                names.push(path.strip_prefix(temp.path()).expect("inside").to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn from_the_batch_system() {
    let slurm = [("SLURM_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "4"), ("SLURM_PROCID", "2")];
    let found = named(&["--dir", "ckpt-%j", "--name", "%n-%a-%r"], &slurm);
    assert_eq!(found, ["ckpt-17/counter-4-2.lock"]);
    // A percent sign of the name's own goes through both.
    assert_eq!(named(&["--name", "100%%"], &[]), ["100%.lock"]);
    let ad = TempDir::new("job-ad");
    let path = ad.path().join(".job.ad");
    fs::write(&path, "Cmd = \"/bin/app\"\nClusterId = 1200\nProcId = 7\n").expect("write");
    let condor = [("_CONDOR_JOB_AD", path.to_str().expect("UTF-8"))];
    assert_eq!(named(&["--name", "%j.%a"], &condor), ["1200.7.lock"]);
    // By the variables alone.
    let variables = [("SELFCKPT_NAME", "%n.%j"), ("PBS_JOBID", "812[5].server")];
    assert_eq!(named(&[], &variables), ["counter.812.lock"]);
}

#[test]
fn without_the_command() {
    let spec = Spec::new("heap").env("SELFCKPT_NAME", "%n-%j_%a").env("JOB_ID", "44").env("SGE_TASK_ID", "3");
    let mut job = spec.start().expect("a start");
    let image = job.checkpoint();
    assert!(image.path.ends_with("heap-44_3.000001.ckpt"), "{}", image.path.display());
    job.end("at the end");
}

#[test]
fn what_cannot_be_filled_in() {
    let counter = program("counter");
    let counter = counter.to_str().expect("UTF-8");
    assert_refused(&run_selfckpt(&["run", "--name", "a-%j", counter]), 125, &["--name a-%j", "SLURM_JOB_ID"]);
    assert_refused(&run_selfckpt(&["run", "--dir", "/tmp/%q", counter]), 125, &["--dir /tmp/%q", "%q is none of"]);
    for (name, value, word) in [("SELFCKPT_NAME", "%j", "SLURM_JOB_ID"), ("SELFCKPT_DIR", "/tmp/x%", "% alone")] {
        let mut job = Spec::plain("counter").arg("3").arg("0").env(name, value).spawn();
        let status = job.wait_exit();
        assert_refused(&crate::common::output_of(status, &job.path("stderr")), 125, &[name, value, word]);
    }
}
