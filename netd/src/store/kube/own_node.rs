//! This node's own Node: the object as last known, the lease that the daemon wants in it, and the writing of that lease.
//!
//! Only annotations that differ are written, to the status of the own Node.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiserver::event_recorder::Regarding;
use apiserver::{ApiError, ApiServer};
use dataplane::types::{Family, PerFamily, Prefix};
use k8s_openapi::api::core::v1::{NodeCondition, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use network::chain;
use network::model::{Lease, NodeName};
use serde_json::{Value, json};
use tokio::time::{self, Instant};

use super::COMPONENT;
use super::annotations::{self, RangesFault};
use super::keys::{OVERWRITE, PUBLIC};
use super::object::{Node, NodeObject};
use crate::clock;
use crate::config::store::{AnnotationPrefix, REMEDIES};
use crate::store::StoreError;

/// The first wait before a write that failed is repeated.
const WAIT: Duration = Duration::from_millis(100);

/// This node's own Node.
pub(super) struct OwnNode {
    server: ApiServer,
    keys: AnnotationPrefix,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    name: Option<NodeName>,
    node: Option<Node>,
    /// How often `node` was replaced.
    revision: u64,
    /// The lease that the daemon wants in the annotations.
    wanted: Option<Lease>,
    /// What the owner had peers see in place of public addresses when the lease was written last.
    overwritten: PerFamily<IpAddr>,
    /// The API server does not want requests before this time.
    retry_at: Option<Instant>,
    /// The last fault of the owner's annotations that was logged.
    logged: Option<String>,
}

/// The revision of the own Node when a request was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestMark(u64);

impl State {
    fn replace(&mut self, node: Option<Node>) {
        self.node = node;
        self.revision += 1;
    }

    /// True where the known version of the same Node is higher.
    fn is_newer_than(&self, new: &Node) -> bool {
        let versions = self.node.as_ref().filter(|old| old.uid == new.uid).and_then(|old| old.version).zip(new.version);
        versions.is_some_and(|(old, new)| new < old)
    }
}

impl OwnNode {
    pub(super) fn new(server: ApiServer, keys: AnnotationPrefix) -> Self {
        Self { server, keys, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's name, once it is known.
    pub(super) fn name(&self) -> Option<NodeName> {
        self.state().name.clone()
    }

    /// Sets the node's name.
    pub(super) fn set_name(&self, name: &NodeName) {
        self.state().name = Some(name.clone());
    }

    /// The Node as last known.
    pub(super) fn node(&self) -> Option<Node> {
        self.state().node.clone()
    }

    /// The reference that Events about the Node have; `None` before its name is known.
    pub(super) fn regarding(&self) -> Option<Regarding> {
        let state = self.state();
        let name = state.name.as_ref()?.to_string();
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.clone()),
            uid: state.node.as_ref().map(|node| node.uid.clone()),
            ..ObjectReference::default()
        };
        Some(Regarding { object, component: COMPONENT, host: name })
    }

    /// Takes the Node of a watch event, or its deletion. False for an event that is older than the known Node: an event may come
    /// later than the answer to a write.
    pub(super) fn take_event(&self, node: Option<Node>) -> bool {
        let mut state = self.state();
        if node.as_ref().is_some_and(|new| state.is_newer_than(new)) {
            return false;
        }
        state.replace(node);
        true
    }

    /// The mark for [`OwnNode::take_answer`], to be taken before the request is sent.
    pub(super) fn mark(&self) -> RequestMark {
        RequestMark(self.state().revision)
    }

    /// Takes the Node of an answer, or that there is none. False for an answer that is older than an event that has come since the
    /// request.
    ///
    /// The answer replaces whatever was known at the request, even a higher version: the versions of an etcd that was restored from a
    /// backup go on from a low one.
    pub(super) fn take_answer(&self, mark: RequestMark, node: Option<Node>) -> bool {
        let mut state = self.state();
        let is_older = node.as_ref().is_none_or(|new| state.is_newer_than(new));
        if state.revision != mark.0 && is_older {
            return false;
        }
        state.replace(node);
        true
    }

    /// The lease that the daemon wants, where the Node has it, or is about to be corrected. The daemon does not see the addresses that the
    /// owner overwrites.
    pub(super) fn published(&self, node: &Node) -> Option<Lease> {
        let wanted = self.state().wanted.clone()?;
        let is_written = self.changes(node, &wanted).is_empty() || self.needs_correction(node);
        let ranges = annotations::ranges(node).ok()?;
        (is_written && has_subnets(&ranges, &wanted)).then_some(wanted)
    }

    /// True where the Node has the lease that the daemon wants, but for addresses that its owner has begun or ceased to overwrite. Where
    /// the owner has not, another machine has written its own address: the daemon decides.
    pub(super) fn needs_correction(&self, node: &Node) -> bool {
        let Some(wanted) = self.state().wanted.clone() else { return false };
        if self.overwrites(node) == self.state().overwritten {
            return false;
        }
        let public = |key: &String| Family::BOTH.into_iter().any(|family| self.keys.family_key(PUBLIC, family) == *key);
        let changes = self.changes(node, &wanted);
        !changes.is_empty() && changes.keys().all(public)
    }

    /// A lease as the annotations of the Node have it, with the addresses that the daemon knows in place of those that the owner
    /// overwrites. `known` has them before the daemon wants a lease.
    pub(super) fn without_overwrites(&self, node: &Node, mut lease: Lease, known: Option<&Lease>) -> Lease {
        let overwrites = self.overwrites(node);
        let state = self.state();
        let Some(own) = state.wanted.as_ref().or(known) else { return lease };
        for family in Family::BOTH {
            let (seen, address) = (lease.public.get(family), own.public.get(family));
            let is_overwritten = [&overwrites, &state.overwritten].iter().any(|by| by.get(family) == seen);
            if seen.is_some() && address.is_some() && is_overwritten {
                *lease.public.slot(family) = address.copied();
            }
        }
        lease
    }

    fn changes(&self, node: &Node, lease: &Lease) -> BTreeMap<String, Option<String>> {
        let wanted = annotations::of_lease(lease, self.overwrites(node), &self.keys);
        annotations::changes(node, &wanted, &self.keys)
    }

    /// What the Node's owner wants peers to see in place of its public addresses.
    fn overwrites(&self, node: &Node) -> PerFamily<IpAddr> {
        let overwrites = annotations::addresses(node, &self.keys, OVERWRITE);
        let fault = overwrites.as_ref().err().map(ToString::to_string);
        let mut state = self.state();
        if fault != state.logged {
            if let Some(fault) = &fault {
                tracing::warn!(
                    "the Node's annotations that overwrite the addresses that peers see are ignored: {fault}"
                );
            }
            state.logged = fault;
        }
        overwrites.unwrap_or_default()
    }

    /// Reads the Node.
    pub(super) async fn read(&self, name: &NodeName) -> Result<Node, ApiError> {
        let mark = self.mark();
        let node = Node::from(self.server.cluster::<NodeObject>().get(name.as_str()).await?);
        self.take_answer(mark, Some(node.clone()));
        Ok(node)
    }

    /// Writes the lease to the Node, within a time. Nothing is written where the Node has it.
    pub(super) async fn publish(&self, lease: &Lease, within: Duration) -> Result<(), StoreError> {
        self.state().wanted = Some(lease.clone());
        let published = time::timeout(within, self.publish_by(&lease.node, Instant::now() + within)).await;
        published.unwrap_or_else(|_| Err(unwritable(&lease.node, ApiError::Late(within))))
    }

    /// Writes the lease that the daemon wants once more, for an owner that overwrites addresses.
    pub(super) async fn correct(&self, within: Duration) -> Result<(), StoreError> {
        let wanted = self.state().wanted.clone();
        match wanted {
            Some(lease) => self.publish(&lease, within).await,
            None => Ok(()),
        }
    }

    /// Writes the wanted lease, until a time. A newer one may be wanted between two tries.
    async fn publish_by(&self, name: &NodeName, deadline: Instant) -> Result<(), StoreError> {
        let mut wait = WAIT;
        loop {
            let retry_at = self.state().retry_at.filter(|at| *at > Instant::now());
            if let Some(at) = retry_at {
                if at > deadline {
                    let message = "it does not want to be asked yet".to_owned();
                    return Err(unwritable(name, ApiError::Refused { code: 429, message, retry_after: None }));
                }
                time::sleep_until(at).await;
            }
            let Some(lease) = self.state().wanted.clone() else { return Ok(()) };
            let Err(error) = self.publish_once(&lease).await else { return Ok(()) };
            let Some(cause) = api_error(&error) else { return Err(error) };
            if let Some(after) = cause.retry_after() {
                self.state().retry_at = Some(Instant::now() + after);
            }
            if matches!(cause.code(), Some(404 | 409)) {
                self.take_event(None);
            }
            if !cause.is_transient() || Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!("the own Node could not be written, the write is repeated: {}", chain(cause));
            time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn publish_once(&self, lease: &Lease) -> Result<(), StoreError> {
        let unwritable = |error| unwritable(&lease.node, error);
        let node = match self.node() {
            Some(node) => node,
            None => self.read(&lease.node).await.map_err(unwritable)?,
        };
        let unusable = |fault: RangesFault| StoreError::allocate(&lease.node, fault);
        let ranges = annotations::ranges(&node).map_err(unusable)?;
        if !has_subnets(&ranges, lease) {
            let text = |subnets: &PerFamily<Prefix>| {
                subnets.iter().map(|(_, subnet)| subnet.to_string()).collect::<Vec<_>>().join(" ")
            };
            return Err(unusable(RangesFault::Unusable(format!(
                "the Node has the podCIDR {} now, but this node's pods use {}: drain the node, run `netd cleanup` on it and start netd again",
                text(&ranges),
                text(&lease.subnets)
            ))));
        }
        let overwrites = self.overwrites(&node);
        self.write(&lease.node, self.changes(&node, lease)).await.map_err(unwritable)?;
        self.state().overwritten = overwrites;
        Ok(())
    }

    /// Writes these annotations, if there are any.
    async fn write(&self, name: &NodeName, changes: BTreeMap<String, Option<String>>) -> Result<(), ApiError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.patch(name, json!({ "metadata": { "annotations": changes } })).await
    }

    /// Merges a change into the Node, by its status: netd has no right to change more of it.
    async fn patch(&self, name: &NodeName, change: Value) -> Result<(), ApiError> {
        let mark = self.mark();
        let nodes = self.server.cluster::<NodeObject>();
        let node = nodes.patch_status(name.as_str(), &PatchParams::default(), &Patch::Strategic(change)).await?;
        self.take_answer(mark, Some(node.into()));
        Ok(())
    }

    /// Removes all annotations of netd's and flannel's from the Node, but for those of its owner.
    pub(super) async fn clear(&self, name: &NodeName) -> Result<(), StoreError> {
        let node = match self.read(name).await {
            Err(error) if error.code() == Some(404) => return Ok(()),
            read => read.map_err(|error| unreadable(name, error))?,
        };
        let changes = annotations::changes(&node, &BTreeMap::new(), &self.keys);
        self.write(name, changes).await.map_err(|error| unwritable(name, error))
    }

    /// Sets the condition `NetworkUnavailable` to False: pods can be scheduled on the node.
    pub(super) async fn set_available(&self) -> Result<(), ApiError> {
        let Some(name) = self.name() else { return Ok(()) };
        let now = Some(Time(clock::now()));
        let condition = NodeCondition {
            type_: "NetworkUnavailable".to_owned(),
            status: "False".to_owned(),
            reason: Some("NetdIsUp".to_owned()),
            message: Some("netd is running on this node".to_owned()),
            last_transition_time: now.clone(),
            last_heartbeat_time: now,
        };
        self.patch(&name, json!({ "status": { "conditions": [condition] } })).await
    }
}

fn has_subnets(ranges: &PerFamily<Prefix>, lease: &Lease) -> bool {
    lease.subnets.iter().all(|(family, subnet)| ranges.get(family) == Some(subnet))
}

/// The error of the API server that an error of the store comes from.
pub(super) fn api_error(error: &StoreError) -> Option<&ApiError> {
    error.source()?.downcast_ref()
}

pub(super) fn unreadable(name: &NodeName, error: ApiError) -> StoreError {
    let advice = match error.code() {
        Some(404) => {
            "kubelet has not registered it, or the name is another one: compare NODE_NAME or --node-name with `kubectl get nodes`"
        }
        _ => error.advice(&REMEDIES),
    };
    StoreError::read(format!("Node {name}"), advice, error)
}

fn unwritable(name: &NodeName, error: ApiError) -> StoreError {
    StoreError::write(format!("Node {name}"), error.advice(&REMEDIES), error)
}

#[cfg(test)]
mod tests;
