//! Properties of backoff for any injuries in any order and rhythm.

use std::time::Duration;

use dataplane::kernel::Kernel;
use dataplane::link::LinkChange;
use dataplane::nft;
use dataplane::op::Op;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use reconcile::backoff::TIMES;

use super::{DRIFT, Scene, seconds};
use crate::fixtures::{DUAL, Network, V4, host_gw, mac, snapshot, vxlan};
use crate::overlay::masquerade::Ports;

/// Everything that somebody can take away of a network's, as ops.
fn injuries(network: &Network) -> Vec<Op> {
    let mut kernel = network.fake();
    let desired = network.outcome(&mut kernel).expect("a network that can be carried").desired;
    let mut ops: Vec<_> = desired.devices.keys().cloned().map(Op::DeleteLink).collect();
    for name in desired.devices.keys() {
        for change in [
            LinkChange { up: Some(false), ..LinkChange::default() },
            LinkChange { mac: Some(mac(99)), ..LinkChange::default() },
            LinkChange { alias: Some("other".to_owned()), ..LinkChange::default() },
        ] {
            ops.push(Op::SetLink { name: name.clone(), change });
        }
    }
    ops.extend(desired.addresses.iter().cloned().map(Op::DeleteAddress));
    ops.extend(desired.routes.values().cloned().map(Op::DeleteRoute));
    ops.extend(desired.neighbours.keys().cloned().map(|(device, address)| Op::DeleteNeighbour { device, address }));
    ops.extend(desired.fdb.iter().map(|((device, mac), destination)| Op::DeleteFdb {
        device: device.clone(),
        mac: *mac,
        destination: *destination,
    }));
    ops.extend(desired.table.map(|table| Op::Nft(nft::Operation::DeleteTable(table.id).into())));
    ops
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is undone in whatever order and rhythm: what goes ahead can be carried out, the repairs of ten minutes are
    /// bounded, and once it is over all is as it was.
    #[test]
    fn a_fight_ends_as_it_began(
        wounds in vec((any::<Index>(), 0..8_u64), 1..60),
        favourite in any::<Index>(),
        backend in 0..3,
    ) {
        let network = match backend {
            0 => vxlan(DUAL, DUAL),
            1 => vxlan(DUAL, V4).with(r#""DirectRouting": true"#),
            _ => host_gw(DUAL, DUAL),
        };
        let mut scene = Scene::of(Network { masquerade: Some(Ports::Kernel), ..network });
        let whole = snapshot(&scene.kernel);
        let injuries = injuries(&scene.network);
        for (index, pause) in wounds {
            // One is undone all the time.
            scene.kernel.apply(&[favourite.get(&injuries).clone(), index.get(&injuries).clone()]);
            scene.run(DRIFT);
            scene.now += seconds(pause);
        }
        // A device that was down takes some of what is on it along, which is seen once it is up again.
        for _ in 0..100 {
            scene.run(DRIFT);
            let Some(next) = scene.engine.next_repair() else { break };
            scene.now = scene.now.max(next);
        }
        prop_assert_eq!(snapshot(&scene.kernel), whole);
    }

    #[test]
    fn repairs_are_bounded(which in any::<Index>(), pauses in vec(0..6000_u64, 200)) {
        let mut scene = Scene::of(Network { masquerade: Some(Ports::Kernel), ..vxlan(DUAL, DUAL) });
        let injury = which.get(&injuries(&scene.network)).clone();
        let mut repairs = 0;
        for pause in pauses {
            scene.kernel.apply(std::slice::from_ref(&injury));
            repairs += usize::from(!scene.run(DRIFT).0.is_empty());
            scene.now += Duration::from_millis(pause);
        }
        // The first ones at once, then after 1, 2, 4 ... 32 seconds, then each minute.
        let most = TIMES + 7 + usize::try_from(scene.now.as_secs() / 60).expect("a few");
        prop_assert!(repairs <= most, "{} repairs in {:?}", repairs, scene.now);
    }
}
