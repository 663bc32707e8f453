//! A change of the backend, node by node, with every pause that there can be: between an event, the plan, its application, the beginning
//! of a write or a read, its effect and its answer, and the end of what nobody uses any more. Three nodes on one segment, and one that joins them; the addresses are in
//! [`network::fixtures`].
//!
//! At every moment each node must receive what the others send to it, in the encapsulation that they send it.

mod world;

use std::collections::BTreeSet;

use network::model::Encapsulation;
use proptest::collection::vec;
use proptest::prelude::*;

use self::world::{BACKENDS, NODES, Step, World};

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..=NODES.len();
    prop_oneof![
        1 => (0..BACKENDS.len()).prop_map(Step::Join),
        3 => (node(), 0..BACKENDS.len()).prop_map(|(at, backend)| Step::Configure(at, backend)),
        6 => node().prop_map(Step::Run),
        3 => (node(), node()).prop_map(|(at, of)| Step::Event(at, of)),
        6 => node().prop_map(Step::GoOn),
        8 => node().prop_map(Step::Publish),
        4 => node().prop_map(Step::Drain),
    ]
}

/// Goes through `steps` from the first backend on.
fn nothing_lost(steps: &[Step]) {
    let mut world = World::new();
    for (place, step) in steps.iter().enumerate() {
        world.step(*step);
        assert_eq!(world.losses(), Vec::<String>::new(), "after step {place}, {step:?}");
    }
}

#[test]
fn two_tunnels_that_differ_by_the_port_alone_can_begin_together() {
    use Step::{Configure, Run};
    nothing_lost(&[Configure(2, 2), Configure(1, 4), Run(2), Configure(0, 2), Run(0), Run(1), Run(0)]);
}

/// Before the one that joins has published by what it receives, a peer takes it for one of its own new configuration.
#[test]
fn a_node_that_joins_and_a_peer_that_leaves_its_only_common_way_name_each_other() {
    use Step::{Configure, GoOn, Join, Run};
    nothing_lost(&[Configure(1, 1), Run(1), Configure(1, 5), Join(3), GoOn(3), GoOn(3), Run(1), Run(3), Run(1)]);
}

/// All leave the first backend; one of them is given it back on the way, and stalls in the midst of that while the others close
/// what nobody uses, known or not.
#[test]
fn a_way_is_not_closed_past_one_who_takes_it_up() {
    use Step::{Configure, Drain, Event, GoOn, Publish, Run};
    let grid = (0..10).flat_map(|runs| (0..=10).flat_map(move |until| [true, false].map(|reads| (runs, until, reads))));
    for (runs, until, reads) in grid {
        let leave = NODES.map(|n| Configure(usize::from(n) - 1, 1));
        let go = (0..runs).map(|turn| Run(turn % NODES.len()));
        let events = [Event(0, 1), Event(0, 2), Event(2, 0), Event(2, 1)];
        // A run takes three steps, a write or a read takes three.
        let steps = |at: usize, times: usize| {
            (0..times).map(move |turn| if turn / 3 % 3 == 0 { GoOn(at) } else { Publish(at) })
        };
        let back = [Configure(1, 0)].into_iter().chain(steps(1, until));
        let close = [0, 2].map(|at| {
            if reads {
                vec![Run(at), Drain(at), Run(at)]
            } else {
                steps(at, 9).chain([Drain(at)]).chain(steps(at, 9)).collect()
            }
        });
        let close = std::iter::repeat_n(close.concat(), 3).flatten();
        let steps = leave.into_iter().chain(go).chain(events).chain(back).chain(close).chain(steps(1, 18)).chain([
            Run(0),
            Run(1),
            Run(2),
        ]);
        nothing_lost(&steps.collect::<Vec<_>>());
    }
}

/// Everybody leaves the first backend while one that is new to the network has seen it and stalls before its peers have read of
/// it.
#[test]
fn a_node_that_joins_does_not_begin_with_a_way_that_has_closed() {
    use Step::{Configure, Drain, GoOn, Join, Publish, Run};
    for until in 0..12 {
        let others = || 0..NODES.len();
        let leave = others().map(|at| Configure(at, 1)).chain(others().map(Run)).chain(others().map(Drain));
        let close = leave.chain(others().map(Run)).chain(others().map(Drain)).chain(others().map(Run));
        let steps =
            |from: usize, to: usize| (from..to).map(|turn| if turn / 3 % 3 == 0 { GoOn(3) } else { Publish(3) });
        let joins = [Join(0)].into_iter().chain(steps(0, until));
        nothing_lost(&joins.chain(close).chain(steps(until, 27)).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    // However long a node stalls: a way lingers for the packets under way alone.
    #[test]
    fn no_packet_is_lost_whatever_the_order(steps in vec(step(), 0..80), last in 0..BACKENDS.len()) {
        let mut world = World::new();
        prop_assert_eq!(world.losses(), Vec::<String>::new(), "before anything happens");
        for (place, step) in steps.iter().enumerate() {
            world.step(*step);
            prop_assert_eq!(world.losses(), Vec::<String>::new(), "after step {}, {:?}", place, step);
        }
        (0..world.nodes.len()).for_each(|at| {
            world.finish(at);
            world.step(Step::Configure(at, last));
        });
        world.calm_down();
        prop_assert_eq!(world.losses(), Vec::<String>::new(), "in the end");
        for node in &world.nodes {
            prop_assert_eq!(node.ways.len(), world.nodes.len() - 1, "node {} has ways to all others", node.n);
            let encapsulations: BTreeSet<Encapsulation> = node.conf.backend.encapsulations().into_iter().collect();
            let receives = node.own.encapsulations.as_ref().map(|support| support.receives.keys().copied().collect());
            prop_assert_eq!(receives, Some(encapsulations), "node {} is settled", node.n);
        }
    }
}
