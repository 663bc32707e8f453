//! The start of a daemon: what it needs before it can follow the API server, waited for as long as it takes, or taken from what was
//! last known.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane::types::PerFamily;
use network::chain;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::{task, time};

use super::annotations::{self, RangesFault};
use super::api::CallError;
use super::memory::Memory;
use super::object::Node;
use super::options::NoNode;
use super::watch::{Told, Watch};
use super::{KubeStore, NODES, WRITE, conf, herald};
use crate::problem::{Kind, Problem};
use crate::store::startup_retry::StartupRetry;
use crate::store::{LeaseRequest, Notice, StoreError, lease_builder};

/// The longest wait for an API server that is not there.
const LONGEST: Duration = Duration::from_secs(10);

impl KubeStore {
    fn startup_retry(&self) -> StartupRetry {
        StartupRetry::new::<CallError>(self.waits.load(Ordering::Relaxed), LONGEST, &self.startup_status)
    }

    /// What was last known, for a daemon that starts; of this node alone.
    pub(super) async fn remembered(&self, node: Option<&NodeName>) -> Option<Memory> {
        if !self.waits.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.shared.options.memory.clone();
        let memory = task::spawn_blocking(move || Memory::load(&path)).await.ok()??;
        node.is_none_or(|node| memory.node == *node).then_some(memory)
    }

    /// The start goes by what was last known.
    pub(super) fn is_away(&self, why: &StoreError) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_none() {
            let path = self.shared.options.memory.display();
            let text = format!("netd has started from what was last known ({path}): {}", chain(why));
            tracing::warn!("{text}");
            *away = Some(text);
        }
    }

    fn goes_by_memory(&self) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// This node's name, of the pod that netd runs in.
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
                && let Some(memory) = self.remembered(None).await
            {
                self.is_away(error);
                return Ok(memory.node);
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

    pub(super) async fn first_net_conf(&self) -> Result<String, StoreError> {
        let mut retry = self.startup_retry();
        let source = &self.shared.options.net_conf;
        loop {
            if self.goes_by_memory()
                && conf::is_remote(source)
                && let Some(memory) = self.remembered(None).await
            {
                return Ok(memory.net_conf);
            }
            let error = match conf::read(&self.shared.api, source).await {
                Ok(text) => match NetConf::parse(&text) {
                    Err(error) if retry.enabled => StoreError::Read {
                        object: "the network configuration".to_owned(),
                        advice: "correct net-conf.json",
                        source: error.into(),
                    },
                    // Whoever does not wait judges it himself.
                    _ => {
                        retry.succeeded();
                        return Ok(text);
                    }
                },
                Err(error) => {
                    if conf::is_remote(source)
                        && let Some(memory) = self.remembered(None).await
                    {
                        self.is_away(&error);
                        return Ok(memory.net_conf);
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
        self.shared.herald(herald::Job::Tell(Notice::Problem(problem)));
    }

    /// The own Node; none where the start goes by what was last known.
    async fn first_node(&self, name: &NodeName) -> Result<Result<Node, Memory>, StoreError> {
        let mut retry = self.startup_retry();
        loop {
            if self.goes_by_memory()
                && let Some(memory) = self.remembered(Some(name)).await
            {
                return Ok(Err(memory));
            }
            let error = match self.read_own(name).await {
                Ok(node) => {
                    retry.succeeded();
                    return Ok(Ok(node));
                }
                Err(error) if !retry.enabled => return Err(error),
                Err(error) => error,
            };
            // A Node that is not there is no reason to believe that it is as it was.
            let is_missing = std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<CallError>())
                .is_some_and(|cause| cause.code() == Some(404));
            if !is_missing && let Some(memory) = self.remembered(Some(name)).await {
                self.is_away(&error);
                return Ok(Err(memory));
            }
            retry.report_and_sleep(&error).await;
        }
    }

    pub(super) async fn first_public(&self, name: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        match self.first_node(name).await? {
            Err(memory) => Ok(memory.public),
            Ok(node) => match annotations::node_public(&node, &self.shared.options.keys) {
                Ok(public) => Ok(public),
                Err(fault) => {
                    tracing::warn!("what the Node says of this node's public address is not taken: {fault}");
                    Ok(PerFamily::none())
                }
            },
        }
    }

    pub(super) async fn first_lease(&self, name: &NodeName) -> Result<Option<Lease>, StoreError> {
        match self.first_node(name).await? {
            Err(memory) => Ok(memory.leases.get(name).map(|lease| Lease::clone(lease))),
            Ok(node) => Ok(annotations::lease(&node, &self.shared.options.keys).ok().flatten()),
        }
    }

    /// Takes the lease, and waits for what is missing.
    pub(super) async fn first_acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let mut retry = self.startup_retry();
        loop {
            let node = match self.first_node(&request.node).await? {
                Ok(node) => node,
                Err(memory) => {
                    retry.succeeded();
                    return self.take_up(memory, request, conf);
                }
            };
            match annotations::ranges_in(&node, conf) {
                Ok(subnets) => {
                    let told = self.tell(&node, request, subnets).await;
                    match told {
                        Err(error) => retry.report_and_sleep(&error).await,
                        done => {
                            retry.succeeded();
                            return done;
                        }
                    }
                }
                Err(fault @ RangesFault::None { .. }) => {
                    let error = allocation(request, fault.clone());
                    retry.report(&error);
                    self.warn(Kind::NoPodCidr, &fault.to_string());
                    self.changes(&node).await;
                }
                Err(fault) => return Err(allocation(request, fault)),
            }
        }
    }

    /// Goes on with the lease that was last known.
    fn take_up(&self, memory: Memory, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let own = memory.leases.get(&request.node).cloned();
        let subnets = own.as_ref().map(|lease| lease.subnets).unwrap_or_default();
        let node = Node {
            name: request.node.to_string(),
            ranges: subnets.iter().map(|(_, subnet)| subnet.to_string()).collect(),
            ..Node::default()
        };
        let subnets = annotations::ranges_in(&node, conf).map_err(|fault| allocation(request, fault))?;
        self.shared.locked().leases = memory.leases;
        Ok(lease_builder::lease(request, subnets, own.as_deref()))
    }

    async fn tell(
        &self,
        node: &Node,
        request: &LeaseRequest,
        subnets: PerFamily<dataplane::types::Prefix>,
    ) -> Result<Lease, StoreError> {
        let shared = &self.shared;
        let stored = annotations::lease(node, &shared.options.keys).ok().flatten();
        let lease = lease_builder::lease(request, subnets, stored.as_ref());
        shared.own.tell(&shared.api, &shared.options, &lease, WRITE).await?;
        Ok(lease)
    }

    /// Takes the lease again, without waiting.
    pub(super) async fn acquire_now(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        let node = match self.shared.own.node() {
            Some(node) => node,
            None => match time::timeout(WRITE, self.read_own(&request.node)).await {
                Ok(node) => node?,
                Err(_) => return Err(super::own::unreadable(&request.node, CallError::Late(WRITE))),
            },
        };
        let ranges = annotations::ranges_in(&node, conf).map_err(|fault| allocation(request, fault))?;
        // A node that runs goes on with what its pods use, or not at all.
        let subnets = if request.previous.is_empty() { ranges } else { request.previous };
        self.tell(&node, request, subnets).await
    }

    /// Waits until a Node changes, or for a while.
    async fn changes(&self, node: &Node) {
        let selector = Some(format!("metadata.name%3D{}", node.name));
        let mut watch: Watch<Node> = Watch::new(std::sync::Arc::clone(&self.shared.api), NODES.to_owned(), selector, 0);
        let different = async {
            loop {
                match watch.next().await {
                    Ok(Told::Is(seen)) if seen.ranges == node.ranges => {}
                    Ok(Told::Init | Told::InitDone | Told::Alive | Told::Unreadable(..)) => {}
                    Ok(_) | Err(_) => return,
                }
            }
        };
        different.await;
        // An API server that refuses is not asked all the time.
        time::sleep(Duration::from_millis(200)).await;
    }
}

fn allocation(request: &LeaseRequest, fault: RangesFault) -> StoreError {
    StoreError::Allocate { node: request.node.clone(), source: fault.into() }
}
