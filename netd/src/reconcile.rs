//! Compares the kernel with what it should be, and carries a plan out.
//!
//! The order of calls and nothing else: [`network::overlay`] says what is desired, [`network::plan`] what to do.

pub mod problems;

use std::sync::Arc;

use dataplane::kernel::Kernel;
use dataplane::netlink::KernelError;
use dataplane::op::Op;
use network::backend::TunnelDeviceError;
use network::key::Key;
use network::model::{Admission, Cluster, Lease};
use network::observe::{self, Host, Observed};
use network::overlay::peer_index::PeerIndex;
use network::overlay::transition::{self, Transition};
use network::overlay::{self, Desired, Input, Outcome};
use network::plan::{Conflict, Plan};

use crate::bridge;
use crate::config::RulesConfig;
use crate::node::Node;

/// Why the kernel is compared with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// netd has started.
    Startup,
    /// The store has something new.
    StoreChanged,
    /// An object of ours, or one from which ours follow, has changed in the kernel.
    KernelChanged,
    /// The interface between nodes has changed.
    UnderlayChanged,
    /// The time between full runs is over.
    Periodic,
    /// The last run left something undone.
    Retry,
    /// The last packets in a former encapsulation have passed.
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

    /// True where no new desired state caused the run: what it changes was right before.
    pub fn repairs(self) -> bool {
        matches!(self, Trigger::KernelChanged | Trigger::Periodic | Trigger::Retry)
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

/// What a run did.
pub type Report = ::reconcile::Report<Op, KernelError, Conflict>;
/// What a run left for later, since something else undoes it again and again.
pub type Deferred = ::reconcile::Deferred<Key, Op>;
pub use ::reconcile::RunKind;

/// The result of a comparison.
#[derive(Debug)]
pub struct Planned {
    /// What to do.
    pub plan: Plan,
    /// What is desired, and why.
    pub outcome: Outcome,
    /// What there is.
    pub observed: Observed,
    /// The peers from which it follows.
    pub peers: PeerIndex,
    /// What to remember of the pods' bridge.
    pub memory: Option<bridge::Memory>,
}

/// Takes in the nodes that can be believed. Of two that claim the same, the one stays that was believed in `previous`, or where there is no
/// previous list, the one to which the kernel sends. Changes nothing.
pub fn admit(
    kernel: &mut impl Kernel,
    node: &Node,
    host: &Host,
    own: Lease,
    leases: &[Arc<Lease>],
    previous: Option<&Cluster>,
) -> Result<(Cluster, Admission), KernelError> {
    let rules = node.admission_rules(&host.addresses);
    let leases = || leases.iter().cloned();
    if let Some(previous) = previous {
        return Ok(Admission::new(own, leases(), |lease| previous.has_all_of(lease), rules));
    }
    let (cluster, admission) = Admission::new(own.clone(), leases(), |_| false, rules.clone());
    if !admission.is_disputed() {
        return Ok((cluster, admission));
    }
    let endpoints = observe::endpoints(kernel)?;
    let is_sent_to = |lease: &Lease| {
        let mut ranges = lease.subnets.iter();
        ranges.any(|(_, subnet)| lease.public.iter().any(|(_, address)| endpoints.contains(&(*subnet, *address))))
    };
    Ok(Admission::new(own, leases(), is_sent_to, rules))
}

/// Compares the kernel with what it should be, and gives the plan. `host` has just been read. Changes nothing.
pub fn plan(
    kernel: &mut impl Kernel,
    host: Host,
    node: &Node,
    cluster: &Cluster,
    rules: RulesConfig,
    transition: &Transition,
    memory: Option<bridge::Memory>,
) -> Result<Planned, ReconcileError> {
    let reverse_path = observe::reverse_path(kernel, &host, &node.underlay.ifname);
    let wanted =
        transition::tunnels_in_use(&node.conf.backend, cluster, &transition.draining, &host.links, &node.identity);
    let unsupported = observe::unsupported(kernel, &host.links, &node.conf.backend, &node.underlay, wanted)?;
    let (bridge, memory) = bridge::look(&host, &node.bridge, &cluster.own.subnets, node.underlay.mtu, memory);
    let transition = &Transition { unsupported, ..transition.clone() };
    let input = Input {
        conf: &node.conf,
        cluster,
        underlay: &node.underlay,
        identity: &node.identity,
        masquerade: rules.masquerade(),
        forward_rules: rules.accept_forwarded,
        routes: &host.routes,
        links: &host.links,
        reverse_path: &reverse_path,
        transition,
        forward_chains: &host.base_chains,
        others: &host.others,
        bridge_name: &node.bridge,
        bridge: bridge.as_ref(),
    };
    let (outcome, peers) = overlay::build(&input)?;
    let observed = observe::observed(kernel, host, &node.identity, &outcome.desired)?;
    let plan = Plan::diff(&observed, &outcome.desired, &node.identity);
    Ok(Planned { plan, outcome, observed, peers, memory })
}

/// Carries a plan out. A change that is refused does not stop the others.
pub fn apply(kernel: &mut impl Kernel, plan: Plan) -> Report {
    let report = ::reconcile::engine::apply::<Desired>(plan.ops, |ops| carry_out(kernel, ops));
    Report { conflicts: plan.conflicts, ..report }
}

/// Carries ops out, with a line in the log for each.
pub(crate) fn carry_out(kernel: &mut impl Kernel, ops: &[Op]) -> Vec<Result<(), KernelError>> {
    let results = kernel.apply(ops);
    for (op, _) in ops.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
        tracing::debug!(op = first_line(op), "changed");
    }
    results
}

/// An operation in one line.
pub(crate) fn first_line(op: &Op) -> String {
    let text = op.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    // A transaction is a document on standard input; the document's first line names the object.
    match first.strip_suffix("<<'EOF'") {
        Some(command) => format!("{command}<<< {}", lines.next().unwrap_or_default()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
