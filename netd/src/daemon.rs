//! The daemon: acquires the lease, follows the store, and reconciles until a signal ends it. Made of parts with one job each.
//!
//! Nothing is changed before the store's first list is complete. At the end the data path stays as it is.

pub(crate) mod advertisement;
mod backend_transition;
mod bootstrap;
mod event_loop;
mod kernel_sync;
mod lease_condition;
mod local_lease;
mod logging;
mod plugin_files;
mod publisher;
mod reporter;
mod runs;
mod schedule;
mod store_view;

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use dataplane::kernel::Linux;
use dataplane::monitor::AsyncMonitor;
use network::model::Cluster;
use tokio::signal::unix::{SignalKind, signal};

use tokio::time::Instant;

use crate::bridge::BridgeWatch;
use crate::config::Config;
use crate::conflist;
use crate::embedded_proxy::{EmbeddedProxy, Settings};
use crate::host;
use crate::node::{self, Node};
use crate::service_manager;
use crate::status::NodeStatus;
use crate::status::listeners;
use crate::status::publisher::StatusPublisher;
use crate::store::Store;
use backend_transition::BackendTransition;
pub use bootstrap::StartError;
use kernel_sync::KernelSync;
use local_lease::LocalLease;
use plugin_files::PluginFiles;
use publisher::Publisher;
use reporter::Reporter;
use schedule::Schedule;
use store_view::StoreView;

/// Runs until SIGTERM or SIGINT.
pub async fn run(mut config: Config, store: Store) -> Result<(), StartError> {
    let mut ended = pin!(termination().map_err(StartError::Signals)?);
    let status = StatusPublisher::default();
    let store = Arc::new(store);
    let started = tokio::select! {
        started = Daemon::start(&mut config, &store, &status) => Some(started),
        never = bootstrap::show_waiting(&status, store.startup_status()) => match never {},
        () = &mut ended => None,
    };
    match started {
        Some(Ok(mut daemon)) => {
            let proxy =
                Settings::of(&daemon.config, &daemon.node).map(|settings| EmbeddedProxy::start(settings, status));
            daemon.run(store.watch(), ended).await;
            if let Some(proxy) = proxy {
                proxy.end().await;
            }
            daemon.reporter.throttle.flush(daemon.cluster.peers.len());
        }
        Some(Err(error)) => {
            store.notify_before_exit(config.node_name.as_ref(), error.problem()).await;
            return Err(error);
        }
        None => {}
    }
    service_manager::notify("STOPPING=1");
    tracing::info!("ending; the data path stays as it is");
    Ok(())
}

/// Waits for a signal that ends the daemon.
fn termination() -> io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
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
    /// Discovers the node, and acquires the lease. It waits for the store where that is away or lacks something, and for a default route.
    /// Nothing in the kernel is changed.
    async fn start(config: &mut Config, store: &Arc<Store>, status: &StatusPublisher) -> Result<Self, StartError> {
        // Before the peers' leases are read.
        let epoch = Instant::now();
        let template = conflist::template(config.cni.conf_source.as_deref(), &config.subnet_file)?;
        let listeners = listeners::open(config, status).await?;
        if config.node_name.is_none() {
            config.node_name = store.node_name().await.map_err(StartError::Name)?;
        }
        let bridge = BridgeWatch::resume(config);
        let mut kernel = Linux::open()?;
        let mut monitor = AsyncMonitor::open()?;
        let node = loop {
            match Node::discover(config, store, &mut kernel).await {
                Err(error) if error.is_for_now() => {
                    bootstrap::await_default_route(config, (&mut kernel, &mut monitor), status, &error).await?;
                }
                discovered => break discovered?,
            }
        };
        let stored = store.lease(&node.name).await.map_err(StartError::Lease)?;
        let (links, elsewhere) = (node::links(&mut kernel)?, host::ranges(&mut kernel, &node.conf, &node.bridge)?);
        let request = node.request(&links, elsewhere, stored.as_ref(), &config.subnet_file);
        let own = store.acquire(&request, &node.conf).await.map_err(StartError::Lease)?;
        let subnets: Vec<_> = own.subnets.iter().map(|(_, subnet)| subnet.to_string()).collect();
        tracing::info!(
            node = %node.name, subnets = subnets.join(" "), backend = %own.backend, interface = %node.underlay.ifname, mark = node.identity.mark,
            "lease taken"
        );
        status.update(|status, _| {
            status.store.trouble = None;
            status.node = Some(NodeStatus::of(&node, &own, None));
        });
        Ok(Self {
            node,
            store: StoreView::default(),
            kernel: KernelSync::new(kernel, monitor, bridge, epoch),
            lease: LocalLease::new(Publisher::start(store), request, &own, epoch),
            cluster: Cluster { own, peers: BTreeMap::new() },
            transition: BackendTransition::resume(&config.subnet_file),
            schedule: Schedule::new(config.resync, Instant::now()),
            plugin: PluginFiles::new(template),
            reporter: Reporter::new(status.clone(), listeners),
            config: config.clone(),
        })
    }
}
