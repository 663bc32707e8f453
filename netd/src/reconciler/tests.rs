//! Whatever the store and the kernel do, in whatever order, and whichever notifications are lost: runs over dirty keys end as full runs
//! do.
//!
//! Two nodes get the same events. One runs over dirty keys wherever it can, the other makes a full run each time.

mod world;

use dataplane::types::PerFamily;
use network::fixtures::{DUAL, Network, Peer, V4, V6, far, host_gw, mac, near, vxlan};
use network::model::{Encapsulation, EncapsulationSupport};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use world::{Injury, World, events};

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    /// The store has a node's lease.
    Stored(Peer),
    /// The store has lost a node's lease.
    Removed(u8),
    /// Somebody changes the kernel.
    Injured(Injury, usize),
    /// Notifications are lost.
    Lost,
    /// netd gets to work.
    Work,
}

fn peer() -> impl Strategy<Value = Peer> {
    // A few numbers and hardware addresses, so that nodes get into each other's way.
    (2..=6_u8, 2..=7_u8, 1..=2_u8, 0..2_u8, proptest::bool::weighted(0.9))
        .prop_map(|(n, mac, segment, host, vtep)| Peer { mac, segment, host: n + 16 * host, vtep, ..near(n) })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => peer().prop_map(Step::Stored),
        1 => (2..=6_u8).prop_map(Step::Removed),
        4 => (proptest::sample::select(Injury::ALL.to_vec()), 0..1000_usize).prop_map(|(what, at)| Step::Injured(what, at)),
        1 => Just(Step::Lost),
        5 => Just(Step::Work),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    let networks = [
        vxlan(V4, V4),
        vxlan(DUAL, DUAL),
        vxlan(V6, V6).with(r#""DirectRouting": true"#),
        vxlan(DUAL, V4).with(r#""DirectRouting": true"#),
        host_gw(V4, V4),
        host_gw(DUAL, DUAL),
    ];
    let masquerade = Some(network::overlay::masquerade::Ports::FullyRandom);
    let networks = networks.map(|network| Network { masquerade, forward_rules: true, ..network });
    proptest::sample::select(networks.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn runs_over_dirty_keys_end_as_full_runs_do(network in network(), steps in vec(step(), 1..40)) {
        let (mut one, mut other) = (World::new(&network), World::new(&network));
        for step in steps.iter().chain([&Step::Work]) {
            for world in [&mut one, &mut other] {
                match step {
                    Step::Stored(peer) => world.store(peer),
                    Step::Removed(n) => world.remove(*n),
                    Step::Injured(injury, at) => world.injure(*injury, *at),
                    Step::Lost => world.lose(),
                    Step::Work => {}
                }
            }
            if matches!(step, Step::Work) {
                one.work();
                other.work_in_full();
                prop_assert_eq!(one.snapshot(), other.snapshot(), "the kernels after {:?}", step);
                prop_assert_eq!(&one.cluster, &other.cluster, "the peers after {:?}", step);
            }
        }
        prop_assert!(one.plan_of_a_full_run().is_empty(), "a full run has nothing to do: {}", one.plan_of_a_full_run());
    }
}

#[test]
fn a_peer_that_comes_changes_and_goes_asks_for_no_full_run() {
    for network in [vxlan(V4, V4), vxlan(DUAL, DUAL), host_gw(V4, V4)] {
        let mut world = World::new(&network.peers([near(2), near(3)]));
        world.work();
        let before = world.full_runs;
        for peer in [near(4), Peer { host: 36, mac: 9, ..near(4) }, Peer { mac: 10, ..near(2) }] {
            world.store(&peer);
            world.work();
        }
        world.remove(4);
        world.work();
        assert_eq!(world.full_runs, before, "{}: only what changed was looked at", world.network.backend);
        assert!(world.plan_of_a_full_run().is_empty(), "{}", world.plan_of_a_full_run());
    }
}

#[test]
fn a_peer_that_begins_to_receive_plain_packets_asks_for_a_publication() {
    let network = vxlan(V4, V4).with(r#""DirectRouting": true"#);
    let [direct, tunnel] = network.conf().backend.encapsulations()[..] else { panic!("two encapsulations") };
    let ends = PerFamily { v4: Some(mac(2)), v6: None };
    let receives = |support: &[Encapsulation]| {
        let receives = support.iter().map(|one| (*one, ends)).collect();
        let support = EncapsulationSupport { receives, sends: [tunnel].into(), ..EncapsulationSupport::default() };
        Arc::new(Lease { encapsulations: Some(support), ..network.lease(&near(2)) })
    };
    let mut world = World::new(&network);
    world.transition.may_send = Some([tunnel].into());
    world.store_lease(receives(&[tunnel]));
    world.work();
    let unpublished = |world: &World| world.reconciler.outcome().expect("a full run").unpublished.clone();
    assert_eq!(unpublished(&world), [].into());
    world.store_lease(receives(&[direct, tunnel]));
    world.work();
    assert_eq!(unpublished(&world), [direct].into(), "the daemon publishes this before it sends by it");
}

#[test]
fn an_injured_entry_asks_for_no_full_run() {
    let masquerade = Some(network::overlay::masquerade::Ports::Kernel);
    let network = vxlan(DUAL, DUAL).with(r#""DirectRouting": true"#).peers([near(2), far(3)]);
    let mut world = World::new(&Network { masquerade, ..network });
    world.work();
    let before = world.full_runs;
    for injury in [
        Injury::RouteGone,
        Injury::RouteBent,
        Injury::RouteToNowhere,
        Injury::NeighbourGone,
        Injury::NeighbourBent,
        Injury::EndBent,
        Injury::EndGone,
    ] {
        world.injure(injury, 0);
        world.work();
        assert!(world.plan_of_a_full_run().is_empty(), "{injury:?} is healed");
    }
    assert_eq!(world.full_runs, before, "only what changed was looked at");
}

#[test]
fn own_changes_leave_nothing_dirty() {
    let mut world = World::new(&vxlan(DUAL, DUAL).peers([near(2), far(3)]));
    world.work();
    assert!(!world.reconciler.engine.is_dirty(), "after the first run");
    world.store(&near(4));
    world.work();
    assert!(!world.reconciler.engine.is_dirty(), "after a peer has come");
}

#[test]
fn changes_of_others_make_nothing_dirty() {
    let mut world = World::new(&vxlan(V4, V4));
    world.work();
    let before = world.kernel.clone();
    let pod = world.kernel.add_link(&"veth0".parse().expect("a name"), 1450);
    world.reconciler.notify(events(&before, &world.kernel, world::OTHER));
    assert!(!world.reconciler.engine.is_dirty(), "a pod has come: link {pod}");
}
