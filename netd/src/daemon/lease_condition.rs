//! What is wrong with this node's lease in the store, for those who look after the cluster: each problem is reported once when it begins.
//!
//! Pure: the caller passes the notices on.

use std::error::Error;
use std::fmt::Display;

use ::reconcile::problem::{Changes, changes};
use dataplane::types::{PerFamily, Prefix};
use network::chain;
use network::model::Lease;

use crate::problem::{Kind, Problem, Problems};
use crate::store::{Notice, StoreError};

const REMEDY: &str = "drain the node, run `netd cleanup` on it and start netd again";

/// The store gives this node other subnets than its pods use.
pub(super) fn other_subnets(stored: PerFamily<Prefix>, used: PerFamily<Prefix>) -> Problem {
    let detail = format!("has {} for this node now, but its pods use {}", listed(&stored), listed(&used));
    Problem::new(Kind::PodCidrChanged, "the store", detail).with_remedy(REMEDY)
}

/// The store has given this node's subnets to another node.
pub(super) fn taken(used: PerFamily<Prefix>) -> Problem {
    let detail = format!("has taken {} that this node's pods use", listed(&used));
    Problem::new(Kind::LeaseLost, "another node", detail).with_remedy(REMEDY)
}

/// Another machine has put its address into this node's lease.
pub(super) fn name_taken(stored: &Lease, own: &Lease) -> Problem {
    let detail = format!(
        "is another machine's too: its lease has the address {} now, and this machine has {}",
        listed(&stored.public),
        listed(&own.public)
    );
    let remedy = "give one of the two another --node-name, or clean up there (`netd cleanup`)";
    Problem::new(Kind::NodeNameTaken, format!("the node name {}", own.node), detail).with_remedy(remedy)
}

/// The lease is gone, and the store does not take it.
pub(super) fn not_restored(why: &StoreError) -> Problem {
    of_lease(why, Kind::LeaseLost, "cannot be put back into the store")
}

/// The peers cannot read how this node sends and receives.
pub(super) fn not_published(why: &StoreError) -> Problem {
    of_lease(why, Kind::LeaseNotPublished, "cannot be published for its peers")
}

fn of_lease(why: &StoreError, kind: Kind, what: &str) -> Problem {
    let kind = if matches!(why, StoreError::Allocate { .. }) { Kind::PodCidrChanged } else { kind };
    Problem::new(kind, "this node's lease", format!("{what}: {}", chain(why)))
}

/// This node waits with a change, since it cannot read what its peers receive.
pub(super) fn not_read(why: &impl Error) -> Problem {
    Problem::new(Kind::PeersNotRead, "the peers' leases", format!("cannot be read: {}", chain(why)))
}

fn listed(values: &PerFamily<impl Display>) -> String {
    values.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(" ")
}

/// The lease's condition.
#[derive(Debug, Default)]
pub(super) struct LeaseCondition {
    own: Option<Problem>,
    unread: Option<Problem>,
    /// What is wrong with the node's own lease, and that the peers' leases cannot be read.
    pub(super) problems: Problems,
}

impl LeaseCondition {
    /// True where another machine has this node's name.
    pub(super) fn is_name_taken(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == Kind::NodeNameTaken)
    }

    /// This is wrong with the node's own lease now, or nothing is. Gives the notices to pass on.
    pub(super) fn set_own(&mut self, problem: Option<Problem>) -> Vec<Notice> {
        self.own = problem;
        self.update()
    }

    /// This keeps the peers' leases from being read, or nothing does. Gives the notices to pass on.
    pub(super) fn set_unread(&mut self, problem: Option<Problem>) -> Vec<Notice> {
        self.unread = problem;
        self.update()
    }

    fn update(&mut self) -> Vec<Notice> {
        let now: Problems = self.own.iter().chain(&self.unread).cloned().collect();
        let Changes { new, over } = changes(&self.problems, &now);
        let over = over.into_iter().cloned().map(Notice::Resolved);
        let notices = over.chain(new.into_iter().cloned().map(Notice::Problem)).collect();
        self.problems = now;
        notices
    }
}

#[cfg(test)]
mod tests;
