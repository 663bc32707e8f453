//! The start of a daemon: it needs its name, the configuration and its Node before it can follow the API server. It waits for them as
//! long as that takes, or takes them from the cache file.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apiserver::{ApiError, Selection, Watch, WatchEvent, watch};
use dataplane::types::{PerFamily, Prefix};
use network::chain;
use network::model::{Lease, NodeName, NodeNameError};
use network::net_conf::{NetConf, NetConfError};
use tokio::{task, time};

use super::annotations::{self, RangesFault};
use super::cache_file::CachedNetwork;
use super::keys::NODE_PUBLIC;
use super::object::{Node, NodeObject, PodObject};
use super::own_node::{self, api_error};
use super::{KubeStore, WRITE, conf, warning};
use crate::config::NetConfSource;
use crate::config::store::REMEDIES;
use crate::problem::{Kind, Problem};
use crate::store::startup_retry::StartupRetry;
use crate::store::{LeaseRequest, StoreError, lease_builder};

/// The longest wait for an API server that is away.
const LONGEST: Duration = Duration::from_secs(10);
/// The least time between two questions to an API server that refuses.
const PAUSE: Duration = Duration::from_millis(200);
/// What to do about a name that is not known.
const NAME_ADVICE: &str = "give the container NODE_NAME from its field spec.nodeName";

/// An answer of the API server, or the cache file in its place.
enum Source<T> {
    Server(T),
    Cache(CachedNetwork),
}

/// Whether the cache file may stand in for an answer after this error.
type MayUseCache = fn(&StoreError) -> bool;

impl KubeStore {
    fn startup_retry(&self) -> StartupRetry {
        StartupRetry::new::<ApiError>(self.waits.load(Ordering::Relaxed), LONGEST, &self.startup_status)
    }

    /// The cache file, for a daemon that starts; that of this node alone.
    async fn cached(&self, node: Option<&NodeName>) -> Option<CachedNetwork> {
        if !self.waits.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.shared.config.cache_file.clone();
        let network = task::spawn_blocking(move || CachedNetwork::load(&path)).await.ok()??;
        node.is_none_or(|node| network.node == *node).then_some(network)
    }

    /// From now on the start uses the cache file.
    fn set_cache_used(&self, why: &StoreError) {
        self.cache_used.get_or_init(|| {
            let path = self.shared.config.cache_file.display();
            let text = format!("netd has started from its cache file {path}: {}", chain(why));
            tracing::warn!("{text}");
            text
        });
    }

    /// Reads something that the start needs: once for a command, until the read succeeds for a daemon. `cache` says after which errors
    /// the daemon may use the cache file of `node` instead. `before_wait` takes each error that the daemon waits after.
    async fn first<T, F>(
        &self,
        node: Option<&NodeName>,
        cache: Option<MayUseCache>,
        read: impl Fn() -> F,
        before_wait: impl Fn(&StoreError),
    ) -> Result<Source<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut retry = self.startup_retry();
        loop {
            if cache.is_some()
                && self.cache_used.get().is_some()
                && let Some(network) = self.cached(node).await
            {
                return Ok(Source::Cache(network));
            }
            let error = match read().await {
                Err(error) if retry.enabled => error,
                done => {
                    retry.succeeded();
                    return done.map(Source::Server);
                }
            };
            if cache.is_some_and(|may_be_used| may_be_used(&error))
                && let Some(network) = self.cached(node).await
            {
                self.set_cache_used(&error);
                return Ok(Source::Cache(network));
            }
            before_wait(&error);
            retry.report_and_sleep(&error).await;
        }
    }

    /// This node's name, from the Pod that netd runs in.
    pub(in crate::store) async fn node_name(&self) -> Result<NodeName, StoreError> {
        let Some((namespace, pod)) = &self.shared.config.pod else {
            let lack = "env variables POD_NAME and POD_NAMESPACE must be set where neither NODE_NAME nor --node-name is: give the container NODE_NAME from the field spec.nodeName";
            return Err(StoreError::read("this node's name", NAME_ADVICE, lack));
        };
        Ok(match self.first(None, Some(|_| true), || self.read_pod(namespace, pod), |_| {}).await? {
            Source::Server(name) => name,
            Source::Cache(network) => network.node,
        })
    }

    async fn read_pod(&self, namespace: &str, name: &str) -> Result<NodeName, StoreError> {
        let object = format!("Pod {namespace}/{name}");
        let pod = self.shared.server.namespaced::<PodObject>(namespace).get(name).await.map_err(ApiError::from);
        let pod = pod.map_err(|error| StoreError::read(&object, error.advice(&REMEDIES), error))?;
        let node = pod.node().ok_or_else(|| StoreError::read(&object, NAME_ADVICE, "it is on no node"))?;
        node.parse().map_err(|error: NodeNameError| StoreError::read(&object, "", error))
    }

    /// The network configuration. A daemon waits for one that is valid.
    pub(in crate::store) async fn net_conf(&self) -> Result<String, StoreError> {
        let (shared, waits) = (&self.shared, self.waits.load(Ordering::Relaxed));
        let source = &shared.config.net_conf;
        let read = || async {
            let text = conf::read(&shared.server, source).await?;
            match NetConf::parse(&text) {
                // A command reports the fault by itself.
                Err(error) if waits => {
                    Err(StoreError::read("the network configuration", "correct net-conf.json", error))
                }
                _ => Ok(text),
            }
        };
        let may_use_cache: MayUseCache =
            |error| !error.source().is_some_and(<dyn std::error::Error>::is::<NetConfError>);
        let cache = matches!(source, NetConfSource::ConfigMap { .. }).then_some(may_use_cache);
        let warn = |error: &StoreError| self.warn(Kind::InvalidConfiguration, &chain(error));
        let text = match self.first(None, cache, read, warn).await? {
            Source::Server(text) => text,
            Source::Cache(network) => network.net_conf,
        };
        shared.set_net_conf(&text);
        Ok(text)
    }

    fn warn(&self, kind: Kind, why: &str) {
        let problem = Problem::new(kind, "netd", format!("waits: {why}"));
        self.shared.recorder.warn(warning(&problem));
    }

    async fn first_node(&self, name: &NodeName) -> Result<Source<Node>, StoreError> {
        // The cache file says nothing about a Node that is known to be missing.
        let may_use_cache: MayUseCache = |error| api_error(error).and_then(ApiError::code) != Some(404);
        self.first(Some(name), Some(may_use_cache), || self.read_own(name), |_| {}).await
    }

    /// The public addresses that the Node's owner has set.
    pub(in crate::store) async fn public_addresses(&self, name: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        Ok(match self.first_node(name).await? {
            Source::Cache(network) => network.public,
            Source::Server(node) => {
                let public = annotations::addresses(&node, &self.shared.config.annotation_prefix, NODE_PUBLIC);
                public.unwrap_or_else(|fault| {
                    tracing::warn!("the Node's annotations for this node's public address are ignored: {fault}");
                    PerFamily::none()
                })
            }
        })
    }

    /// The own lease as it is in the store.
    pub(in crate::store) async fn lease(&self, name: &NodeName) -> Result<Option<Lease>, StoreError> {
        Ok(match self.first_node(name).await? {
            Source::Cache(network) => network.leases.get(name).map(|lease| Lease::clone(lease)),
            Source::Server(node) => self.stored(&node),
        })
    }

    /// The lease in a Node's annotations, if they hold a valid one.
    pub(super) fn stored(&self, node: &Node) -> Option<Lease> {
        annotations::lease(node, &self.shared.config.annotation_prefix).ok().flatten()
    }

    /// Acquires the lease. Waits for a podCIDR.
    pub(super) async fn first_acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let mut retry = self.startup_retry();
        loop {
            let node = match self.first_node(&request.node).await? {
                Source::Server(node) => node,
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
                Err(fault @ RangesFault::None(_)) => {
                    self.warn(Kind::NoPodCidr, &fault.to_string());
                    retry.report(&StoreError::allocate(&request.node, fault));
                    self.ranges_change(&node).await;
                }
                Err(fault) => return Err(StoreError::allocate(&request.node, fault)),
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
        let subnets =
            annotations::ranges_in(&node, conf).map_err(|fault| StoreError::allocate(&request.node, fault))?;
        self.shared.view.send_modify(|view| view.leases = network.leases);
        Ok(lease_builder::lease(request, subnets, own.as_deref()))
    }

    async fn publish_first(
        &self,
        node: &Node,
        request: &LeaseRequest,
        subnets: PerFamily<Prefix>,
    ) -> Result<Lease, StoreError> {
        let lease = lease_builder::lease(request, subnets, self.stored(node).as_ref());
        self.shared.own.publish(&lease, WRITE).await?;
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
        let ranges = annotations::ranges_in(&node, conf).map_err(|fault| StoreError::allocate(&request.node, fault))?;
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
