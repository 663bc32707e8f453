//! The start of a daemon: it needs its name, the configuration and its Node before it can follow the API server. It waits for them as
//! long as that takes, or takes them from the cache file.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apiserver::{ApiError, Selection, Watch, WatchEvent, watch};
use dataplane::types::{PerFamily, Prefix};
use network::chain;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::{task, time};

use super::annotations::{self, RangesFault};
use super::cache_file::CachedNetwork;
use super::object::{Node, NodeObject};
use super::options::NoNode;
use super::{KubeStore, WRITE, conf, own_node, warning};
use crate::problem::{Kind, Problem};
use crate::store::startup_retry::StartupRetry;
use crate::store::{LeaseRequest, StoreError, lease_builder};

/// The longest wait for an API server that is away.
const LONGEST: Duration = Duration::from_secs(10);
/// The least time between two questions to an API server that refuses.
const PAUSE: Duration = Duration::from_millis(200);

/// The own Node, or the cache file in its place.
enum Source {
    Node(Node),
    Cache(CachedNetwork),
}

impl KubeStore {
    fn startup_retry(&self) -> StartupRetry {
        StartupRetry::new::<ApiError>(self.waits.load(Ordering::Relaxed), LONGEST, &self.startup_status)
    }

    /// The cache file, for a daemon that starts; that of this node alone.
    async fn cached(&self, node: Option<&NodeName>) -> Option<CachedNetwork> {
        if !self.waits.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.shared.options.cache_file.clone();
        let network = task::spawn_blocking(move || CachedNetwork::load(&path)).await.ok()??;
        node.is_none_or(|node| network.node == *node).then_some(network)
    }

    /// From now on the start uses the cache file.
    fn set_cache_used(&self, why: &StoreError) {
        let mut cache_used = self.cache_used.lock().unwrap_or_else(PoisonError::into_inner);
        if cache_used.is_none() {
            let path = self.shared.options.cache_file.display();
            let text = format!("netd has started from its cache file {path}: {}", chain(why));
            tracing::warn!("{text}");
            *cache_used = Some(text);
        }
    }

    fn is_cache_used(&self) -> bool {
        self.cache_used.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// This node's name, from the Pod that netd runs in.
    pub(super) async fn first_name(&self) -> Result<NodeName, StoreError> {
        let Some((namespace, pod)) = &self.shared.options.pod else {
            return Err(StoreError::Read {
                object: "this node's name".to_owned(),
                advice: "give the container NODE_NAME from its field spec.nodeName",
                source: NoNode.into(),
            });
        };
        let mut retry = self.startup_retry();
        loop {
            let read = self.read_pod(namespace, pod).await;
            if let Err(error) = &read
                && let Some(network) = self.cached(None).await
            {
                self.set_cache_used(error);
                return Ok(network.node);
            }
            match read {
                Err(error) if retry.enabled => retry.report_and_sleep(&error).await,
                done => {
                    retry.succeeded();
                    return done;
                }
            }
        }
    }

    /// The network configuration. A daemon waits for one that is valid.
    pub(super) async fn first_net_conf(&self) -> Result<String, StoreError> {
        let mut retry = self.startup_retry();
        let source = &self.shared.options.net_conf;
        loop {
            if self.is_cache_used()
                && conf::is_remote(source)
                && let Some(network) = self.cached(None).await
            {
                return Ok(network.net_conf);
            }
            let error = match conf::read(&self.shared.server, source).await {
                Ok(text) => match NetConf::parse(&text) {
                    Err(error) if retry.enabled => StoreError::Read {
                        object: "the network configuration".to_owned(),
                        advice: "correct net-conf.json",
                        source: error.into(),
                    },
                    // A command reports the fault by itself.
                    _ => {
                        retry.succeeded();
                        return Ok(text);
                    }
                },
                Err(error) => {
                    if conf::is_remote(source)
                        && let Some(network) = self.cached(None).await
                    {
                        self.set_cache_used(&error);
                        return Ok(network.net_conf);
                    }
                    error
                }
            };
            if !retry.enabled {
                return Err(error);
            }
            self.warn(Kind::InvalidConfiguration, &chain(&error));
            retry.report_and_sleep(&error).await;
        }
    }

    fn warn(&self, kind: Kind, why: &str) {
        let problem = Problem::new(kind, "netd", format!("waits: {why}"));
        self.shared.recorder.warn(warning(&problem));
    }

    async fn first_node(&self, name: &NodeName) -> Result<Source, StoreError> {
        let mut retry = self.startup_retry();
        loop {
            if self.is_cache_used()
                && let Some(network) = self.cached(Some(name)).await
            {
                return Ok(Source::Cache(network));
            }
            let error = match self.read_own(name).await {
                Ok(node) => {
                    retry.succeeded();
                    return Ok(Source::Node(node));
                }
                Err(error) if !retry.enabled => return Err(error),
                Err(error) => error,
            };
            // The cache file says nothing about a Node that is known to be missing.
            let is_missing = std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<ApiError>())
                .is_some_and(|cause| cause.code() == Some(404));
            if !is_missing && let Some(network) = self.cached(Some(name)).await {
                self.set_cache_used(&error);
                return Ok(Source::Cache(network));
            }
            retry.report_and_sleep(&error).await;
        }
    }

    /// The public addresses that the Node's owner has set.
    pub(super) async fn first_public(&self, name: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        match self.first_node(name).await? {
            Source::Cache(network) => Ok(network.public),
            Source::Node(node) => match annotations::node_public(&node, &self.shared.options.keys) {
                Ok(public) => Ok(public),
                Err(fault) => {
                    tracing::warn!("the Node's annotations for this node's public address are ignored: {fault}");
                    Ok(PerFamily::none())
                }
            },
        }
    }

    /// The own lease as it is in the store.
    pub(super) async fn first_lease(&self, name: &NodeName) -> Result<Option<Lease>, StoreError> {
        match self.first_node(name).await? {
            Source::Cache(network) => Ok(network.leases.get(name).map(|lease| Lease::clone(lease))),
            Source::Node(node) => Ok(annotations::lease(&node, &self.shared.options.keys).ok().flatten()),
        }
    }

    /// Acquires the lease. Waits for a podCIDR.
    pub(super) async fn first_acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let mut retry = self.startup_retry();
        loop {
            let node = match self.first_node(&request.node).await? {
                Source::Node(node) => node,
                Source::Cache(network) => {
                    retry.succeeded();
                    return self.use_cached(network, request, conf);
                }
            };
            match annotations::ranges_in(&node, conf) {
                Ok(subnets) => match self.publish_first(&node, request, subnets).await {
                    Err(error) => retry.report_and_sleep(&error).await,
                    done => {
                        retry.succeeded();
                        return done;
                    }
                },
                Err(fault @ RangesFault::None { .. }) => {
                    retry.report(&allocation(request, fault.clone()));
                    self.warn(Kind::NoPodCidr, &fault.to_string());
                    self.ranges_change(&node).await;
                }
                Err(fault) => return Err(allocation(request, fault)),
            }
        }
    }

    /// Goes on with the lease of the cache file.
    fn use_cached(&self, network: CachedNetwork, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let own = network.leases.get(&request.node).cloned();
        let subnets = own.as_ref().map(|lease| lease.subnets).unwrap_or_default();
        let node = Node {
            name: request.node.to_string(),
            ranges: subnets.iter().map(|(_, subnet)| subnet.to_string()).collect(),
            ..Node::default()
        };
        let subnets = annotations::ranges_in(&node, conf).map_err(|fault| allocation(request, fault))?;
        self.shared.view().leases = network.leases;
        Ok(lease_builder::lease(request, subnets, own.as_deref()))
    }

    async fn publish_first(
        &self,
        node: &Node,
        request: &LeaseRequest,
        subnets: PerFamily<Prefix>,
    ) -> Result<Lease, StoreError> {
        let shared = &self.shared;
        let stored = annotations::lease(node, &shared.options.keys).ok().flatten();
        let lease = lease_builder::lease(request, subnets, stored.as_ref());
        shared.own.publish(&shared.server, &shared.options, &lease, WRITE).await?;
        Ok(lease)
    }

    /// Acquires the lease again, without waiting.
    pub(super) async fn acquire_now(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let node = match self.shared.own.node() {
            Some(node) => node,
            None => match time::timeout(WRITE, self.read_own(&request.node)).await {
                Ok(node) => node?,
                Err(_) => return Err(own_node::unreadable(&request.node, ApiError::Late(WRITE))),
            },
        };
        let ranges = annotations::ranges_in(&node, conf).map_err(|fault| allocation(request, fault))?;
        // A node that runs goes on with the subnets of its pods, or not at all.
        let subnets = if request.previous.is_empty() { ranges } else { request.previous };
        self.publish_first(&node, request, subnets).await
    }

    /// Waits until a Node has other ranges, or cannot be watched.
    async fn ranges_change(&self, node: &Node) {
        let selection = Selection { fields: format!("metadata.name={}", node.name), ..Selection::default() };
        let mut watch: Watch<NodeObject> = watch(&self.shared.server, selection);
        loop {
            match watch.next().await {
                WatchEvent::Object(seen) if Node::from(seen.clone()).ranges == node.ranges => {}
                WatchEvent::Init | WatchEvent::InitDone | WatchEvent::Recovered => {}
                WatchEvent::Object(_) | WatchEvent::Deleted(_) | WatchEvent::Trouble(_) => break,
            }
        }
        time::sleep(PAUSE).await;
    }
}

fn allocation(request: &LeaseRequest, fault: RangesFault) -> StoreError {
    StoreError::Allocate { node: request.node.clone(), source: fault.into() }
}
