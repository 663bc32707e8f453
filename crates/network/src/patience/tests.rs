//! What is undone again and again waits, together with what depends on it; what is merely repaired does not.

mod properties;

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::nft;
use dataplane::op::LinkChange;
use dataplane::route::RouteKind;
use dataplane::types::{Family, Prefix};

use super::*;
use crate::fixtures::{DUAL, Network, V4, far, host_gw, mac, name, near, vxlan};
use crate::overlay::masquerade::Ports;

const DRIFT: Occasion = Occasion { repairs: true, full: true };
const STORE: Occasion = Occasion { repairs: false, full: true };
const ROUTE: &str = "ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 110 onlink";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A netd with a kernel and a clock.
struct Scene {
    network: Network,
    kernel: Fake,
    patience: Patience,
    now: Duration,
}

impl Scene {
    fn of(network: Network) -> Self {
        let mut kernel = network.fake();
        network.settle(&mut kernel);
        Self { network, kernel, patience: Patience::default(), now: Duration::ZERO }
    }

    /// A run: what was done, what the kernel refused, and what was held.
    fn attempt(&mut self, occasion: Occasion) -> (Vec<String>, Vec<String>, Held) {
        let mut plan = self.network.plan(&mut self.kernel);
        let all = plan.ops.clone();
        let desired = self.network.outcome(&mut self.kernel).expect("a network that can be carried").desired;
        let held = self.patience.hold(&mut plan, &desired, occasion, self.now);
        let mut sorted: [Vec<_>; 2] = [all, plan.ops.iter().chain(&held.ops).cloned().collect()];
        for ops in &mut sorted {
            ops.sort_by_key(ToString::to_string);
        }
        assert_eq!(sorted[0], sorted[1], "each op goes ahead or is held");
        let outcomes = self.kernel.apply(&plan.ops);
        let refused: Vec<_> =
            plan.ops.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()).map(|(op, _)| op).collect();
        self.patience.refused(refused.iter().copied(), &desired, self.now);
        let refused = refused.into_iter().map(ToString::to_string).collect();
        (plan.ops.iter().map(ToString::to_string).collect(), refused, held)
    }

    fn run(&mut self, occasion: Occasion) -> (Vec<String>, Held) {
        let (done, refused, held) = self.attempt(occasion);
        assert!(
            refused.is_empty(),
            "what goes ahead can be carried out, but {refused:?}\nof {done:#?}\nheld {:?}",
            held.ops
        );
        (done, held)
    }

    /// Undoes with `injury` and runs, so many times, a second apart; gives the last run.
    fn fight(&mut self, times: usize, injury: &[Op]) -> (Vec<String>, Held) {
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
        let (done, held) = scene.fight(TIMES, &injury);
        assert_eq!((done, held), (vec![ROUTE.to_owned()], Held::default()));
        scene.now += WINDOW;
        scene.run(DRIFT);
    }
}

#[test]
fn what_is_undone_again_and_again_waits_ever_longer() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let (done, held) = scene.fight(TIMES + 1, &injury);
    assert_eq!((done, held.contested.len()), (vec![ROUTE.to_owned()], 1), "from now on it is contested");
    let mut waits = Vec::new();
    for _ in 0..9 {
        scene.kernel.apply(&injury);
        let (done, held) = scene.run(DRIFT);
        assert_eq!((done.len(), held.ops.len()), (0, 1), "it is undone again at once, and waits");
        assert_eq!(held.begun, BTreeMap::from([("route", 1)]));
        let next = scene.patience.next().expect("a next try");
        assert_eq!(held.contested[0].next, Some(next.saturating_sub(scene.now)));
        waits.push(next.saturating_sub(scene.now).as_secs());
        scene.now = next.saturating_sub(Duration::from_millis(1));
        let (done, held) = scene.run(DRIFT);
        assert_eq!((done.len(), held.begun.len()), (0, 0), "nothing happens before, and nothing new is counted");
        scene.now = next;
        assert_eq!(scene.run(DRIFT).0, [ROUTE]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    let held = scene.run(DRIFT).1;
    assert_eq!(held.contested[0].times, TIMES as u64 + 10);
}

#[test]
fn what_has_stood_is_forgiven() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let held = scene.fight(TIMES + 1, &injury).1;
    let told = held.complaints();
    scene.now += seconds(WINDOW.as_secs() - 1);
    assert_eq!(scene.run(DRIFT).1.complaints(), told, "not yet");
    scene.now += seconds(1);
    assert_eq!(scene.run(DRIFT).1, Held::default(), "it has stood");
    let (done, held) = scene.fight(1, &injury);
    assert_eq!((done, held), (vec![ROUTE.to_owned()], Held::default()), "and is trusted again");
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
fn the_sentence_does_not_count() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    let first = scene.fight(TIMES + 1, &injury).1.complaints();
    let expected = "route 10.244.2.0/24 is undone again and again by something else: find out what does it (`ip monitor \
                    route`); netd puts it back ever more rarely";
    assert_eq!(first, BTreeSet::from([expected.to_owned()]));
    for _ in 0..100 {
        assert_eq!(scene.fight(1, &injury).1.complaints(), first, "it is told once");
    }
}

#[test]
fn many_objects_are_one_sentence() {
    let peers: Vec<_> = (2..60).map(near).collect();
    let mut scene = Scene::of(host_gw(V4, V4).peers(peers));
    let desired = scene.network.outcome(&mut scene.kernel).expect("a network that can be carried").desired;
    let flush: Vec<_> = desired.routes.values().cloned().map(Op::DeleteRoute).collect();
    let held = scene.fight(TIMES + 1, &flush).1;
    assert_eq!((held.contested.len(), held.complaints().len()), (58, 1));
}

#[test]
fn nothing_on_a_device_is_put_back_before_the_device() {
    let mut scene = Scene::of(vxlan(DUAL, V4));
    let (done, held) = scene.fight(TIMES + 1, &[no_device()]);
    assert!(done.len() > 5, "the device and all on it: {done:?}");
    let contested: Vec<_> = held.contested.iter().map(|contested| contested.object.to_string()).collect();
    assert_eq!(contested, ["device flannel.1"], "what went with the device is not contested for itself");
    scene.kernel.apply(&[no_device()]);
    let (again, held) = scene.run(DRIFT);
    assert_eq!((again.len(), held.ops.len()), (0, done.len()), "all of it waits");
    scene.now += seconds(1);
    assert_eq!(scene.run(DRIFT).0, done, "and comes together");
}

#[test]
fn a_contested_route_comes_back_with_its_device() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    scene.fight(TIMES + 1, &injury);
    scene.kernel.apply(&[no_device()]);
    let (done, held) = scene.run(DRIFT);
    assert!(done.iter().any(|op| op.as_str() == ROUTE) && held.ops.is_empty(), "nobody undid the route: {done:?}");
}

#[test]
fn a_fight_over_the_mtu_keeps_no_peer_out() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let smaller = set(LinkChange { mtu: 1300_i64.try_into().ok(), ..LinkChange::default() });
    scene.fight(TIMES + 1, std::slice::from_ref(&smaller));
    scene.kernel.apply(&[smaller]);
    scene.network = scene.network.clone().peers([near(2), far(3), far(4)]);
    let (done, held) = scene.run(STORE);
    assert_eq!((done.len(), held.ops.len()), (3, 1), "a neighbour, a forwarding entry and a route: {done:?}");
}

#[test]
fn a_fight_over_up_and_down_is_one_over_the_device() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let down = set(LinkChange { up: Some(false), ..LinkChange::default() });
    let held = scene.fight(TIMES + 1, std::slice::from_ref(&down)).1;
    assert_eq!(held.contested.len(), 1, "{:?}", held.contested);
    scene.kernel.apply(&[down]);
    let (done, held) = scene.run(DRIFT);
    assert!(done.is_empty() && held.ops.len() > 1, "its routes need it up: {done:?}");
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
    let (done, held) = scene.run(STORE);
    assert_eq!((done.len(), held.ops.len()), (1, 0), "the peer has moved: {done:?}");
}

#[test]
fn changes_of_the_store_are_no_repairs() {
    let mut scene = Scene::of(vxlan(V4, V4));
    for _ in 0..100 {
        for peers in [vec![near(2)], vec![near(2), far(3)]] {
            scene.network = scene.network.clone().peers(peers);
            assert_eq!(scene.run(STORE).1, Held::default(), "a peer that flaps is not contested");
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
        let (_, refused, held) = scene.attempt(DRIFT);
        assert_eq!((refused.len(), held), (1, Held::default()), "it is tried, and nobody is blamed");
    }
}

#[test]
fn a_run_that_looked_at_a_part_forgets_nothing() {
    let mut scene = Scene::of(vxlan(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    scene.fight(TIMES + 1, &injury);
    scene.kernel.apply(&injury);
    scene.run(DRIFT);
    let next = scene.patience.next();
    let mut nothing = Plan::default();
    scene.patience.hold(&mut nothing, &Desired::default(), Occasion { repairs: true, full: false }, scene.now);
    assert_eq!(scene.patience.next(), next, "the route is still to be put back");
    scene.patience.hold(&mut nothing, &Desired::default(), DRIFT, scene.now);
    assert_eq!(scene.patience.next(), None, "a full one sees that somebody else did");
}

#[test]
fn a_lost_underlay_is_nobodys_fault() {
    let mut scene = Scene::of(host_gw(V4, V4));
    let injury = [scene.no_route("10.244.2.0/24")];
    for _ in 0..20 {
        scene.patience.excuse();
        assert_eq!(scene.fight(1, &injury).1, Held::default());
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
        scene.patience = Patience::default();
        let held = scene.fight(TIMES + 1, &[injury]).1;
        let contested: Vec<_> = held.contested.iter().map(|contested| contested.object.to_string()).collect();
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
    let objects = object::of_plan(&ops, &Desired::default());
    assert!(objects.iter().all(|object| object.to_string() == "route fd00:10:0:2::/64"), "{objects:?}");
}
