//! What is done of a plan. The addresses are in [`network::fixtures`].

use dataplane::nft::{Chain, ChainType, Expression, Hook, Rule, Side, Statement, Table, TableFamily, Verdict};
use dataplane::types::Family;
use network::fixtures::{Network, V4, vxlan};
use network::overlay::masquerade::Ports;

use super::*;

#[test]
fn rules_of_flannel_stay_for_as_long_as_ours_are_refused() {
    let network = Network { masquerade: Some(Ports::FullyRandom), forward_rules: true, ..vxlan(V4, V4) };
    let mut kernel = network.fake();
    let pods = network.conf().prefixes().v4.expect("an IPv4 network");
    let rule = Rule::new([Statement::eq(Expression::Address(Family::V4, Side::Source), pods), Verdict::Accept.into()]);
    let chain = Chain::base(ChainType::Filter, Hook::Forward, 0).with_rules([rule]);
    let flannels = Table::new(TableFamily::Ip, "flannel-ipv4").with_chain("forward", chain);
    kernel.tables.insert(flannels.id.clone(), flannels.clone());

    kernel.refuse = vec!["table inet netd".to_owned()];
    let plan = network.plan(&mut kernel);
    let report = apply(&mut kernel, plan);
    assert_eq!(report.failed.len(), 1, "ours are refused");
    assert!(kernel.tables.contains_key(&flannels.id), "without ours, flannel's rules are better than none");

    kernel.refuse.clear();
    network.settle(&mut kernel);
    assert!(!kernel.tables.contains_key(&flannels.id), "ours stand, and flannel's go");
}
