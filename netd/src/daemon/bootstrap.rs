//! Why the daemon cannot begin, and what it shows while it waits for the store.

use std::convert::Infallible;

use dataplane::kernel::Linux;
use dataplane::monitor::AsyncMonitor;
use dataplane::netlink::KernelError;
use network::{chain, observe};
use tokio::sync::watch;

use crate::bridge;
use crate::config::Config;
use crate::conflist;
use crate::host;
use crate::node::NodeError;
use crate::problem::{Kind, Problem};
use crate::status::StoreTrouble;
use crate::status::listeners::ListenError;
use crate::status::publisher::StatusPublisher;
use crate::store::StoreError;

/// Why the daemon cannot begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The status could not be served.
    #[error(transparent)]
    Listener(#[from] ListenError),
    /// The node's name is not known.
    #[error("cannot find out which node this is")]
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
    Conflist(#[from] conflist::ConflistError),
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

/// Shows that the node waits for a default route, and does so.
pub(super) async fn await_default_route(
    config: &Config,
    (kernel, monitor): (&mut Linux, &mut AsyncMonitor),
    status: &StatusPublisher,
    error: &NodeError,
) -> Result<(), KernelError> {
    let what = chain(error);
    tracing::warn!("waiting: {what}");
    status.update(|status, now| status.store.trouble = Some(StoreTrouble { what, since: now }));
    let bridge = bridge::name(config);
    loop {
        let host = observe::links_and_routes(kernel)?;
        if !host::facts(kernel, &host, &config.underlay, &bridge)?.default_routes.is_empty() {
            break;
        }
        // The monitor is older than the read: a route that has come since is not missed. The first full run reads everything.
        monitor.changed().await;
        monitor.receive(usize::MAX)?;
    }
    tracing::info!("the host has a default route now");
    status.update(|status, _| status.store.trouble = None);
    Ok(())
}

#[cfg(test)]
mod tests;
