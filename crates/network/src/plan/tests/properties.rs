//! Properties of plans for arbitrary networks, on the kernel in memory.

use dataplane::fake::{Fake, global_address};
use dataplane::link::{Kind, Tunnel, Vxlan};
use dataplane::neighbour::{Fdb, Neighbour};
use dataplane::nft::{self, Chain, ChainType, Expression, Hook, Policy, Rule, Side, Statement, Table, Verdict};
use dataplane::op::DeviceRoute;
use dataplane::route::{Route, RouteKind};
use dataplane::types::{PerFamily, RouteProtocol, Vni};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::fixtures::{DUAL, Network, Peer, V4, V6, address, host_gw, mac, name, near, prefix, snapshot, vxlan};
use crate::model::BackendType;
use crate::overlay::PROTOCOL;
use crate::overlay::masquerade::Ports;

fn families() -> impl Strategy<Value = PerFamily<()>> {
    select(vec![V4, V6, DUAL])
}

fn peer(n: u8) -> impl Strategy<Value = Peer> {
    let other_backend = weighted(0.1, Just(BackendType::Other("wireguard".to_owned())));
    // A peer may have come back with another hardware address and another address of its own.
    (1..=2_u8, 0..2_u8, 0..2_u8, families(), other_backend, weighted(0.1, Just(99_i64)), proptest::bool::weighted(0.9))
        .prop_map(move |(segment, mac, host, public, backend, vni, vtep)| Peer {
            n,
            mac: n + 16 * mac,
            segment,
            host: n + 16 * host,
            public,
            backend,
            vni,
            vtep,
        })
}

fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let all: Vec<u8> = (2..=6).collect();
    subsequence(all, 0..=5).prop_flat_map(|numbers| numbers.into_iter().map(peer).collect::<Vec<_>>())
}

fn network() -> impl Strategy<Value = Network> {
    let backend = prop_oneof![
        1 => Just(None),
        3 => (select(vec![1_i64, 7]), any::<[bool; 3]>(), weighted(0.3, Just(4789)), weighted(0.3, Just(1400))).prop_map(Some),
    ];
    let masquerade = weighted(0.7, select(vec![Ports::FullyRandom, Ports::Kernel]));
    (families(), families(), backend, peers(), masquerade, any::<bool>()).prop_map(
        |(pods, underlay, backend, peers, masquerade, forward_rules)| {
            let network = match backend {
                None => host_gw(pods, underlay),
                Some((vni, [direct, learning, gbp], port, mtu)) => {
                    let flags = format!(r#""DirectRouting": {direct}, "Learning": {learning}, "GBP": {gbp}"#);
                    let (port, mtu) = (port.unwrap_or(0), mtu.unwrap_or(0));
                    vxlan(pods, underlay).vni(vni).with(&flags).with(&format!(r#""Port": {port}, "MTU": {mtu}"#))
                }
            };
            Network { peers, masquerade, forward_rules, ..network }
        },
    )
}

/// Networks that follow each other. The pods' families stay: routes into a network that is none of the identity's any more are
/// not known as ours.
fn networks() -> impl Strategy<Value = Vec<Network>> {
    (families(), vec(network(), 1..4)).prop_map(|(pods, mut networks)| {
        for network in &mut networks {
            network.pods = pods;
        }
        networks
    })
}

/// Lets the network's reconciles follow, on a host whose underlay is the network's own.
fn follow(network: &Network, fake: &mut Fake) {
    network.set_underlay(fake);
    network.settle(fake);
}

fn alone(network: &Network) -> Fake {
    let mut fake = network.fake();
    network.settle(&mut fake);
    fake
}

/// What others have on the node, near ours in every way.
fn strangers(fake: &mut Fake) {
    let cni0 = fake.add_link(&name("cni0"), 1450);
    let other = fake.add_link(&name("vxlan9"), 1450);
    if let Some(link) = fake.links.iter_mut().find(|link| link.index == other) {
        let vni = Vni::try_from(9).expect("a VNI");
        let (local, underlay) = (Some(address("192.168.1.1")), Some(1));
        let (port, learning, gbp, foreign) = (8472, true, false, false);
        link.kind = Kind::Tunnel(Tunnel::Vxlan(Vxlan { vni, local, underlay, port, learning, gbp, foreign }));
        link.alias = Some("other".to_owned());
    }
    for (index, own, prefix_len) in [(1, "192.168.1.1", 24), (1, "10.244.1.7", 32), (cni0, "10.244.1.1", 24)] {
        fake.addresses.push(global_address(index, address(own), prefix_len));
    }
    let route = |destination: &str, gateway: Option<&str>, index, protocol, metric| {
        let (destination, gateway) = (prefix(destination), gateway.map(address));
        Route {
            destination,
            gateway,
            index,
            onlink: false,
            protocol: RouteProtocol(protocol),
            metric,
            kind: RouteKind::Unicast,
        }
    };
    fake.routes.extend([
        route("10.244.1.0/24", None, cni0, 2, 0),
        route("fd00:10:0:1::/64", None, cni0, 2, 256),
        route("172.30.0.0/16", Some("192.168.1.254"), 1, 4, 0),
        route("10.244.99.0/24", Some("192.168.1.254"), 1, 4, 0),
        route("10.244.2.0/24", Some("192.168.1.254"), 1, 4, 77),
        Route { kind: RouteKind::Blackhole, ..route("10.244.0.0/16", None, cni0, 3, 0) },
        Route { kind: RouteKind::Unreachable, ..route("10.244.2.0/24", None, cni0, 3, 78) },
        route("10.99.1.0/24", Some("192.168.1.9"), 1, 110, 0),
        route("10.244.128.0/17", None, other, 4, 0),
        route("fd00:10::/48", Some("fd00:1::fe"), 1, 4, 1024),
    ]);
    for index in [1, cni0, other] {
        let (mac, permanent) = (Some(mac(200)), true);
        fake.neighbours.push(Neighbour { index, address: address("10.244.2.0"), mac, permanent });
    }
    fake.fdb.push(Fdb { index: other, mac: mac(2), destination: address("192.168.1.2"), permanent: true });
    let rule = Rule::new([
        Statement::eq(Expression::Address(dataplane::types::Family::V4, Side::Source), prefix("10.244.0.0/16")),
        Verdict::Drop.into(),
    ]);
    for (family, table) in
        [(nft::TableFamily::Ip, "netd"), (nft::TableFamily::Inet, "netd-other"), (nft::TableFamily::Inet, "other")]
    {
        let chain = Chain::base(ChainType::Filter, Hook::Forward, 0).with_rules([rule.clone()]);
        let table = Table::new(family, table).with_chain("forward", chain);
        fake.tables.insert(table.id.clone(), table);
    }
    let mut chain = Chain::base(ChainType::Filter, Hook::Forward, 0).with_rules([rule]);
    if let Some(base) = &mut chain.base {
        base.policy = Policy::Drop;
    }
    let table = Table::new(nft::TableFamily::Ip, "filter").with_chain("FORWARD", chain);
    fake.tables.insert(table.id.clone(), table);
}

/// Asserts that everything of `before` is in `after`, byte by byte.
fn assert_untouched(before: &Fake, after: &Fake) {
    fn kept<T: PartialEq + std::fmt::Debug>(before: &[T], after: &[T]) {
        for thing in before {
            assert!(after.contains(thing), "{thing:?} stays as it was");
        }
    }
    kept(&before.links, &after.links);
    kept(&before.addresses, &after.addresses);
    kept(&before.routes, &after.routes);
    kept(&before.neighbours, &after.neighbours);
    kept(&before.fdb, &after.fdb);
    for (id, table) in &before.tables {
        let after = after.tables.get(id).expect("the table stays");
        for (name, chain) in &table.chains {
            let rules = &after.chains[name].rules;
            assert_eq!(rules[..chain.rules.len()], chain.rules, "the rules of {id} stay first");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_run_makes_what_is_desired(network in network()) {
        alone(&network);
    }

    #[test]
    fn nothing_remains_of_another_network(networks in networks()) {
        let mut fake = networks[0].fake();
        for network in &networks {
            follow(network, &mut fake);
        }
        let last = networks.last().expect("at least one");
        assert_eq!(snapshot(&fake), snapshot(&alone(last)), "only the last network is left");
    }

    #[test]
    fn the_order_of_events_does_not_matter(network in network(), order in vec(any::<(Index, bool)>(), 0..20)) {
        let mut fake = network.fake();
        let mut present = Vec::new();
        for (which, comes) in order.into_iter().filter(|_| !network.peers.is_empty()) {
            let peer = which.get(&network.peers);
            present.retain(|have: &Peer| have.n != peer.n);
            if comes {
                present.push(peer.clone());
            }
            follow(&network.clone().peers(present.clone()), &mut fake);
        }
        follow(&network, &mut fake);
        assert_eq!(snapshot(&fake), snapshot(&alone(&network)), "the state follows from the last event alone");
    }

    #[test]
    fn refused_ops_are_made_up_for(
        networks in networks(),
        refused in vec(vec(any::<Index>(), 0..6), 1..4),
    ) {
        let (before, network) = (&networks[0], networks.last().expect("at least one"));
        let mut fake = before.fake();
        follow(before, &mut fake);
        network.set_underlay(&mut fake);
        for refused in refused {
            let ops: Vec<_> = network.plan(&mut fake).ops.iter().map(ToString::to_string).collect();
            fake.refuse = refused.iter().filter(|_| !ops.is_empty()).map(|which| which.get(&ops).clone()).collect();
            network.reconcile(&mut fake);
        }
        fake.refuse.clear();
        // The first run may fail where it follows on what an earlier one did not see.
        for _ in 0..3 {
            network.reconcile(&mut fake);
        }
        network.settle(&mut fake);
        assert_eq!(snapshot(&fake), snapshot(&alone(network)), "nothing of the bad times remains");
    }

    #[test]
    fn what_is_not_ours_is_never_touched(networks in networks()) {
        let mut fake = networks[0].fake();
        fake.routes.clear();
        strangers(&mut fake);
        let before = fake.clone();
        for network in &networks {
            follow(network, &mut fake);
            assert_untouched(&before, &fake);
        }
        let nothing = Network { pods: networks[0].pods, ..host_gw(V4, DUAL).peers([]) };
        follow(&nothing, &mut fake);
        assert_untouched(&before, &fake);
        // What no node has stays unreachable.
        fake.routes.retain(|route| route.kind.is_unicast() || route.protocol != PROTOCOL);
        let mut expected = before;
        nothing.set_underlay(&mut expected);
        assert_eq!(snapshot(&fake), snapshot(&expected), "only strangers are left");
    }

    #[test]
    fn a_foreign_route_is_told_and_stays(network in network(), n in 2..=6_u8, is_blackhole in any::<bool>()) {
        let mut fake = network.fake();
        let destination = near(n);
        let route = DeviceRoute {
            destination: prefix(&format!("10.244.{}.0/24", destination.n)),
            gateway: (!is_blackhole).then(|| address("192.168.1.254")),
            device: name("eth0"),
            onlink: false,
            protocol: RouteProtocol(4),
            metric: 0,
            kind: if is_blackhole { RouteKind::Blackhole } else { RouteKind::Unicast },
        };
        fake.routes.push(route.with_index(1));
        let (plan, failed) = network.reconcile(&mut fake);
        assert!(failed.is_empty(), "nothing is tried in vain: {failed:?}");
        assert!(fake.routes.contains(&route.with_index(1)), "the foreign route stays");
        let reachable = network.outcome(&mut fake).expect("a network that can be carried").desired.routes;
        assert_eq!(!plan.conflicts.is_empty(), reachable.contains_key(&route.destination), "a conflict is reported");
    }
}
