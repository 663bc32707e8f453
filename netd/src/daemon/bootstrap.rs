//! What the daemon needs before it can begin. It waits for the store where that is away or lacks something. Nothing in the kernel is
//! changed.

use std::convert::Infallible;

use dataplane::kernel::Linux;
use dataplane::monitor::AsyncMonitor;
use dataplane::netlink::KernelError;
use network::chain;
use network::model::Lease;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::conflist::{self, Template};
use crate::node::{self, Node, NodeError};
use crate::problem::{Kind, Problem};
use crate::status::StoreTrouble;
use crate::status::listeners::{self, ListenError, Listeners};
use crate::status::publisher::StatusPublisher;
use crate::store::{LeaseRequest, Store, StoreError};

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

/// All that the daemon begins with.
pub(super) struct Bootstrap {
    /// What times are counted from: before the peers' leases were read.
    pub(super) epoch: Instant,
    pub(super) kernel: Linux,
    pub(super) monitor: AsyncMonitor,
    pub(super) node: Node,
    /// How the lease was acquired.
    pub(super) request: LeaseRequest,
    /// The lease.
    pub(super) own: Lease,
    /// The CNI configuration to install.
    pub(super) template: Template,
    pub(super) listeners: Listeners,
}

impl Bootstrap {
    /// Discovers the node, and acquires the lease.
    pub(super) async fn complete(
        config: &mut Config,
        store: &impl Store,
        status: &StatusPublisher,
    ) -> Result<Self, StartError> {
        let epoch = Instant::now();
        let template = conflist::template(config.cni.conf_source.as_deref(), &config.subnet_file)?;
        let listeners = listeners::open(config, status).await?;
        if config.node_name.is_none() {
            config.node_name = store.node_name().await.map_err(StartError::Name)?;
        }
        let mut kernel = Linux::open()?;
        let monitor = AsyncMonitor::open()?;
        let node = Node::discover(config, store, &mut kernel).await?;
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
        Ok(Self { epoch, kernel, monitor, node, request, own, template, listeners })
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
