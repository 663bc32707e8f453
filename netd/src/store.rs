//! Where the network's configuration and the nodes' leases come from. A store reports what exists; it decides nothing.
//!
//! [`Store`] is the daemon's interface; each kind of store has a module below. Nothing specific to one kind (paths, keys, versions)
//! crosses the interface, except in text for a person.

pub mod dir;
pub mod etcd;
pub mod kube;
mod lease_builder;
mod startup_retry;

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{PerFamily, Prefix};
use network::backend::DataRequest;
use network::model::{BackendType, Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch};

use self::dir::{DirStore, POLL};
use self::etcd::{EndpointError, EtcdStore};
use self::kube::KubeStore;
use crate::access_error::{AccessError, Cause};
use crate::config::StoreConfig;
use crate::lock::LockError;
use crate::problem::Problem;

/// A source of truth about the network.
pub enum Store {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
    /// The API server.
    Kube(KubeStore),
}

/// Calls a method of the store's kind.
macro_rules! each {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            Store::Dir($store) => $call,
            Store::Etcd($store) => $call,
            Store::Kube($store) => $call,
        }
    };
}

impl Store {
    /// The store as configured. `waits` is true for a daemon, which waits for its store while it starts. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// Where an endpoint or a certificate file of etcd is invalid.
    pub fn new(config: StoreConfig, waits: bool) -> Result<Self, EndpointError> {
        Ok(match config {
            StoreConfig::Dir(config) => Self::Dir(DirStore::new(config.dir, config.net_conf, POLL)),
            StoreConfig::Etcd(config) => Self::Etcd(EtcdStore::new(config, waits)?),
            StoreConfig::Kube(config) => Self::Kube(KubeStore::new(config, waits)),
        })
    }

    /// Reads the network configuration as text. [`NetConf::parse`] checks the text.
    pub async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    /// Reads the public addresses that the store holds for a node; they replace those of the flags. Writes nothing.
    pub async fn public_addresses(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        match self {
            Self::Kube(store) => store.public_addresses(node).await,
            Self::Dir(_) | Self::Etcd(_) => Ok(PerFamily::none()),
        }
    }

    /// True where nodes do not take their subnets themselves: they may be of any length.
    pub fn gives_subnets(&self) -> bool {
        matches!(self, Self::Kube(_))
    }

    /// Reads one node's lease; `None` where there is no valid one. Writes nothing.
    pub async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        each!(self, store => store.lease(node).await)
    }

    /// Reads every node's lease, this node's included. The result contains this node's latest write. Writes nothing.
    pub async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        each!(self, store => store.leases().await)
    }

    /// Allocates this node's subnets and publishes its lease. A node keeps the subnets of its lease as long as they suit `conf`. A
    /// lease that already has the requested content is not written again.
    pub async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        each!(self, store => store.acquire(request, conf).await)
    }

    /// Publishes the current content of this node's lease. The subnets are those of the acquired lease.
    pub async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        each!(self, store => store.publish(lease).await)
    }

    /// Releases this node's subnets. A node without subnets is not an error.
    pub async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        each!(self, store => store.release(node).await)
    }

    /// Publishes a notice about this node for the cluster's administrators, where the store has a place for notices (Kubernetes
    /// Events). Returns at once; a background task delivers the notice.
    pub fn notify(&self, notice: Notice) {
        if let Self::Kube(store) = self {
            store.notify(notice);
        }
    }

    /// Publishes the problem that ends the daemon. Returns after delivery or after a short timeout.
    pub async fn notify_before_exit(&self, node: Option<&NodeName>, problem: Problem) {
        if let Self::Kube(store) = self {
            store.notify_before_exit(node, &problem).await;
        }
    }

    /// This node's name, where the store knows a better one than the host name.
    pub async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        match self {
            Self::Kube(store) => store.node_name().await.map(Some),
            Self::Dir(_) | Self::Etcd(_) => Ok(None),
        }
    }

    /// What the store is waiting for while the daemon starts, as text for a person; `None` inside where it waits for nothing.
    pub fn startup_status(&self) -> Option<watch::Receiver<Option<String>>> {
        match self {
            Self::Dir(_) => None,
            Self::Etcd(store) => Some(store.startup_status.subscribe()),
            Self::Kube(store) => Some(store.startup_status.subscribe()),
        }
    }

    /// Watches the leases and the configuration until the receiver is dropped. Must be called within a tokio runtime.
    ///
    /// The first events are the current state: [`StoreEvent::NetConf`], then a complete list: [`StoreEvent::Init`], a
    /// [`StoreEvent::Lease`] for each node, [`StoreEvent::InitDone`].
    pub fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}

/// The receiver of the events was dropped.
#[derive(Debug)]
struct Closed;

/// Sends events together, as far as the channel has room: the receiver handles them as one change.
async fn send(sender: &mpsc::Sender<StoreEvent>, events: Vec<StoreEvent>) -> Result<(), Closed> {
    let mut events = events.into_iter();
    while events.len() > 0 {
        let permits = sender.reserve_many(events.len().min(sender.max_capacity())).await.map_err(|_| Closed)?;
        permits.zip(&mut events).for_each(|(permit, event)| permit.send(event));
    }
    Ok(())
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
    /// Ranges of other devices of this node. No new subnet overlaps one.
    pub elsewhere: Vec<Prefix>,
}

impl LeaseRequest {
    /// True for a lease with an address of this node and the subnets that its pods use. The address alone is no proof, since two nodes
    /// may have been given the same one.
    fn was_given(&self, lease: &Lease) -> bool {
        let mut public = lease.public.iter();
        lease.subnets == self.previous && public.any(|(family, address)| self.public.get(family) == Some(address))
    }
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
    /// A record is passed over, with the reason for a person; without one it is not any more. What was reported of the node before stays
    /// valid.
    Fault(String, Option<String>),
    /// The network configuration is this text now.
    NetConf(String),
    /// The store cannot be watched, with the reason for a person. The last reported state remains valid until
    /// [`StoreEvent::Available`]. Sent once per reason.
    Unavailable(String),
    /// The store can be watched again.
    Available,
}

impl StoreEvent {
    /// A complete list.
    fn list(leases: impl Iterator<Item = Arc<Lease>>) -> impl Iterator<Item = Self> {
        [Self::Init].into_iter().chain(leases.map(Self::Lease)).chain([Self::InitDone])
    }
}

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read or a write failed.
    #[error(transparent)]
    Access(AccessError),
    /// The lock for an allocation cannot be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No subnet could be allocated.
    #[error("no subnet for node {node}")]
    Allocate {
        /// The node.
        node: NodeName,
        /// The cause.
        source: Cause,
    },
}

impl StoreError {
    /// A file, key or object cannot be read.
    pub(crate) fn read(object: impl Display, advice: &'static str, source: impl Into<Cause>) -> Self {
        Self::Access(AccessError::new("read", object, advice, source))
    }

    /// A file, key or object cannot be written.
    pub(crate) fn write(object: impl Display, advice: &'static str, source: impl Into<Cause>) -> Self {
        Self::Access(AccessError::new("write", object, advice, source))
    }

    /// A node gets no subnet.
    fn allocate(node: &NodeName, source: impl Into<Cause>) -> Self {
        Self::Allocate { node: node.clone(), source: source.into() }
    }
}
