//! Checks of this node's own kernel.

use ::network::fixtures::{DUAL, V4, name, prefix, vxlan};
use dataplane::link::Kind;
use dataplane::nft::{
    Base, BaseChainFacts, ChainType, Expression, Hook, Policy, Rule, Side, Statement, TableFamily, TableId,
    Verdict as Decision,
};
use dataplane::op::Op;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{Family, RouteProtocol};
use netd_cni::attachment::Port;

use super::super::{Verdict, bridge_netfilter, forward_policy, forwarding, mtu, network, pods, reverse_path};
use super::{Facts, findings_of, well};
use crate::doctor::facts::SubnetFile;

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.kernel.sysctls.insert(key.to_owned(), value.to_owned());
}

#[test]
fn forwarding_is_judged_by_family_and_device() {
    let table = [
        ("net/ipv4/ip_forward", "0", "IPv4", "sysctl -w net/ipv4/ip_forward=1"),
        ("net/ipv6/conf/all/forwarding", "0", "IPv6", "sysctl -w net/ipv6/conf/all/forwarding=1"),
        ("net/ipv4/conf/eth0/forwarding", "0", "eth0", "sysctl -w net/ipv4/conf/eth0/forwarding=1"),
        ("net/ipv4/conf/flannel.1/forwarding", "0", "flannel.1", "sysctl -w net/ipv4/conf/flannel.1/forwarding=1"),
    ];
    for (key, value, subject, remedy) in table {
        let mut facts = well(&vxlan(DUAL, DUAL));
        set(&mut facts, key, value);
        let expected = [(subject.to_owned(), Verdict::Fault, remedy.to_owned())];
        assert_eq!(findings_of(forwarding::judge, &facts), expected, "{key}={value}");
    }
    let mut facts = well(&vxlan(V4, DUAL));
    set(&mut facts, "net/ipv6/conf/all/forwarding", "0");
    assert_eq!(findings_of(forwarding::judge, &facts), [], "IPv6 forwarding without IPv6 pods");
}

#[test]
fn an_announced_default_route_needs_accept_ra_2() {
    for (accept_ra, expected) in [("0", 0), ("1", 1), ("2", 0)] {
        let mut facts = well(&vxlan(DUAL, DUAL));
        set(&mut facts, "net/ipv6/conf/eth0/accept_ra", accept_ra);
        assert_eq!(findings_of(forwarding::judge, &facts).len(), 0, "the default route is a static one");
        let default = facts.kernel.host.routes.iter_mut().find(|route| route.destination == Family::V6.default_route());
        default.expect("an IPv6 default route").protocol = RouteProtocol(9);
        assert_eq!(findings_of(forwarding::judge, &facts).len(), expected, "accept_ra {accept_ra}");
    }
}

#[test]
fn a_strict_filter_matters_where_answers_leave_by_another_device() {
    // (all, eth0, another route to node 2, expected)
    let table =
        [("0", "1", false, 0), ("0", "1", true, 1), ("1", "0", true, 1), ("2", "1", true, 0), ("0", "0", true, 0)];
    for (all, own, other, expected) in table {
        let mut facts = well(&vxlan(V4, V4));
        set(&mut facts, "net/ipv4/conf/all/rp_filter", all);
        set(&mut facts, "net/ipv4/conf/eth0/rp_filter", own);
        if other {
            let index = facts.kernel.host.links[&name("flannel.1")].index;
            let (destination, protocol) = (prefix("192.168.1.2/32"), RouteProtocol(4));
            facts.kernel.host.routes.push(Route {
                destination,
                gateway: None,
                index,
                onlink: false,
                protocol,
                metric: 0,
                kind: RouteKind::Unicast,
            });
        }
        let found = findings_of(reverse_path::judge, &facts);
        assert_eq!(found.len(), expected, "all {all}, eth0 {own}, another route: {other}: {found:?}");
        let remedy = found.first().map_or("", |(_, _, remedy)| remedy);
        assert!(expected == 0 || remedy == "sysctl -w net/ipv4/conf/eth0/rp_filter=2", "to be typed: {remedy}");
    }
}

#[test]
fn a_strict_filter_matters_while_the_backend_changes() {
    let mut facts = well(&vxlan(V4, V4));
    set(&mut facts, "net/ipv4/conf/flannel.1/rp_filter", "1");
    facts.outcome.settled = false;
    let remedy = "sysctl -w net/ipv4/conf/flannel.1/rp_filter=2".to_owned();
    assert_eq!(findings_of(reverse_path::judge, &facts), [("flannel.1".to_owned(), Verdict::Fault, remedy)]);
}

/// A chain for forwarded packets that drops by policy, with these rules.
fn dropping(facts: &mut Facts, family: TableFamily, table: &str, chain: &str, rules: Vec<Rule>) {
    let base =
        Base { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop, devices: Vec::new() };
    let table = TableId::new(family, table);
    facts.kernel.rules.insert((table.clone(), chain.to_owned()), rules);
    facts.kernel.host.base_chains.push(BaseChainFacts { table, chain: chain.to_owned(), base });
}

fn accept(side: Side, range: &str) -> Rule {
    let range = prefix(range);
    let matches = Statement::eq(Expression::Address(range.family(), side), range);
    Rule::new([matches, Statement::Counter, Decision::Accept.into()])
}

#[test]
fn a_chain_is_open_where_pods_pass_both_ways() {
    use Side::{Destination, Source};
    let both = |range: &str| vec![accept(Source, range), accept(Destination, range)];
    let jump = || Rule::new([Statement::Verdict(Decision::Jump("others".to_owned()))]);
    let table = [
        (vec![], Some(Verdict::Fault)),
        (both("10.244.0.0/16"), None),
        (both("10.0.0.0/8"), None),
        (both("10.244.1.0/24"), Some(Verdict::Warning)),
        (vec![accept(Source, "10.244.0.0/16")], Some(Verdict::Warning)),
        (vec![Rule::new([Statement::Counter, Decision::Accept.into()])], None),
        (vec![jump()], Some(Verdict::Warning)),
        (vec![Rule::new([Statement::Counter, Decision::Drop.into()])], Some(Verdict::Fault)),
    ];
    for (rules, expected) in table {
        let mut facts = well(&vxlan(V4, V4));
        dropping(&mut facts, TableFamily::Ip, "guard", "fwd", rules.clone());
        let found = findings_of(forward_policy::judge, &facts).first().map(|(_, verdict, _)| *verdict);
        assert_eq!(found, expected, "a chain with {rules:?}");
    }
}

#[test]
fn a_chain_of_another_family_sees_no_pod() {
    let mut facts = well(&vxlan(V4, V4));
    dropping(&mut facts, TableFamily::Ip6, "filter", "FORWARD", Vec::new());
    assert_eq!(findings_of(forward_policy::judge, &facts), [], "IPv6 packets dropped, IPv4 pods");
}

#[test]
fn the_bridge_meets_iptables_where_it_should() {
    let key = "net/bridge/bridge-nf-call-iptables";
    let services = (TableId::new(TableFamily::Ip, "nat"), "KUBE-SERVICES".to_owned());
    // (value, a chain drops, kube-proxy's chain, what is to be typed)
    let off = "sysctl -w net/bridge/bridge-nf-call-iptables=0";
    let on = "modprobe br_netfilter && sysctl -w net/bridge/bridge-nf-call-iptables=1";
    let table = [
        (Some("1"), false, false, None),
        (Some("1"), true, false, Some(off)),
        (Some("0"), true, false, None),
        (Some("0"), false, true, Some(on)),
        (None, false, true, Some(on)),
        (Some("1"), false, true, None),
    ];
    for (value, drops, proxied, remedy) in table {
        let mut facts = well(&vxlan(V4, V4));
        if let Some(value) = value {
            set(&mut facts, key, value);
        }
        if drops {
            dropping(&mut facts, TableFamily::Ip, "filter", "FORWARD", Vec::new());
        }
        facts.kernel.chains.extend(proxied.then(|| services.clone()));
        let found = findings_of(bridge_netfilter::judge, &facts).into_iter().next().map(|(_, _, remedy)| remedy);
        assert_eq!(found.as_deref(), remedy, "{value:?}, drops {drops}, kube-proxy {proxied}");
    }
}

#[test]
fn a_missing_entry_is_reported_and_a_sysctl_is_not() {
    let mut facts = well(&vxlan(V4, V4));
    facts.plan.ops.push(Op::SetSysctl { key: "net/ipv4/ip_forward".to_owned(), value: "1".to_owned() });
    assert_eq!(findings_of(network::judge, &facts), [], "another check reports sysctls");
    facts.plan.ops.push(Op::DeleteLink(name("flannel.9")));
    let remedy = "start netd, which mends them by itself; or, with netd's own flags: netd plan | sh".to_owned();
    assert_eq!(findings_of(network::judge, &facts), [("kernel".to_owned(), Verdict::Fault, remedy)]);
}

#[test]
fn mtus_agree() {
    let mut facts = well(&vxlan(V4, V4));
    facts.subnet_file = SubnetFile { text: Some("FLANNEL_MTU=1450\n".to_owned()), ..facts.subnet_file };
    assert_eq!(findings_of(mtu::judge, &facts), [], "1450 everywhere");

    facts.subnet_file.text = Some("FLANNEL_MTU=1400\n".to_owned());
    facts.kernel.host.links.get_mut(&name("flannel.1")).expect("the tunnel").mtu = 1500;
    let mut bridge = facts.kernel.host.links[&name("eth0")].clone();
    (bridge.name, bridge.index, bridge.kind, bridge.mtu) = (name("cni0"), 50, Kind::Bridge, 1500);
    let mut port = bridge.clone();
    (port.name, port.index, port.master, port.kind) = (name("veth1"), 51, Some(50), Kind::Veth);
    facts.kernel.host.links.extend([bridge, port].map(|link| (link.name.clone(), link)));
    let subjects: Vec<_> = findings_of(mtu::judge, &facts).into_iter().map(|(subject, _, _)| subject).collect();
    assert_eq!(subjects, ["flannel.1", "/run/flannel/subnet.env", "cni0", "cni0"], "device, file, pods and bridge");
}

#[test]
fn an_address_of_two_pods_is_named_with_their_ports() {
    let port = |link: &str, addresses: &[&str]| Port {
        name: name(link),
        attachment: None,
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
    };
    let mut facts = well(&vxlan(DUAL, DUAL));
    facts.kernel.ports = vec![port("veth1", &["10.244.1.2", "fd00:10:244:1::2"]), port("veth2", &["10.244.1.3"])];
    assert_eq!(findings_of(pods::judge, &facts), []);
    facts.kernel.ports.push(port("veth3", &["10.244.1.2", "fd00:10:244:1::3"]));
    let [(subject, Verdict::Fault, remedy)] = &findings_of(pods::judge, &facts)[..] else { panic!("one fault") };
    assert_eq!(subject, "10.244.1.2");
    assert!(remedy.contains("ip link delete veth1 or veth3"), "{remedy}");
}
