//! Follows the Nodes: what they tell becomes leases here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::annotations;
use super::health::{Health, Unheard};
use super::herald::Job;
use super::object::Node;
use super::watch::{Told, Watch};
use super::{NODES, Shared};
use crate::hash::fnv;
use crate::model::{Lease, NodeName};
use crate::reconcile::chain;
use crate::store::StoreEvent;

const WHO: &str = "nodes";

/// Follows until nobody listens. `ails` is what has kept the Nodes from being read so far.
pub(super) async fn follow(shared: Arc<Shared>, health: Health, ails: Option<String>) {
    let mut follower = Follower { shared, health: health.clone(), faults: BTreeMap::new() };
    tokio::select! {
        // It ends where nobody listens any more.
        _ = follower.run(ails) => {}
        () = health.unheard() => {}
    }
}

struct Follower {
    shared: Arc<Shared>,
    health: Health,
    /// Nodes that cannot be believed, and what was told of them.
    faults: BTreeMap<String, String>,
}

impl Follower {
    async fn run(&mut self, ails: Option<String>) -> Result<(), Unheard> {
        if let Some(what) = ails {
            self.health.ails(WHO, what).await?;
        }
        let own = self.shared.own.name();
        let spread = own.as_ref().map_or(0, |name| fnv(name.as_str().as_bytes()));
        let mut watch: Watch<Node> = Watch::new(Arc::clone(&self.shared.api), NODES.to_owned(), None, spread);
        loop {
            match watch.next().await {
                Ok(Told::List(nodes)) if nodes.is_empty() => {
                    // This node is one itself: whoever lists none has lost them.
                    self.health.ails(WHO, "the API server lists no Nodes at all".to_owned()).await?;
                    watch.distrust();
                }
                Ok(Told::List(nodes)) => self.list(nodes).await?,
                Ok(Told::Is(node)) => {
                    let told = self.is(&node);
                    self.health.send(told.into_iter().collect()).await?;
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
                    self.health.ails(WHO, what).await?;
                }
            }
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.shared.own.name().is_some_and(|own| own.as_str() == name)
    }

    async fn list(&mut self, nodes: Vec<Node>) -> Result<(), Unheard> {
        let mut leases = BTreeMap::new();
        if !nodes.iter().any(|node| self.is_own(&node.name)) {
            self.shared.own.heard(None);
        }
        self.faults.retain(|name, _| nodes.iter().any(|node| node.name == *name));
        for node in nodes {
            let lease = self.lease(&node);
            let known = node.name.parse().ok().and_then(|name| self.shared.known(&name));
            let lease = match (lease, known) {
                // One that has not changed is kept: the daemon has it too.
                (Some(lease), Some(known)) if *known == lease => known,
                (Some(lease), _) => lease.into(),
                (None, Some(known)) if self.faults.contains_key(&node.name) => known,
                (None, _) => continue,
            };
            leases.insert(lease.node.clone(), lease);
        }
        let told = leases.values().cloned().map(StoreEvent::Lease);
        let told = [StoreEvent::Init].into_iter().chain(told).chain([StoreEvent::InitDone]).collect();
        self.shared.knows(leases);
        self.health.is_well(WHO).await?;
        self.health.send(told).await
    }

    fn is(&mut self, node: &Node) -> Option<StoreEvent> {
        match self.lease(node) {
            Some(lease) => {
                let lease = Arc::new(lease);
                self.shared.learns(&lease).then_some(StoreEvent::Lease(lease))
            }
            // What a node said last stands while it says something that makes no sense.
            None if self.faults.contains_key(&node.name) => None,
            None => self.forget(&node.name),
        }
    }

    fn forget(&self, name: &str) -> Option<StoreEvent> {
        let name: NodeName = name.parse().ok()?;
        self.shared.forgets(&name).then_some(StoreEvent::Removed(name))
    }

    /// The lease that a Node tells of; none where it has none, or none to believe: then that is told once.
    fn lease(&mut self, node: &Node) -> Option<Lease> {
        let options = &self.shared.options;
        if self.is_own(&node.name) {
            if !self.shared.own.heard(Some(node.clone())) {
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
