//! The bridge comes back under pods of ours, and under nobody else's.

use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::route::{Route, RouteKind};
use dataplane::types::RouteProtocol;
use network::fixtures::{DUAL, Network, host_gw, name, prefix};
use network::observe;

use super::*;

/// A node with a pod of ours and one of another network.
struct Scene {
    network: Network,
    kernel: Fake,
    bridge: Bridge,
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
        Self { network, kernel, bridge: Bridge::default(), port }
    }

    fn mend(&mut self) -> Vec<String> {
        let identity = self.network.identity();
        let host = observe::host(&mut self.kernel, &identity).expect("a readable kernel");
        let outcome = self.network.outcome_on(&host).expect("a network that can be carried");
        let observed =
            observe::observed(&mut self.kernel, host, &identity, &outcome.desired).expect("a readable kernel");
        let subnets = self.network.cluster().own.subnets;
        let ops = self.bridge.mend(&observed, &subnets, 1450_i64.try_into().expect("an MTU"));
        let outcomes = self.kernel.apply(&ops);
        assert!(outcomes.iter().all(Result::is_ok), "all is carried out: {outcomes:?}");
        // So the kernel does with a bridge's address.
        let added: Vec<_> =
            self.kernel.links.iter().filter(|link| link.kind == Kind::Bridge).map(|link| link.index).collect();
        for index in added {
            let (destination, protocol) = (prefix("10.244.1.0/24"), RouteProtocol(2));
            self.kernel.routes.retain(|route| route.index != index);
            self.kernel.routes.push(Route {
                destination,
                gateway: None,
                index,
                onlink: false,
                protocol,
                metric: 0,
                kind: RouteKind::Unicast,
            });
        }
        ops.iter().map(ToString::to_string).collect()
    }

    /// As the plugin does.
    fn make_bridge(&mut self) {
        let add = Op::AddBridge {
            name: name("cni0"),
            mac: mac_for([10, 244, 1, 1].into()),
            mtu: 1450_i64.try_into().expect("an MTU"),
        };
        let port = Op::SetPort { name: self.port.clone(), bridge: name("cni0") };
        let outcomes = self.kernel.apply(&[add, port]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }

    fn lose_bridge(&mut self) {
        self.kernel.apply(&[Op::DeleteLink(name("cni0"))]);
        self.kernel.links.iter_mut().for_each(|link| link.master = None);
    }
}

#[test]
fn a_bridge_that_was_removed_under_pods_comes_back_with_their_ports() {
    let mut scene = Scene::new();
    scene.make_bridge();
    assert_eq!(scene.mend(), [""; 0], "it stands, and its address is still to come");
    assert_eq!(scene.mend(), [""; 0], "it is ours");
    scene.lose_bridge();
    let port = scene.port.clone();
    let expected = [
        "ip link add cni0 address 0a:58:0a:f4:01:01 mtu 1450 up type bridge".to_owned(),
        "sysctl -q -w net/ipv6/conf/cni0/accept_ra=0".to_owned(),
        "ip address add 10.244.1.1/24 dev cni0".to_owned(),
        "ip address add fd00:10:0:1::1/64 dev cni0 nodad".to_owned(),
        format!("ip link set {port} master cni0"),
        format!("bridge link set dev {port} hairpin on"),
    ];
    assert_eq!(scene.mend(), expected, "with the port that is ours alone");
    assert_eq!(scene.mend(), [""; 0], "once");
    scene.kernel.links.iter_mut().for_each(|link| link.master = None);
    assert_eq!(scene.mend(), expected[4..], "a port alone too");
}

#[test]
fn a_bridge_that_never_carried_our_subnet_is_somebody_elses() {
    let mut scene = Scene::new();
    assert_eq!(scene.mend(), [""; 0], "the pods may be another daemon's");
}

#[test]
fn without_pods_no_bridge_is_made() {
    let mut scene = Scene::new();
    scene.make_bridge();
    scene.mend();
    scene.mend();
    scene.lose_bridge();
    let port = scene.port.clone();
    scene.kernel.apply(&[Op::DeleteLink(port)]);
    assert_eq!(scene.mend(), [""; 0], "the plugin makes it for the next one");
}

#[test]
fn what_happens_between_two_full_runs_is_heard() {
    let mut scene = Scene::new();
    let subnets = scene.network.cluster().own.subnets;
    scene.make_bridge();
    let link = scene.kernel.links.iter().find(|link| link.name == name("cni0")).expect("the bridge").clone();
    let destination = prefix("10.244.1.0/24");
    let route = Route {
        destination,
        gateway: None,
        index: link.index,
        onlink: false,
        protocol: KERNEL,
        metric: 0,
        kind: RouteKind::Unicast,
    };
    assert!(!scene.bridge.hear(&Event::New(Object::Route(route)), &subnets), "nothing is to be done");
    scene.lose_bridge();
    assert!(scene.bridge.hear(&Event::Deleted(Object::Link(Box::new(link))), &subnets), "it has gone");
    assert_eq!(scene.mend().len(), 6, "and comes back");
}
