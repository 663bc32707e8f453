//! The CNI plugin: one short execution for each verb of the specification.
//!
//! `call`, `conf`, `result`, `failure`, `attachment`, `personality` and `ipam::range` are pure; `ipam` speaks to the
//! directory of reservations, `wire` to the kernel through `dataplane`; `verbs` puts them in order. Nothing here executes
//! a program, starts a runtime or talks to a server.
#![forbid(unsafe_code)]

pub mod attachment;
pub mod call;
pub mod conf;
pub mod failure;
pub mod ipam;
pub mod personality;
pub mod result;
pub mod verbs;
pub mod version;
pub mod wire;

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use call::Environment;
use failure::{Code, Failure};
use version::Version;

/// What the plugin says when a person starts it.
const ABOUT: &str = "CNI plugin netd";

/// Does what the runtime asks for through the environment and stdin, and answers on stdout.
///
/// Success and failure are told there as the specification says. On stderr nothing is said to a runtime.
pub fn run(argv0: &str) -> ExitCode {
    let environment = call::read(|name| std::env::var(name).ok());
    if let Ok(Environment::NoCommand) = environment {
        let versions = Version::ALL.map(Version::as_str).join(", ");
        let _ = writeln!(std::io::stderr(), "{ABOUT}\nCNI protocol versions supported: {versions}");
        return ExitCode::SUCCESS;
    }
    let stdin = read_stdin();
    let version = stdin.as_ref().ok().and_then(|bytes| conf::version_of(bytes));
    let outcome = environment.and_then(|environment| match environment {
        Environment::Call(call) => verbs::run(&call, argv0, &stdin?),
        Environment::NoCommand => Ok(None),
    });
    let (answer, code) = match outcome {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.to_json(version.unwrap_or(Version::NEWEST))), ExitCode::FAILURE),
    };
    let Some(answer) = answer else { return code };
    let told = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
    if told.is_ok() { code } else { ExitCode::FAILURE }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = std::io::stdin();
    let mut bytes = Vec::new();
    // Nobody types a network configuration.
    if !stdin.is_terminal() {
        let limit = u64::try_from(conf::MAX_STDIN + 1).unwrap_or(u64::MAX);
        let read = stdin.lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(Code::Io, format!("error reading from stdin: {error}")))?;
    }
    Ok(bytes)
}
