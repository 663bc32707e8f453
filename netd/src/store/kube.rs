//! The store `kube`: the cluster's Node objects, by kube-rs. What nodes tell each other is in annotations, flannel's and netd's; the
//! pods' ranges are the Nodes' own.
//!
//! Every Node is followed, but no more is kept of it than netd reads. Written is the status of the own Node alone. It decides
//! nothing; who can be believed is the model's question.

mod annotations;
mod api;
mod conf;
#[cfg(test)]
mod fake;
mod follow;
mod health;
mod herald;
mod keys;
mod memory;
mod object;
mod options;
mod own;
mod start;
mod watch;
mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane::types::PerFamily;
use network::chain;
use network::model::{Lease, NodeName};
use network::net_conf::NetConf;
use tokio::sync::{Notify, mpsc, watch as channel};
use tokio::{task, time};

use self::api::{Api, CallError};
use self::health::Health;
use self::herald::Job;
use self::memory::Memory;
use self::object::{Object, Pod};
use self::options::Options;
use self::own::Own;
use self::watch::{Told, Watch};
use super::{LeaseRequest, Notice, Store, StoreError, StoreEvent};
use crate::config::KubeConfig;
use crate::problem::Problem;

/// How long the daemon is kept waiting for a write at most: it has packets to look after.
const WRITE: Duration = Duration::from_secs(2);

/// Where the Nodes are.
const NODES: &str = "/api/v1/nodes";

/// A store in the API server.
#[derive(Debug)]
pub struct KubeStore {
    shared: Arc<Shared>,
    /// Whether to wait for an API server that is not there: a daemon does until it follows the store, a command does not.
    waits: AtomicBool,
    /// What is waited for.
    startup_status: channel::Sender<Option<String>>,
    /// Why the start goes by what was last known, where it does.
    away: Mutex<Option<String>>,
}

/// What the tasks of a store share.
#[derive(Debug)]
struct Shared {
    api: Arc<Api>,
    options: Options,
    own: Own,
    jobs: mpsc::UnboundedSender<Job>,
    /// Up to which version the Nodes are known by following them; none where nobody does, 0 before the first list.
    reached: channel::Sender<Option<u64>>,
    known: Mutex<Known>,
    /// What is known has changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    leases: BTreeMap<NodeName, Arc<Lease>>,
    net_conf: Option<String>,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's lease as last told.
    fn known(&self, node: &NodeName) -> Option<Arc<Lease>> {
        self.locked().leases.get(node).cloned()
    }

    /// These are all leases.
    fn knows(&self, leases: BTreeMap<NodeName, Arc<Lease>>) {
        self.locked().leases = leases;
        self.changed.notify_one();
    }

    /// A node's lease is this; true where that is new.
    fn learns(&self, lease: &Arc<Lease>) -> bool {
        let is_new = self.locked().leases.insert(lease.node.clone(), Arc::clone(lease)).as_ref() != Some(lease);
        if is_new {
            self.changed.notify_one();
        }
        is_new
    }

    /// A node has no lease any more; true where it had one.
    fn forgets(&self, node: &NodeName) -> bool {
        let had = self.locked().leases.remove(node).is_some();
        if had {
            self.changed.notify_one();
        }
        had
    }

    /// What is known of the Nodes is as they were at this version.
    fn has_reached(&self, version: Option<&str>) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            self.reached.send_if_modified(|reached| reached.replace(version) != Some(version));
        }
    }

    /// All leases, no older than this node's last write; none where nobody follows the Nodes.
    ///
    /// The API server is not asked for that. All Nodes have versions of one sequence, and a watch tells of them in its order: who has
    /// heard of the own write, whose version the API server has answered, has heard of all that was written before it.
    async fn caught_up(&self) -> Option<Vec<Arc<Lease>>> {
        let mut reached = self.reached.subscribe();
        reached.borrow().as_ref()?;
        let written = self.own.node().and_then(|node| node.count()).unwrap_or(1);
        reached.wait_for(|reached| reached.is_some_and(|reached| reached >= written)).await.ok()?;
        Some(self.locked().leases.values().cloned().collect())
    }

    fn conf_is(&self, text: &str) {
        self.locked().net_conf = Some(text.to_owned());
        self.changed.notify_one();
    }

    /// What is to be remembered; none before all of it is known.
    fn memory(&self) -> Option<Memory> {
        let node = self.own.name()?;
        let public = self.own.node().and_then(|node| annotations::node_public(&node, &self.options.keys).ok());
        let known = self.locked();
        let net_conf = known.net_conf.clone().filter(|text| NetConf::parse(text).is_ok())?;
        known.leases.get(&node)?;
        Some(Memory { node, public: public.unwrap_or_default(), net_conf, leases: known.leases.clone() })
    }

    fn herald(&self, job: Job) {
        // Nobody does them for a command.
        let _ = self.jobs.send(job);
    }
}

impl KubeStore {
    /// The store as configured. A daemon's `waits` at its start until the API server answers and has what is needed. To be called
    /// within a tokio runtime.
    pub fn new(config: KubeConfig, waits: bool) -> Self {
        let options = Options::from(config);
        let (jobs, receiver) = mpsc::unbounded_channel();
        let api = Arc::new(Api::new(&options));
        let (reached, _) = channel::channel(None);
        let (own, known, changed) = (Own::default(), Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { api, options, own, jobs, reached, known, changed });
        if waits {
            task::spawn(herald::run(Arc::clone(&shared), receiver));
        }
        let (startup_status, _) = channel::channel(None);
        Self { shared, waits: AtomicBool::new(waits), startup_status, away: Mutex::default() }
    }

    async fn read_pod(&self, namespace: &str, pod: &str) -> Result<NodeName, StoreError> {
        let unreadable = |advice, source| StoreError::Read { object: format!("Pod {namespace}/{pod}"), advice, source };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        let text = self.shared.api.get(&path, None).await;
        let text = text.map_err(|error| unreadable(error.advice(), error.into()))?;
        let read = Pod::read(&String::from_utf8_lossy(&text)).ok().and_then(|pod| pod.node);
        let none =
            || unreadable("give the container NODE_NAME from its field spec.nodeName", "it is on no node".into());
        read.ok_or_else(none)?.parse().map_err(|error: network::model::NodeNameError| unreadable("", error.into()))
    }

    /// Makes the Event of a problem, of the Node if it can be had.
    async fn post_last(&self, node: Option<&NodeName>, problem: &Problem) {
        if let Some(name) = node.filter(|_| self.shared.own.node().is_none()) {
            let _ = self.read_own(name).await;
        }
        if let Err(error) = herald::post(&self.shared, problem).await {
            tracing::warn!("an Event cannot be told: {}: {}", error.advice(), chain(&error));
        }
    }

    async fn read_own(&self, name: &NodeName) -> Result<object::Node, StoreError> {
        self.shared.own.is(name);
        self.shared.own.read(&self.shared.api, name).await.map_err(|error| own::unreadable(name, error))
    }

    async fn list(&self) -> Result<Vec<Arc<Lease>>, CallError> {
        let mut watch: Watch<object::Node> = Watch::new(Arc::clone(&self.shared.api), NODES.to_owned(), None, 0);
        let mut leases = Vec::new();
        loop {
            match watch.next().await? {
                Told::Init => leases.clear(),
                Told::Is(node) => {
                    let lease = annotations::lease(&node, &self.shared.options.keys).ok().flatten();
                    leases.extend(lease.map(Arc::new));
                }
                Told::InitDone => return Ok(leases),
                Told::Gone(_) | Told::Unreadable(..) | Told::Alive => {}
            }
        }
    }
}

impl Store for KubeStore {
    async fn net_conf(&self) -> Result<String, StoreError> {
        let text = self.first_net_conf().await?;
        self.shared.conf_is(&text);
        Ok(text)
    }

    async fn public_addresses(&self, node: &NodeName) -> Result<PerFamily<IpAddr>, StoreError> {
        self.first_public(node).await
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<Lease>, StoreError> {
        self.first_lease(node).await
    }

    async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        if let Some(leases) = self.shared.caught_up().await {
            return Ok(leases);
        }
        self.list().await.map_err(|error| StoreError::Read {
            object: "the Nodes".to_owned(),
            advice: error.advice(),
            source: error.into(),
        })
    }

    async fn acquire(&self, request: &LeaseRequest, conf: &NetConf) -> Result<Lease, StoreError> {
        self.shared.own.is(&request.node);
        if self.waits.load(Ordering::Relaxed) {
            return self.first_acquire(request, conf).await;
        }
        self.acquire_now(request, conf).await
    }

    async fn publish(&self, lease: &Lease) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.own.is(&lease.node);
        shared.own.tell(&shared.api, &shared.options, lease, WRITE).await
    }

    async fn release(&self, node: &NodeName) -> Result<(), StoreError> {
        self.shared.own.clear(&self.shared.api, &self.shared.options, node).await?;
        match std::fs::remove_file(&self.shared.options.memory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Write {
                object: self.shared.options.memory.display().to_string(),
                advice: "remove it by hand",
                source: error.into(),
            }),
            _ => Ok(()),
        }
    }

    async fn notify_before_exit(&self, node: Option<&NodeName>, problem: Problem) {
        if time::timeout(WRITE, self.post_last(node, &problem)).await.is_err() {
            tracing::debug!("the API server has not taken the last Event in time");
        }
    }

    async fn node_name(&self) -> Result<Option<NodeName>, StoreError> {
        self.first_name().await.map(Some)
    }

    fn notify(&self, notice: Notice) {
        self.shared.herald(Job::Tell(notice));
    }

    fn startup_status(&self) -> Option<channel::Receiver<Option<String>>> {
        Some(self.startup_status.subscribe())
    }

    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        // From now on trouble is told by events, and nobody must be kept waiting.
        self.waits.store(false, Ordering::Relaxed);
        self.shared.reached.send_replace(Some(0));
        let (events, receiver) = mpsc::channel(1024);
        let health = Health::new(events);
        let shared = Arc::clone(&self.shared);
        let net_conf = shared.locked().net_conf.clone();
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        task::spawn(async move {
            let keep = task::spawn(memory::keep(Arc::clone(&shared)));
            if let Some(text) = &net_conf {
                let _ = health.send(vec![StoreEvent::NetConf(text.clone())]).await;
            }
            if away.is_some() {
                let known: Vec<_> = shared.locked().leases.values().cloned().map(StoreEvent::Lease).collect();
                let list = [StoreEvent::Init].into_iter().chain(known).chain([StoreEvent::InitDone]);
                let _ = health.send(list.collect()).await;
            }
            let conf = conf::follow(Arc::clone(&shared), health.clone(), net_conf);
            tokio::join!(conf, follow::follow(shared, health, away));
            keep.abort();
        });
        receiver
    }
}

#[cfg(test)]
mod tests;
