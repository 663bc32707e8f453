//! Where the network's configuration and the nodes' leases come from. A store says what is; it never decides.
//!
//! [`Store`] is what the daemon knows of any of them; the kinds live in modules below. Nothing of a kind (paths, keys, versions) gets
//! past the trait except as text for a person.

pub mod chosen;
mod claim;
pub mod dir;
pub mod etcd;
pub mod kube;
mod waiting;

use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::{PerFamily, Prefix};
use network::backend::DataRequest;
use network::model::{BackendType, Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch};

/// A source of truth about the network.
pub trait Store: Send + Sync + 'static {
    /// Reads the network configuration, as text: [`NetConf::parse`] judges it.
    fn net_conf(&self) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// Reads the public addresses that the store has for a node, in place of those that the flags name. Changes nothing.
    fn public(&self, node: &NodeName) -> impl Future<Output = Result<PerFamily<IpAddr>, StoreError>> + Send {
        let _ = node;
        std::future::ready(Ok(PerFamily::none()))
    }

    /// Reads one node's lease; `None` where it has none that can be read. Changes nothing.
    fn lease(&self, node: &NodeName) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Every node's lease, this node's too, no older than what this node has written last. Changes nothing.
    fn leases(&self) -> impl Future<Output = Result<Vec<Arc<Lease>>, StoreError>> + Send;

    /// Takes this node's subnets and publishes its lease. A node that has a lease gets the same subnets again as long as they suit
    /// `conf`; where the lease in the store already says all that is asked for, nothing is written.
    fn acquire(&self, request: &LeaseRequest, conf: &NetConf)
    -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Tells the peers what this node's lease says now; its subnets are those that it has.
    fn publish(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives this node's subnets back. Not having any is success.
    fn release(&self, node: &NodeName) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells those who look after the cluster about this node, where the store has a place for that. Nobody waits for it.
    fn tell(&self, notice: Notice) {
        let _ = notice;
    }

    /// Tells them of what ends a daemon that has this name, and gives up after a moment.
    fn tell_last(&self, node: Option<&NodeName>, notice: Notice) -> impl Future<Output = ()> + Send {
        let _ = (node, notice);
        std::future::ready(())
    }

    /// This node's name, where the store knows better than the host.
    fn node_name(&self) -> impl Future<Output = Result<Option<NodeName>, StoreError>> + Send {
        std::future::ready(Ok(None))
    }

    /// What the store waits for at the start of a daemon, for a person; none where it waits for nothing.
    fn standing(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Follows the leases and the configuration until the receiver is dropped. To be called within a tokio runtime.
    ///
    /// The first events are what there is: [`StoreEvent::NetConf`], then a whole list: [`StoreEvent::Init`], a [`StoreEvent::Lease`] for
    /// each node, [`StoreEvent::InitDone`].
    fn watch(&self) -> mpsc::Receiver<StoreEvent>;
}

/// What those who look after the cluster should know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Pods can be wired and reach each other.
    Ready,
    /// Somebody must do something. The same text again is no news until it was over.
    Warning {
        /// Of which sort, as Events have it: `InvalidConfiguration`.
        reason: &'static str,
        /// What.
        text: String,
    },
    /// What this text warned of is over.
    Over(String),
}

/// What this node asks a store for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// This node.
    pub node: NodeName,
    /// Where peers reach it, by underlay family.
    pub public: PerFamily<IpAddr>,
    /// How it wants packets carried.
    pub backend: BackendType,
    /// What its backend publishes, by pod family; none for backends without data.
    pub data: PerFamily<DataRequest>,
    /// The subnets that its pods have used before, from subnet.env: a node without a lease gets them when they are free and suit.
    pub previous: PerFamily<Prefix>,
}

/// What happened in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A whole list begins: what is not in it is gone.
    Init,
    /// A node's lease is new or has changed; this node's own is told like any other. Inside a list: it is there.
    Lease(Arc<Lease>),
    /// The list is complete.
    InitDone,
    /// A node's lease is gone.
    Removed(NodeName),
    /// The network configuration is, or has changed to, this text.
    NetConf(String),
    /// The store cannot be followed; what was last told stands until [`StoreEvent::Recovered`]. Told once, for a person.
    Trouble(String),
    /// The trouble is over.
    Recovered,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something could not be read.
    #[error("cannot read {object}: {advice}")]
    Read {
        /// What.
        object: String,
        /// What to do about it.
        advice: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something could not be written.
    #[error("cannot write {object}: {advice}")]
    Write {
        /// What.
        object: String,
        /// What to do about it.
        advice: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another node holds the store for too long.
    #[error("{object} has been locked for {seconds} s: {advice}")]
    Busy {
        /// What.
        object: String,
        /// How long it was waited for.
        seconds: u64,
        /// What to do about it.
        advice: String,
    },
    /// No subnet could be had.
    #[error("no subnet for node {node}")]
    Allocate {
        /// The node.
        node: NodeName,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}
