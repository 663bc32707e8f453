//! Follows the Nodes: what they tell becomes leases here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use network::chain;
use network::hash::fnv;
use network::model::{Lease, NodeName};

use super::annotations;
use super::health::{Health, Unheard};
use super::herald::Job;
use super::object::Node;
use super::own::Asked;
use super::watch::{Told, Watch};
use super::{NODES, Shared};
use crate::store::StoreEvent;

const WHO: &str = "nodes";

/// Follows until nobody listens. `ails` is what has kept the Nodes from being read so far.
pub(super) async fn follow(shared: Arc<Shared>, health: Health, ails: Option<String>) {
    let mut follower = Follower { shared, health: health.clone(), faults: BTreeMap::new(), ails, list: None };
    tokio::select! {
        // It ends where nobody listens any more.
        _ = follower.run() => {}
        () = health.unheard() => {}
    }
}

struct Follower {
    shared: Arc<Shared>,
    health: Health,
    /// Nodes that cannot be believed, and what was told of them.
    faults: BTreeMap<String, String>,
    /// What has kept the Nodes from being read even once.
    ails: Option<String>,
    /// What is listed so far.
    list: Option<List>,
}

/// A list as it comes.
struct List {
    /// When it was asked for.
    asked: Asked,
    /// How many Nodes are in it.
    count: usize,
    /// Whether this node's is.
    has_own: bool,
    leases: BTreeMap<NodeName, Arc<Lease>>,
    /// Those that cannot be believed.
    faulty: BTreeSet<String>,
}

impl List {
    fn asked(asked: Asked) -> Self {
        Self { asked, count: 0, has_own: false, leases: BTreeMap::new(), faulty: BTreeSet::new() }
    }
}

impl Follower {
    async fn run(&mut self) -> Result<(), Unheard> {
        if let Some(what) = &self.ails {
            self.health.ails(WHO, what.clone()).await?;
        }
        let own = self.shared.own.name();
        let spread = own.as_ref().map_or(0, |name| fnv(name.as_str().as_bytes()));
        let mut watch: Watch<Node> = Watch::new(Arc::clone(&self.shared.api), NODES.to_owned(), None, spread);
        loop {
            match watch.next().await {
                Ok(Told::Init) => self.list = Some(List::asked(self.shared.own.asks())),
                Ok(Told::Is(node)) => {
                    if let Some(list) = self.list.take() {
                        self.list = Some(self.listed(list, &node));
                    } else {
                        let told = self.is(&node);
                        self.health.send(told.into_iter().collect()).await?;
                    }
                }
                Ok(Told::InitDone) => {
                    let Some(list) = self.list.take() else { continue };
                    if list.count == 0 {
                        // This node is one itself: whoever lists none has lost them.
                        self.health.ails(WHO, "the API server lists no Nodes at all".to_owned()).await?;
                        watch.distrust();
                    } else {
                        self.take(list).await?;
                    }
                }
                Ok(Told::Gone(node)) => {
                    self.faults.remove(&node.name);
                    if self.is_own(&node.name) {
                        self.shared.own.heard(None);
                    }
                    let told = self.forget(&node.name);
                    self.health.send(told.into_iter().collect()).await?;
                }
                Ok(Told::Unreadable(text, error)) => {
                    tracing::warn!("a Node is left out, since it cannot be read: {text}: {error}");
                }
                Ok(Told::Alive) => self.health.is_well(WHO).await?,
                Err(error) => {
                    let what = format!("the Nodes cannot be followed: {}: {}", error.advice(), chain(&error));
                    // That the network is that of an earlier run is worth more than why.
                    self.health.ails(WHO, self.ails.clone().unwrap_or(what)).await?;
                }
            }
            // Only now: whoever waits for it takes what is known by then.
            if self.list.is_none() {
                self.shared.has_reached(watch.version());
            }
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.shared.own.name().is_some_and(|own| own.as_str() == name)
    }

    /// A list goes on: of a Node its lease is kept.
    fn listed(&mut self, mut list: List, node: &Node) -> List {
        list.count += 1;
        list.has_own |= self.is_own(&node.name);
        let lease = self.lease(node, Some(list.asked));
        let known = node.name.parse().ok().and_then(|name| self.shared.known(&name));
        let is_faulty = self.faults.contains_key(&node.name);
        if is_faulty {
            list.faulty.insert(node.name.clone());
        }
        let lease = match (lease, known) {
            // One that has not changed is kept: the daemon has it too.
            (Some(lease), Some(known)) if *known == lease => Some(known),
            (Some(lease), _) => Some(lease.into()),
            (None, known) => known.filter(|_| is_faulty),
        };
        list.leases.extend(lease.map(|lease| (lease.node.clone(), lease)));
        list
    }

    async fn take(&mut self, list: List) -> Result<(), Unheard> {
        if !list.has_own {
            self.shared.own.answered(list.asked, None);
        }
        self.faults.retain(|name, _| list.faulty.contains(name));
        let told = list.leases.values().cloned().map(StoreEvent::Lease);
        let told = [StoreEvent::Init].into_iter().chain(told).chain([StoreEvent::InitDone]).collect();
        self.shared.knows(list.leases);
        self.ails = None;
        self.health.is_well(WHO).await?;
        self.health.send(told).await
    }

    fn is(&mut self, node: &Node) -> Option<StoreEvent> {
        match self.lease(node, None) {
            Some(lease) => {
                let lease = Arc::new(lease);
                self.shared.learns(&lease).then_some(StoreEvent::Lease(lease))
            }
            // What a node said last stands while it says something that makes no sense.
            None if self.faults.contains_key(&node.name) => None,
            // The daemon puts its own back wherever it is missing, however long that has been so.
            None if self.is_own(&node.name) => {
                self.forget(&node.name);
                self.shared.own.name().map(StoreEvent::Removed)
            }
            None => self.forget(&node.name),
        }
    }

    fn forget(&self, name: &str) -> Option<StoreEvent> {
        let name: NodeName = name.parse().ok()?;
        self.shared.forgets(&name).then_some(StoreEvent::Removed(name))
    }

    /// The lease that a Node tells of, in a list that was asked for then or by an event; none where it has none, or none to believe:
    /// then that is told once.
    fn lease(&mut self, node: &Node, asked: Option<Asked>) -> Option<Lease> {
        let (options, own) = (&self.shared.options, &self.shared.own);
        if self.is_own(&node.name) {
            let news = Some(node.clone());
            let is_new = match asked {
                Some(asked) => own.answered(asked, news),
                None => own.heard(news),
            };
            if !is_new {
                return self.shared.known(&self.shared.own.name()?).map(|lease| Lease::clone(&lease));
            }
            self.shared.herald(Job::Look);
            if let Some(wanted) = self.shared.own.as_wanted(node, options) {
                return Some(wanted);
            }
            if self.shared.own.is_to_be_corrected(node, options) {
                self.shared.herald(Job::Correct);
            }
        }
        match annotations::lease(node, &options.keys) {
            Ok(lease) => {
                self.faults.remove(&node.name);
                lease
            }
            Err(fault) => {
                let fault = chain(&fault);
                if self.faults.get(&node.name) != Some(&fault) {
                    tracing::warn!(node = %node.name, "what a Node says of itself is not taken: {fault}");
                    self.faults.insert(node.name.clone(), fault);
                }
                None
            }
        }
    }
}
