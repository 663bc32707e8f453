//! The start: what the daemon needs before it can begin. It waits for the store where that is away or lacks something. Nothing in the kernel is
//! changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use dataplane::kernel::Linux;
use dataplane::monitor::AsyncMonitor;
use dataplane::netlink::KernelError;
use network::chain;
use network::model::Cluster;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Daemon;
use super::backend_transition::BackendTransition;
use super::kernel_sync::KernelSync;
use super::local_lease::LocalLease;
use super::plugin_files::PluginFiles;
use super::publisher::Publisher;
use super::reporter::Reporter;
use super::schedule::Schedule;
use super::store_view::StoreView;
use crate::config::Config;
use crate::conflist;
use crate::node::{self, Node, NodeError};
use crate::problem::{Kind, Problem};
use crate::status::StoreTrouble;
use crate::status::listeners::{self, ListenError};
use crate::status::publisher::StatusPublisher;
use crate::store::{Store, StoreError};

/// Why the daemon cannot begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The status could not be served.
    #[error(transparent)]
    Listener(#[from] ListenError),
    /// The node's name is not known.
    #[error("cannot tell which node this is")]
    Name(#[source] StoreError),
    /// The node cannot take part.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No lease.
    #[error("cannot take this node's subnets")]
    Lease(#[source] StoreError),
    /// The kernel cannot be spoken to.
    #[error("cannot speak to the kernel: netd needs the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// The operator's CNI configuration is not one.
    #[error(transparent)]
    Conflist(#[from] conflist::SourceError),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

impl StartError {
    /// For those who look after the cluster.
    pub(super) fn problem(&self) -> Problem {
        let kind = match self {
            Self::Node(NodeError::NetConf(_) | NodeError::OtherNetwork) => Kind::InvalidConfiguration,
            Self::Lease(StoreError::Allocate { .. }) => Kind::WrongPodCidr,
            _ => Kind::CannotStart,
        };
        Problem::new(kind, "netd", format!("cannot start on this node: {}", chain(self)))
    }
}

impl Daemon {
    /// Discovers the node, and acquires the lease.
    pub(super) async fn start(
        config: &mut Config,
        store: &Arc<impl Store>,
        status: &StatusPublisher,
    ) -> Result<Self, StartError> {
        // Before the peers' leases are read.
        let epoch = Instant::now();
        let template = conflist::template(config.cni.conf_source.as_deref(), &config.subnet_file)?;
        let listeners = listeners::open(config, status).await?;
        if config.node_name.is_none() {
            config.node_name = store.node_name().await.map_err(StartError::Name)?;
        }
        let mut kernel = Linux::open()?;
        let monitor = AsyncMonitor::open()?;
        let node = Node::discover(config, &**store, &mut kernel).await?;
        let stored = store.lease(&node.name).await.map_err(StartError::Lease)?;
        let request = node.request(&node::links(&mut kernel)?, stored.as_ref(), &config.subnet_file);
        let own = store.acquire(&request, &node.conf).await.map_err(StartError::Lease)?;
        let subnets: Vec<_> = own.subnets.iter().map(|(_, subnet)| subnet.to_string()).collect();
        tracing::info!(
            node = %node.name, subnets = subnets.join(" "), backend = %own.backend, interface = %node.underlay.ifname, mark = node.identity.mark,
            "lease taken"
        );
        status.update(|status, _| {
            status.store.trouble = None;
            status.joined(&node, &own, None);
        });
        Ok(Self {
            node,
            store: StoreView::default(),
            kernel: KernelSync::new(kernel, monitor, epoch),
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

/// Shows what the store waits for, as long as it does.
pub(super) async fn show_waiting(
    status: &StatusPublisher,
    waiting: Option<watch::Receiver<Option<String>>>,
) -> Infallible {
    if let Some(mut waiting) = waiting {
        while waiting.changed().await.is_ok() {
            let what = waiting.borrow_and_update().clone();
            status.update(|status, now| {
                let since = status.store.trouble.as_ref().map_or(now, |former| former.since);
                status.store.trouble = what.map(|what| StoreTrouble { what, since });
            });
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
