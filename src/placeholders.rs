//! [SIGNAL, NORMAL] `%j` and its like in the name and the directory of a job: filled in from what the batch system has
//! told the process by its environment. `core` only: the library's constructor and the command line share it.

use core::fmt;

/// Where the values come from.
pub trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<&[u8]>;
    /// Base name of the program; `%n`.
    fn program(&self) -> Option<&[u8]>;
    /// A number in the job ad, a file by which HTCondor describes a job to itself.
    fn job_ad(&self, attribute: &str) -> Option<u64>;
}

/// Why a text cannot be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No placeholder of that letter; a NUL at the end of the text.
    Unknown(u8),
    /// `%j` outside of any batch job.
    NoJob,
    /// `%n` where there is no program.
    NoProgram,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unknown(letter @ b'!'..=b'~') => {
                write!(f, "%{} is none of %n, %j, %a, %r and %%", char::from(*letter))
            }
            Problem::Unknown(_) => f.write_str("a % alone is none of %n, %j, %a, %r and %%"),
            Problem::NoJob => f.write_str("%j: no batch system has set a job id (SLURM_JOB_ID, PBS_JOBID, ...)"),
            Problem::NoProgram => f.write_str("%n: there is no program here"),
        }
    }
}

/// Variables with the id of the job. PBS has a server's name after the number, and for a part of an array an index.
const JOB: &[&str] = &["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"];
/// Index of the task in an array; of PBS Professional and of Torque.
const ARRAY: &[&str] = &["SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "LSB_JOBINDEX", "SGE_TASK_ID"];
/// Rank among processes that are started together. The launchers' come before Slurm's, which is 0 for each of theirs.
const RANK: &[&str] = &[
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "JSM_NAMESPACE_RANK",
    "SLURM_PROCID",
    "_CONDOR_PROCNO",
];

/// Puts `text`, with its placeholders filled in, into `out` piece by piece.
///
/// # Errors
/// A placeholder that is unknown, or `%j` outside of a batch job.
pub fn expand(text: &[u8], from: &dyn Surroundings, out: &mut dyn FnMut(&[u8])) -> Result<(), Problem> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let (before, after) = rest.split_at(at);
        out(before);
        let letter = after.get(1).copied().unwrap_or(0);
        match letter {
            b'%' => out(b"%"),
            b'n' => out(from.program().ok_or(Problem::NoProgram)?),
            b'j' => number(from, JOB, "ClusterId", out).ok_or(Problem::NoJob)?,
            b'a' => number(from, ARRAY, "ProcId", out).unwrap_or_else(|| out(b"0")),
            b'r' => number(from, RANK, "", out).unwrap_or_else(|| out(b"0")),
            _ => return Err(Problem::Unknown(letter)),
        }
        rest = after.get(2..).unwrap_or(&[]);
    }
    out(rest);
    Ok(())
}

/// The first of the variables that begins with a number, or the number in the job ad.
fn number(from: &dyn Surroundings, variables: &[&str], attribute: &str, out: &mut dyn FnMut(&[u8])) -> Option<()> {
    for name in variables {
        let value = from.variable(name).unwrap_or(&[]);
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let Some(digits) = value.get(..digits).filter(|digits| !digits.is_empty()) {
            out(digits);
            return Some(());
        }
    }
    let mut value = from.job_ad(attribute)?;
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        start -= 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out(digits.get(start..).unwrap_or(&[]));
    Some(())
}

/// The number that a line of a job ad (`ClusterId = 12`) gives to an attribute.
pub fn job_ad_number(line: &[u8], attribute: &str) -> Option<u64> {
    if attribute.is_empty() {
        return None;
    }
    let (name, rest) = line.split_at_checked(attribute.len())?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    name.eq_ignore_ascii_case(attribute.as_bytes()).then(|| crate::settings::parse_number(value)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given(&'static [(&'static str, &'static str)], &'static [&'static str]);

    impl Surroundings for Given {
        fn variable(&self, name: &str) -> Option<&[u8]> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
        }

        fn program(&self) -> Option<&[u8]> {
            Some(b"app")
        }

        fn job_ad(&self, attribute: &str) -> Option<u64> {
            self.1.iter().find_map(|line| job_ad_number(line.as_bytes(), attribute))
        }
    }

    fn expanded(text: &str, from: &Given) -> Result<String, Problem> {
        let mut out = Vec::new();
        expand(text.as_bytes(), from, &mut |part| out.extend_from_slice(part))?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn of_each_batch_system() {
        let all = "%n-%j-%a-%r";
        let slurm = Given(&[("SLURM_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_PROCID", "1")], &[]);
        assert_eq!(expanded(all, &slurm).as_deref(), Ok("app-17-3-1"));
        let pbs = Given(&[("PBS_JOBID", "812[5].server.example"), ("PBS_ARRAY_INDEX", "5"), ("PMI_RANK", "2")], &[]);
        assert_eq!(expanded(all, &pbs).as_deref(), Ok("app-812-5-2"));
        let torque = Given(&[("PBS_JOBID", "812.server"), ("PBS_ARRAYID", "6")], &[]);
        assert_eq!(expanded(all, &torque).as_deref(), Ok("app-812-6-0"));
        let sge = Given(&[("JOB_ID", "44"), ("SGE_TASK_ID", "undefined")], &[]);
        assert_eq!(expanded(all, &sge).as_deref(), Ok("app-44-0-0"));
        let lsf = Given(&[("LSB_JOBID", "99"), ("LSB_JOBINDEX", "0")], &[]);
        assert_eq!(expanded(all, &lsf).as_deref(), Ok("app-99-0-0"));
        let condor = Given(&[], &["ClusterId = 1200", "Cmd = \"/bin/app\"", "ProcId=7"]);
        assert_eq!(expanded(all, &condor).as_deref(), Ok("app-1200-7-0"));
        // mpirun inside a Slurm job: each rank is a child of the batch script's first task.
        let mpi = Given(&[("SLURM_PROCID", "0"), ("OMPI_COMM_WORLD_RANK", "3")], &[]);
        assert_eq!(expanded("%r", &mpi).as_deref(), Ok("3"));
    }

    #[test]
    fn what_cannot_be_expanded() {
        let none = Given(&[], &[]);
        assert_eq!(expanded("100%%", &none).as_deref(), Ok("100%"));
        assert_eq!(expanded("", &none).as_deref(), Ok(""));
        assert_eq!(expanded("x%a%r", &none).as_deref(), Ok("x00"));
        assert_eq!(expanded("x%j", &none), Err(Problem::NoJob));
        assert_eq!(expanded("x%q", &none), Err(Problem::Unknown(b'q')));
        assert_eq!(expanded("x%", &none), Err(Problem::Unknown(0)));
        assert_eq!(Problem::Unknown(b'q').to_string(), "%q is none of %n, %j, %a, %r and %%");
    }
}
