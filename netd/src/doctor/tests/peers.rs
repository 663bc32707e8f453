//! Checks of what peers answer.

use dataplane::nft::{Base, BaseChainFacts, ChainType, Hook, Policy, TableFamily, TableId};
use dataplane::types::Family;
use network::fixtures::{DUAL, V4, address, far, host_gw, name, near, node_name, vxlan};

use super::super::peers::judge as judge_peers;
use super::super::probe::Answer;
use super::super::{checksum, path};
use super::{Facts, findings_of, give, well};

const ALL: Answer = Answer {
    inner: true,
    inner_full: true,
    inner_passes: None,
    outer: true,
    outer_full: true,
    path_mtu: None,
    spoilt: false,
};

/// Node 2's answer about its IPv4 pods.
fn answer(facts: &mut Facts, answer: Answer) {
    facts.answers.insert((node_name(2), Family::V4), answer);
}

#[test]
fn peers_are_asked_for_what_their_pods_need() {
    let facts = well(&vxlan(V4, V4));
    let asked = &facts.questions[&(node_name(2), Family::V4)];
    let inside = (asked.inner, asked.from, asked.inner_bytes);
    assert_eq!(inside, ((address("10.244.2.0"), true), Some(address("10.244.1.0")), 1450), "from VTEP to VTEP");
    assert_eq!((asked.outer, asked.outer_bytes), (address("192.168.1.2"), 1500), "and on the underlay");

    let facts = well(&host_gw(V4, V4).peers([near(2)]));
    let asked = &facts.questions[&(node_name(2), Family::V4)];
    assert_eq!((asked.inner, asked.from), ((address("10.244.2.1"), false), None), "the bridge, which may not be there");
    assert_eq!((asked.device.clone(), asked.inner_bytes, asked.outer_bytes), (name("eth0"), 1500, 1500), "untouched");

    let facts = well(&vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#));
    let device = |n, family| facts.questions[&(node_name(n), family)].device.to_string();
    assert_eq!([device(2, Family::V4), device(3, Family::V4)], ["eth0", "flannel.1"], "near and far");
    assert_eq!([device(2, Family::V6), device(3, Family::V6)], ["eth0", "flannel-v6.1"], "near and far");
}

#[test]
fn silence_is_reported_by_where_it_is() {
    let table = [
        (ALL, ""),
        (Answer { inner: false, inner_full: false, ..ALL }, "UDP port 8472 pass both ways"),
        (Answer::default(), "ping -c 3 192.168.1.2"),
    ];
    for (given, part) in table {
        let mut facts = well(&vxlan(V4, V4));
        answer(&mut facts, given);
        let found = findings_of(judge_peers, &facts);
        assert_eq!(found.len(), usize::from(!part.is_empty()), "{given:?}: {found:?}");
        let remedy = found.first().map_or("", |(_, _, remedy)| remedy);
        assert!(remedy.contains(part), "{given:?}: to be typed: {remedy}");
    }
}

#[test]
fn a_bridge_that_is_not_there_yet_is_no_trouble() {
    let silent_bridge = Answer { inner: false, inner_full: false, ..ALL };
    let mut facts = well(&host_gw(V4, V4).peers([near(2)]));
    answer(&mut facts, silent_bridge);
    assert_eq!(findings_of(judge_peers, &facts), [], "host-gw without a pod over there");

    let mut facts = well(&vxlan(V4, V4).with(r#""DirectRouting": true"#));
    answer(&mut facts, silent_bridge);
    let found = findings_of(judge_peers, &facts);
    assert!(found.len() == 1 && found[0].2.contains("switch that check off"), "a VTEP is always there: {found:?}");
}

#[test]
fn this_nodes_own_firewall_is_named() {
    let mut facts = well(&vxlan(V4, V4));
    answer(&mut facts, Answer { inner: false, inner_full: false, ..ALL });
    let base =
        Base { kind: ChainType::Filter, hook: Hook::Input, priority: 0, policy: Policy::Drop, devices: Vec::new() };
    let table = TableId::new(TableFamily::Ip, "filter");
    facts.kernel.host.base_chains.push(BaseChainFacts { table, chain: "INPUT".to_owned(), base });
    let found = findings_of(judge_peers, &facts);
    let first = found[0].2.lines().next();
    assert_eq!(first, Some("nft insert rule ip filter INPUT udp dport 8472 accept"), "to be typed first");
}

#[test]
fn a_narrow_path_is_reported_with_what_it_carries() {
    let table = [
        (ALL, None),
        // The router has found so.
        (Answer { outer_full: false, path_mtu: Some(1400), ..ALL }, Some("\"MTU\": 1400")),
        // Nobody has found so, and the largest that arrived had 1350 bytes.
        (
            Answer { inner_full: false, outer_full: false, path_mtu: Some(1500), inner_passes: Some(1350), ..ALL },
            Some("1400"),
        ),
        // Echoes on the underlay are blocked, which is nothing of ours.
        (Answer { outer: false, outer_full: false, path_mtu: Some(1500), ..ALL }, None),
        // Down altogether.
        (Answer { path_mtu: Some(1500), ..Answer::default() }, None),
    ];
    for (given, part) in table {
        let mut facts = well(&vxlan(V4, V4));
        answer(&mut facts, given);
        let found = findings_of(path::judge, &facts);
        assert_eq!(found.len(), usize::from(part.is_some()), "{given:?}: {found:?}");
        let remedy = found.first().map_or("", |(_, _, remedy)| remedy);
        assert!(remedy.contains(part.unwrap_or_default()), "{given:?}: to be typed: {remedy}");
    }
}

#[test]
fn checksums_are_reported_on_evidence() {
    for (tunnel_makes_them, device) in [(true, "flannel.1"), (false, "eth0")] {
        let mut facts = well(&vxlan(V4, V4).peers([near(2), far(3)]));
        facts.kernel.tx_checksum.insert(name("flannel.1"), tunnel_makes_them);
        assert_eq!(findings_of(checksum::judge, &facts), [], "offload alone is no trouble");
        answer(&mut facts, Answer { spoilt: true, ..ALL });
        let typed = findings_of(checksum::judge, &facts).remove(0).2;
        assert_eq!(typed, format!("ethtool -K {device} tx-checksum-ip-generic off, here and on node-2"));
    }
}

#[test]
fn a_node_asks_from_its_bridge_where_it_has_no_tunnel() {
    let mut facts = well(&host_gw(V4, V4).peers([near(2)]));
    give(&mut facts, 9, "10.244.1.1", 24);
    let asked = super::questions(&facts).remove(&(node_name(2), Family::V4)).expect("a question");
    assert_eq!(asked.from, Some(address("10.244.1.1")), "the bridge's address");
}
