//! Whether the kernel has the devices, addresses, entries and routes that it should have, as `netd plan` says. Pure.
//!
//! Rules depend on flags that only the daemon has, and sysctls and MTUs have checks of their own.

use dataplane::link::LinkChange;
use dataplane::op::Op;
use network::plan::Conflict;

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.plan.conflicts.iter().map(conflict).collect();
    let missing: Vec<_> = facts.plan.ops.iter().filter(|op| concerns(op)).collect();
    if let Some(first) = missing.first() {
        let what = match missing.len() {
            1 => format!("the kernel is not as it should be; what would mend it: {first}"),
            n => format!("the kernel is not as it should be in {n} places; what would mend the first: {first}"),
        };
        let how = "start netd, which mends them by itself; or, with netd's own flags: netd plan | sh";
        findings.push(Finding::fault("kernel", what).remedy(how));
    }
    for ((node, family), why) in &facts.outcome.unreachable {
        findings.push(Finding::fault(node, format!("there is no way to its {family} pods: {why}")));
    }
    findings
}

fn concerns(op: &Op) -> bool {
    match op {
        Op::Nft(_) | Op::SetSysctl { .. } => false,
        Op::SetLink { change, .. } => LinkChange { mtu: None, ..change.clone() } != LinkChange::default(),
        _ => true,
    }
}

fn conflict(conflict: &Conflict) -> Finding {
    let (subject, what, remedy) = match conflict {
        Conflict::Route { wanted, present } => {
            let what = format!("{wanted} has no place, since a route is there that is not netd's");
            (wanted.destination.to_string(), what, format!("ip route delete {present}"))
        }
        Conflict::Name { name, texts } => {
            let what = format!("a device of another kind has the name of netd's {} device", texts.kind);
            (name.to_string(), what, format!("ip link delete {name}"))
        }
        Conflict::Tunnel { name, other, texts } => {
            let what = format!("this {} device, not netd's, has the {} that {name} needs", texts.kind, texts.identity);
            (other.to_string(), what, format!("ip link delete {other}"))
        }
    };
    Finding::fault(subject, what).remedy(remedy)
}
