//! The program `netd-proxy`: reads kube-proxy's flags and configuration, and runs the proxy or a command.
//!
//! The program `netd` does the same where it is called `netd-proxy`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use apiserver::{Address, ApiServer};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::app::Proxy;
use crate::cleanup::clean_up;
use crate::config::{Config, Flags, Loaded};
use crate::listing::client;
use crate::log;
use crate::source::{api, directory};
use crate::trace_command;

/// The program's name in requests.
const USER_AGENT: &str = concat!("netd-proxy/", env!("CARGO_PKG_VERSION"));

/// Runs the program with its arguments, the program's name first, and gives its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.get(1).and_then(|word| word.to_str()) {
        Some("trace") => match trace_command::read(args.into_iter().skip(1)) {
            Ok(arguments) => ended(trace_command::run(&arguments).context("cannot trace").map(|text| print!("{text}"))),
            Err(error) => refuse(&error),
        },
        Some("services") => match client::read(args.into_iter().skip(1)) {
            Ok(arguments) => ended(client::run(arguments)),
            Err(error) => refuse(&error),
        },
        _ => match Flags::read(args) {
            Ok(flags) => ended(run(&flags).inspect_err(|error| tracing::error!("{error:#}"))),
            Err(error) => refuse(&error),
        },
    }
}

/// Prints what is wrong with the arguments, or the help.
fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Prints why a command has failed.
fn ended(result: Result<(), impl Into<anyhow::Error>>) -> ExitCode {
    match result.map_err(Into::into) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netd-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    let text = flags.config.as_deref().map(read).transpose()?;
    let file = flags.config.as_deref().zip(text.as_deref());
    let Loaded { config, warnings } =
        Config::read(flags, file.map(|(path, text)| (path.to_str().unwrap_or("--config"), text)))?;
    let level = if config.verbosity > 2 { LevelFilter::DEBUG } else { LevelFilter::INFO };
    log::start(level);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if flags.cleanup {
        return clean_up().context("the tables of Services are not removed");
    }
    let node = match &config.hostname_override {
        Some(name) => name.clone(),
        None => {
            nix::unistd::gethostname().context("cannot read the host's name")?.to_string_lossy().trim().to_lowercase()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let address = Address { url: config.master.clone(), kubeconfig: config.kubeconfig.clone() };
        let mut proxy = Proxy::open(config, &node)?;
        let events = if let Some(dir) = &flags.services_dir {
            directory::follow(dir.clone(), &node, directory::POLL)
        } else {
            let server = ApiServer::new(address, USER_AGENT);
            proxy.set_server(&server);
            api::follow(&server, &node)
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        proxy.run(events, std::pin::pin!(ended)).await;
        Ok(())
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read --config {}", path.display()))
}
