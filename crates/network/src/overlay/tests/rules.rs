//! The nftables rules, as `nft` prints them, and what is asked of others' chains.

use dataplane::nft::{self, Expression, Policy, Rule, Side, Statement, TableFamily, TableId, Verdict};
use dataplane::types::{self, PerFamily};
use dataplane::xtables;

use crate::fixtures::{DUAL, Network, V4, V6, drop_chain, far, near, prefix, vxlan};
use crate::observe;
use crate::overlay::forward::{Accept, Blocker};
use crate::overlay::masquerade::Ports;

/// Our table, as text.
fn table(network: &Network) -> String {
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    outcome.desired.table.map(|table| table.to_string()).unwrap_or_default()
}

/// What follows from chains of others.
fn forward(network: &Network, chains: &[(TableFamily, &str, &str)]) -> (Vec<Accept>, Vec<Blocker>) {
    let mut host = observe::host(&mut network.fake(), &network.identity()).expect("a readable kernel");
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
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random comment "pods to the world"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random comment "others to pods of other nodes"
	}

	chain tunnel-received {
		type filter hook prerouting priority -300; policy accept;
		meta nfproto ipv4 meta l4proto udp th dport 8472 fib daddr type local notrack
	}

	chain tunnel-sent {
		type filter hook output priority -300; policy accept;
		meta nfproto ipv4 meta l4proto udp th dport 8472 notrack
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
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		meta mark & 0x00004000 == 0x00004000 return comment "kube-proxy masquerades this itself"
		meta nfproto ipv4 ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return comment "own pods to pods"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "pods to own pods"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return comment "others to own pods: the client's address is kept"
		meta nfproto ipv4 ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade comment "pods to the world"
		meta nfproto ipv4 ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade comment "others to pods of other nodes"
		meta nfproto ipv6 ip6 saddr fd00:10:0:1::/64 ip6 daddr fd00:10::/48 return comment "own pods to pods"
		meta nfproto ipv6 ip6 saddr fd00:10::/48 ip6 daddr fd00:10:0:1::/64 return comment "pods to own pods"
		meta nfproto ipv6 ip6 saddr != fd00:10::/48 ip6 daddr fd00:10:0:1::/64 return comment "others to own pods: the client's address is kept"
		meta nfproto ipv6 ip6 saddr fd00:10::/48 ip6 daddr != ff00::/8 masquerade comment "pods to the world"
		meta nfproto ipv6 ip6 saddr != fd00:10::/48 ip6 daddr fd00:10::/48 masquerade comment "others to pods of other nodes"
	}

	chain tunnel-received {
		type filter hook prerouting priority -300; policy accept;
		meta nfproto ipv6 meta l4proto udp th dport 8472 fib daddr type local notrack
		meta nfproto ipv4 meta l4proto udp th dport 8472 fib daddr type local notrack
	}

	chain tunnel-sent {
		type filter hook output priority -300; policy accept;
		meta nfproto ipv6 meta l4proto udp th dport 8472 notrack
		meta nfproto ipv4 meta l4proto udp th dport 8472 notrack
	}
}"#
    );
}

#[test]
fn the_chain_of_iptables_gets_rules_of_ours() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let chains = [(TableFamily::Ip, "filter", "FORWARD"), (TableFamily::Ip6, "filter", "FORWARD")];
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
    let chains = [
        (TableFamily::Inet, "mine", "fwd"),
        (TableFamily::Inet, "firewalld", "filter_FORWARD"),
        (TableFamily::Ip6, "six", "f"),
    ];
    let (accepts, blockers) = forward(&network, &chains);
    assert_eq!(accepts, [], "nothing is written to them");
    let reported: Vec<_> = blockers.iter().map(ToString::to_string).collect();
    let expected = [
        "chain fwd of table inet mine drops forwarded packets of pods; to let them pass: \
         nft insert rule inet mine fwd ip saddr 10.244.0.0/16 accept && \
         nft insert rule inet mine fwd ip daddr 10.244.0.0/16 accept && \
         nft insert rule inet mine fwd ip6 saddr fd00:10::/48 accept && \
         nft insert rule inet mine fwd ip6 daddr fd00:10::/48 accept",
        "firewalld rejects forwarded packets that none of its zones and policies lets pass, and does not trust \
         10.244.0.0/16 and fd00:10::/48; if pods cannot talk: firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && \
         firewall-cmd --permanent --zone=trusted --add-source=fd00:10::/48 && firewall-cmd --reload",
        "chain f of table ip6 six drops forwarded packets of pods; to let them pass: \
         nft insert rule ip6 six f ip6 saddr fd00:10::/48 accept && nft insert rule ip6 six f ip6 daddr fd00:10::/48 accept",
    ];
    assert_eq!(reported, expected, "each is reported with what to type");
}

#[test]
fn chains_that_drop_no_packet_of_pods_are_left_alone() {
    let network = Network { forward_rules: true, ..vxlan(V4, V4) };
    let chains = [
        (TableFamily::Inet, "netd", "forward"),
        (TableFamily::Ip6, "filter", "FORWARD"),
        (TableFamily::Bridge, "b", "f"),
    ];
    assert_eq!(forward(&network, &chains), (Vec::new(), Vec::new()), "our own, another family's, a bridge's");
    let without = Network { forward_rules: false, ..vxlan(V6, V6) };
    assert_eq!(forward(&without, &chains), (Vec::new(), Vec::new()), "none where forward rules are switched off");
}

/// A rule that does something with the packets of a range.
fn rule(side: Side, range: &str, verdict: Verdict) -> Rule {
    let range = prefix(range);
    Rule::new([
        Statement::family(range.family()),
        Statement::eq(Expression::Address(range.family(), side), range),
        Statement::Counter,
        verdict.into(),
    ])
}

fn accept(side: Side, range: &str) -> Rule {
    rule(side, range, Verdict::Accept).with_comment("typed by an operator")
}

/// What is reported of chain `f` of table `inet mine`, which drops by policy, with these rules.
fn reported_of(network: &Network, rules: Vec<Rule>) -> Vec<String> {
    let table = TableId::new(TableFamily::Inet, "mine");
    let mut host = observe::host(&mut network.fake(), &network.identity()).expect("a readable kernel");
    host.base_chains = vec![drop_chain(table.clone(), "f")];
    host.others.rules.insert((table, "f".to_owned()), rules);
    reported(network, &host)
}

fn reported(network: &Network, host: &observe::Host) -> Vec<String> {
    let outcome = network.outcome_on(host).expect("a network that can be carried");
    outcome.blockers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_chain_is_reported_for_as_long_as_it_blocks() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let remedies = [(Side::Source, "10.244.0.0/16"), (Side::Destination, "10.0.0.0/8"), (Side::Source, "fd00:10::/48")];
    let mut rules: Vec<_> = remedies.map(|(side, range)| accept(side, range)).into();
    let expected = "chain f of table inet mine drops forwarded packets of pods; to let them pass: \
                    nft insert rule inet mine f ip6 daddr fd00:10::/48 accept";
    assert_eq!(reported_of(&network, rules.clone()), [expected], "what is missing is still reported, and nothing else");
    rules.push(accept(Side::Destination, "fd00:10::/48"));
    assert_eq!(reported_of(&network, rules.clone()), [""; 0], "nothing is missing");

    let end = |statement: Statement| Rule::new([Statement::Counter, statement]);
    assert_eq!(reported_of(&network, vec![end(Verdict::Accept.into())]), [""; 0], "all packets are let pass");
    let reject = Statement::Opaque { name: "reject".to_owned(), data: Vec::new() };
    for last in [end(Verdict::Drop.into()), end(reject)] {
        let rules = [vec![last], rules.clone()].concat();
        assert_eq!(reported_of(&network, rules).len(), 1, "what follows on a rule for all packets is not reached");
    }
}

#[test]
fn what_lets_only_some_packets_of_pods_pass_opens_nothing() {
    let network = Network { forward_rules: true, ..vxlan(V4, V4) };
    let [from, to] = [Side::Source, Side::Destination].map(|side| accept(side, "10.244.0.0/16"));
    assert_eq!(reported_of(&network, vec![from.clone(), to.clone()]), [""; 0], "both ends are open");
    let of_family = Rule::new([Statement::family(types::Family::V4), Verdict::Accept.into()]);
    assert_eq!(reported_of(&network, vec![of_family]), [""; 0], "the whole family is let pass");
    let with = |statement: Statement| {
        let mut rule = from.clone();
        rule.statements.insert(0, statement);
        rule
    };
    let address = |side| Expression::Address(types::Family::V4, side);
    let narrow = [
        with(Statement::connection_in(nft::state::ESTABLISHED)),
        with(Statement::eq(address(Side::Destination), prefix("10.244.0.0/16"))),
        with(Statement::family(types::Family::V6)),
        with(Statement::Opaque { name: "limit".to_owned(), data: Vec::new() }),
        Rule::new([Statement::ne(address(Side::Source), prefix("10.244.0.0/16")), Verdict::Accept.into()]),
        Rule::new([Statement::family(types::Family::V6), Verdict::Accept.into()]),
        accept(Side::Source, "10.244.0.0/17"),
        rule(Side::Source, "10.244.0.0/16", Verdict::Jump("there".to_owned())),
    ];
    for rule in narrow {
        assert_eq!(
            reported_of(&network, vec![rule.clone(), to.clone()]).len(),
            1,
            "`{rule}` lets not all of them pass"
        );
    }
}

#[test]
fn firewalld_is_reported_until_it_trusts_the_pods() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let table = TableId::new(TableFamily::Inet, "firewalld");
    let mut host = observe::host(&mut network.fake(), &network.identity()).expect("a readable kernel");
    host.base_chains = vec![drop_chain(table.clone(), "filter_FORWARD"), drop_chain(table.clone(), "mangle_FORWARD")];
    host.base_chains.iter_mut().for_each(|facts| facts.base.policy = Policy::Accept);
    let to = |chain: &str, range| rule(Side::Source, range, Verdict::Goto(chain.to_owned()));
    let zones = vec![to("filter_FWD_trusted", "10.244.0.0/16"), to("filter_FWD_public", "fd00:10::/48")];
    host.others.rules.insert((table.clone(), "filter_FORWARD_ZONES".to_owned()), zones.clone());
    let expected = "firewalld rejects forwarded packets that none of its zones and policies lets pass, and does not trust \
                    fd00:10::/48; if pods cannot talk: \
                    firewall-cmd --permanent --zone=trusted --add-source=fd00:10::/48 && firewall-cmd --reload";
    assert_eq!(reported(&network, &host), [expected], "the network in another zone is reported");
    let zones = [zones, vec![to("filter_FWD_trusted", "fd00:10::/48")]].concat();
    host.others.rules.insert((table, "filter_FORWARD_ZONES".to_owned()), zones);
    assert_eq!(reported(&network, &host), [""; 0], "both are trusted");
}

#[test]
fn iptables_legacy_is_reported_for_as_long_as_it_blocks() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    let reported = |v4: Option<xtables::Forward>, v6: Option<xtables::Forward>| {
        let mut fake = network.fake();
        fake.legacy_forward = PerFamily { v4, v6 };
        reported(&network, &observe::host(&mut fake, &network.identity()).expect("a readable kernel"))
    };
    let with = |policy, closed, accepts: &[(Side, &str)]| {
        let accepts = accepts.iter().map(|(side, range)| (*side, prefix(range))).collect();
        Some(xtables::Forward { policy, closed, accepts })
    };
    let expected = [
        "chain FORWARD of iptables-legacy drops forwarded packets of pods; to let them pass: \
         iptables-legacy -A FORWARD -s 10.244.0.0/16 -j ACCEPT && iptables-legacy -A FORWARD -d 10.244.0.0/16 -j ACCEPT",
        "chain FORWARD of ip6tables-legacy drops forwarded packets of pods; to let them pass: \
         ip6tables-legacy -I FORWARD -d fd00:10::/48 -j ACCEPT",
    ];
    let (nothing, half) = ([], [(Side::Source, "fd00:10::/48")]);
    let blocking = reported(with(Policy::Drop, false, &nothing), with(Policy::Accept, true, &half));
    assert_eq!(blocking, expected, "at the end where that is reached, else before all");
    let both = [(Side::Source, "10.244.0.0/16"), (Side::Destination, "0.0.0.0/0")];
    assert_eq!(reported(with(Policy::Drop, true, &both), None), [""; 0], "an open one is not reported");
    assert_eq!(reported(with(Policy::Accept, false, &nothing), None), [""; 0], "nor is one that accepts");
}
