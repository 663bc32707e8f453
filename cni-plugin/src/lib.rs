//! The CNI plugin: one short execution for each verb of the specification.
//!
//! `call`, `conf`, `result`, `cni_error`, `attachment`, `personality` and `ipam::range` are pure. `ipam` reads and writes the
//! directory of reservations, `netlink` the kernel's state through `dataplane`. `verbs` calls them in order. The plugin executes
//! no program, starts no runtime and connects to no server.
#![forbid(unsafe_code)]

pub mod attachment;
pub mod call;
pub mod cni_error;
pub mod conf;
pub mod ipam;
pub mod netlink;
pub mod personality;
mod regular_file;
pub mod result;
pub mod verbs;
pub mod version;

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use cni_error::{CniError, Code};
use version::Version;

/// Printed where a person starts the plugin by hand.
const ABOUT: &str = "CNI plugin netd";

/// Carries out the verb that the runtime gives in the environment and on stdin, and writes the result or the error object to
/// stdout, as the specification has it. A runtime gets nothing on stderr.
pub fn run(argv0: &str) -> ExitCode {
    let Some(call) = call::read(|name| std::env::var(name).ok()).transpose() else {
        let versions = Version::ALL.map(Version::as_str).join(", ");
        let _ = writeln!(std::io::stderr(), "{ABOUT}\nCNI protocol versions supported: {versions}");
        return ExitCode::SUCCESS;
    };
    let stdin = read_stdin();
    let version = stdin.as_ref().ok().and_then(|bytes| conf::version_of(bytes));
    let (answer, code) = match call.and_then(|call| verbs::run(&call, argv0, &stdin?)) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(error) => (Some(error.to_json(version.unwrap_or(Version::NEWEST))), ExitCode::FAILURE),
    };
    let Some(answer) = answer else { return code };
    let written = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

fn read_stdin() -> Result<Vec<u8>, CniError> {
    let stdin = std::io::stdin();
    let mut bytes = Vec::new();
    // A terminal has no configuration to give: the plugin does not wait for one.
    if !stdin.is_terminal() {
        let limit = u64::try_from(conf::MAX_STDIN + 1).unwrap_or(u64::MAX);
        let read = stdin.lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| CniError::new(Code::Io, format!("error reading from stdin: {error}")))?;
    }
    Ok(bytes)
}
