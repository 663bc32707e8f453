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

/// One of the stores.
#[derive(Debug)]
pub enum Chosen {
    /// A directory.
    Dir(DirStore),
    /// etcd.
    Etcd(EtcdStore),
    /// The API server.
    Kube(KubeStore),
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd cannot be the store")]
pub struct ChoiceError(#[from] etcd::OptionsError);

impl Chosen {
    /// The store as configured. `waits` is true for a daemon, which waits for its store at its start. To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the configuration names what cannot be used.
    pub fn new(config: StoreConfig, waits: bool) -> Result<Self, ChoiceError> {
        Ok(match config {
            StoreConfig::Dir(config) => Self::Dir(DirStore::new(config.dir, config.net_conf, POLL)),
            StoreConfig::Etcd(config) => Self::Etcd(EtcdStore::new(config, waits)?),
            StoreConfig::Kube(config) => Self::Kube(KubeStore::new(config, waits)),
        })
    }
}

/// Calls a method of whichever store it is.
macro_rules! each {
    ($chosen:expr, $store:ident => $call:expr) => {
        match $chosen {
            Chosen::Dir($store) => $call,
            Chosen::Etcd($store) => $call,
            Chosen::Kube($store) => $call,
        }
    };
}

impl Store for Chosen {
    async fn net_conf(&self) -> Result<String, StoreError> {
        each!(self, store => store.net_conf().await)
    }

    async fn public(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        each!(self, store => store.public(node).await)
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

    fn tell(&self, notice: Notice) {
        each!(self, store => store.tell(notice));
    }

    async fn tell_last(&self, node: Option<&NodeName>, notice: Notice) {
        each!(self, store => store.tell_last(node, notice).await);
    }

    async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        each!(self, store => store.node_name().await)
    }

    fn standing(&self) -> Option<watch::Receiver<Option<String>>> {
        each!(self, store => store.standing())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        each!(self, store => store.watch())
    }
}
