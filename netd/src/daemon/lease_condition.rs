//! What is wrong with this node's lease in the store, for those who look after the cluster: reported once each time that it begins.
//!
//! Pure: the notices are the caller's to pass on.

use dataplane::types::{PerFamily, Prefix};
use network::chain;

use super::publisher::ReadError;
use crate::store::{Notice, StoreError};

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The reason, as Events have it.
    reason: &'static str,
    /// What is wrong, and what to do.
    pub(super) text: String,
}

impl Fault {
    /// The store gives this node other subnets than its pods use. The reason is the term of the store that has Events.
    pub(super) fn other_subnets(stored: PerFamily<Prefix>, used: PerFamily<Prefix>) -> Self {
        let text = format!(
            "the store has {} for this node now, but its pods use {}: drain the node, run `netd cleanup` on it and start netd again",
            listed(stored),
            listed(used)
        );
        Self { reason: "PodCIDRChanged", text }
    }

    /// The store has given this node's subnets to another node.
    pub(super) fn taken(used: PerFamily<Prefix>) -> Self {
        let text = format!(
            "another node has taken {} that this node's pods use: drain the node, run `netd cleanup` on it and start netd again",
            listed(used)
        );
        Self { reason: "LeaseLost", text }
    }

    /// The lease is gone, and the store does not take it.
    pub(super) fn not_restored(why: &StoreError) -> Self {
        Self {
            reason: reason(why, "LeaseLost"),
            text: format!("this node's lease cannot be put back into the store: {}", chain(why)),
        }
    }

    /// The peers cannot read how this node sends and receives.
    pub(super) fn not_published(why: &StoreError) -> Self {
        let text = format!("this node's lease cannot be published for its peers: {}", chain(why));
        Self { reason: reason(why, "LeaseNotPublished"), text }
    }

    /// This node waits with a change, since it cannot read what its peers receive.
    pub(super) fn not_read(why: &ReadError) -> Self {
        Self { reason: "PeersNotRead", text: format!("the peers' leases cannot be read: {}", chain(why)) }
    }
}

fn reason(why: &StoreError, other: &'static str) -> &'static str {
    if matches!(why, StoreError::Allocate { .. }) { "PodCIDRChanged" } else { other }
}

fn listed(subnets: PerFamily<Prefix>) -> String {
    subnets.iter().map(|(_, subnet)| subnet.to_string()).collect::<Vec<_>>().join(" ")
}

/// The fault that was reported last and has not ended.
#[derive(Debug, Default)]
pub(super) struct LeaseCondition(Option<Fault>);

impl LeaseCondition {
    /// The fault.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.0.as_ref()
    }

    /// This is wrong now, or nothing is. Gives the notices to pass on.
    pub(super) fn set(&mut self, fault: Option<Fault>) -> Vec<Notice> {
        if self.0 == fault {
            return Vec::new();
        }
        let new = fault.as_ref().map(|new| Notice::Warning { reason: new.reason, text: new.text.clone() });
        let over = std::mem::replace(&mut self.0, fault).map(|over| Notice::Resolved(over.text));
        over.into_iter().chain(new).collect()
    }
}

#[cfg(test)]
mod tests;
