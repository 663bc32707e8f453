//! What the daemon needs before it can begin: found out, and waited for where it is the store that lacks it. Nothing in the kernel is
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
    /// It could not be asked.
    #[error(transparent)]
    Door(#[from] ListenError),
    /// It does not know who it is.
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

/// All of it.
pub(super) struct Outset {
    pub(super) began: Instant,
    pub(super) kernel: Linux,
    pub(super) monitor: AsyncMonitor,
    pub(super) node: Node,
    pub(super) request: LeaseRequest,
    pub(super) own: Lease,
    pub(super) template: Template,
    pub(super) doors: Listeners,
}

/// Finds it out, and takes the lease.
pub(super) async fn find(
    config: &mut Config,
    store: &impl Store,
    board: &StatusPublisher,
) -> Result<Outset, StartError> {
    let began = Instant::now();
    let template = conflist::template(config.cni.conf_source.as_deref(), &config.subnet_file)?;
    let doors = listeners::open(&config.status, board).await?;
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
    board.update(|status, _| {
        status.store.trouble = None;
        status.joined(&node, &own, None);
    });
    Ok(Outset { began, kernel, monitor, node, request, own, template, doors })
}

/// Shows what the store waits for, as long as it does.
pub(super) async fn show(board: &StatusPublisher, standing: Option<watch::Receiver<Option<String>>>) -> Infallible {
    if let Some(mut standing) = standing {
        while standing.changed().await.is_ok() {
            let what = standing.borrow_and_update().clone();
            board.update(|status, now| {
                let since = status.store.trouble.as_ref().map_or(now, |former| former.since);
                status.store.trouble = what.map(|what| StoreTrouble { what, since });
            });
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
