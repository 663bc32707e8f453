//! The store `kube`: the cluster's Node objects, by kube-rs. Leases are in annotations, flannel's and netd's beside them; the pods'
//! ranges are the Nodes' own.
//!
//! netd watches every Node and keeps its lease alone. It writes the status of the own Node alone. The store decides nothing: the model
//! decides which leases to believe.

mod annotations;
mod cache_file;
mod conf;
#[cfg(test)]
mod fake;
mod keys;
mod node_status;
mod nodes;
mod object;
mod own_node;
mod start;
mod store_events;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apiserver::event_recorder::{self, EventRecorder, Warning};
use apiserver::{Address, ApiError, ApiServer, Selection, Watch, WatchEvent};
use network::chain;
use network::hash::fnv;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{mpsc, watch as channel};
use tokio::{task, time};

use self::cache_file::CachedNetwork;
use self::keys::NODE_PUBLIC;
use self::node_status::NodeStatus;
use self::object::{Node, NodeObject};
use self::own_node::OwnNode;
use self::store_events::StoreEvents;
use super::{LeaseRequest, Notice, StoreError, StoreEvent};
use crate::config::KubeConfig;
use crate::config::store::REMEDIES;
use crate::problem::Problem;
use crate::whole_file;

/// How long the daemon waits for a write at most.
const WRITE: Duration = Duration::from_secs(2);

/// The program's name in Events and in requests.
const COMPONENT: &str = "netd";
const USER_AGENT: &str = concat!("netd/", env!("CARGO_PKG_VERSION"));

/// A store in the API server.
pub struct KubeStore {
    shared: Arc<Shared>,
    /// Whether to wait for an API server that is away: a daemon does until it follows the store, a command does not.
    waits: AtomicBool,
    /// Why a starting daemon waits.
    pub(super) startup_status: channel::Sender<Option<String>>,
    /// Why the start uses the cache file, where it does.
    cache_used: OnceLock<String>,
}

/// The state that the tasks of a store share.
struct Shared {
    server: ApiServer,
    config: KubeConfig,
    own: Arc<OwnNode>,
    recorder: EventRecorder,
    node_status: NodeStatus,
    /// The version up to which the leases are known by the watch. `None` without a watch, 0 before its first list.
    reached: channel::Sender<Option<u64>>,
    view: channel::Sender<View>,
}

/// The network as last known.
#[derive(Debug, Default)]
struct View {
    leases: BTreeMap<NodeName, Arc<Lease>>,
    net_conf: Option<String>,
}

impl Shared {
    /// A number of this node's own.
    fn spread(&self) -> u64 {
        self.own.name().map_or(0, |name| fnv(name.as_str().as_bytes()))
    }

    fn lease(&self, node: &NodeName) -> Option<Arc<Lease>> {
        self.view.borrow().leases.get(node).cloned()
    }

    /// True where the lease is new or has changed.
    fn set_lease(&self, lease: &Arc<Lease>) -> bool {
        let insert = |view: &mut View| view.leases.insert(lease.node.clone(), Arc::clone(lease));
        self.view.send_if_modified(|view| insert(view).as_ref() != Some(lease))
    }

    /// True where the node had a lease.
    fn remove_lease(&self, node: &NodeName) -> bool {
        self.view.send_if_modified(|view| view.leases.remove(node).is_some())
    }

    /// True where the configuration is new or has changed.
    fn set_net_conf(&self, text: &str) -> bool {
        self.view.send_if_modified(|view| view.net_conf.replace(text.to_owned()).as_deref() != Some(text))
    }

    /// The leases are those at this version.
    fn set_reached(&self, version: Option<u64>) {
        if let Some(version) = version {
            self.reached.send_if_modified(|reached| reached.replace(version) != Some(version));
        }
    }

    /// All leases, no older than this node's last write. `None` without a watch.
    ///
    /// The API server is not asked. The versions of all Nodes are one sequence, and a watch sends changes in its order: once the watch
    /// has reached the version of the own write, it has sent every change before it.
    async fn leases_since_own_write(&self) -> Option<Vec<Arc<Lease>>> {
        let mut reached = self.reached.subscribe();
        reached.borrow().as_ref()?;
        let written = self.own.node().and_then(|node| node.version).unwrap_or(1);
        reached.wait_for(|reached| reached.is_some_and(|reached| reached >= written)).await.ok()?;
        Some(self.view.borrow().leases.values().cloned().collect())
    }

    /// The network for the cache file; `None` before all of it is known.
    fn network(&self) -> Option<CachedNetwork> {
        let node = self.own.name()?;
        let public = self
            .own
            .node()
            .and_then(|node| annotations::addresses(&node, &self.config.annotation_prefix, NODE_PUBLIC).ok());
        let view = self.view.borrow();
        let net_conf = view.net_conf.clone().filter(|text| NetConf::parse(text).is_ok())?;
        view.leases.get(&node)?;
        Some(CachedNetwork { node, public: public.unwrap_or_default(), net_conf, leases: view.leases.clone() })
    }
}

impl KubeStore {
    /// The store as configured. A daemon's `waits` at its start until the API server answers and has what is needed. To be called
    /// within a tokio runtime.
    pub fn new(config: KubeConfig, waits: bool) -> Self {
        let address = Address { url: config.url.clone(), kubeconfig: config.kubeconfig.clone() };
        let server = ApiServer::new(address, USER_AGENT);
        let own = Arc::new(OwnNode::new(server.clone(), config.annotation_prefix.clone()));
        let regarding = Arc::clone(&own);
        let regarding = move |(): &()| ready(Ok(regarding.regarding()));
        let (recorder, record) = EventRecorder::new(server.clone(), regarding, event_recorder::warn_of(&REMEDIES));
        let (reached, view, node_status) = Default::default();
        let shared = Arc::new(Shared { server, config, own, recorder, node_status, reached, view });
        if waits {
            task::spawn(record);
            task::spawn(node_status::run(Arc::clone(&shared)));
        }
        let (startup_status, cache_used) = Default::default();
        Self { shared, waits: AtomicBool::new(waits), startup_status, cache_used }
    }

    async fn read_own(&self, name: &NodeName) -> Result<Node, StoreError> {
        self.shared.own.set_name(name);
        self.shared.own.read(name).await.map_err(|error| own_node::unreadable(name, error))
    }

    /// Posts the Event of a problem, with the Node's UID if the Node can be read.
    async fn post(&self, node: Option<&NodeName>, problem: &Problem) {
        let shared = &self.shared;
        if let Some(name) = node.filter(|_| shared.own.node().is_none()) {
            let _ = self.read_own(name).await;
        }
        let Some(regarding) = shared.own.regarding() else { return };
        if let Err(error) = event_recorder::post(&shared.server, &regarding, &warning(problem)).await {
            tracing::warn!("an Event cannot be recorded: {}: {}", error.advice(&REMEDIES), chain(&error));
        }
    }

    async fn list(&self) -> Result<Vec<Arc<Lease>>, ApiError> {
        let mut watch: Watch<NodeObject> = apiserver::watch(&self.shared.server, Selection::default());
        let mut leases = Vec::new();
        loop {
            match watch.next().await {
                WatchEvent::Init => leases.clear(),
                WatchEvent::Object(object) => {
                    leases.extend(self.stored(&object.into()).map(Arc::new));
                }
                WatchEvent::InitDone => return Ok(leases),
                WatchEvent::Trouble(error) => return Err(error),
                WatchEvent::Deleted(_) | WatchEvent::Recovered => {}
            }
        }
    }

    pub(super) async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        if let Some(leases) = self.shared.leases_since_own_write().await {
            return Ok(leases);
        }
        self.list().await.map_err(|error| StoreError::read("the Nodes", error.advice(&REMEDIES), error))
    }

    pub(super) async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.shared.own.set_name(&request.node);
        if self.waits.load(Ordering::Relaxed) {
            return self.first_acquire(request, conf).await;
        }
        self.acquire_now(request, conf).await
    }

    pub(super) async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        self.shared.own.set_name(&lease.node);
        self.shared.own.publish(lease, WRITE).await
    }

    pub(super) async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        self.shared.own.clear(node).await?;
        let path = &self.shared.config.cache_file;
        whole_file::remove(path)
            .map(drop)
            .map_err(|error| StoreError::write(path.display(), "remove it by hand", error))
    }

    pub(super) async fn notify_before_exit(&self, node: Option<&NodeName>, problem: &Problem) {
        if time::timeout(WRITE, self.post(node, problem)).await.is_err() {
            tracing::debug!("the API server has not taken the last Event in time");
        }
    }

    pub(super) fn notify(&self, notice: Notice) {
        match notice {
            Notice::Ready => self.shared.node_status.set_ready(),
            Notice::Problem(problem) => self.shared.recorder.warn(warning(&problem)),
            Notice::Resolved(problem) => self.shared.recorder.over(problem.kind.to_string(), problem.subject),
        }
    }

    pub(super) fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        // From now on an API server that is away is an event, and no call waits for it.
        self.waits.store(false, Ordering::Relaxed);
        self.shared.reached.send_replace(Some(0));
        let (sender, receiver) = mpsc::channel(1024);
        let events = StoreEvents::new(sender);
        let shared = Arc::clone(&self.shared);
        let net_conf = shared.view.borrow().net_conf.clone();
        let cache_used = self.cache_used.get().cloned();
        task::spawn(async move {
            let write_cache = task::spawn(cache_file::keep(Arc::clone(&shared)));
            let _ = events.send(net_conf.map(StoreEvent::NetConf)).await;
            if cache_used.is_some() {
                let list: Vec<_> = StoreEvent::list(shared.view.borrow().leases.values().cloned()).collect();
                let _ = events.send(list).await;
            }
            let conf = conf::follow(Arc::clone(&shared), events.clone());
            tokio::join!(conf, nodes::follow(shared, events, cache_used));
            write_cache.abort();
        });
        receiver
    }
}

/// A problem as Events have it.
fn warning(problem: &Problem) -> Warning {
    Warning {
        reason: problem.kind.to_string(),
        subject: problem.subject.clone(),
        text: problem.to_string(),
        target: (),
    }
}

#[cfg(test)]
mod tests;
