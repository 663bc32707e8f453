//! Makes the kernel as it should be: observe, desired, diff, apply, and a report of what came of it.
//!
//! The order of calls and nothing else: what to want is said by [`network::overlay`], what to do by [`network::plan`].

pub mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataplane::kernel::Kernel;
use dataplane::netlink::KernelError;
use dataplane::op::Op;
use dataplane::types::Prefix;
use network::backend::TunnelDeviceError;
use network::model::Cluster;
use network::observe::{self, Observed};
use network::overlay::amend::Ground;
use network::overlay::transition::{self, Transition};
use network::overlay::{self, Input, Outcome};
use network::plan::{Conflict, Plan};

use crate::config::RulesConfig;
use crate::node::Node;

/// Why the kernel is compared with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// netd has started.
    Startup,
    /// The store has told something new.
    StoreChanged,
    /// Something that concerns us has changed in the kernel.
    KernelChanged,
    /// The interface between nodes has changed.
    UnderlayChanged,
    /// It is time again.
    Periodic,
    /// The last run left something undone.
    Retry,
    /// The last packets of a former way have passed.
    Lingered,
}

impl Trigger {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Startup => "startup",
            Trigger::StoreChanged => "store changed",
            Trigger::KernelChanged => "kernel changed",
            Trigger::UnderlayChanged => "underlay changed",
            Trigger::Periodic => "periodic",
            Trigger::Retry => "retry",
            Trigger::Lingered => "last packets passed",
        }
    }

    /// True where the world has not asked for anything new: a change to the kernel then puts right what was right before.
    pub fn repairs(self) -> bool {
        match self {
            Trigger::Startup | Trigger::StoreChanged | Trigger::UnderlayChanged | Trigger::Lingered => false,
            Trigger::KernelChanged | Trigger::Periodic | Trigger::Retry => true,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The kernel's state could not be read.
    #[error("cannot read the kernel's state")]
    Observe(#[from] KernelError),
    /// The network cannot be carried.
    #[error("cannot carry the network over the chosen interface")]
    TunnelDevice(#[from] TunnelDeviceError),
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// How many changes were made.
    pub applied: usize,
    /// The changes that the kernel refused.
    pub failed: Vec<(Op, KernelError)>,
    /// Where something that is not ours stands in the way.
    pub conflicts: Vec<Conflict>,
    /// Both kinds of changes, by [`Op::kind`].
    pub counts: BTreeMap<&'static str, Count>,
}

/// How many changes of one kind there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Made.
    pub applied: u64,
    /// Refused by the kernel.
    pub failed: u64,
}

impl Report {
    /// True where nothing is left undone that another try could do.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// The destinations at which somebody else's routes stand.
    pub fn taken(&self) -> BTreeSet<Prefix> {
        let of_route = |conflict: &Conflict| match conflict {
            Conflict::Route { wanted, .. } => Some(wanted.destination),
            Conflict::Name { .. } | Conflict::Tunnel { .. } => None,
        };
        self.conflicts.iter().filter_map(of_route).collect()
    }

    /// True where this node's own part stands: pods can be wired, even if the way to a peer is missing.
    pub fn is_ready(&self) -> bool {
        let of_a_peer = |op: &Op| {
            matches!(op, Op::PutNeighbour { .. } | Op::PutFdb { .. } | Op::AddRoute(_) | Op::ReplaceRoute(_))
                || op.is_removal()
        };
        self.failed.iter().all(|(op, _)| of_a_peer(op))
    }
}

/// What a comparison came to.
#[derive(Debug)]
pub struct Planned {
    /// What to do.
    pub plan: Plan,
    /// What is wanted, and why.
    pub outcome: Outcome,
    /// What there is.
    pub observed: Observed,
    /// What the ways to peers follow from.
    pub ground: Ground,
}

/// Compares the kernel with what it should be, and gives the plan. Changes nothing.
pub fn plan(
    kernel: &mut impl Kernel,
    node: &Node,
    cluster: &Cluster,
    rules: RulesConfig,
    transition: &Transition,
) -> Result<Planned, ReconcileError> {
    let host = observe::host(kernel, &node.identity)?;
    let reverse_path = observe::reverse_path(kernel, &host, &node.underlay.ifname);
    let wanted = transition::tunnels_in_use(&node.conf.backend, cluster, &transition.draining);
    let unsupported = observe::unsupported(kernel, &host.links, &node.conf.backend, &node.underlay, wanted)?;
    let transition = &Transition { unsupported, ..transition.clone() };
    let input = Input {
        conf: &node.conf,
        cluster,
        underlay: &node.underlay,
        identity: &node.identity,
        masquerade: rules.masquerade,
        forward_rules: rules.accept_forwarded,
        routes: &host.routes,
        links: &host.links,
        reverse_path: &reverse_path,
        transition,
        forward_chains: &host.base_chains,
        others: &host.others,
    };
    let outcome = overlay::desired(&input)?;
    let ground = Ground::of(&input, &outcome)?;
    let observed = observe::observed(kernel, host, &node.identity, &outcome.desired)?;
    let plan = Plan::diff(&observed, &outcome.desired, &node.identity);
    Ok(Planned { plan, outcome, observed, ground })
}

/// Carries a plan out. One change that fails does not stop the others.
pub fn apply(kernel: &mut impl Kernel, plan: Plan) -> Report {
    // Rules go only where those that come in their place stand.
    let mut ops = plan.ops;
    let later: Vec<Op> = ops.extract_if(.., |op| matches!(op, Op::Nft(_)) && op.is_removal()).collect();
    let mut outcomes = kernel.apply(&ops);
    if !ops.iter().zip(&outcomes).any(|(op, outcome)| matches!(op, Op::Nft(_)) && outcome.is_err()) {
        outcomes.extend(kernel.apply(&later));
        ops.extend(later);
    }
    let mut report = Report::default();
    for (op, result) in ops.into_iter().zip(outcomes) {
        let count = report.counts.entry(op.kind()).or_default();
        match result {
            Err(error) if !op.is_done_despite(&error) => {
                count.failed += 1;
                report.failed.push((op, error));
            }
            _ => {
                tracing::debug!(op = first_line(&op), "changed");
                count.applied += 1;
                report.applied += 1;
            }
        }
    }
    report.conflicts = plan.conflicts;
    report
}

/// An operation in one line.
pub(crate) fn first_line(op: &Op) -> String {
    let text = op.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    // A transaction is a document on standard input; its first line says what it is about.
    match first.strip_suffix("<<'EOF'") {
        Some(command) => format!("{command}<<< {}", lines.next().unwrap_or_default()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
