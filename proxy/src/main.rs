//! The program `netd-proxy`: reads kube-proxy's flags and configuration, and runs the proxy.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use proxy::app::Proxy;
use proxy::config::{Config, Flags, Loaded};
use proxy::source::directory;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let flags = match Flags::read(std::env::args_os()) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
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
    let dir = flags.services_dir.clone().context(
        "there is no source of Services: give --services-dir DIR, a directory of Kubernetes YAML; the API server is no source yet",
    )?;
    let node = match &config.hostname_override {
        Some(name) => name.clone(),
        None => {
            nix::unistd::gethostname().context("cannot read the host's name")?.to_string_lossy().trim().to_lowercase()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut proxy = Proxy::open(config, &node)?;
        let events = directory::follow(dir, &node, directory::POLL);
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
