//! What packets that are for no Service cost.

use dataplane::nft::{Comparison, Expression, NatTarget, Statement, Table, Verdict};

use super::super::{NodePorts, Ruleset, Settings};
use crate::fixtures::{resolved, service_port, settings};
use crate::model::Protocol;

/// How many sets and maps are looked up in a chain for a packet that is in none of them, while all else that rules ask for holds.
fn lookups(table: &Table, chain: &str) -> usize {
    let mut count = 0;
    for rule in &table.chains[chain].rules {
        for statement in &rule.statements {
            match statement {
                Statement::Lookup { op, .. } => {
                    count += 1;
                    if *op == Comparison::Eq {
                        break;
                    }
                }
                Statement::Nat { to: NatTarget::Map { .. }, .. }
                | Statement::VerdictFrom { .. }
                | Statement::SetPriority(Expression::MarkFrom(_)) => {
                    count += 1;
                    break;
                }
                Statement::Verdict(Verdict::Jump(next)) => count += lookups(table, next),
                Statement::Verdict(Verdict::Goto(next)) => return count + lookups(table, next),
                Statement::Masquerade(_) | Statement::Verdict(_) | Statement::Reject(_) => return count,
                _ => {}
            }
        }
    }
    count
}

/// A table with Services of that many numbers of endpoints, each with and without affinity.
fn table(counts: u8) -> Table {
    let mut ruleset = Ruleset::new(settings());
    for count in 1..=counts {
        // Even and odd lengths of names: no two have an address in common.
        for prefix in ["a-", "sticky-"] {
            let port = service_port(&format!("{prefix}{}", "x".repeat(2 * usize::from(count))), Protocol::Tcp);
            let endpoints: Vec<u8> = (1..=count).collect();
            let key = port.key();
            ruleset.update(&[(key, Some(resolved(port, &endpoints)))].into());
        }
    }
    ruleset.table()
}

#[test]
fn a_packet_for_no_service_costs_two_lookups_in_a_chain_at_most_whatever_services_there_are() {
    let tables = [table(1), table(20)];
    let bases = tables[1].chains.iter().filter(|(_, chain)| chain.base.is_some());
    for (name, _) in bases.filter(|(name, _)| *name != "nat-postrouting") {
        let [few, many] = tables.each_ref().map(|table| lookups(table, name));
        assert!(few == many && many <= 2, "{name}: {few} lookups with few Services, {many} with many");
    }
}

#[test]
fn no_address_of_the_loopback_network_has_node_ports_whatever_range_is_chosen() {
    let node_rules = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let table = Ruleset::new(Settings { node_ports: NodePorts::Within(ranges), ..settings() }).table();
        format!("{table}").matches("ip daddr != 127.0.0.0/8").count()
    };
    let of_all = format!("{}", Ruleset::new(settings()).table()).matches("ip daddr != 127.0.0.0/8").count();
    assert!(of_all > 0);
    assert_eq!([&["0.0.0.0/0"][..], &["192.168.0.0/16", "127.0.0.0/8"]].map(node_rules), [of_all, of_all]);
    assert_eq!(node_rules(&["192.168.0.0/16"]), 0, "nothing is asked in vain");
    let everywhere = NodePorts::Within(["0.0.0.0/0".parse().expect("a range")].into());
    assert!(everywhere.contain([192, 168, 0, 1].into()) && !everywhere.contain([127, 0, 0, 1].into()));
}
