//! The daemon: acquires the lease, follows the store, and reconciles until a signal ends it. Made of parts with one job each.
//!
//! Nothing is changed before the store's first list is complete. At the end the data path stays as it is.

pub(crate) mod advertisement;
mod backend_transition;
mod bootstrap;
mod event_loop;
mod full_reconcile;
mod incremental;
mod kernel_sync;
mod lease_condition;
mod local_lease;
mod logging;
mod plugin_files;
mod publisher;
mod reporter;
mod schedule;
mod store_view;

use std::collections::BTreeMap;

use network::model::Cluster;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::config::Config;
use crate::node::Node;
use crate::status::publisher::StatusPublisher;
use crate::store::Store;
use backend_transition::BackendTransition;
use bootstrap::Bootstrap;
pub use bootstrap::StartError;
use kernel_sync::KernelSync;
use local_lease::LocalLease;
use plugin_files::PluginFiles;
use publisher::Publisher;
use reporter::Reporter;
use schedule::Schedule;
use store_view::StoreView;

/// Runs until SIGTERM or SIGINT.
pub async fn run(mut config: Config, store: impl Store) -> Result<(), StartError> {
    let mut signals = TerminationSignals::listen().map_err(StartError::Signals)?;
    let status = StatusPublisher::default();
    let bootstrap = tokio::select! {
        bootstrap = Bootstrap::complete(&mut config, &store, &status) => Some(bootstrap),
        never = bootstrap::show_waiting(&status, store.startup_status()) => match never {},
        () = signals.wait() => None,
    };
    match bootstrap {
        Some(Ok(bootstrap)) => {
            let events = store.watch();
            let mut daemon = Daemon::new(config, store, status, bootstrap);
            daemon.run(events, &mut signals).await;
            daemon.reporter.throttle.flush(daemon.cluster.peers.len());
        }
        Some(Err(error)) => {
            store.notify_before_exit(config.node_name.as_ref(), error.problem()).await;
            return Err(error);
        }
        None => {}
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!("ending; the data path stays as it is");
    Ok(())
}

/// The signals that end the daemon.
struct TerminationSignals {
    term: Signal,
    int: Signal,
}

impl TerminationSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The parts.
struct Daemon {
    config: Config,
    /// This node: its network, its interface, its tunnel ends.
    node: Node,
    /// This node's lease and those of the peers that it believes, as the last run had them.
    cluster: Cluster,
    store: StoreView,
    kernel: KernelSync,
    lease: LocalLease,
    transition: BackendTransition,
    schedule: Schedule,
    plugin: PluginFiles,
    reporter: Reporter,
}

impl Daemon {
    fn new(config: Config, store: impl Store, status: StatusPublisher, bootstrap: Bootstrap) -> Self {
        let Bootstrap { epoch, kernel, monitor, node, request, own, template, listeners } = bootstrap;
        Self {
            node,
            store: StoreView::default(),
            kernel: KernelSync::new(kernel, monitor, epoch),
            lease: LocalLease::new(Publisher::start(store), request, &own, epoch),
            cluster: Cluster { own, peers: BTreeMap::new() },
            transition: BackendTransition::resume(&config.subnet_file),
            schedule: Schedule::new(config.resync, Instant::now()),
            plugin: PluginFiles::new(template),
            reporter: Reporter::new(status, listeners),
            config,
        }
    }
}
