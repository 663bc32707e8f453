//! What is wrong with this node's own record, for those who look after the cluster: told once each time that it begins.
//!
//! Pure: the notices are the caller's to pass on.

use dataplane::types::{PerFamily, Prefix};
use network::chain;

use crate::store::{Notice, StoreError};

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Of which sort, as Events have it.
    reason: &'static str,
    /// What, and what to do.
    pub(super) text: String,
}

impl Fault {
    /// The store gives this node other subnets than its pods use. The reason is the word of the store that has Events.
    pub(super) fn other_subnets(stored: PerFamily<Prefix>, used: PerFamily<Prefix>) -> Self {
        let text = format!(
            "the store has {} for this node now, but its pods use {}: drain the node, run `netd cleanup` on it and start netd again",
            listed(stored),
            listed(used)
        );
        Self { reason: "PodCIDRChanged", text }
    }

    /// The store has given this node's subnets away.
    pub(super) fn taken(used: PerFamily<Prefix>) -> Self {
        let text = format!(
            "another node has taken {} that this node's pods use: drain the node, run `netd cleanup` on it and start netd again",
            listed(used)
        );
        Self { reason: "LeaseLost", text }
    }

    /// The lease is gone or was altered, and the store does not take it.
    pub(super) fn not_put_back(why: &StoreError) -> Self {
        let reason = if matches!(why, StoreError::Allocate { .. }) { "PodCIDRChanged" } else { "LeaseLost" };
        Self { reason, text: format!("this node's lease cannot be put back into the store: {}", chain(why)) }
    }

    /// The peers do not know how this node sends and receives.
    pub(super) fn peers_not_told(text: String) -> Self {
        Self { reason: "PeersNotTold", text }
    }
}

fn listed(subnets: PerFamily<Prefix>) -> String {
    subnets.iter().map(|(_, subnet)| subnet.to_string()).collect::<Vec<_>>().join(" ")
}

/// What they were told last and is still so.
#[derive(Debug, Default)]
pub(super) struct Warned(Option<Fault>);

impl Warned {
    /// This is wrong now, or nothing is. Gives what they must be told.
    pub(super) fn of(&mut self, fault: Option<&Fault>) -> Vec<Notice> {
        if self.0.as_ref() == fault {
            return Vec::new();
        }
        let over = std::mem::replace(&mut self.0, fault.cloned()).map(|over| Notice::Resolved(over.text));
        let new = fault.map(|new| Notice::Warning { reason: new.reason, text: new.text.clone() });
        over.into_iter().chain(new).collect()
    }
}

#[cfg(test)]
mod tests;
