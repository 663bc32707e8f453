//! The log on standard error, one line for each event.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log at a level, or as `RUST_LOG` says. It has colours on a terminal, unless there is `NO_COLOR`.
pub fn start(level: LevelFilter) {
    // Who watches the API server logs the errors of that client once.
    let mut filter = Targets::new()
        .with_default(level)
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("kube_runtime", LevelFilter::OFF);
    if let Some(configured) = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok()) {
        filter = filter.with_default(configured.default_level().unwrap_or(level));
        filter.extend(configured);
    }
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
