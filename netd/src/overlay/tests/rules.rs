//! The nftables rules, as `nft` prints them, and what is asked of others' chains.

use dataplane::nft::{Family, TableId};

use super::network::{DUAL, Network, V4, V6, drop_chain, far, near, vxlan};
use crate::observe;
use crate::overlay::forward::{Accept, Blocker};
use crate::overlay::masquerade::Ports;

/// Our table, as text.
fn table(network: &Network) -> String {
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    outcome.desired.table.map(|table| table.to_string()).unwrap_or_default()
}

/// What follows from chains of others.
fn forward(network: &Network, chains: &[(Family, &str, &str)]) -> (Vec<Accept>, Vec<Blocker>) {
    let mut host = observe::host(&mut network.fake()).expect("a readable kernel");
    host.base_chains =
        chains.iter().map(|(family, table, chain)| drop_chain(TableId::new(*family, *table), chain)).collect();
    let outcome = network.outcome_on(&host).expect("a network that can be carried");
    (outcome.desired.accepts, outcome.blockers)
}

fn lines(accepts: &[Accept]) -> Vec<String> {
    accepts.iter().map(|accept| format!("{} {} {}", accept.table, accept.chain, accept.rule)).collect()
}

#[test]
fn no_rule_is_wanted_where_none_is_asked_for() {
    assert_eq!(table(&vxlan(DUAL, DUAL)), "", "there is no table");
}

#[test]
fn masquerading_of_ipv4() {
    let network = Network { masquerade: Some(Ports::FullyRandom), forward_rules: true, ..vxlan(V4, V4) };
    assert_eq!(
        table(&network),
        r#"table inet netd {
	comment "netd: the pod network"
	set direct-nodes-v4 {
		type ipv4_addr
	}

	chain forward {
		type filter hook forward priority 0; policy accept;
		meta nfproto ipv4 ip saddr 10.244.0.0/16 accept
		meta nfproto ipv4 ip daddr 10.244.0.0/16 accept
	}

	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		meta mark & 0x00004000 == 0x00004000 return comment "kube-proxy masquerades this itself"
		meta nfproto ipv4 ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return comment "own pods to pods"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "pods to own pods"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "others to own pods: the client's address is kept"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr @direct-nodes-v4 return comment "pods to nodes on a plain route"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random comment "pods to the world"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random comment "others to pods of other nodes"
	}
}"#
    );
}

#[test]
fn masquerading_of_both_with_a_near_peer() {
    let network = vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([near(2), far(3)]);
    let network = Network { masquerade: Some(Ports::Kernel), ..network };
    assert_eq!(
        table(&network),
        r#"table inet netd {
	comment "netd: the pod network"
	set direct-nodes-v4 {
		type ipv4_addr
		elements = { 192.168.1.2 }
	}

	set direct-nodes-v6 {
		type ipv6_addr
		elements = { fd00:1::2 }
	}

	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		meta mark & 0x00004000 == 0x00004000 return comment "kube-proxy masquerades this itself"
		meta nfproto ipv4 ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return comment "own pods to pods"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "pods to own pods"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "others to own pods: the client's address is kept"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr @direct-nodes-v4 return comment "pods to nodes on a plain route"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade comment "pods to the world"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade comment "others to pods of other nodes"
		meta nfproto ipv6 ip6 saddr fd00:10:0:1::/64 ip6 daddr fd00:10::/48 return comment "own pods to pods"
		meta nfproto ipv6 ip6 saddr fd00:10::/48 ip6 daddr fd00:10:0:1::/64 return comment "pods to own pods"
		meta nfproto ipv6 ip6 saddr != fd00:10::/48 ip6 daddr fd00:10:0:1::/64 return comment "others to own pods: the client's address is kept"
		meta nfproto ipv6 ip6 saddr fd00:10::/48 ip6 daddr @direct-nodes-v6 return comment "pods to nodes on a plain route"
		meta nfproto ipv6 ip6 saddr fd00:10::/48 ip6 daddr != ff00::/8 masquerade comment "pods to the world"
		meta nfproto ipv6 ip6 saddr != fd00:10::/48 ip6 daddr fd00:10::/48 masquerade comment "others to pods of other nodes"
	}
}"#
    );
}

#[test]
fn a_node_is_exempt_only_for_the_family_whose_pods_are_on_a_plain_route() {
    let network = vxlan(DUAL, V4).with(r#""DirectRouting": true"#).peers([near(2)]);
    let network = Network { masquerade: Some(Ports::FullyRandom), ..network };
    let table = table(&Network { underlay: V4, ..network });
    assert!(table.contains("elements = { 192.168.1.2 }"), "the node's IPv4 address is exempt:\n{table}");
    assert!(!table.contains("fd00:1::2"), "its IPv6 address is not, since IPv6 pods go through the tunnel:\n{table}");
}

#[test]
fn the_chain_of_iptables_gets_rules_of_ours() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let chains = [(Family::Ip, "filter", "FORWARD"), (Family::Ip6, "filter", "FORWARD")];
    let (accepts, blockers) = forward(&network, &chains);
    let expected = [
        r#"ip filter FORWARD ip saddr 10.244.0.0/16 counter accept comment "netd: pods may be forwarded""#,
        r#"ip filter FORWARD ip daddr 10.244.0.0/16 counter accept comment "netd: pods may be forwarded""#,
        r#"ip6 filter FORWARD ip6 saddr fd00:10::/48 counter accept comment "netd: pods may be forwarded""#,
        r#"ip6 filter FORWARD ip6 daddr fd00:10::/48 counter accept comment "netd: pods may be forwarded""#,
    ];
    assert_eq!(lines(&accepts), expected, "each chain gets the ranges that it sees");
    assert_eq!(blockers, [], "nobody has to do anything");
}

#[test]
fn other_chains_are_the_operators() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let chains =
        [(Family::Inet, "mine", "fwd"), (Family::Inet, "firewalld", "filter_FORWARD"), (Family::Ip6, "six", "f")];
    let (accepts, blockers) = forward(&network, &chains);
    assert_eq!(accepts, [], "nothing is written to them");
    let told: Vec<_> = blockers.iter().map(ToString::to_string).collect();
    let expected = [
        "chain fwd of table inet mine drops forwarded packets of pods; to let them pass: \
         nft insert rule inet mine fwd ip saddr 10.244.0.0/16 accept && \
         nft insert rule inet mine fwd ip daddr 10.244.0.0/16 accept && \
         nft insert rule inet mine fwd ip6 saddr fd00:10::/48 accept && \
         nft insert rule inet mine fwd ip6 daddr fd00:10::/48 accept",
        "chain filter_FORWARD of table inet firewalld drops forwarded packets of pods; to let them pass: \
         firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && \
         firewall-cmd --permanent --zone=trusted --add-source=fd00:10::/48 && firewall-cmd --reload",
        "chain f of table ip6 six drops forwarded packets of pods; to let them pass: \
         nft insert rule ip6 six f ip6 saddr fd00:10::/48 accept && nft insert rule ip6 six f ip6 daddr fd00:10::/48 accept",
    ];
    assert_eq!(told, expected, "each is told with what to type");
}

#[test]
fn chains_that_drop_no_packet_of_pods_are_left_alone() {
    let network = Network { forward_rules: true, ..vxlan(V4, V4) };
    let chains = [(Family::Inet, "netd", "forward"), (Family::Ip6, "filter", "FORWARD"), (Family::Bridge, "b", "f")];
    assert_eq!(forward(&network, &chains), (Vec::new(), Vec::new()), "our own, another family's, a bridge's");
    let without = Network { forward_rules: false, ..vxlan(V6, V6) };
    assert_eq!(forward(&without, &chains), (Vec::new(), Vec::new()), "none where forward rules are switched off");
}
