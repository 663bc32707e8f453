//! The program `netd-proxy`: reads kube-proxy's flags and configuration, and runs the proxy.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use apiserver::{Address, ApiServer};
use dlmalloc::GlobalDlmalloc;
use proxy::app::Proxy;
use proxy::config::{Config, Flags, Loaded};
use proxy::source::{api, directory};
use proxy::trace_command;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// musl's own allocator maps and unmaps memory for a few pieces at a time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// The program's name in requests.
const USER_AGENT: &str = concat!("netd-proxy/", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "trace") {
        return trace();
    }
    let flags = match Flags::read(std::env::args_os()) {
        Ok(flags) => flags,
        Err(error) => return refuse(&error),
    };
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("netd-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what is wrong with the arguments, or the help.
fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

fn trace() -> ExitCode {
    let arguments = match trace_command::read(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match trace_command::run(&arguments).context("cannot trace") {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
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
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if flags.cleanup {
        return proxy::app::clean_up().context("the tables of Services are not removed");
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
        let events = match &flags.services_dir {
            Some(dir) => directory::follow(dir.clone(), &node, directory::POLL),
            None => api::follow(&ApiServer::new(address, USER_AGENT), &node),
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
