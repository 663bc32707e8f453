//! `netd status`: asks the daemon, or reads the offline status if no daemon runs, and prints.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::server::{ONCE, WATCH};
use super::socket::is_dead;
use super::{Status, offline, table};
use crate::clock;
use crate::config::Config;
use crate::config::flags::{Output, StatusArgs};
use crate::store::Store;

/// The exit code of a netd that runs and is not ready.
const NOT_READY: u8 = 2;
/// The exit code where no netd runs.
const NOT_RUNNING: u8 = 3;
/// How long a busy daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The status cannot be printed: why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ClientError {
    what: String,
    source: io::Error,
}

impl ClientError {
    fn print(error: impl Into<io::Error>) -> Self {
        Self { what: "cannot print the status".to_owned(), source: error.into() }
    }
}

/// Prints the status and gives the exit code.
pub async fn run(config: &Config, store: &Store, arguments: StatusArgs) -> Result<u8, ClientError> {
    let path = &config.status_socket();
    let request = if arguments.watch { WATCH } else { ONCE };
    let why = match ask(path, request)? {
        Some(answers) => match print_answers(path, answers, arguments)? {
            Some(code) => return Ok(code),
            None => "it has ended".to_owned(),
        },
        None => format!("nothing answers on {}", path.display()),
    };
    let status = offline::read(config, store, why).await;
    print(arguments, &status, || table::offline(&status))?;
    Ok(NOT_RUNNING)
}

/// Asks the daemon. `None` if there is none.
fn ask(path: &Path, request: &str) -> Result<Option<BufReader<UnixStream>>, ClientError> {
    let what = || format!("cannot ask netd on {}: run this as root, as netd runs", path.display());
    let failed = |source| ClientError { what: what(), source };
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if is_dead(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    match writeln!(stream, "{request}") {
        // The daemon has ended since.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        written => written.map(|()| Some(BufReader::new(stream))).map_err(failed),
    }
}

/// Prints the daemon's answers. Gives the exit code, or `None` if the daemon has ended.
fn print_answers(
    path: &Path,
    mut answers: BufReader<UnixStream>,
    arguments: StatusArgs,
) -> Result<Option<u8>, ClientError> {
    let failed = |why: &str, source| ClientError { what: format!("netd on {} {why}", path.display()), source };
    let silent = |source| failed("does not answer: look at its log", source);
    let unclear = "answers what this netd does not understand: run the same version";
    loop {
        let mut line = String::new();
        match answers.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(silent(error)),
        }
        let status: Status = serde_json::from_str(&line).map_err(|error| failed(unclear, error.into()))?;
        print(arguments, &status, || table::running(&status, clock::now()))?;
        if !arguments.watch {
            return Ok(Some(if status.is_ready() { 0 } else { NOT_READY }));
        }
        // The first answer comes at once, the next one after a change.
        answers.get_ref().set_read_timeout(None).map_err(silent)?;
    }
}

fn print<T: Serialize>(arguments: StatusArgs, value: &T, table: impl FnOnce() -> String) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    let json = |text: serde_json::Result<String>| text.map_err(ClientError::print);
    let text = match (arguments.output, arguments.watch) {
        (Output::Table, false) => table(),
        // On a terminal the new one takes the place of the old one (ECMA-48: cursor home, erase display).
        (Output::Table, true) if out.is_terminal() => format!("\x1b[H\x1b[2J{}", table()),
        (Output::Table, true) => table() + "\n",
        (Output::Json, false) => json(serde_json::to_string_pretty(value))? + "\n",
        (Output::Json, true) => json(serde_json::to_string(value))? + "\n",
        (Output::Yaml, watch) => {
            let text = serde_saphyr::to_string(value).map_err(|error| ClientError::print(io::Error::other(error)))?;
            format!("{}{text}", if watch { "---\n" } else { "" })
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe: `netd status | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(ClientError::print),
    }
}
