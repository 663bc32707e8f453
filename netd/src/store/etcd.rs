//! The store `etcd`: flannel's keys in an etcd v3, `PREFIX/config` and `PREFIX/subnets/10.1.5.0-24`.
//!
//! A node's key hangs on one lease that is kept alive; a key that somebody has put there without one stays without. It decides
//! nothing; who can be believed is the model's question.

mod acquire;
mod client;
mod follow;
mod keeper;
mod options;
mod record;
mod view;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch as channel};

pub use self::options::OptionsError;

use self::acquire::Holding;
use self::client::{CallError, Client};
use self::keeper::Keeper;
use self::view::{CONFIG, SUBNETS};
use self::wire::{KeyValue, RangeRequest};
use super::startup_retry::{self, StartupRetry};
use super::{LeaseRequest, Store, StoreError, StoreEvent};
use crate::config::EtcdConfig;

/// A store in etcd.
#[derive(Debug)]
pub struct EtcdStore {
    client: Client,
    keeper: Keeper,
    /// This node, once it has a lease.
    own: Arc<OnceLock<NodeName>>,
    /// Whether to wait for an etcd that is not there: a daemon does until it follows the store, a command does not.
    waits: AtomicBool,
    /// What is waited for.
    standing: channel::Sender<Option<String>>,
}

impl EtcdStore {
    /// The store as configured. A daemon's `waits` at its start until etcd answers and holds a network configuration.
    ///
    /// # Errors
    /// If a URL or a file that the configuration names cannot be used.
    pub fn new(config: EtcdConfig, waits: bool) -> Result<Self, OptionsError> {
        let keeper = Keeper::new(config.renew_margin);
        let client = Client::new(config)?;
        Ok(Self {
            client,
            keeper,
            own: Arc::default(),
            waits: AtomicBool::new(waits),
            standing: channel::channel(None).0,
        })
    }

    /// As flannel does, it tries again each second.
    fn waiting(&self) -> StartupRetry {
        StartupRetry::new::<CallError>(self.waits.load(Ordering::Relaxed), startup_retry::FIRST, &self.standing)
    }

    async fn read_net_conf(&self) -> Result<String, StoreError> {
        let key = format!("{}{CONFIG}", self.client.options.prefix);
        let request = RangeRequest { key: key.clone().into_bytes(), range_end: Vec::new() };
        let mut answer = self.client.range(request).await.map_err(|error| unreadable(&key, error))?;
        match answer.kvs.pop() {
            Some(KeyValue { value, .. }) => Ok(String::from_utf8_lossy(&value).into_owned()),
            None => Err(StoreError::Read {
                object: format!("etcd's key {key}"),
                advice: r#"put the network configuration there, with etcd's API v3: etcdctl put KEY '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'"#,
                source: "flannel config not found in etcd store".into(),
            }),
        }
    }

    async fn read_leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let held = self.read_holdings().await?;
        Ok(held.into_iter().filter_map(|holding| Some(holding.record?.lease?.into())).collect())
    }

    /// What is held of the network's subnets.
    async fn read_holdings(&self) -> Result<Vec<Holding>, StoreError> {
        let key = format!("{}{SUBNETS}", self.client.options.prefix);
        let answer =
            self.client.range(below(key.clone().into_bytes())).await.map_err(|error| unreadable(&key, error))?;
        Ok(answer.kvs.into_iter().filter_map(|kv| Holding::read(&key, kv)).collect())
    }

    /// What is held under one key.
    async fn read_holding(&self, key: &str) -> Result<Option<Holding>, StoreError> {
        let request = RangeRequest { key: key.as_bytes().to_vec(), range_end: Vec::new() };
        let mut answer = self.client.range(request).await.map_err(|error| unreadable(key, error))?;
        let folder = format!("{}{SUBNETS}", self.client.options.prefix);
        Ok(answer.kvs.pop().and_then(|kv| Holding::read(&folder, kv)))
    }
}

impl Store for EtcdStore {
    async fn net_conf(&self) -> Result<String, StoreError> {
        let mut waiting = self.waiting();
        loop {
            let fault = match self.read_net_conf().await {
                // Whoever does not wait judges it himself.
                Ok(text) => match NetConf::parse(&text) {
                    Err(error) if waiting.enabled => StoreError::Read {
                        object: format!("etcd's {}{CONFIG}", self.client.options.prefix),
                        advice: "correct the network configuration",
                        source: error.into(),
                    },
                    _ => {
                        waiting.succeeded();
                        return Ok(text);
                    }
                },
                Err(error) if waiting.enabled => error,
                Err(error) => return Err(error),
            };
            waiting.report_and_sleep(&fault).await;
        }
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        // A node's key is known by its value alone.
        Ok(self.leases().await?.into_iter().find(|lease| lease.node == *node).map(Arc::unwrap_or_clone))
    }

    async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let mut waiting = self.waiting();
        loop {
            match self.read_leases().await {
                Err(error) if waiting.enabled => waiting.report_and_sleep(&error).await,
                done => {
                    waiting.succeeded();
                    return done;
                }
            }
        }
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let mut waiting = self.waiting();
        self.own.get_or_init(|| request.node.clone());
        loop {
            match acquire::acquire(self, request, conf).await {
                Err(error) if waiting.enabled && !matches!(error, StoreError::Allocate { .. }) => {
                    waiting.report_and_sleep(&error).await;
                }
                done => {
                    waiting.succeeded();
                    return done;
                }
            }
        }
    }

    async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        acquire::publish(self, lease).await
    }

    async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        acquire::release(self, node).await
    }

    fn startup_status(&self) -> Option<channel::Receiver<Option<String>>> {
        Some(self.standing.subscribe())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        // From now on trouble is told by events, and nobody must be kept waiting.
        self.waits.store(false, Ordering::Relaxed);
        follow::start(self.client.clone(), Arc::clone(&self.own))
    }
}

/// All keys that begin with `prefix`, which ends with a slash.
fn below(prefix: Vec<u8>) -> RangeRequest {
    let mut range_end = prefix.clone();
    if let Some(last) = range_end.last_mut() {
        // '0' follows '/'.
        *last += 1;
    }
    RangeRequest { key: prefix, range_end }
}

fn unreadable(key: &str, error: CallError) -> StoreError {
    StoreError::Read { object: format!("etcd's {key}"), advice: error.advice(), source: error.into() }
}

fn unwritable(key: &str, error: CallError) -> StoreError {
    StoreError::Write { object: format!("etcd's {key}"), advice: error.advice(), source: error.into() }
}
