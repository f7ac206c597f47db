//! [NORMAL] What the batch system tells about this process, for `%j` and its like in names.

use selfckpt::placeholders::{self, Problem, Surroundings};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

struct Here<'a> {
    variables: HashMap<Vec<u8>, Vec<u8>>,
    program: Option<&'a OsStr>,
}

impl Surroundings for Here<'_> {
    fn variable(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name.as_bytes()).map(Vec::as_slice)
    }

    fn program(&self) -> Option<&[u8]> {
        self.program.map(OsStr::as_bytes)
    }

    fn job_ad(&self, attribute: &str) -> Option<u64> {
        let file = std::fs::File::open(OsStr::from_bytes(self.variable("_CONDOR_JOB_AD")?)).ok()?;
        let mut lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
        lines.find_map(|line| placeholders::job_ad_number(&line, attribute))
    }
}

/// A name or a path with its placeholders filled in.
pub fn expand(text: &OsStr, program: Option<&OsStr>) -> Result<OsString, Problem> {
    let variables = std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    let mut out = Vec::new();
    placeholders::expand(text.as_bytes(), &Here { variables, program }, &mut |part| out.extend_from_slice(part))?;
    Ok(OsString::from_vec(out))
}

/// A text that [`expand`], and the library, turn into `text`.
pub fn quote(text: &[u8]) -> OsString {
    let parts: Vec<&[u8]> = text.split(|&byte| byte == b'%').collect();
    OsString::from_vec(parts.join(&b"%%"[..]))
}
