//! An object that is undone again and again waits, together with the objects that depend on it; one that is merely repaired does not.

mod properties;

use std::time::Duration;

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::nft;
use dataplane::route::RouteKind;
use dataplane::types::Family;
use reconcile::backoff::{TIMES, WINDOW};
use reconcile::{Deferred, RunKind};

use super::*;
use crate::fixtures::{DUAL, Network, V4, far, host_gw, mac, name, near, vxlan};
use crate::overlay::masquerade::Ports;
use crate::state::Engine;

const DRIFT: RunKind = RunKind { repairs: true, full: true };
const STORE: RunKind = RunKind { repairs: false, full: true };
const ROUTE: &str = "ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An engine with a kernel and a clock.
struct Scene {
    network: Network,
    kernel: Fake,
    engine: Engine,
    now: Duration,
}

impl Scene {
    fn of(network: Network) -> Self {
        let mut kernel = network.fake();
        network.settle(&mut kernel);
        Self { network, kernel, engine: Engine::default(), now: Duration::ZERO }
    }

    /// A run: the ops that were carried out, those that the kernel refused, and those that were deferred.
    fn attempt(&mut self, run: RunKind) -> (Vec<String>, Vec<String>, Deferred<Key, Op>) {
        let plan = self.network.plan(&mut self.kernel);
        let all = plan.ops.clone();
        let desired = self.network.outcome(&mut self.kernel).expect("a network that can be carried").desired;
        let mut done = Vec::new();
        let (report, deferred) = self.engine.run(&desired, plan.ops, plan.conflicts, (run, self.now), |ops| {
            done.extend(ops.iter().cloned());
            self.kernel.apply(ops)
        });
        let mut sorted: [Vec<_>; 2] = [all, done.iter().chain(&deferred.ops).cloned().collect()];
        for ops in &mut sorted {
            ops.sort_by_key(ToString::to_string);
        }
        assert_eq!(sorted[0], sorted[1], "each op is carried out or deferred");
        let refused = report.failed.iter().map(|(op, _)| op.to_string()).collect();
        (done.iter().map(ToString::to_string).collect(), refused, deferred)
    }

    fn run(&mut self, run: RunKind) -> (Vec<String>, Deferred<Key, Op>) {
        let (done, refused, deferred) = self.attempt(run);
        assert!(
            refused.is_empty(),
            "what goes ahead can be carried out, but {refused:?}\nof {done:#?}\ndeferred {:?}",
            deferred.ops
        );
        (done, deferred)
    }

    /// Undoes with `injury` and runs, so many times, a second apart; gives the last run.
    fn fight(&mut self, times: usize, injury: &[Op]) -> (Vec<String>, Deferred<Key, Op>) {
        let mut last = None;
        for _ in 0..times {
            self.now += seconds(1);
            self.kernel.apply(injury);
            last = Some(self.run(DRIFT));
        }
        last.expect("at least one run")
    }

    /// An op that takes away the route to these pods.
    fn no_route(&mut self, destination: &str) -> Op {
        let desired = self.network.outcome(&mut self.kernel).expect("a network that can be carried").desired;
        Op::DeleteRoute(desired.routes[&destination.parse::<Prefix>().expect("a range")].clone())
    }
}

fn no_device() -> Op {
    Op::DeleteLink(name("flannel.1"))
}

fn set(change: LinkChange) -> Op {
    Op::SetLink { name: name("flannel.1"), change }
}

#[test]
fn a_few_repairs_are_made_at_once() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    for _ in 0..10 {
        let (done, deferred) = scene.fight(TIMES, &injury);
        assert_eq!((done, deferred), (vec![ROUTE.to_owned()], Deferred::default()));
        scene.now += WINDOW;
        scene.run(DRIFT);
    }
}

#[test]
fn what_is_undone_again_and_again_waits_ever_longer() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let (done, deferred) = scene.fight(TIMES + 1, &injury);
    assert_eq!((done, deferred.contested.len()), (vec![ROUTE.to_owned()], 1), "from now on it is contested");
    let mut waits = Vec::new();
    for _ in 0..9 {
        scene.kernel.apply(&injury);
        let (done, deferred) = scene.run(DRIFT);
        assert_eq!((done.len(), deferred.ops.len()), (0, 1), "it is undone again at once, and waits");
        assert_eq!(deferred.begun, BTreeMap::from([("route", 1)]));
        let next = scene.engine.next_repair().expect("a next try");
        assert_eq!(deferred.contested[0].next, Some(next.saturating_sub(scene.now)));
        waits.push(next.saturating_sub(scene.now).as_secs());
        scene.now = next.saturating_sub(Duration::from_millis(1));
        let (done, deferred) = scene.run(DRIFT);
        assert_eq!((done.len(), deferred.begun.len()), (0, 0), "nothing happens before, and nothing new is counted");
        scene.now = next;
        assert_eq!(scene.run(DRIFT).0, [ROUTE]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    let deferred = scene.run(DRIFT).1;
    assert_eq!(deferred.contested[0].times, TIMES as u64 + 10);
}

#[test]
fn what_has_stood_is_forgiven() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let deferred = scene.fight(TIMES + 1, &injury).1;
    scene.now += seconds(WINDOW.as_secs() - 1);
    assert_eq!(scene.run(DRIFT).1.contested, deferred.contested, "not yet");
    scene.now += seconds(1);
    assert_eq!(scene.run(DRIFT).1, Deferred::default(), "it has stood");
    let (done, deferred) = scene.fight(1, &injury);
    assert_eq!((done, deferred), (vec![ROUTE.to_owned()], Deferred::default()), "and is trusted again");
}

#[test]
fn an_undoer_that_takes_its_time_is_not_forgiven() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let mut repairs = 0;
    for _ in 0..120 {
        scene.now += seconds(5);
        scene.kernel.apply(&injury);
        repairs += scene.run(DRIFT).0.len();
    }
    assert!(repairs < 25, "{repairs} repairs in ten minutes, of 120");
}

#[test]
fn nothing_on_a_device_is_put_back_before_the_device() {
    let mut scene = Scene::of(vxlan(DUAL, V4));
    let (done, deferred) = scene.fight(TIMES + 1, &[no_device()]);
    assert!(done.len() > 5, "the device and all on it: {done:?}");
    let contested: Vec<_> = deferred.contested.iter().map(|contested| contested.key.to_string()).collect();
    assert_eq!(contested, ["device flannel.1"], "what went with the device is not contested for itself");
    scene.kernel.apply(&[no_device()]);
    let (again, deferred) = scene.run(DRIFT);
    assert_eq!((again.len(), deferred.ops.len()), (0, done.len()), "all of it waits");
    scene.now += seconds(1);
    assert_eq!(scene.run(DRIFT).0, done, "and comes together");
}

#[test]
fn a_contested_route_comes_back_with_its_device() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    scene.fight(TIMES + 1, &injury);
    scene.kernel.apply(&[no_device()]);
    let (done, deferred) = scene.run(DRIFT);
    assert!(done.iter().any(|op| op.as_str() == ROUTE) && deferred.ops.is_empty(), "nobody undid the route: {done:?}");
}

#[test]
fn a_fight_over_the_mtu_keeps_no_peer_out() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let smaller = set(LinkChange { mtu: 1300_i64.try_into().ok(), ..LinkChange::default() });
    scene.fight(TIMES + 1, std::slice::from_ref(&smaller));
    scene.kernel.apply(&[smaller]);
    scene.network = scene.network.clone().peers([near(2), far(3), far(4)]);
    let (done, deferred) = scene.run(STORE);
    assert_eq!((done.len(), deferred.ops.len()), (3, 1), "a neighbour, a forwarding entry and a route: {done:?}");
}

#[test]
fn a_fight_over_up_and_down_is_one_over_the_device() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let down = set(LinkChange { up: Some(false), ..LinkChange::default() });
    let deferred = scene.fight(TIMES + 1, std::slice::from_ref(&down)).1;
    assert_eq!(deferred.contested.len(), 1, "{:?}", deferred.contested);
    scene.kernel.apply(&[down]);
    let (done, deferred) = scene.run(DRIFT);
    assert!(done.is_empty() && deferred.ops.len() > 1, "its routes need it up: {done:?}");
}

#[test]
fn what_the_store_asks_for_anew_is_done_at_once() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let fdb = Op::DeleteFdb {
        device: name("flannel.1"),
        mac: mac(2),
        destination: "192.168.1.2".parse().expect("an address"),
    };
    scene.fight(TIMES + 1, std::slice::from_ref(&fdb));
    scene.kernel.apply(std::slice::from_ref(&fdb));
    assert_eq!(scene.run(STORE).1.ops.len(), 1, "a change elsewhere is no reason");
    let moved = crate::fixtures::Peer { host: 9, ..near(2) };
    scene.network = scene.network.clone().peers([moved, far(3)]);
    let (done, deferred) = scene.run(STORE);
    assert_eq!((done.len(), deferred.ops.len()), (1, 0), "the peer has moved: {done:?}");
}

#[test]
fn changes_of_the_store_are_no_repairs() {
    let mut scene = Scene::of(vxlan(V4, V4));
    for _ in 0..100 {
        for peers in [vec![near(2)], vec![near(2), far(3)]] {
            scene.network = scene.network.clone().peers(peers);
            assert_eq!(scene.run(STORE).1, Deferred::default(), "a peer that flaps is not contested");
        }
    }
}

#[test]
fn what_the_kernel_refuses_was_not_put_back() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    scene.kernel.apply(&injury);
    scene.kernel.refuse = vec!["route add 10.244.2.0".to_owned()];
    for _ in 0..20 {
        scene.now += seconds(1);
        let (_, refused, deferred) = scene.attempt(DRIFT);
        assert_eq!((refused.len(), deferred), (1, Deferred::default()), "it is tried, and nobody is blamed");
    }
}

#[test]
fn a_run_that_looked_at_a_part_forgets_nothing() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    scene.fight(TIMES + 1, &injury);
    scene.kernel.apply(&injury);
    scene.run(DRIFT);
    let next = scene.engine.next_repair();
    let mut nothing = |run| {
        let (_, deferred) =
            scene.engine.run(&Desired::default(), Vec::new(), Vec::new(), (run, scene.now), |_| Vec::new());
        (deferred, scene.engine.next_repair())
    };
    let (_, after_part) = nothing(RunKind { repairs: true, full: false });
    assert_eq!(after_part, next, "the route is still to be restored");
    let (_, after_all) = nothing(DRIFT);
    assert_eq!(after_all, None, "a full run sees that somebody else restored the route");
}

#[test]
fn a_lost_underlay_is_nobodys_fault() {
    let mut scene = Scene::of(host_gw(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    for _ in 0..20 {
        scene.engine.reset_backoff();
        assert_eq!(scene.fight(1, &injury).1, Deferred::default());
    }
}

#[test]
fn every_object_is_named_as_a_person_would() {
    let mut scene = Scene::of(Network { masquerade: Some(Ports::Kernel), ..vxlan(V4, V4) });
    let device = name("flannel.1");
    let desired = scene.network.outcome(&mut scene.kernel).expect("a network that can be carried").desired;
    let address = desired.addresses.first().expect("an address").clone();
    let peer = "10.244.2.0".parse().expect("an address");
    let table = desired.table.expect("a table").id;
    for (injury, expected) in [
        (Op::DeleteAddress(address), "device flannel.1"),
        (Op::DeleteNeighbour { device: device.clone(), address: peer }, "neighbour 10.244.2.0 on flannel.1"),
        (Op::SetSysctl { key: "net/ipv4/ip_forward".into(), value: "0".into() }, "sysctl net/ipv4/ip_forward"),
        (Op::Nft(nft::Operation::DeleteTable(table).into()), "nftables table inet netd"),
        (no_device(), "device flannel.1"),
    ] {
        scene.engine = Engine::default();
        let deferred = scene.fight(TIMES + 1, &[injury]).1;
        let contested: Vec<_> = deferred.contested.iter().map(|contested| contested.key.to_string()).collect();
        assert_eq!(contested, [expected]);
    }
}

#[test]
fn a_route_and_the_one_that_leads_to_its_next_hop_go_together() {
    let route = |destination: &str, gateway: Option<&str>, onlink| dataplane::op::DeviceRoute {
        destination: destination.parse().expect("a range"),
        gateway: gateway.map(|gateway| gateway.parse().expect("an address")),
        device: name("flannel-v6.1"),
        onlink,
        protocol: crate::overlay::PROTOCOL,
        metric: dataplane::route::Route::default_metric(Family::V6),
        kind: RouteKind::Unicast,
    };
    let stone = route("fd00:10:0:2::/128", None, false);
    let wanted = route("fd00:10:0:2::/64", Some("fd00:10:0:2::"), true);
    let ops = [Op::ReplaceRoute(stone.clone()), Op::ReplaceRoute(wanted), Op::DeleteRoute(stone)];
    let keys = keys(&ops, &Desired::default());
    assert!(keys.iter().all(|key| key.to_string() == "route fd00:10:0:2::/64"), "{keys:?}");
}
