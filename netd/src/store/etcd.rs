//! The store `etcd`: flannel's keys in an etcd v3, `PREFIX/config` and `PREFIX/subnets/10.1.5.0-24`.
//!
//! A node's key expires with the node's etcd lease, which netd keeps alive. A reservation, a key that a person has created without an
//! etcd lease, does not expire. The store reports what the keys contain; the model decides which leases are valid.

mod allocator;
mod client;
mod endpoint;
mod key_cache;
mod key_value;
mod lease_keep_alive;
mod record;
mod subnet_key;
mod watcher;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch as channel};

pub use self::endpoint::EndpointError;

use self::client::{CallError, Client};
use self::key_cache::KeyCache;
use self::lease_keep_alive::LeaseKeepAlive;
use super::startup_retry::{self, StartupRetry};
use super::{LeaseRequest, StoreError, StoreEvent};
use crate::config::EtcdConfig;

/// A store in etcd.
pub struct EtcdStore {
    client: Client,
    /// The lease with which this node's key expires.
    keep_alive: LeaseKeepAlive,
    /// This node, once it has a lease.
    own: Arc<OnceLock<NodeName>>,
    /// Whether to wait for an etcd that is not available: a daemon does until it watches the store, a command does not.
    waits: AtomicBool,
    /// Why a starting daemon waits.
    pub(super) startup_status: channel::Sender<Option<String>>,
}

impl EtcdStore {
    /// The store as configured. With `waits`, a starting daemon waits until etcd answers and holds a network configuration.
    ///
    /// # Errors
    /// Where an endpoint's URL or a certificate file is invalid.
    pub fn new(config: EtcdConfig, waits: bool) -> Result<Self, EndpointError> {
        let keep_alive = LeaseKeepAlive::new(config.renew_margin);
        let (own, startup_status) = Default::default();
        Ok(Self { client: Client::new(config)?, keep_alive, own, waits: AtomicBool::new(waits), startup_status })
    }

    /// Runs an operation, each second (as flannel does) where this daemon is starting and the operation may succeed later.
    async fn retried<T, F>(&self, operation: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let waits = self.waits.load(Ordering::Relaxed);
        let mut retry = StartupRetry::new::<CallError>(waits, startup_retry::FIRST, &self.startup_status);
        loop {
            match operation().await {
                Err(error) if retry.enabled && !matches!(error, StoreError::Allocate { .. }) => {
                    retry.report_and_sleep(&error).await;
                }
                result => {
                    retry.succeeded();
                    return result;
                }
            }
        }
    }

    async fn read_net_conf(&self) -> Result<String, StoreError> {
        let key = self.client.config.config_key();
        let stored = self.client.get(&key).await?;
        let advice = r#"put the network configuration there, with etcd's API v3: etcdctl put KEY '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'"#;
        let lack = || StoreError::read(format!("etcd's key {key}"), advice, "flannel config not found in etcd store");
        Ok(stored.ok_or_else(lack)?.text())
    }

    pub(super) async fn net_conf(&self) -> Result<String, StoreError> {
        let waits = self.waits.load(Ordering::Relaxed);
        let read = || async {
            let text = self.read_net_conf().await?;
            match NetConf::parse(&text) {
                // A caller that does not wait checks the text itself.
                Err(error) if waits => {
                    let object = format!("etcd's {}", self.client.config.config_key());
                    Err(StoreError::read(object, "correct the network configuration", error))
                }
                _ => Ok(text),
            }
        };
        self.retried(read).await
    }

    pub(super) async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        // Only the values name the nodes, so all keys must be read.
        Ok(self.leases().await?.into_iter().find(|lease| lease.node == *node).map(Arc::unwrap_or_clone))
    }

    pub(super) async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let subnets = self.client.config.subnets_prefix();
        let list = || async { self.client.list(&subnets).await.map_err(|error| error.reading(&subnets)) };
        let (keys, _) = self.retried(list).await?;
        // Of a node's keys the one counts that counts for events.
        Ok(KeyCache::leases(self.client.config.prefix.clone(), &keys))
    }

    pub(super) async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.own.get_or_init(|| request.node.clone());
        self.retried(|| self.acquire_now(request, conf)).await
    }

    pub(super) fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        // From now on events report an unavailable etcd, and no operation may block.
        self.waits.store(false, Ordering::Relaxed);
        watcher::start(self.client.clone(), Arc::clone(&self.own))
    }
}
