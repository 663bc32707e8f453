//! `netd status`: asks the daemon, or reads the offline status if no daemon runs, and prints.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
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

/// The status cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon cannot be asked.
    #[error("cannot ask netd on {}: run this as root, as netd runs", path.display())]
    Ask {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon does not answer.
    #[error("netd on {} does not answer: look at its log", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answer is not a status of this version.
    #[error("netd on {} answers what this netd does not understand: run the same version", path.display())]
    Document {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The output cannot be written.
    #[error("cannot print the status")]
    Print(#[source] io::Error),
}

/// Prints the status and gives the exit code.
pub async fn run(config: &Config, store: &impl Store, arguments: StatusArgs) -> Result<u8, ClientError> {
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
    let failed = |source| ClientError::Ask { path: path.to_owned(), source };
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
    let failed = |source| ClientError::Answer { path: path.to_owned(), source };
    loop {
        let mut line = String::new();
        match answers.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let status: Status =
            serde_json::from_str(&line).map_err(|source| ClientError::Document { path: path.to_owned(), source })?;
        print(arguments, &status, || table::running(&status, clock::now()))?;
        if !arguments.watch {
            return Ok(Some(if status.daemon.ready { 0 } else { NOT_READY }));
        }
        // The first answer comes at once, the next one after a change.
        answers.get_ref().set_read_timeout(None).map_err(failed)?;
    }
}

fn print<T: Serialize>(arguments: StatusArgs, value: &T, table: impl FnOnce() -> String) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    let json = |result: serde_json::Result<String>| result.map_err(|error| ClientError::Print(error.into()));
    let text = match (arguments.output, arguments.watch) {
        (Output::Table, false) => table(),
        // On a terminal the new one takes the place of the old one (ECMA-48: cursor home, erase display).
        (Output::Table, true) if out.is_terminal() => format!("\x1b[H\x1b[2J{}", table()),
        (Output::Table, true) => table() + "\n",
        (Output::Json, false) => json(serde_json::to_string_pretty(value))? + "\n",
        (Output::Json, true) => json(serde_json::to_string(value))? + "\n",
        (Output::Yaml, watch) => {
            let text = serde_saphyr::to_string(value).map_err(|error| ClientError::Print(io::Error::other(error)))?;
            format!("{}{text}", if watch { "---\n" } else { "" })
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe: `netd status | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(ClientError::Print),
    }
}
