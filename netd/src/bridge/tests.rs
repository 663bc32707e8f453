//! The bridge is kept as it was, under pods of ours and under nobody else's.

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::link::LinkChange;
use dataplane::op::{DeviceAddress, Op};
use dataplane::route::RouteKind;
use network::fixtures::{DUAL, Network, host_gw, mac, name, prefix};
use network::observe;

use super::*;

/// A node with a pod of ours and one of another network.
struct Scene {
    network: Network,
    kernel: Fake,
    watch: BridgeWatch,
    port: IfName,
}

impl Scene {
    fn new() -> Self {
        let network = host_gw(DUAL, DUAL).peers([]);
        let mut kernel = network.fake();
        let alias = |network: &str| format!("{network} 0123 eth0");
        let port = Attachment::from_alias(&alias("cbr0")).expect("an alias").host_veth();
        for (name, network) in [(port.clone(), "cbr0"), (name("veth9"), "cbr0"), (name("other0"), "mine")] {
            let index = kernel.add_link(&name, 1450);
            let link = kernel.links.iter_mut().find(|link| link.index == index).expect("the link");
            (link.kind, link.alias) = (Kind::Veth, Some(alias(network)));
        }
        let watch = BridgeWatch { name: BRIDGE, memory: None, made: None };
        let mut scene = Self { network, kernel, watch, port };
        // The rest of the network.
        scene.repair();
        scene
    }

    fn subnets(&self) -> PerFamily<Prefix> {
        self.network.cluster().own.subnets
    }

    /// The ops of a full run.
    fn repair(&mut self) -> Vec<String> {
        let identity = self.network.identity();
        let host = observe::host(&mut self.kernel, &identity).expect("a readable kernel");
        let mtu = 1500_i64.try_into().expect("an MTU");
        (self.network.bridge, self.watch.memory) =
            look(&host, &self.watch.name, &self.subnets(), mtu, self.watch.memory.take());
        let plan = self.network.plan(&mut self.kernel);
        self.apply(&plan.ops);
        let conflicts = plan.conflicts.iter().map(ToString::to_string);
        plan.ops.iter().map(ToString::to_string).chain(conflicts).collect()
    }

    fn apply(&mut self, ops: &[Op]) {
        let outcomes = self.kernel.apply(ops);
        assert!(outcomes.iter().all(Result::is_ok), "all is carried out: {outcomes:?}");
        // So the kernel does with a bridge's address.
        let Some(bridge) = self.kernel.links.iter().find(|link| link.name == BRIDGE).map(|link| link.index) else {
            return;
        };
        for (family, destination) in self.subnets().iter() {
            let gateway = destination.nth(1).expect("a gateway");
            let is_there = self.kernel.addresses.iter().any(|have| have.index == bridge && have.address == gateway);
            let connected = connected(*destination, bridge, if family.bits() == 32 { 0 } else { 256 });
            if is_there && !self.kernel.routes.contains(&connected) {
                self.kernel.routes.push(connected);
            }
        }
    }

    /// As a plugin does.
    fn make_bridge(&mut self, mac: Mac) {
        let mtu = 1450_i64.try_into().expect("an MTU");
        self.apply(&[
            Op::AddBridge { name: BRIDGE, mac, mtu },
            Op::SetPort { name: self.port.clone(), bridge: BRIDGE },
        ]);
    }

    fn address_bridge(&mut self) {
        let addresses = [("10.244.1.1", 24), ("fd00:10:0:1::1", 64)];
        self.apply(&addresses.map(|(address, prefix_len)| {
            let address = address.parse().expect("an address");
            Op::AddAddress(DeviceAddress { device: BRIDGE, address, prefix_len })
        }));
    }

    fn lose_bridge(&mut self) {
        self.kernel.apply(&[Op::DeleteLink(BRIDGE)]);
        self.kernel.links.iter_mut().for_each(|link| link.master = None);
    }
}

fn connected(destination: Prefix, index: u32, metric: u32) -> Route {
    let (gateway, onlink, protocol, kind) = (None, false, RouteProtocol::KERNEL, RouteKind::Unicast);
    Route { destination, gateway, index, onlink, protocol, metric, kind }
}

fn ours() -> Mac {
    mac_for([10, 244, 1, 1].into())
}

/// A bridge that has had this node's subnet, and all that is set on it.
fn kept(of: Mac) -> Scene {
    let mut scene = Scene::new();
    scene.make_bridge(of);
    assert_eq!(scene.repair(), [""; 0], "it stands, and its addresses are still to come");
    scene.address_bridge();
    scene.repair();
    assert_eq!(scene.repair(), [""; 0], "it is ours, and right");
    scene
}

#[test]
fn a_bridge_that_was_removed_under_pods_comes_back_with_their_ports() {
    for (of, link_local) in [(ours(), "fe80::858:aff:fef4:101"), (mac(0x66), "fe80::800:ff:fe00:66")] {
        let mut scene = kept(of);
        scene.lose_bridge();
        let port = scene.port.clone();
        let expected = [
            format!("ip link add cni0 address {of} mtu 1500 up type bridge"),
            "sysctl -q -w net/ipv6/conf/cni0/accept_ra=0".to_owned(),
            "sysctl -q -w net/ipv4/conf/cni0/forwarding=1".to_owned(),
            "sysctl -q -w net/ipv6/conf/cni0/disable_ipv6=0".to_owned(),
            "ip address add 10.244.1.1/24 dev cni0".to_owned(),
            "ip address add fd00:10:0:1::1/64 dev cni0 nodad".to_owned(),
            format!("ip address add {link_local}/64 dev cni0 nodad"),
            format!("ip link set {port} master cni0"),
            format!("bridge link set dev {port} hairpin on"),
        ];
        assert_eq!(scene.repair(), expected, "with the port that is ours alone");
        assert_eq!(scene.repair(), [""; 0], "once");
        scene.kernel.links.iter_mut().for_each(|link| link.master = None);
        assert_eq!(scene.repair(), expected[7..], "a port alone too");
    }
}

#[test]
fn what_is_changed_on_the_bridge_is_put_right() {
    let mut scene = kept(ours());
    let change = |change| Op::SetLink { name: BRIDGE, change };
    scene.apply(&[change(LinkChange { mac: Some(mac(0x66)), ..LinkChange::default() })]);
    assert_eq!(scene.repair(), ["ip link set cni0 address 0a:58:0a:f4:01:01"]);
    scene.kernel.routes.retain(|route| route.destination != prefix("10.244.1.0/24"));
    assert_eq!(scene.repair(), ["ip route add 10.244.1.0/24 dev cni0 proto 2"]);
    scene.apply(&[change(LinkChange { up: Some(false), ..LinkChange::default() })]);
    scene.kernel.routes.retain(|route| route.protocol != RouteProtocol::KERNEL);
    assert_eq!(scene.repair()[0], "ip link set cni0 up");
    let bridge = scene.kernel.links.iter().find(|link| link.name == BRIDGE).expect("the bridge").index;
    scene.kernel.addresses.retain(|address| address.index != bridge);
    scene.kernel.routes.retain(|route| route.protocol != RouteProtocol::KERNEL);
    let addresses = [
        "ip address add 10.244.1.1/24 dev cni0",
        "ip address add fd00:10:0:1::1/64 dev cni0 nodad",
        "ip address add fe80::858:aff:fef4:101/64 dev cni0 nodad",
    ];
    assert_eq!(scene.repair(), addresses, "their routes come by themselves");
    assert_eq!(scene.repair(), [""; 0], "once");
}

#[test]
fn a_device_of_another_kind_in_the_bridges_place_is_a_conflict() {
    let mut scene = kept(ours());
    scene.lose_bridge();
    scene.kernel.add_link(&BRIDGE, 1500);
    let expected =
        "bridge device cni0 cannot be made, since a device of another kind has its name: ip link delete cni0";
    assert_eq!(scene.repair(), [expected]);
}

#[test]
fn a_bridge_that_never_carried_our_subnet_is_somebody_elses() {
    let mut scene = Scene::new();
    assert_eq!(scene.repair(), [""; 0], "the pods may be another daemon's");
    scene.make_bridge(ours());
    assert_eq!(scene.repair(), [""; 0], "so may the bridge");
}

#[test]
fn without_pods_no_bridge_is_made() {
    let mut scene = kept(ours());
    scene.lose_bridge();
    let port = scene.port.clone();
    scene.kernel.apply(&[Op::DeleteLink(port)]);
    assert_eq!(scene.repair(), [""; 0], "the plugin makes it for the next one");
    // The next one has another hardware address.
    let mtu = 1450_i64.try_into().expect("an MTU");
    scene.apply(&[Op::AddBridge { name: BRIDGE, mac: mac(9), mtu }]);
    assert_eq!(scene.repair(), [""; 0], "nothing is known of it yet");
    scene.address_bridge();
    scene.repair();
    assert_eq!(scene.kernel.links.last().expect("the bridge").mac, Some(mac(9)), "it stays");
}

#[test]
fn what_happens_between_two_full_runs_is_heard() {
    let mut scene = Scene::new();
    let subnets = scene.subnets();
    scene.make_bridge(mac(0x66));
    let link = scene.kernel.links.iter().find(|link| link.name == BRIDGE).expect("the bridge").clone();
    scene.watch.notify(&Event::New(RtnetlinkObject::Link(Box::new(link.clone()))), &subnets);
    let changed = Link { mac: Some(mac(1)), ..link.clone() };
    scene.watch.notify(&Event::New(RtnetlinkObject::Link(Box::new(changed))), &subnets);
    assert_eq!(scene.watch.memory, None, "it may be anybody's");
    let route = connected(prefix("10.244.1.0/24"), link.index, 0);
    scene.watch.notify(&Event::New(RtnetlinkObject::Route(route)), &subnets);
    scene.lose_bridge();
    let expected = format!("ip link add cni0 address {} mtu 1500 up type bridge", mac(0x66));
    assert_eq!(scene.repair()[0], expected, "it comes back");
}

#[test]
fn a_restart_remembers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run/subnet.env");
    assert_eq!(Memory::read(&file), None);
    let memory = kept(mac(0x66)).watch.memory.expect("a memory");
    memory.write(&file).expect("a file");
    assert_eq!(Memory::read(&file), Some(memory.clone()));
    let text = memory.to_string();
    std::fs::write(Memory::file(&file), text.strip_suffix(" dev cni0").expect("the name")).expect("a file");
    assert_eq!(Memory::read(&file), Some(memory), "as former daemons wrote it");
    std::fs::write(Memory::file(&file), "5 nonsense 10.244.1.1").expect("a file");
    assert_eq!(Memory::read(&file), None);
}
