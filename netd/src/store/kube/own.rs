//! This node's own Node: what was last known of it, what the daemon wants it to say, and the writing of that.
//!
//! Written is only what is not there yet, to the status of the own Node.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane::types::PerFamily;
use network::chain;
use network::model::{Lease, NodeName};
use serde_json::json;
use tokio::time::{self, Instant};

use super::NODES;
use super::annotations::{self, NodeFault, RangesFault};
use super::api::{Api, CallError};
use super::object::{Node, Object};
use super::options::Options;
use crate::clock;
use crate::store::StoreError;

/// The first wait before a write that failed for a moment is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// This node's own Node.
#[derive(Debug, Default)]
pub(super) struct Own {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    name: Option<NodeName>,
    node: Option<Node>,
    /// How often something was heard of it.
    times: u64,
    /// What the daemon wants to be told.
    wanted: Option<Lease>,
    /// Before that the API server does not want to be asked.
    rests: Option<Instant>,
    /// What was said of annotations of the node's owner that make no sense.
    told: Option<String>,
}

/// When the API server was asked, by what was known of the Node then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked(u64);

impl Known {
    fn hear(&mut self, node: Option<Node>) {
        self.node = node;
        self.times += 1;
    }

    /// True for what is older than what is known, by its version.
    fn surpasses(&self, new: &Node) -> bool {
        let versions = self.node.as_ref().filter(|old| old.uid == new.uid).and_then(Node::count).zip(new.count());
        versions.is_some_and(|(old, new)| new < old)
    }
}

impl Own {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's name, once it is known.
    pub(super) fn name(&self) -> Option<NodeName> {
        self.known().name.clone()
    }

    /// From now on this is the node's name.
    pub(super) fn is(&self, name: &NodeName) {
        self.known().name = Some(name.clone());
    }

    /// The Node as last known.
    pub(super) fn node(&self) -> Option<Node> {
        self.known().node.clone()
    }

    /// An event tells that the Node is this, or gone. False for what is older than what is known: an event may be slower than an
    /// answer.
    pub(super) fn heard(&self, node: Option<Node>) -> bool {
        let mut known = self.known();
        if node.as_ref().is_some_and(|new| known.surpasses(new)) {
            return false;
        }
        known.hear(node);
        true
    }

    /// To be kept until the answer comes.
    pub(super) fn asks(&self) -> Asked {
        Asked(self.known().times)
    }

    /// An answer to what was asked then tells that the Node is this, or that there is none. False for what is older than what was
    /// heard since.
    ///
    /// What had been known by then counts less, whatever its version: the versions of an etcd that was restored from a backup go
    /// on from an old one.
    pub(super) fn answered(&self, asked: Asked, node: Option<Node>) -> bool {
        let mut known = self.known();
        let is_older = node.as_ref().is_none_or(|new| known.surpasses(new));
        if known.times != asked.0 && is_older {
            return false;
        }
        known.hear(node);
        true
    }

    /// The lease that the daemon wants told, where the Node tells just that. What peers see in place of an address is no
    /// matter of the daemon's.
    pub(super) fn as_wanted(&self, node: &Node, options: &Options) -> Option<Lease> {
        let wanted = self.known().wanted.clone()?;
        let is_told = self.changes(node, &wanted, options).is_empty();
        let ranges = annotations::ranges(node).ok()?;
        let same = wanted.subnets.iter().all(|(family, subnet)| ranges.get(family) == Some(subnet));
        (is_told && same).then_some(wanted)
    }

    /// True where the Node says what the daemon wants, but not as its owner wants it seen.
    pub(super) fn is_to_be_corrected(&self, node: &Node, options: &Options) -> bool {
        let Some(wanted) = self.known().wanted.clone() else { return false };
        let public =
            |key: &String| dataplane::types::Family::BOTH.into_iter().any(|family| options.keys.public(family) == *key);
        let changes = self.changes(node, &wanted, options);
        !changes.is_empty() && changes.keys().all(public)
    }

    fn changes(
        &self,
        node: &Node,
        lease: &Lease,
        options: &Options,
    ) -> std::collections::BTreeMap<String, Option<String>> {
        let overwrites = self.overwrites(node, options);
        annotations::changes(node, &annotations::of_lease(lease, overwrites, &options.keys), &options.keys)
    }

    fn overwrites(&self, node: &Node, options: &Options) -> PerFamily<IpAddr> {
        let overwrites = annotations::overwrites(node, &options.keys);
        let fault = overwrites.as_ref().err().map(|error: &NodeFault| error.to_string());
        let mut known = self.known();
        if fault != known.told {
            if let Some(fault) = &fault {
                tracing::warn!("what peers should see of this node is not taken: {fault}");
            }
            known.told = fault;
        }
        overwrites.unwrap_or_default()
    }

    /// Reads the Node.
    pub(super) async fn read(&self, api: &Api, name: &NodeName) -> Result<Node, CallError> {
        let asked = self.asks();
        let text = api.get(&path(name), None).await?;
        let node = read(&text)?;
        self.answered(asked, Some(node.clone()));
        Ok(node)
    }

    /// Has the Node say what the lease says, within a time that the caller has; nothing is written where it does already.
    pub(super) async fn tell(
        &self,
        api: &Api,
        options: &Options,
        lease: &Lease,
        within: Duration,
    ) -> Result<(), StoreError> {
        self.known().wanted = Some(lease.clone());
        let deadline = Instant::now() + within;
        let told = time::timeout(within, self.tell_by(api, options, lease, deadline)).await;
        match told {
            Ok(told) => told,
            Err(_) => Err(unwritable(&lease.node, CallError::Late(within))),
        }
    }

    /// Corrects what peers see, where that is all there is to do.
    pub(super) async fn correct(&self, api: &Api, options: &Options, within: Duration) -> Result<(), StoreError> {
        let wanted = self.known().wanted.clone();
        match wanted {
            Some(lease) => self.tell(api, options, &lease, within).await,
            None => Ok(()),
        }
    }

    async fn tell_by(&self, api: &Api, options: &Options, lease: &Lease, deadline: Instant) -> Result<(), StoreError> {
        let mut wait = AGAIN;
        loop {
            let rests = self.known().rests.filter(|until| *until > Instant::now());
            if let Some(until) = rests {
                if until > deadline {
                    return Err(unwritable(
                        &lease.node,
                        CallError::Refused {
                            code: 429,
                            message: "it does not want to be asked yet".to_owned(),
                            after: None,
                        },
                    ));
                }
                time::sleep_until(until).await;
            }
            let error = match self.tell_once(api, options, lease).await {
                Ok(()) => return Ok(()),
                Err(Untold::Ranges(fault)) => {
                    return Err(StoreError::Allocate { node: lease.node.clone(), source: fault.into() });
                }
                Err(Untold::Call(error)) => error,
            };
            if let Some(after) = error.after() {
                self.known().rests = Some(Instant::now() + after.min(Duration::from_mins(5)));
            }
            if error.code() == Some(409) || error.code() == Some(404) {
                self.heard(None);
            }
            if !error.is_passing() || Instant::now() + wait > deadline {
                return Err(unwritable(&lease.node, error));
            }
            tracing::debug!("the own Node could not be written, it is tried again: {}", chain(&error));
            time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn tell_once(&self, api: &Api, options: &Options, lease: &Lease) -> Result<(), Untold> {
        let node = match self.node() {
            Some(node) => node,
            None => self.read(api, &lease.node).await?,
        };
        let ranges = annotations::ranges(&node).map_err(|fault| Untold::Ranges(fault.into()))?;
        let fits = lease.subnets.iter().all(|(family, subnet)| ranges.get(family) == Some(subnet));
        if !fits {
            let text = |subnets: &PerFamily<dataplane::types::Prefix>| {
                subnets.iter().map(|(_, subnet)| subnet.to_string()).collect::<Vec<_>>().join(" ")
            };
            return Err(Untold::Ranges(Fault::Moved { now: text(&ranges), used: text(&lease.subnets) }));
        }
        let changes = self.changes(&node, lease, options);
        if changes.is_empty() {
            return Ok(());
        }
        self.patch(api, &lease.node, &json!({ "metadata": { "annotations": changes } })).await?;
        Ok(())
    }

    async fn patch(&self, api: &Api, name: &NodeName, patch: &serde_json::Value) -> Result<(), CallError> {
        let asked = self.asks();
        let answer = api.patch(&format!("{}/status", path(name)), patch).await?;
        self.answered(asked, Some(read(&answer)?));
        Ok(())
    }

    /// Takes everything of netd's off the Node.
    pub(super) async fn clear(&self, api: &Api, options: &Options, name: &NodeName) -> Result<(), StoreError> {
        let node = match self.read(api, name).await {
            Ok(node) => node,
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) => return Err(unreadable(name, error)),
        };
        let changes = annotations::changes(&node, &std::collections::BTreeMap::new(), &options.keys);
        if changes.is_empty() {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": changes } });
        self.patch(api, name, &patch).await.map_err(|error| unwritable(name, error))
    }

    /// Says that pods can be scheduled on the node. True where the Node says so now.
    pub(super) async fn set_available(&self, api: &Api) -> Result<(), CallError> {
        let Some(name) = self.name() else { return Ok(()) };
        let now = clock::now().to_string();
        let condition = json!({
            "type": "NetworkUnavailable", "status": "False", "reason": "NetdIsUp", "message": "netd is running on this node",
            "lastTransitionTime": now, "lastHeartbeatTime": now,
        });
        self.patch(api, &name, &json!({ "status": { "conditions": [condition] } })).await
    }
}

enum Untold {
    Call(CallError),
    Ranges(Fault),
}

impl From<CallError> for Untold {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Why a Node cannot be this node's as it runs.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Ranges(#[from] RangesFault),
    #[error(
        "the Node has the podCIDR {now} now, but this node's pods use {used}: drain the node, run `netd cleanup` on it and start netd again"
    )]
    Moved { now: String, used: String },
}

fn path(name: &NodeName) -> String {
    format!("{NODES}/{name}")
}

fn read(text: &[u8]) -> Result<Node, CallError> {
    let text = std::str::from_utf8(text).map_err(|error| CallError::Garbage(error.into()))?;
    Node::read(text).map_err(|error| CallError::Garbage(error.into()))
}

pub(super) fn unreadable(name: &NodeName, error: CallError) -> StoreError {
    let advice = match error.code() {
        Some(404) => {
            "kubelet has not registered it, or the name is another one: compare NODE_NAME or --node-name with `kubectl get nodes`"
        }
        _ => error.advice(),
    };
    StoreError::Read { object: format!("Node {name}"), advice, source: error.into() }
}

fn unwritable(name: &NodeName, error: CallError) -> StoreError {
    StoreError::Write { object: format!("Node {name}"), advice: error.advice(), source: error.into() }
}

#[cfg(test)]
mod tests;
