//! Which rules of the host keep pods' packets from being forwarded, and which commands open the way.
//!
//! Pure. A range counts as open only where all of its packets pass for sure: by a rule that matches one address range, or the pods'
//! bridge, and nothing else, before any rule that ends all packets' way through the chain.

use std::fmt;

use dataplane::nft::{BaseChainFacts, Comparison, Expression, Operand, Policy, Rule, Side, Statement, Value, Verdict};
use dataplane::types::{Family, IfName, Prefix};
use dataplane::xtables;
use reconcile::problem::Problem;

use super::Others;

/// The name of firewalld's table.
pub(super) const FIREWALLD: &str = "firewalld";
/// The chains in which firewalld sorts packets by their source, in releases 0.x and 1.x.
pub(super) const FIREWALLD_ZONES: [&str; 2] = ["filter_FORWARD_IN_ZONES", "filter_FORWARD_ZONES"];

/// What keeps pods' packets from being forwarded, with the commands that open the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// A chain of nftables.
    Chain {
        /// `FAMILY NAME` as `nft` takes them.
        table: String,
        /// The chain.
        chain: String,
        /// Commands for a shell.
        remedy: String,
    },
    /// firewalld, of whose rules only its trusted zone is judged here.
    Firewalld {
        /// The networks that are in no trusted zone.
        networks: Vec<Prefix>,
        /// Commands for a shell.
        remedy: String,
    },
    /// iptables-legacy.
    Legacy {
        /// `iptables-legacy` or `ip6tables-legacy`.
        command: &'static str,
        /// Commands for a shell.
        remedy: String,
    },
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem(()).fmt(f)
    }
}

/// Commands that a shell carries out one after the other, as long as none fails.
fn in_turn(commands: impl Iterator<Item = String>) -> Option<String> {
    let commands: Vec<_> = commands.collect();
    (!commands.is_empty()).then(|| commands.join(" && "))
}

impl Blocker {
    /// The blocker as a problem of this kind.
    pub fn problem<K>(&self, kind: K) -> Problem<K> {
        let drops = "drops forwarded packets of pods; to let them pass".to_owned();
        let (subject, detail, remedy) = match self {
            Blocker::Chain { table, chain, remedy } => (format!("chain {chain} of table {table}"), drops, remedy),
            Blocker::Legacy { command, remedy } => (format!("chain FORWARD of {command}"), drops, remedy),
            Blocker::Firewalld { networks, remedy } => {
                let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
                let detail = format!(
                    "rejects forwarded packets that none of its zones and policies lets pass, and does not trust {}; if pods cannot talk",
                    networks.join(" and ")
                );
                ("firewalld".to_owned(), detail, remedy)
            }
        };
        Problem::new(kind, subject, detail).with_remedy(remedy)
    }

    /// A chain of nftables whose policy is to drop.
    pub(super) fn of_chain(
        facts: &BaseChainFacts,
        networks: &[Prefix],
        others: &Others,
        bridge: &IfName,
    ) -> Option<Self> {
        let table = format!("{} {}", facts.table.family, facts.table.name);
        let rules = others.rules.get(&(facts.table.clone(), facts.chain.clone())).map_or(&[][..], Vec::as_slice);
        let remedy = in_turn(not_accepted(networks, rules, bridge).map(|(side, range)| {
            let words = if range.family() == Family::V4 { "ip" } else { "ip6" };
            let side = if side == Side::Source { "saddr" } else { "daddr" };
            format!("nft insert rule {table} {} {words} {side} {range} accept", facts.chain)
        }))?;
        Some(Self::Chain { table, chain: facts.chain.clone(), remedy })
    }

    /// firewalld's chain. Zones can let pods pass in many ways; a trusted network is the way that can be judged here.
    pub(super) fn of_firewalld(facts: &BaseChainFacts, networks: &[Prefix], others: &Others) -> Option<Self> {
        let zones = FIREWALLD_ZONES.iter().filter_map(|chain| {
            let rules = others.rules.get(&(facts.table.clone(), (*chain).to_owned()))?;
            Some(rules.iter().filter_map(trusted))
        });
        let trusted: Vec<Prefix> = zones.flatten().collect();
        let is_trusted = |network: &Prefix| trusted.iter().any(|range| range.covers(*network));
        let networks: Vec<_> = networks.iter().filter(|network| !is_trusted(network)).copied().collect();
        let add = |range: &Prefix| format!("firewall-cmd --permanent --zone=trusted --add-source={range}");
        let remedy = format!("{} && firewall-cmd --reload", in_turn(networks.iter().map(add))?);
        Some(Self::Firewalld { networks, remedy })
    }

    /// iptables-legacy's chain for one family.
    pub(super) fn of_legacy(forward: &xtables::Forward, network: Prefix) -> Option<Self> {
        if forward.policy == Policy::Accept && !forward.closed {
            return None;
        }
        let command = if network.family() == Family::V4 { "iptables-legacy" } else { "ip6tables-legacy" };
        // A rule at the end leaves the decision to the rules of others before it. Where a rule before ends all packets' way, only a rule at the
        // head helps.
        let how = if forward.closed { "-I" } else { "-A" };
        let remedy = in_turn(missing(&[network], &forward.accepts).map(|(side, range)| {
            let side = if side == Side::Source { "-s" } else { "-d" };
            format!("{command} {how} FORWARD {side} {range} -j ACCEPT")
        }))?;
        Some(Self::Legacy { command, remedy })
    }
}

/// The ends of packets, of these networks, that no rule of a chain accepts, and none that is for the pods' bridge: the packets meet the
/// chain's policy.
pub fn not_accepted(networks: &[Prefix], rules: &[Rule], bridge: &IfName) -> impl Iterator<Item = (Side, Prefix)> {
    missing(networks, &passes(rules, bridge)).collect::<Vec<_>>().into_iter()
}

/// What of the networks is not let pass, by its end of a packet.
fn missing(networks: &[Prefix], passes: &[(Side, Prefix)]) -> impl Iterator<Item = (Side, Prefix)> {
    let ends = networks.iter().flat_map(|network| [Side::Source, Side::Destination].map(|side| (side, *network)));
    ends.filter(|(side, network)| !passes.iter().any(|(of, range)| of == side && range.covers(*network)))
}

/// The ranges of which all packets pass, by the side of a packet.
fn passes(rules: &[Rule], bridge: &IfName) -> Vec<(Side, Prefix)> {
    let mut passes = Vec::new();
    for rule in rules {
        match (conditions(rule).as_slice(), rule.statements.last()) {
            ([], Some(Statement::Verdict(Verdict::Accept))) => passes.extend(Family::BOTH.into_iter().flat_map(all)),
            ([one], Some(Statement::Verdict(Verdict::Accept))) => {
                passes.extend(range(one));
                passes.extend(family(one).into_iter().flat_map(all));
                passes.extend(
                    of_bridge(one, bridge)
                        .into_iter()
                        .flat_map(|side| Family::BOTH.map(|of| (side, of.default_route()))),
                );
            }
            // No packet reaches the rules after this one.
            (
                [],
                Some(Statement::Verdict(Verdict::Drop | Verdict::Return | Verdict::Goto(_)) | Statement::Reject(_)),
            ) => break,
            ([Statement::Opaque { name, .. }], _) if name == "reject" => break,
            _ => {}
        }
    }
    passes
}

fn all(family: Family) -> [(Side, Prefix); 2] {
    [Side::Source, Side::Destination].map(|side| (side, family.default_route()))
}

/// The conditions of a rule.
fn conditions(rule: &Rule) -> Vec<&Statement> {
    let addressed: Vec<_> = rule.statements.iter().filter_map(|one| Some(range(one)?.1.family())).collect();
    let asks = |statement: &&Statement| match statement {
        Statement::Counter | Statement::Verdict(_) | Statement::Reject(_) => false,
        Statement::Opaque { name, .. } => name != "log",
        // A condition on an address of the family implies the family.
        other => family(other).is_none_or(|family| !addressed.contains(&family)),
    };
    rule.statements.iter().filter(asks).collect()
}

/// The network protocol that a statement matches.
fn family(statement: &Statement) -> Option<Family> {
    match statement {
        Statement::Compare {
            left: Expression::NetworkProtocol,
            op: Comparison::Eq,
            right: Operand::Value(Value::NetworkProtocol(family)),
        } => Some(*family),
        _ => None,
    }
}

/// The end of packets for which a statement asks that they pass the pods' bridge.
fn of_bridge(statement: &Statement, bridge: &IfName) -> Option<Side> {
    let Statement::Compare { left, op: Comparison::Eq, right: Operand::Value(Value::IfName(name)) } = statement else {
        return None;
    };
    match left {
        _ if name != bridge => None,
        Expression::InputName => Some(Side::Source),
        Expression::OutputName => Some(Side::Destination),
        _ => None,
    }
}

/// The range of addresses that a statement asks for.
fn range(statement: &Statement) -> Option<(Side, Prefix)> {
    match statement {
        Statement::Compare {
            left: Expression::Address(_, side),
            op: Comparison::Eq,
            right: Operand::Prefix(range),
        } => Some((*side, *range)),
        _ => None,
    }
}

/// The range of sources that a rule of firewalld's sends to its zone `trusted`.
fn trusted(rule: &Rule) -> Option<Prefix> {
    match (conditions(rule).as_slice(), rule.statements.last()) {
        ([one], Some(Statement::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))))
            if chain.ends_with("_trusted") =>
        {
            range(one).filter(|(side, _)| *side == Side::Source).map(|(_, range)| range)
        }
        _ => None,
    }
}
