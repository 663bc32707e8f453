//! The task that follows the Nodes: their annotations become leases here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apiserver::{Selection, Watch, WatchEvent, watch};
use network::chain;
use network::model::{Lease, NodeName};
use network::text::printable;

use super::Shared;
use super::annotations;
use super::object::{Node, NodeObject};
use super::own_node::RequestMark;
use super::store_events::StoreEvents;
use crate::config::store::REMEDIES;
use crate::store::{Closed, StoreEvent};

const TASK: &str = "nodes";

/// Follows the Nodes until the daemon receives no more. `problem` is what has kept the Nodes from being read so far.
pub(super) async fn follow(shared: Arc<Shared>, events: StoreEvents, problem: Option<String>) {
    let mut follower =
        NodeFollower { shared, events: events.clone(), faults: BTreeMap::new(), news: Vec::new(), problem, list: None };
    tokio::select! {
        _ = follower.run() => {}
        () = events.closed() => {}
    }
}

struct NodeFollower {
    shared: Arc<Shared>,
    events: StoreEvents,
    /// Nodes whose annotations make no sense, and why.
    faults: BTreeMap<String, String>,
    /// Faults that have come or gone, and that the daemon does not know of yet.
    news: Vec<StoreEvent>,
    /// What has kept the Nodes from being read even once.
    problem: Option<String>,
    /// The list that is coming.
    list: Option<NodeList>,
}

/// A list as far as it has come.
#[derive(Default)]
struct NodeList {
    /// Taken before the list was asked for.
    mark: RequestMark,
    /// How many Nodes it has.
    count: usize,
    /// Whether this node's is among them.
    has_own: bool,
    leases: BTreeMap<NodeName, Arc<Lease>>,
    /// Nodes whose annotations make no sense.
    faulty: BTreeSet<String>,
}

impl NodeFollower {
    async fn run(&mut self) -> Result<(), Closed> {
        if let Some(problem) = &self.problem {
            self.events.report_error(TASK, problem).await?;
        }
        let selection = Selection { spread: self.shared.spread(), ..Selection::default() };
        let mut watch: Watch<NodeObject> = watch(&self.shared.server, selection);
        loop {
            match watch.next().await {
                WatchEvent::Init => {
                    self.list = Some(NodeList { mark: self.shared.own.mark(), ..NodeList::default() });
                }
                WatchEvent::Object(object) => {
                    let node = object.into();
                    if let Some(list) = self.list.take() {
                        self.list = Some(self.take_listed(list, &node));
                    } else {
                        let event = self.take_changed(&node);
                        self.send(event).await?;
                    }
                }
                WatchEvent::InitDone => {
                    let Some(list) = self.list.take() else { continue };
                    if list.count == 0 {
                        // This node has one: an API server without Nodes has lost them.
                        self.events.report_error(TASK, "the API server lists no Nodes at all").await?;
                        watch.force_relist();
                    } else {
                        self.take_list(list).await?;
                    }
                }
                WatchEvent::Deleted(object) => {
                    let node = Node::from(object);
                    self.set_fault(&node.name, None);
                    if self.is_own(&node.name) {
                        self.shared.own.take_event(None);
                    }
                    let event = self.remove(&node.name);
                    self.send(event).await?;
                }
                WatchEvent::Recovered => self.events.report_ok(TASK).await?,
                WatchEvent::Trouble(error) => {
                    let text = format!("the Nodes cannot be followed: {}: {}", error.advice(&REMEDIES), chain(&error));
                    // That the daemon uses the cache file is worth more than why.
                    self.events.report_error(TASK, self.problem.as_ref().unwrap_or(&text)).await?;
                }
            }
            // Only now: a reader that waits for this version takes the leases that are known then.
            if self.list.is_none() {
                self.shared.set_reached(watch.version());
            }
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.shared.own.name().is_some_and(|own| own.as_str() == name)
    }

    /// Takes a Node of a list: its lease is kept.
    fn take_listed(&mut self, mut list: NodeList, node: &Node) -> NodeList {
        let is_own = self.is_own(&node.name);
        list.count += 1;
        list.has_own |= is_own;
        let lease = self.lease(node, Some(list.mark));
        let known = node.name.parse().ok().and_then(|name| self.shared.lease(&name));
        let is_faulty = self.faults.contains_key(&node.name);
        if is_faulty {
            list.faulty.insert(node.name.clone());
        }
        let lease = match (lease, known) {
            // An unchanged lease stays the same allocation: the daemon has it too.
            (Some(lease), Some(known)) if *known == lease => Some(known),
            (Some(lease), _) => Some(lease.into()),
            (None, known) => known.filter(|_| is_faulty && !is_own),
        };
        list.leases.extend(lease.map(|lease| (lease.node.clone(), lease)));
        list
    }

    async fn take_list(&mut self, list: NodeList) -> Result<(), Closed> {
        if !list.has_own {
            self.shared.own.take_answer(list.mark, None);
        }
        let gone: Vec<String> = self.faults.keys().filter(|name| !list.faulty.contains(*name)).cloned().collect();
        for name in gone {
            self.set_fault(&name, None);
        }
        let events: Vec<_> = StoreEvent::list(list.leases.values().cloned()).collect();
        self.shared.view.send_modify(|view| view.leases = list.leases);
        self.problem = None;
        self.events.report_ok(TASK).await?;
        self.send(events).await
    }

    /// Sends the faults that have come or gone, and these events.
    async fn send(&mut self, events: impl IntoIterator<Item = StoreEvent>) -> Result<(), Closed> {
        let news = std::mem::take(&mut self.news);
        self.events.send(news.into_iter().chain(events)).await
    }

    /// A Node's annotations make no sense, or do again.
    fn set_fault(&mut self, node: &str, fault: Option<String>) {
        let former = match &fault {
            Some(fault) => self.faults.insert(node.to_owned(), fault.clone()),
            None => self.faults.remove(node),
        };
        if former != fault {
            let title = format!("the record in the annotations of Node {}", printable(node));
            self.news.push(StoreEvent::Fault(title, fault));
        }
    }

    fn take_changed(&mut self, node: &Node) -> Option<StoreEvent> {
        match self.lease(node, None) {
            Some(lease) => {
                let lease = Arc::new(lease);
                self.shared.set_lease(&lease).then_some(StoreEvent::Lease(lease))
            }
            // The daemon puts its own lease back wherever it is missing or makes no sense, however long that has been so.
            None if self.is_own(&node.name) => {
                self.remove(&node.name);
                self.shared.own.name().map(StoreEvent::Removed)
            }
            // The last lease stands while the annotations make no sense.
            None if self.faults.contains_key(&node.name) => None,
            None => self.remove(&node.name),
        }
    }

    fn remove(&self, name: &str) -> Option<StoreEvent> {
        let name: NodeName = name.parse().ok()?;
        self.shared.remove_lease(&name).then_some(StoreEvent::Removed(name))
    }

    /// The lease of a Node in a list with this mark, or in an event. `None` where it has none, or annotations that make no sense.
    fn lease(&mut self, node: &Node, mark: Option<RequestMark>) -> Option<Lease> {
        let own = &self.shared.own;
        if self.is_own(&node.name) {
            let is_taken = match mark {
                Some(mark) => own.take_answer(mark, Some(node.clone())),
                None => own.take_event(Some(node.clone())),
            };
            if !is_taken {
                return self.shared.lease(&own.name()?).map(|lease| Lease::clone(&lease));
            }
            self.shared.node_status.changed.notify_one();
            if let Some(published) = own.published(node) {
                return Some(published);
            }
        }
        match annotations::lease(node, &self.shared.config.annotation_prefix) {
            Ok(lease) => {
                self.set_fault(&node.name, None);
                let own = self.shared.own.name().filter(|_| self.is_own(&node.name));
                let Some(known) = own.map(|name| self.shared.lease(&name)) else { return lease };
                lease.map(|lease| self.shared.own.without_overwrites(node, lease, known.as_deref()))
            }
            Err(fault) => {
                self.set_fault(&node.name, Some(printable(&chain(&fault))));
                None
            }
        }
    }
}
