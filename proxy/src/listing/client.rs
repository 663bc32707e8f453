//! `netd services` and `netd-proxy services`: asks the running proxy, and prints.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use apiserver::chain;
use clap::Parser;

use super::server::{ONCE, WATCH, connect};
use super::{Listing, table, traffic};

/// How long a busy proxy may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Parser)]
#[command(
    name = "netd-proxy services",
    about = "Print what is programmed: each service port, its endpoints, and why an endpoint is left out"
)]
pub struct Arguments {
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,

    /// Print it again at each change, until the proxy ends.
    #[arg(short, long)]
    watch: bool,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// JSON; one line each with --watch.
    Json,
    /// YAML.
    Yaml,
}

/// Why nothing can be printed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No proxy runs.
    #[error(
        "no proxy of netd's runs in this network namespace: start netd with --proxy, or netd-proxy; `nft list table ip netd-proxy` prints what the kernel has"
    )]
    NotRunning,
    /// The proxy does not answer as it should.
    #[error("the proxy does not answer: look at its log")]
    Silent(#[source] io::Error),
    /// The proxy is another version.
    #[error("the proxy answers what this program does not understand: run the same version")]
    Unclear(#[source] serde_json::Error),
    /// Output is impossible.
    #[error("cannot print what is programmed")]
    Print(#[source] io::Error),
}

/// Reads the arguments, the word `services` first. The error is clap's.
///
/// # Errors
/// Where the arguments are wrong, or ask for help.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(args)
}

/// The listing of the proxy that runs in the network namespace of the calling thread. `None` where none runs.
///
/// # Errors
/// Where the proxy does not answer.
pub fn listing() -> Result<Option<Listing>, ClientError> {
    let Some(mut answers) = ask(ONCE)? else { return Ok(None) };
    next(&mut answers)
}

/// Prints what is programmed.
///
/// # Errors
/// Where no proxy answers.
pub fn run(arguments: Arguments) -> Result<(), ClientError> {
    let mut answers = ask(if arguments.watch { WATCH } else { ONCE })?.ok_or(ClientError::NotRunning)?;
    let mut is_first = true;
    loop {
        let Some(mut listing) = next(&mut answers)? else {
            return if is_first { Err(ClientError::NotRunning) } else { Ok(()) };
        };
        if let Err(error) = traffic::count(&mut listing)
            && is_first
        {
            eprintln!("connections are not shown: {}", chain(&error));
        }
        print(arguments, &listing)?;
        if !arguments.watch {
            return Ok(());
        }
        is_first = false;
        // The first answer comes at once, the next one after a change.
        answers.get_ref().set_read_timeout(None).map_err(ClientError::Silent)?;
    }
}

fn ask(request: &str) -> Result<Option<BufReader<UnixStream>>, ClientError> {
    let Some(mut stream) = connect().map_err(ClientError::Silent)? else { return Ok(None) };
    stream.set_read_timeout(Some(TIMEOUT)).map_err(ClientError::Silent)?;
    match writeln!(stream, "{request}") {
        // The proxy has ended since.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        written => written.map(|()| Some(BufReader::new(stream))).map_err(ClientError::Silent),
    }
}

/// The next answer. `None` where the proxy has ended.
fn next(answers: &mut BufReader<UnixStream>) -> Result<Option<Listing>, ClientError> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(ClientError::Silent(error)),
    }
    serde_json::from_str(&line).map(Some).map_err(ClientError::Unclear)
}

fn print(arguments: Arguments, listing: &Listing) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    let text = match (arguments.output, arguments.watch) {
        (Format::Table, false) => table::table(listing),
        // On a terminal the new one takes the place of the old one (ECMA-48: cursor home, erase display).
        (Format::Table, true) if out.is_terminal() => format!("\x1b[H\x1b[2J{}", table::table(listing)),
        (Format::Table, true) => table::table(listing) + "\n",
        (Format::Json, is_watch) => {
            let text = if is_watch { serde_json::to_string(listing) } else { serde_json::to_string_pretty(listing) };
            text.map_err(|error| ClientError::Print(error.into()))? + "\n"
        }
        (Format::Yaml, is_watch) => {
            let text = serde_saphyr::to_string(listing);
            let text = text.map_err(|error| ClientError::Print(io::Error::other(error)))?;
            format!("{}{text}", if is_watch { "---\n" } else { "" })
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe: `netd services | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(ClientError::Print),
    }
}
