//! Checks of what others have on this node.

use std::collections::BTreeSet;

use dataplane::link::Kind;
use dataplane::nft::{TableFamily, TableId};
use dataplane::route::{Route, RouteKind};
use dataplane::types::RouteProtocol;
use network::fixtures::{DUAL, V4, name, near, node_name, prefix, vxlan};
use network::model::Rejected;

use super::super::{Verdict, lease, leftovers, subnets};
use super::{Facts, findings_of, give, well};

/// A device of somebody else's with this index.
fn foreign(facts: &mut Facts, device: &str, index: u32) {
    let mut link = facts.kernel.host.links[&name("eth0")].clone();
    (link.name, link.index, link.kind) = (name(device), index, Kind::Bridge);
    facts.kernel.host.links.insert(link.name.clone(), link);
}

#[test]
fn an_address_inside_the_network_is_foreign() {
    // (device, address, length, reported)
    let table = [
        ("br9", "10.244.9.1", 24, true),
        ("br9", "10.244.0.1", 8, true),
        ("br9", "10.1.0.1", 8, false),
        ("br9", "172.16.0.1", 16, false),
        ("cni0", "10.244.1.1", 24, false),
    ];
    for (device, ip, len, reported) in table {
        let mut facts = well(&vxlan(V4, V4));
        foreign(&mut facts, device, 60);
        give(&mut facts, 60, ip, len);
        let remedy = format!("ip address delete {ip}/{len} dev {device}");
        let expected: Vec<_> = reported.then(|| (device.to_owned(), Verdict::Fault, remedy)).into_iter().collect();
        assert_eq!(findings_of(subnets::judge, &facts), expected, "{ip}/{len} on {device}");
    }
}

#[test]
fn a_route_that_leads_nowhere_is_reported_where_it_goes_before_one_of_ours() {
    // (destination, metric, reported)
    let table = [
        ("10.244.2.128/25", 0, 1),
        ("10.244.2.0/24", 5, 0),
        ("10.244.0.0/16", 0, 0),
        ("10.244.1.0/24", 0, 0),
        ("10.0.0.0/8", 0, 0),
    ];
    for (destination, metric, reported) in table {
        let mut facts = well(&vxlan(V4, V4).peers([near(2)]));
        let (destination, protocol) = (prefix(destination), RouteProtocol(3));
        let kind = RouteKind::Blackhole;
        facts.kernel.host.routes.push(Route {
            destination,
            gateway: None,
            index: 1,
            onlink: false,
            protocol,
            metric,
            kind,
        });
        let found = findings_of(subnets::judge, &facts);
        assert_eq!(found.len(), reported, "{destination} metric {metric}: {found:?}");
        assert!(found.iter().all(|(subject, ..)| subject == "10.244.2.128/25"), "{found:?}");
    }
}

#[test]
fn a_foreign_route_into_the_network_is_reported_once() {
    // (destination, with an address of the device reported before, reported)
    let table = [("10.244.9.0/24", false, 1), ("10.0.0.0/8", false, 0), ("10.244.9.0/24", true, 1)];
    for (destination, addressed, reported) in table {
        let mut facts = well(&vxlan(V4, V4));
        foreign(&mut facts, "br9", 60);
        let (destination, protocol) = (prefix(destination), RouteProtocol(4));
        facts.kernel.host.routes.push(Route {
            destination,
            gateway: None,
            index: 60,
            onlink: false,
            protocol,
            metric: 5,
            kind: RouteKind::Unicast,
        });
        if addressed {
            give(&mut facts, 60, "10.244.9.1", 24);
        }
        let found = findings_of(subnets::judge, &facts);
        assert_eq!(found.len(), reported, "{destination}, addressed: {addressed}: {found:?}");
        let typed = found.first().map_or("", |(_, _, remedy)| remedy);
        let right = addressed || reported == 0 || typed == "ip route delete 10.244.9.0/24 dev br9 metric 5";
        assert!(right, "to be typed: {typed}");
    }
}

#[test]
fn a_peer_that_cannot_be_believed_is_reported() {
    let mut facts = well(&vxlan(V4, V4));
    let reason = "its public address 192.168.1.1 is this node's own: give one of the two another --public-ip";
    facts.rejected.push(Rejected { node: node_name(7), reason: reason.to_owned() });
    assert_eq!(findings_of(subnets::judge, &facts), [("node-7".to_owned(), Verdict::Fault, String::new())]);
    facts.rejected = vec![facts.rejected[0].clone(); 23];
    let found = subnets::judge(&facts);
    assert!(found.len() == 21 && found[20].what.starts_with("3 more"), "the rest is counted: {:?}", found.last());
}

#[test]
fn a_configuration_that_sorts_before_ours_wins() {
    let table: [(&[&str], &[&str]); 5] = [
        (&["10-netd.conflist"], &[]),
        (&["10-netd.conflist", "05-other.conf", "06-notes.txt", "99-last.conflist"], &["05-other.conf"]),
        (&["10-netd.conflist", "10-flannel.conflist"], &["10-flannel.conflist"]),
        (&["10-netd.conflist", ".10-netd.conflist.new"], &[]),
        (&[], &["/etc/cni/net.d/10-netd.conflist"]),
    ];
    for (files, reported) in table {
        let mut facts = well(&vxlan(V4, V4));
        facts.conf_dir.files = files.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let subjects: Vec<_> =
            findings_of(leftovers::judge, &facts).into_iter().map(|(subject, _, _)| subject).collect();
        assert_eq!(subjects, reported, "a folder of {files:?}");
    }
}

#[test]
fn flannels_rules_are_reported_by_family() {
    let table = [
        (TableFamily::Ip, "filter", "FLANNEL-FWD", "iptables FLANNEL-FWD"),
        (TableFamily::Ip6, "nat", "FLANNEL-POSTRTG", "ip6tables FLANNEL-POSTRTG"),
        (TableFamily::Ip6, "flannel-ipv6", "postrtg", "ip6 flannel-ipv6"),
    ];
    for (family, table, chain, subject) in table {
        let mut facts = well(&vxlan(V4, V4));
        facts.kernel.chains.insert((TableId::new(family, table), chain.to_owned()));
        let subjects: Vec<_> =
            findings_of(leftovers::judge, &facts).into_iter().map(|(subject, _, _)| subject).collect();
        assert_eq!(subjects, [subject], "{family} {table} {chain}");
    }
}

#[test]
fn the_bridge_has_the_first_addresses_alone() {
    for (ip, len, reported) in
        [("10.244.1.1", 24, 0), ("fd00:10:0:1::1", 64, 0), ("10.244.7.1", 24, 1), ("fe80::1", 64, 1)]
    {
        let mut facts = well(&vxlan(DUAL, DUAL));
        foreign(&mut facts, "cni0", 60);
        give(&mut facts, 60, ip, len);
        assert_eq!(findings_of(leftovers::judge, &facts).len(), reported, "{ip}/{len} as a global address of cni0");
    }
}

#[test]
fn a_node_without_lease_or_file_is_reported_to_start_netd() {
    let mut facts = well(&vxlan(V4, V4));
    (facts.cluster, facts.subnet_file.text) = (None, None);
    let found = findings_of(lease::judge, &facts);
    let right = found.iter().all(|(_, verdict, remedy)| *verdict == Verdict::Fault && remedy.starts_with("start netd"));
    assert!(found.len() == 2 && right, "it says {found:?}");
}
