//! Chains that drop forwarded packets by policy, and whether pods' packets are let through before. Pure.
//!
//! Only what a rule of the chain itself says of all packets of pods counts; a chain that jumps to others or asks for what
//! is not understood here may let them through all the same, so that is a warning.

use dataplane::nft::{
    BaseChainFacts, Expression, Family as TableFamily, Hook, Op, Operand, Policy, Rule, Side, Statement, Value, Verdict,
};
use dataplane::types::{Family, Prefix};
use network::overlay::forward::{self, Blocker};

use super::facts::{BRIDGE, Facts};
use super::{Check, Trouble};

pub(super) const CHECK: Check =
    Check { name: "forward policy", well: "no chain drops forwarded packets of pods by policy", judge };

fn judge(facts: &Facts) -> Vec<Trouble> {
    let others = facts.outcome.blockers.iter().filter_map(|blocker| match blocker {
        Blocker::Chain { .. } => None,
        Blocker::Firewalld { remedy, .. } => Some(
            Trouble::warning("firewalld".to_owned(), "may reject forwarded packets of pods, which it does not trust")
                .remedy(remedy.clone()),
        ),
        Blocker::Legacy { command, remedy } => Some(
            Trouble::fault(format!("{command} FORWARD"), "drops forwarded packets, those of pods among them")
                .remedy(remedy.clone()),
        ),
    });
    closed(facts).map(|chain| trouble(facts, chain)).chain(others).collect()
}

/// The chains that drop pods' packets by policy.
pub(super) fn closed(facts: &Facts) -> impl Iterator<Item = &BaseChainFacts> {
    let own = facts.node.identity.table();
    let dropping = facts.host.base_chains.iter().filter(move |chain| {
        chain.table != own && chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop
    });
    dropping.filter(|chain| networks(facts, chain).any(|network| !is_open(facts, chain, network)))
}

/// The pod networks whose packets a chain sees.
fn networks<'f>(facts: &'f Facts, chain: &BaseChainFacts) -> impl Iterator<Item = (Family, Prefix)> + use<'f> {
    let of = chain.table.family;
    let networks = facts.node.identity.networks.iter().map(|(family, network)| (family, *network));
    networks.filter(move |(family, _)| match of {
        TableFamily::Ip => *family == Family::V4,
        TableFamily::Ip6 => *family == Family::V6,
        TableFamily::Inet => true,
        _ => false,
    })
}

fn is_open(facts: &Facts, chain: &BaseChainFacts, network: (Family, Prefix)) -> bool {
    let rules = facts.rules_of(chain);
    [Side::Source, Side::Destination].iter().all(|side| rules.iter().any(|rule| lets(rule, *side, network)))
}

/// True for a rule that accepts all packets from, or to, the pods of a network.
fn lets(rule: &Rule, side: Side, (family, network): (Family, Prefix)) -> bool {
    let passes = |statement: &Statement| match statement {
        Statement::Counter => true,
        Statement::Compare { left, op: Op::Eq, right } => match (left, right) {
            (Expression::NetworkProtocol, Operand::Value(value)) => *value == Value::NetworkProtocol(family),
            (Expression::Address(_, of), Operand::Prefix(range)) => *of == side && range.covers(network),
            (Expression::InputName, Operand::Value(Value::IfName(name))) => {
                side == Side::Source && name.as_str() == BRIDGE
            }
            (Expression::OutputName, Operand::Value(Value::IfName(name))) => {
                side == Side::Destination && name.as_str() == BRIDGE
            }
            _ => false,
        },
        _ => false,
    };
    let Some((Statement::Verdict(Verdict::Accept), conditions)) = rule.statements.split_last() else { return false };
    conditions.iter().all(passes)
}

/// True where only an expert can say what becomes of a packet.
fn is_intricate(rule: &Rule) -> bool {
    let goes_on = |statement: &Statement| matches!(statement, Statement::Verdict(Verdict::Jump(_) | Verdict::Goto(_)));
    let accepts = rule.statements.last() == Some(&Statement::Verdict(Verdict::Accept));
    accepts || rule.statements.iter().any(goes_on)
}

fn trouble(facts: &Facts, chain: &BaseChainFacts) -> Trouble {
    let name = format!("{} {} {}", chain.table.family, chain.table.name, chain.chain);
    let trouble = if facts.rules_of(chain).iter().any(is_intricate) {
        Trouble::warning(name, "drops forwarded packets by policy, and no rule of it says that all of pods' pass")
    } else {
        Trouble::fault(name, "drops forwarded packets by policy, those of pods among them")
    };
    let table = format!("{} {}", chain.table.family, chain.table.name);
    let blockers = &facts.outcome.blockers;
    if forward::is_iptables(chain) {
        trouble.remedy(iptables(facts, chain))
    } else if let Some(remedy) = blockers.iter().find_map(|blocker| match blocker {
        Blocker::Chain { table: of, chain: name, remedy } if *of == table && *name == chain.chain => Some(remedy),
        _ => None,
    }) {
        trouble.remedy(remedy.clone())
    } else {
        trouble
    }
}

fn iptables(facts: &Facts, chain: &BaseChainFacts) -> String {
    let program = if chain.table.family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
    let open = |(_, range): (Family, Prefix)| {
        ["-s", "-d"].map(|side| format!("{program} -A FORWARD {side} {range} -j ACCEPT"))
    };
    networks(facts, chain).flat_map(open).collect::<Vec<_>>().join(" && ")
}
