//! What is wrong with this node's lease in the store, for those who look after the cluster: each problem once when it begins.
//!
//! Pure: the caller passes the notices on.

use ::reconcile::problem::{Changes, changes};
use dataplane::types::{PerFamily, Prefix};
use network::chain;

use crate::problem::{Kind, Problem, Problems};
use crate::store::{Notice, StoreError};

const REMEDY: &str = "drain the node, run `netd cleanup` on it and start netd again";

/// The store gives this node other subnets than its pods use.
pub(super) fn other_subnets(stored: PerFamily<Prefix>, used: PerFamily<Prefix>) -> Problem {
    let detail = format!("has {} for this node now, but its pods use {}", listed(stored), listed(used));
    Problem::new(Kind::PodCidrChanged, "the store", detail).with_remedy(REMEDY)
}

/// The store has given this node's subnets away.
pub(super) fn taken(used: PerFamily<Prefix>) -> Problem {
    let detail = format!("has taken {} that this node's pods use", listed(used));
    Problem::new(Kind::LeaseLost, "another node", detail).with_remedy(REMEDY)
}

/// The lease is gone or was altered, and the store does not take it.
pub(super) fn not_put_back(why: &StoreError) -> Problem {
    let kind = if matches!(why, StoreError::Allocate { .. }) { Kind::PodCidrChanged } else { Kind::LeaseLost };
    Problem::new(kind, "this node's lease", format!("cannot be put back into the store: {}", chain(why)))
}

/// The peers do not know how this node sends and receives.
pub(super) fn peers_not_told(why: &StoreError) -> Problem {
    Problem::new(Kind::PeersNotTold, "peers", format!("cannot be told: {}", chain(why)))
}

fn listed(subnets: PerFamily<Prefix>) -> String {
    subnets.iter().map(|(_, subnet)| subnet.to_string()).collect::<Vec<_>>().join(" ")
}

/// The problem that was reported last and is not over.
#[derive(Debug, Default)]
pub(super) struct Warned(Problems);

impl Warned {
    /// This is wrong now, or nothing is. Gives the notices to pass on.
    pub(super) fn of(&mut self, problem: Option<Problem>) -> Vec<Notice> {
        let now: Problems = problem.into_iter().collect();
        let Changes { new, over } = changes(&self.0, &now);
        let over = over.into_iter().cloned().map(Notice::Resolved);
        let notices = over.chain(new.into_iter().cloned().map(Notice::Problem)).collect();
        self.0 = now;
        notices
    }
}

#[cfg(test)]
mod tests;
