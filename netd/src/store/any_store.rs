//! The store that the configuration names.

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::types::PerFamily;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch};

use super::dir::{DirStore, POLL};
use super::etcd::{self, EtcdStore};
use super::kube::KubeStore;
use super::{LeaseRequest, Notice, Store, StoreError, StoreEvent};
use crate::config::StoreConfig;
use crate::problem::Problem;

/// One of the three stores.
pub enum AnyStore {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
    /// The API server.
    Kube(KubeStore),
}

/// etcd cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd cannot be the store")]
pub struct EtcdUnusable(#[from] etcd::EndpointError);

impl AnyStore {
    /// The store as configured. `waits` is true for a daemon, which waits for its store while it starts. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// Where an endpoint or a certificate file of etcd is invalid.
    pub fn new(config: StoreConfig, waits: bool) -> Result<Self, EtcdUnusable> {
        Ok(match config {
            StoreConfig::Dir(config) => Self::Dir(DirStore::new(config.dir, config.net_conf, POLL)),
            StoreConfig::Etcd(config) => Self::Etcd(EtcdStore::new(config, waits)?),
            StoreConfig::Kube(config) => Self::Kube(KubeStore::new(config, waits)),
        })
    }
}

/// Calls a method of the selected store.
macro_rules! each {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            AnyStore::Dir($store) => $call,
            AnyStore::Etcd($store) => $call,
            AnyStore::Kube($store) => $call,
        }
    };
}

impl Store for AnyStore {
    async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    async fn public_addresses(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        each!(self, store => store.public_addresses(node).await)
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        each!(self, store => store.lease(node).await)
    }

    async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        each!(self, store => store.leases().await)
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        each!(self, store => store.acquire(request, conf).await)
    }

    async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        each!(self, store => store.publish(lease).await)
    }

    async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        each!(self, store => store.release(node).await)
    }

    fn notify(&self, notice: Notice) {
        each!(self, store => store.notify(notice));
    }

    async fn notify_before_exit(&self, node: Option<&NodeName>, problem: Problem) {
        each!(self, store => store.notify_before_exit(node, problem).await);
    }

    async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        each!(self, store => store.node_name().await)
    }

    fn startup_status(&self) -> Option<watch::Receiver<Option<String>>> {
        each!(self, store => store.startup_status())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}
