//! Where the network's configuration and the nodes' leases come from. A store reports what exists; it decides nothing.
//!
//! [`Store`] is the interface to the daemon; each kind of store has a module below. Nothing specific to one kind (paths, keys,
//! versions) crosses the trait, except in text for a person.

pub mod any_store;
pub mod dir;
pub mod etcd;
pub mod kube;
mod lease_builder;
mod startup_retry;

use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{PerFamily, Prefix};
use network::backend::DataRequest;
use network::model::{BackendType, Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch};

use crate::problem::Problem;

/// A source of truth about the network.
pub trait Store: Send + Sync + 'static {
    /// Reads the network configuration as text. [`NetConf::parse`] checks the text.
    fn net_conf(&self) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// Reads the public addresses that the store holds for a node; they replace those of the flags. Writes nothing.
    fn public_addresses(&self, node: &NodeName) -> impl Future<Output = Result<PerFamily<IpAddr>, StoreError>> + Send {
        let _ = node;
        std::future::ready(Ok(PerFamily::none()))
    }

    /// Reads one node's lease; `None` where there is no valid one. Writes nothing.
    fn lease(&self, node: &NodeName) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Reads every node's lease, this node's included. The result contains this node's latest write. Writes nothing.
    fn leases(&self) -> impl Future<Output = Result<Vec<Arc<Lease>>, StoreError>> + Send;

    /// Allocates this node's subnets and publishes its lease. A node keeps the subnets of its lease as long as they suit `conf`. A
    /// lease that already has the requested content is not written again.
    fn acquire(&self, request: &LeaseRequest, conf: &NetConf)
    -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Publishes the current content of this node's lease. The subnets are those of the acquired lease.
    fn publish(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Releases this node's subnets. A node without subnets is not an error.
    fn release(&self, node: &NodeName) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Publishes a notice about this node for the cluster's administrators, where the store has a place for notices (Kubernetes
    /// Events). Returns at once; a background task delivers the notice.
    fn notify(&self, notice: Notice) {
        let _ = notice;
    }

    /// Publishes the problem that ends the daemon. Returns after delivery or after a short timeout.
    fn notify_before_exit(&self, node: Option<&NodeName>, problem: Problem) -> impl Future<Output = ()> + Send {
        let _ = (node, problem);
        std::future::ready(())
    }

    /// This node's name, where the store knows a better one than the host name.
    fn node_name(&self) -> impl Future<Output = Result<Option<NodeName>, StoreError>> + Send {
        std::future::ready(Ok(None))
    }

    /// What the store is waiting for while the daemon starts, as text for a person; `None` inside where it waits for nothing.
    fn startup_status(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Watches the leases and the configuration until the receiver is dropped. Must be called within a tokio runtime.
    ///
    /// The first events are the current state: [`StoreEvent::NetConf`], then a complete list: [`StoreEvent::Init`], a
    /// [`StoreEvent::Lease`] for each node, [`StoreEvent::InitDone`].
    fn watch(&self) -> mpsc::Receiver<StoreEvent>;
}

/// What a cluster's administrators should know about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Pods can be wired and reach each other.
    Ready,
    /// A problem has begun, or its detail has changed.
    Problem(Problem),
    /// A problem is over.
    Resolved(Problem),
}

/// What this node requests from a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// This node.
    pub node: NodeName,
    /// The addresses at which peers reach this node, by underlay family.
    pub public: PerFamily<IpAddr>,
    /// This node's backend.
    pub backend: BackendType,
    /// The data that its backend publishes, by pod family; none for backends without data.
    pub data: PerFamily<DataRequest>,
    /// The subnets that this node's pods used before, from subnet.env. A node without a lease gets them where they are free and
    /// suit the configuration.
    pub previous: PerFamily<Prefix>,
}

/// A change in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A complete list begins. Nodes that are not in the list are gone.
    Init,
    /// A node's lease is new or has changed; this node's own lease is reported too. Between Init and [`StoreEvent::InitDone`]: the
    /// lease exists.
    Lease(Arc<Lease>),
    /// The list is complete.
    InitDone,
    /// A node's lease is gone.
    Removed(NodeName),
    /// The network configuration is this text now.
    NetConf(String),
    /// The store cannot be watched, with the reason for a person. The last reported state remains valid until
    /// [`StoreEvent::Available`]. Sent once per reason.
    Unavailable(String),
    /// The store can be watched again.
    Available,
}

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read failed.
    #[error("cannot read {object}: {advice}")]
    Read {
        /// The file, key or object.
        object: String,
        /// What to do about it.
        advice: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A write failed.
    #[error("cannot write {object}: {advice}")]
    Write {
        /// The file, key or object.
        object: String,
        /// What to do about it.
        advice: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another node has locked the store for too long.
    #[error("{object} has been locked for {seconds} s: {advice}")]
    Busy {
        /// The lock file.
        object: String,
        /// How long this node waited for the lock.
        seconds: u64,
        /// What to do about it.
        advice: String,
    },
    /// No subnet could be allocated.
    #[error("no subnet for node {node}")]
    Allocate {
        /// The node.
        node: NodeName,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}
