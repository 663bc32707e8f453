//! The problems that a run has found.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::reconcile::ObjectKey;
use dataplane::netlink::KernelError;
use dataplane::op::Op;
use dataplane::types::IfName;
use network::chain;
use network::key::Key;
use network::model::{Lease, NodeName, Rejected};
use network::overlay::Outcome;

use super::{Deferred, Report, first_line};
use crate::problem::{Kind, Problem, Problems};

type Peers = BTreeMap<NodeName, Arc<Lease>>;

/// The problems in the kernel and among the peers.
pub fn of_run(report: &Report, outcome: &Outcome, peers: &Peers) -> Problems {
    let unmade = unmade(report);
    // Without its device nothing on it can be done: the device is the cause.
    let is_effect = |op: &Op| match op {
        Op::SetSysctl { key, .. } => {
            key.split('/').nth(3).is_some_and(|name| unmade.iter().any(|one| one.as_str() == name))
        }
        op => op.device().is_some_and(|device| unmade.contains(device)),
    };
    let causes = report.failed.iter().filter(|(op, _)| !is_effect(op));
    let failed = causes.map(|(op, error)| {
        if let Some(port) = taken_port(op, error) {
            let detail = format!("is taken by another program, so a tunnel device cannot be made: {}", chain(error));
            return Problem::new(Kind::OperationFailed, format!("UDP port {port}"), detail)
                .with_remedy(format!("ss -aunp 'sport = :{port}'"));
        }
        let detail = format!("is refused by the kernel: {}", chain(error));
        let peer = peer_of(op, peers).map(|node| format!(" for node {node}")).unwrap_or_default();
        Problem::new(Kind::OperationFailed, format!("`{}`{peer}", first_line(op)), detail)
    });
    let pods = |node: &NodeName, family| format!("{family} pods of node {node}");
    let unreachable = outcome.unreachable.iter().map(|((node, family), why)| {
        Problem::new(Kind::NoPeerRoute, pods(node, *family), format!("cannot be reached: {why}"))
    });
    let degraded = outcome.degraded.iter().filter_map(|((node, family), why)| {
        let encapsulation = outcome.peer_routes.get(&(node.clone(), *family))?.encapsulation;
        let detail = format!("are reached by {encapsulation}, not as configured: {why}");
        Some(Problem::new(Kind::PeerRouteDegraded, pods(node, *family), detail))
    });
    let conflicts = report.conflicts.iter().map(|conflict| conflict.problem(Kind::Conflict));
    let blockers = outcome.blockers.iter().map(|blocker| blocker.problem(Kind::ForwardingBlocked));
    failed.chain(conflicts).chain(blockers).chain(unreachable).chain(degraded).collect()
}

/// The devices that a run could not make.
pub fn unmade(report: &Report) -> BTreeSet<IfName> {
    let unmade = report.failed.iter().filter_map(|(op, _)| match op {
        Op::AddTunnel { name, .. } | Op::AddBridge { name, .. } => Some(name.clone()),
        _ => None,
    });
    unmade.collect()
}

/// The port of a tunnel that another program has.
fn taken_port(op: &Op, error: &KernelError) -> Option<u16> {
    match op {
        Op::AddTunnel { tunnel, .. } if error.is_taken() => tunnel.udp().map(|(port, _)| port),
        _ => None,
    }
}

/// The peer whose pods need an entry.
fn peer_of<'p>(op: &Op, peers: &'p Peers) -> Option<&'p NodeName> {
    let key = Key::of(op);
    let is_of = |lease: &Lease| {
        let mut subnets = lease.subnets.iter().map(|(_, subnet)| *subnet);
        match &key {
            Key::Route(destination) => subnets.any(|subnet| subnet == *destination),
            Key::Neighbour(_, address) => subnets.any(|subnet| subnet.address() == *address),
            Key::Fdb(_, mac) => lease.all_macs().any(|other| other == *mac),
            _ => false,
        }
    };
    peers.iter().find(|(_, lease)| is_of(lease)).map(|(node, _)| node)
}

/// The nodes that are left out.
pub fn of_rejected(rejected: &[Rejected]) -> Problems {
    let each = rejected.iter().map(|peer| {
        Problem::new(Kind::NodeLeftOut, format!("node {}", peer.node), format!("is left out: {}", peer.reason))
    });
    counted(MANY_NODES, each)
}

/// The records that are passed over.
pub fn of_faults(faults: &BTreeMap<String, String>) -> Problems {
    counted(
        MANY_RECORDS,
        faults.iter().map(|(record, fault)| {
            let problem = Problem::new(Kind::NodeLeftOut, record.clone(), format!("is passed over, since {fault}"));
            problem.with_remedy("write it anew or delete it")
        }),
    )
}

/// More problems of one kind with the records of a store are one problem.
pub const MOST: usize = 20;

const MANY_NODES: &str = "many nodes";
const MANY_RECORDS: &str = "many records";

/// True for a problem that says how many there are: with another number it is no news.
pub fn is_count(problem: &Problem) -> bool {
    problem.kind == Kind::NodeLeftOut && [MANY_NODES, MANY_RECORDS].contains(&problem.subject.as_str())
}

/// The problems, or one about how many there are, with the first.
fn counted(subject: &str, each: impl ExactSizeIterator<Item = Problem>) -> Problems {
    let count = each.len();
    if count <= MOST {
        return each.collect();
    }
    let first = each
        .take(1)
        .map(|first| Problem::new(first.kind, subject, format!("are left out ({count}), the first of them: {first}")));
    first.collect()
}

/// More contested objects of one kind are one problem.
const FEW: usize = 8;

/// The contested objects.
pub fn of_contested(deferred: &Deferred) -> Problems {
    let mut by_kind: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for contested in &deferred.contested {
        by_kind.entry(contested.key.kind()).or_default().push(&contested.key);
    }
    let mut problems = Problems::new();
    for (kind, objects) in by_kind {
        let remedy = format!("find out what does it ({})", objects[0].remedy());
        let (subjects, detail) = if objects.len() > FEW {
            let detail = "are undone again and again by something else; netd puts them back ever more rarely";
            (vec![format!("many objects of netd's (kind: {kind})")], detail)
        } else {
            let detail = "is undone again and again by something else; netd puts it back ever more rarely";
            (objects.iter().map(ToString::to_string).collect(), detail)
        };
        let problem = |subject| Problem::new(Kind::Contested, subject, detail).with_remedy(remedy.clone());
        problems.extend(subjects.into_iter().map(problem));
    }
    problems
}

#[cfg(test)]
mod tests;
