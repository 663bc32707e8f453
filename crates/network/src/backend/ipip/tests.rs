//! The network of [`crate::fixtures`]: node 2 is on node 1's link, node 3 behind the router.

use super::*;
use crate::backend::{Backend, BackendType, Encapsulation};
use crate::fixtures::{DUAL, Network, Peer, V4, V6, address, far, name, near, node_name, vxlan};
use crate::model::{BackendData, EncapsulationSupport, Lease};
use crate::net_conf::NetConf;
use crate::plan::Conflict;
use dataplane::fake::Fake;
use dataplane::kernel::Kernel;
use dataplane::link::{Kind, Link};
use dataplane::op::Op;
use dataplane::types::IfName;
use std::collections::BTreeMap;

fn network(fields: &str) -> Network {
    Network { backend: format!(r#""Type": "ipip"{fields}"#), ..vxlan(V4, V4) }
}

fn direct() -> Network {
    network(r#", "DirectRouting": true"#)
}

/// A plan without the sysctls of the whole host.
fn lines(plan: &crate::plan::Plan) -> Vec<String> {
    plan.to_string()
        .lines()
        .filter(|line| !["ip_forward", "unreachable"].iter().any(|part| line.contains(part)))
        .map(str::to_owned)
        .collect()
}

const DEVICE: [&str; 4] = [
    "ip link add flannel.ipip mtu 1480 up type ipip local 192.168.1.1 ttl inherit nopmtudisc",
    "ip link set flannel.ipip alias netd",
    "sysctl -q -w net/ipv4/conf/flannel.ipip/forwarding=1",
    "ip address add 10.244.1.0/32 dev flannel.ipip",
];

#[test]
fn all_peers_are_reached_through_one_device() {
    let routes = [
        "ip route add 10.244.2.0/24 via 192.168.1.2 dev flannel.ipip proto 110 onlink",
        "ip route add 10.244.3.0/24 via 192.168.2.3 dev flannel.ipip proto 110 onlink",
    ];
    let network = network("");
    let mut fake = network.fake();
    assert_eq!(lines(&network.settle(&mut fake)), [&DEVICE[..], &routes].concat());
    assert!(fake.neighbours.is_empty() && fake.fdb.is_empty(), "the next hop is all that the tunnel needs");
}

#[test]
fn with_direct_routing_on_link_peers_get_a_plain_route() {
    let routes = [
        "ip route add 10.244.2.0/24 via 192.168.1.2 dev eth0 proto 110",
        "ip route add 10.244.3.0/24 via 192.168.2.3 dev flannel.ipip proto 110 onlink",
    ];
    let network = direct();
    assert_eq!(lines(&network.settle(&mut network.fake())), [&DEVICE[..], &routes].concat());
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    let reason = |n| network.conf().backend.reason(&outcome.peer_routes[&(node_name(n), Family::V4)]).into_owned();
    assert_eq!([reason(2), reason(3)], ["on this node's link (DirectRouting)", "not on this node's link"]);
}

#[test]
fn a_peer_that_moves_to_another_address_costs_one_route() {
    let network = network("");
    let mut fake = network.fake();
    network.settle(&mut fake);
    let moved = network.peers([near(2), Peer { host: 33, ..far(3) }]);
    let route = "ip route replace 10.244.3.0/24 via 192.168.2.33 dev flannel.ipip proto 110 onlink";
    assert_eq!(lines(&moved.settle(&mut fake)), [route]);
    let gone = moved.peers([near(2)]);
    let route = "ip route delete 10.244.3.0/24 via 192.168.2.33 dev flannel.ipip proto 110 onlink";
    assert_eq!(lines(&gone.settle(&mut fake)), [route]);
}

#[test]
fn peers_that_cannot_be_reached_are_reported_with_the_reason() {
    let network = network("").peers([
        Peer { public: V6, ..near(2) },
        Peer { backend: Some(BackendType::Vxlan), ..near(3) },
        Peer { backend: Some(BackendType::Ipip), ..far(4) },
    ]);
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    let reasons: Vec<_> = outcome.unreachable.iter().map(|((node, _), why)| format!("{node}: {why}")).collect();
    let expected = [
        "node-2: it has published no IPv4 address, which this node's tunnel needs",
        "node-3: it runs backend vxlan, this node ipip: set one Backend.Type for all nodes",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn net_conf_is_flannels_and_ipv6_is_refused() {
    let parse = |text: &str| NetConf::parse(text).map(|(conf, unknown)| (conf.backend, unknown));
    let text = r#"{"Network": "10.244.0.0/16", "Backend": {"type": "IPIP", "directRouting": true, "Port": 1}}"#;
    let (backend, unknown) = parse(text).expect("flannel's keys in any case");
    assert_eq!((backend, unknown), (Backend::Ipip(Options { direct_routing: true }), vec!["Backend.Port".to_owned()]));
    let ranges = r#""Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48""#;
    let refused = parse(&format!(r#"{{{ranges}, "Backend": {{"Type": "ipip"}}}}"#)).expect_err("IPv6 pods");
    assert_eq!(
        refused.to_string(),
        "ipip carries IPv4 packets alone, and EnableIPv6 is true: Backend.Type is ipip, but must be vxlan or host-gw, or \
         EnableIPv6 false"
    );
}

#[test]
fn what_the_underlay_cannot_carry_is_an_error() {
    let refused = |network: Network| network.outcome(&mut network.fake()).expect_err("it cannot").to_string();
    assert_eq!(
        refused(Network { mtu: 87, ..network("") }),
        "eth0 carries packets of 87 bytes, which leaves IPv4 pods too little after ipip's 20: raise the interface's MTU to \
         at least 88"
    );
    assert_eq!(
        refused(Network { underlay: V6, ..network("") }),
        "eth0 has no address for the tunnel to IPv4 pods to start from"
    );
    assert!(Network { mtu: 88, underlay: DUAL, ..network("") }.outcome(&mut network("").fake()).is_ok());
}

#[test]
fn a_lease_has_flannels_type_and_no_data() {
    let network = direct();
    let outcome = network.outcome(&mut network.fake()).expect("a network that can be carried");
    let support = &outcome.advertised;
    assert_eq!(
        crate::record::texts_of_encapsulations(support),
        (r#"[{"Type":"host-gw"},{"Type":"ipip"}]"#.to_owned(), r#"[{"Type":"host-gw"},{"Type":"ipip"}]"#.to_owned())
    );
    let lease = Lease { encapsulations: Some(support.clone()), ..network.lease(&near(1)) };
    let text = crate::record::render(&lease);
    assert!(text.contains(r#""BackendType": "ipip""#) && text.contains(r#""BackendData": null"#), "{text}");
    assert_eq!(crate::record::parse(&lease.node, &text).expect("own text"), lease);
    assert_eq!(lease.backend.no_data(), Some("null"), "as flannel annotates a Node");
    let data = BackendData::parse(&BackendType::Ipip, "null").expect("no data");
    assert_eq!((data, network.conf().backend.facts().to_string()), (None, "ipip, DirectRouting".to_owned()));
}

#[test]
fn a_device_of_flannels_is_adopted_and_a_bent_one_is_made_anew() {
    let network = network("");
    let mut fake = network.fake();
    network.settle(&mut fake);
    fake.links.iter_mut().filter(|link| link.name == name("flannel.ipip")).for_each(|link| link.alias = None);
    assert_eq!(lines(&network.settle(&mut fake)), [DEVICE[1]], "the alias is all that it lacks");
    let ipip = |fake: &mut Fake, change: &dyn Fn(&mut Ipip)| {
        let link = fake.links.iter_mut().find(|link| link.name == name("flannel.ipip")).expect("the device");
        if let Kind::Tunnel(Tunnel::Ipip(ipip)) = &mut link.kind {
            change(ipip);
        }
    };
    ipip(&mut fake, &|ipip| ipip.local = Some([192, 168, 1, 77].into()));
    let plan = lines(&network.settle(&mut fake));
    assert_eq!(plan[..5], [&["ip link delete flannel.ipip"][..], &DEVICE].concat());
    ipip(&mut fake, &|ipip| ipip.foreign = true);
    assert_eq!(lines(&network.settle(&mut fake))[0], "ip link delete flannel.ipip", "a TTL of its own");
}

#[test]
fn devices_of_others_are_left_alone() {
    let network = network("");
    let mut fake = network.fake();
    let (mtu, underlay) = (dataplane::types::Mtu::try_from(1480).expect("an MTU"), name("eth0"));
    let local = Some([192, 168, 1, 1].into());
    let theirs = Tunnel::Ipip(Ipip { local, remote: None, underlay: None, foreign: false });
    let tunl0 = Tunnel::Ipip(Ipip { local: None, remote: None, underlay: None, foreign: false });
    for (device, tunnel) in [("tunl0", tunl0), ("theirs", theirs)] {
        let op = Op::AddTunnel { name: name(device), tunnel, underlay: underlay.clone(), mac: None, mtu };
        assert!(fake.apply(&[op])[0].is_ok());
    }
    let (plan, _) = network.reconcile(&mut fake);
    let expected = Conflict::Tunnel { name: name("flannel.ipip"), other: name("theirs"), texts: TEXTS };
    assert_eq!(plan.conflicts, [expected]);
    assert_eq!(
        plan.conflicts[0].to_string(),
        "ipip device flannel.ipip cannot be made, since theirs has the same local address: ip link delete theirs"
    );
    fake.apply(&[Op::DeleteLink(name("theirs"))]);
    network.settle(&mut fake);
    assert!(fake.links.iter().any(|link| link.name == name("tunl0")), "the kernel's own device stays");
    let mut fake = network.fake();
    fake.add_link(&name("flannel.ipip"), 1500);
    let (plan, _) = network.reconcile(&mut fake);
    assert_eq!(
        plan.conflicts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ipip device flannel.ipip cannot be made, since a device of another kind has its name: ip link delete flannel.ipip"
        ]
    );
}

/// All have run ipip; this node has changed to vxlan, and its peers have not yet.
fn moved_ahead(unsupported: &[Encapsulation]) -> crate::overlay::Outcome {
    let network = vxlan(V4, V4).peers([near(2), near(3)]);
    let mut cluster = network.cluster();
    let support = EncapsulationSupport {
        receives: [(Encapsulation::Ipip, PerFamily::none())].into(),
        sends: [Encapsulation::Ipip].into(),
        ..EncapsulationSupport::default()
    };
    cluster.own.encapsulations = Some(support.clone());
    for n in [2, 3] {
        let encapsulations = Some(support.clone());
        let peer = Lease { backend: BackendType::Ipip, encapsulations, ..network.lease(&near(n)) };
        cluster.peers.insert(node_name(n), peer.into());
    }
    let (conf, underlay, identity) = (network.conf(), network.underlay(1), network.identity());
    let unsupported = unsupported.iter().map(|encapsulation| (*encapsulation, "ipip")).collect();
    let transition = crate::overlay::transition::Transition { unsupported, ..Default::default() };
    let (links, reverse_path) = Default::default();
    crate::overlay::build(&crate::overlay::Input {
        conf: &conf,
        cluster: &cluster,
        underlay: &underlay,
        identity: &identity,
        masquerade: None,
        forward_rules: false,
        routes: &[],
        links: &links,
        reverse_path: &reverse_path,
        transition: &transition,
        forward_chains: &[],
        others: &crate::overlay::forward::Others::default(),
        bridge_name: &name("cni0"),
        bridge: None,
    })
    .expect("a network that can be carried")
    .0
}

#[test]
fn a_change_between_vxlan_and_ipip_has_both_devices_until_all_have_changed() {
    let outcome = moved_ahead(&[]);
    let devices: Vec<_> = outcome.desired.devices.keys().map(IfName::as_str).collect();
    assert_eq!(devices, ["flannel.1", "flannel.ipip"]);
    let route = outcome.peer_routes[&(node_name(2), Family::V4)];
    assert_eq!((route.encapsulation, route.endpoint), (Encapsulation::Ipip, address("192.168.1.2")));
    let reason = vxlan(V4, V4).conf().backend.reason(&route);
    assert_eq!(reason, "the ipip tunnel: it does not receive by this node's backend yet");
    assert!(!outcome.settled && outcome.advertised.receives.contains_key(&Encapsulation::Ipip));
    assert_eq!(outcome.pod_mtu.map(dataplane::types::Mtu::get), Some(1450), "what fits both");
}

#[test]
fn a_kernel_without_ipip_says_so_and_a_peer_with_it_disturbs_nobody() {
    let outcome = moved_ahead(&[Encapsulation::Ipip]);
    let devices: Vec<_> = outcome.desired.devices.keys().map(IfName::as_str).collect();
    assert_eq!(devices, ["flannel.1"], "no device is wanted that cannot be made");
    assert!(!outcome.advertised.receives.contains_key(&Encapsulation::Ipip), "and none is promised");
    assert!(outcome.unreachable.contains_key(&(node_name(2), Family::V4)), "the peer is reported");
    let network = network("");
    let mut fake = network.fake();
    fake.lacks.push("ipip");
    let unsupported = |fake: &mut Fake, links: &BTreeMap<IfName, Link>| {
        let (backend, underlay) = (network.conf().backend, network.underlay(1));
        crate::observe::unsupported(fake, links, &backend, &underlay, backend.encapsulations()).expect("an answer")
    };
    assert_eq!(unsupported(&mut fake, &BTreeMap::default()), [(Encapsulation::Ipip, "ipip")].into());
    assert_eq!(
        TunnelDeviceError::NoKernelSupport { kind: "ipip" }.to_string(),
        "this kernel has no ipip devices: modprobe ipip, run a kernel that has them, or choose another Backend.Type"
    );
    fake.lacks.clear();
    network.settle(&mut fake);
    let links = fake.links.iter().map(|link: &Link| (link.name.clone(), link.clone())).collect();
    fake.lacks.push("ipip");
    assert_eq!(unsupported(&mut fake, &links), BTreeMap::default(), "a device that is there is an answer");
}

#[test]
fn the_doctor_knows_what_its_packets_are() {
    let traffic = Encapsulation::Ipip.traffic().expect("a tunnel");
    assert_eq!([traffic.name, traffic.tcpdump], ["IP protocol 4 (ipip)", "ip proto 4"]);
    assert_eq!((Encapsulation::Ipip.overhead(Family::V4), Encapsulation::Ipip.has_mac()), (20, false));
}
