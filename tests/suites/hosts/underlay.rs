//! Which interface and address is the node's: those in use, for as long as they are there.

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, PacketPath, Pod, Topology, ensure, eventually, kernel, peer, seconds};

use serde_json::{Value, json};

use super::bed::{
    Bed, DIRECT, DIRECT_DUAL, EACH, EACH_DUAL, HOST_GW, HOST_GW_DUAL, Network, VXLAN, VXLAN_DUAL, in_each, reaches,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(in_each(&EACH, "a floating address fails over, and the node keeps its own", floating));
    trials.extend(in_each(&EACH_DUAL, "another global IPv6 address changes nothing", another_ipv6));
    trials.extend(in_each(
        &[VXLAN, HOST_GW, DIRECT, VXLAN_DUAL],
        "a second interface with a better route changes nothing",
        second_interface,
    ));
    for choice in CHOICES {
        trials.push(test(format!("at the start, {}", choice.name), move || chosen(choice)));
    }
    trials.extend(in_each(&EACH, "a pod's veth with an address and a default route is no underlay", |network| {
        own_device(network, "$VETH")
    }));
    trials.extend(in_each(&EACH, "the pods' bridge with a default route is no underlay", |network| {
        own_device(network, "cni0")
    }));
    trials.extend(in_each(&[VXLAN, DIRECT], "netd's own device with a default route is no underlay", |network| {
        own_device(network, "flannel.1")
    }));
    trials.extend(in_each(&[VXLAN, HOST_GW_DUAL], "--iface takes an alternative name", alternative_name));
    trials.extend(in_each(&EACH, "a default route by nexthop object is understood", nexthop_object));
    trials.extend(in_each(&EACH, "a default route without a carrier is passed over", link_down));
    trials.extend(in_each(
        &[DIRECT, DIRECT_DUAL],
        "a default route without a gateway proves no peer on-link",
        no_gateway,
    ));
    trials.extend(in_each(&[HOST_GW, DIRECT], "the named interface's own route proves a peer on-link", two_in_one_lan));
    trials.extend(in_each(&EACH, "without a default route netd waits for one and says so", no_default_route));
    trials.extend(in_each(
        &[VXLAN, HOST_GW],
        "a configuration that is refused while the interface is away is taken afterwards",
        refused_for_now,
    ));
    trials
}

/// What the DHCP client does at the end.
const RENEWED: &str = "ip address add 192.168.1.11/24 brd + dev eth0; ip route replace default via 192.168.1.1";

/// keepalived holds 192.168.1.100 on n1 while its DHCP client renews .11, and then on n2.
fn floating(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let traffic = bed.traffic()?;
    bed.harm("ip address add 192.168.1.100/32 dev eth0")?;
    bed.unmoved()?;
    traffic.nothing_lost().context("while the address comes")?;

    // Once so that netd can see the time between, and once so that it sees the end alone.
    bed.harm("ip address del 192.168.1.11/24 dev eth0")?;
    bed.verb("status", &[])?;
    bed.on_n1(RENEWED)?;
    bed.publishes("PublicIP", "192.168.1.11")?;
    bed.talk()?;
    bed.unmoved().context("after a renewal")?;
    bed.standing_still(|| bed.on_n1(&format!("ip address del 192.168.1.11/24 dev eth0\n{RENEWED}")).map(drop))?;
    bed.talk()?;
    bed.unmoved().context("after another renewal")?;

    let traffic = bed.traffic()?;
    bed.harm("ip address del 192.168.1.100/32 dev eth0")?;
    bed.n2().namespace().run("ip address add 192.168.1.100/32 dev eth0")?;
    bed.unmoved()?;
    traffic.nothing_lost().context("while the address fails over")?;

    bed.n2().namespace().run("ip address del 192.168.1.100/32 dev eth0")?;
    bed.standing_still(|| {
        let back = "ip address add 192.168.1.100/32 dev eth0; ip address del 192.168.1.11/24 dev eth0";
        bed.on_n1(&format!("{back}\n{RENEWED}")).map(drop)
    })?;
    bed.restart()?;
    bed.unmoved().context("after a restart")?;
    bed.talk()
}

/// A floating address, and a second prefix that a router announces. The kernel lists the newest first.
fn another_ipv6(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let traffic = bed.traffic()?;
    for address in ["fd00:a:1::100/128", "fd00:b:1::11/64"] {
        bed.harm(&format!("ip address add {address} dev eth0 nodad"))?;
        bed.unmoved().context(address)?;
    }
    traffic.nothing_lost()?;
    bed.restart()?;
    bed.unmoved().context("after a restart")?;
    bed.talk()
}

/// Such as a VPN's, or a wireless one.
fn second_interface(network: &Network) -> Outcome {
    let bed =
        network.start_after("ip route replace default via 192.168.1.1 metric 600; ip route del default metric 0")?;
    bed.cluster.fabric.plug("n1", "eth1")?;
    let traffic = bed.traffic()?;
    bed.harm("ip address add 192.168.77.11/24 dev eth1; ip route add default via 192.168.77.1 dev eth1 metric 100")?;
    bed.unmoved()?;
    traffic.nothing_lost()?;
    bed.talk()
}

/// What n1 has when netd starts, and the address that must be its own.
#[derive(Debug)]
struct Choice {
    name: &'static str,
    network: Network,
    script: &'static str,
    field: &'static str,
    address: &'static str,
}

const CHOICES: &[Choice] = &[
    Choice {
        name: "the default route's preferred source is the node's address",
        network: VXLAN,
        script: "ip address add 192.168.1.61/24 dev eth0
                 ip route replace default via 192.168.1.1 src 192.168.1.61",
        field: "PublicIP",
        address: "192.168.1.61",
    },
    Choice {
        name: "an address whose subnet has the gateway comes before a /32",
        network: HOST_GW,
        script: "ip address flush dev eth0
                 ip address add 192.168.1.100/32 dev eth0
                 ip address add 192.168.1.11/24 brd + dev eth0
                 ip route replace default via 192.168.1.1",
        field: "PublicIP",
        address: "192.168.1.11",
    },
    Choice {
        name: "an address whose subnet has the gateway comes before one of another subnet",
        network: DIRECT,
        script: "ip address flush dev eth0
                 ip address add 172.31.0.5/16 dev eth0
                 ip address add 192.168.1.11/24 brd + dev eth0
                 ip route replace default via 192.168.1.1",
        field: "PublicIP",
        address: "192.168.1.11",
    },
    Choice {
        name: "a link-local IPv4 address is passed over",
        network: VXLAN,
        script: "ip address flush dev eth0
                 ip address add 169.254.9.9/16 scope global dev eth0
                 ip address add 192.168.1.11/24 brd + dev eth0
                 ip route replace default via 192.168.1.1",
        field: "PublicIP",
        address: "192.168.1.11",
    },
    Choice {
        name: "an IPv6 address that the kernel still tries is passed over",
        network: VXLAN_DUAL,
        script: "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad
                 echo 600 >/proc/sys/net/ipv6/conf/eth0/dad_transmits
                 ip address add fd00:a:1::99/64 dev eth0
                 ip -6 address show dev eth0 tentative | grep -q fd00:a:1::99",
        field: "PublicIPv6",
        address: "fd00:a:1::11",
    },
    Choice {
        name: "an IPv6 address that another machine has is passed over",
        network: VXLAN_DUAL,
        // The router has ::1. The kernel asks for a second whether somebody answers.
        script: "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad
                 ip -6 route del default
                 ip address add fd00:a:1::1/64 dev eth0
                 until ip -6 address show dev eth0 dadfailed | grep -q fd00:a:1::1; do sleep 0.1; done
                 ip -6 route add default via fd00:a:1::12",
        field: "PublicIPv6",
        address: "fd00:a:1::11",
    },
];

fn chosen(choice: &Choice) -> Outcome {
    let bed = Bed::begin(choice.network.fabric_after(choice.script)?, &[])?;
    let seen = &bed.record()[choice.field];
    ensure!(seen == choice.address, "n1 publishes {seen}, not {}", choice.address);
    bed.talk()
}

/// A DHCP client on the node that takes any interface gives netd's an address and a default route.
fn own_device(network: &Network, device: &str) -> Outcome {
    let mut bed =
        network.start_after("ip route replace default via 192.168.1.1 metric 600; ip route del default metric 0")?;
    let index = |bed: &Bed| bed.on_n1(&format!("ip -o link show dev {device} | cut -d : -f 1"));
    let before = index(&bed)?;
    let traffic = bed.traffic()?;
    bed.harm(&format!(
        "ip address add 169.254.77.7/16 brd + dev {device}
         ip route add default dev {device} metric 204"
    ))?;
    bed.unmoved()?;
    traffic.nothing_lost()?;
    let (name, findings) = (bed.on_n1(&format!("echo {device}"))?, Value::from(bed.doctor()?));
    ensure!(findings.to_string().contains(name.trim()), "the doctor says nothing of {name}: {findings}");
    bed.restart()?;
    bed.unmoved().context("after a restart")?;
    let after = index(&bed)?;
    ensure!(after == before, "{device} was made anew: its number was {before} and is {after}");
    bed.talk()
}

fn alternative_name(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    for name in ["n1", "n2"] {
        fabric.node(name).namespace().run("ip link property add dev eth0 altname enp1s0")?;
    }
    Bed::on(fabric, &["--iface", "enp1s0"])?.talk()
}

/// With `nexthop_compat_mode` 0 the kernel gives of such a route its nexthop's number alone.
fn nexthop_object(network: &Network) -> Outcome {
    let bed = network.start_after(
        "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode
         ip nexthop add id 7 via 192.168.1.1 dev eth0
         ip route del default
         ip route add default nhid 7
         ip route show default | grep -q nhid",
    )?;
    bed.unmoved()?;
    bed.talk()
}

/// The route of the lower metric leads to a cable that is not plugged in.
fn link_down(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    fabric.plug("n1", "eth1")?;
    fabric.segments[0].run("ip link set n1eth1 down")?;
    let n1 = fabric.node("n1").namespace();
    n1.shell(
        "ip address add 192.168.77.11/24 dev eth1
         ip route replace default via 192.168.1.1 dev eth0 metric 600
         ip route del default metric 0
         ip route add default via 192.168.77.1 dev eth1 metric 100",
    )?;
    let routes = n1.run("ip route show default")?;
    ensure!(routes.contains("linkdown"), "the routes are {routes}");
    let bed = Bed::on(fabric, &[])?;
    let seen = &bed.record()["PublicIP"];
    ensure!(seen == "192.168.1.11", "n1 publishes {seen}");
    bed.talk()
}

/// Nodes whose routes say that all the world is on their link, and a router that answers for it. Pods' packets are not the world's.
fn no_gateway(network: &Network) -> Outcome {
    let fabric = network.built(&Topology::two_segments(network.stack))?;
    for segment in ["1", "2"] {
        fabric.router.sysctl(&format!("net/ipv4/conf/eth{segment}/proxy_arp"), "1")?;
    }
    for name in ["n1", "n3"] {
        fabric.node(name).namespace().run("ip route replace default dev eth0")?;
    }
    let bed = Bed::on(fabric, &[])?;
    let p3 = bed.cluster.pod("n3", "p3")?;
    reaches(&bed.p1, &p3).map_err(|failure| bed.cluster.with_logs(failure))?;
    bed.cluster.talk(&bed.p1, &p3)?;
    // n2 is on n1's link by a route of its own.
    let (from, to) = (bed.p1.address(Family::V4)?, bed.p2.address(Family::V4)?);
    bed.cluster.await_settled()?;
    let sniffer = bed.cluster.fabric.sniffer(1)?;
    bed.talk()?;
    let path = sniffer.path_of(from, to)?;
    ensure!(path == PacketPath::Plain, "a packet from n1's pod to n2's went by {path}");
    Ok(())
}

/// n1 has two interfaces in n2's LAN, and the kernel prefers the other one.
fn two_in_one_lan(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    fabric.plug("n1", "eth1")?;
    fabric.node("n1").namespace().shell(
        "ip address add 192.168.1.61/24 brd + dev eth1 metric 200
         ip route add default via 192.168.1.1 dev eth1 metric 200",
    )?;
    let bed = Bed::on(fabric, &["--iface", "eth1", "--iface", "eth0"])?;
    bed.publishes("PublicIP", "192.168.1.61")?;
    let subnet = peer::read(&bed.cluster.fabric.store, "n2")?["Subnet"].as_str().unwrap_or_default().to_owned();
    let route = kernel::route(bed.n1().namespace(), Family::V4, &subnet)?.context("n1 has a route to n2's pods")?;
    ensure!(route["dev"] == "eth1" && route["gateway"] == "192.168.1.12", "the route to n2's pods is {route}");
    bed.talk()
}

/// netd starts before the DHCP client has an answer.
fn no_default_route(network: &Network) -> Outcome {
    let fabric = network.fabric()?;
    let (n1, n2) = (fabric.node("n1"), fabric.node("n2"));
    n1.namespace().run("ip route del default")?;
    let (one, _two) = (n1.launch_netd(&["--ip-masq"])?, n2.start_netd(&["--ip-masq"])?);
    eventually(seconds(5), "netd status of n1 says what it waits for", || {
        let output = n1.run_netd("status", &[])?;
        let said = String::from_utf8_lossy(&output.stdout);
        let first = said.lines().next().unwrap_or_default();
        ensure!(first.contains("waiting") && said.contains("default route"), "it says {said}\n{}", one.log());
        Ok(())
    })?;
    n1.namespace().run("ip route add default via 192.168.1.1")?;
    one.await_ready()?;
    let (p1, p2) = (Pod::add(n1, "p1")?, Pod::add(n2, "p2")?);
    reaches(&p1, &p2)?;
    reaches(&p2, &p1)
}

/// The backend is changed while n1 has no interface to other nodes.
fn refused_for_now(network: &Network) -> Outcome {
    let bed = network.start()?;
    bed.on_n1("ip link set eth0 down")?;
    let other = if network.conf()["Backend"]["Type"] == "vxlan" { "host-gw" } else { "vxlan" };
    let mut conf = network.conf();
    conf["Backend"] = json!({ "Type": other });
    bed.cluster.fabric.write_net_conf(&conf)?;
    bed.cluster.daemon("n1").await_log("the changed network configuration is refused", seconds(20))?;
    bed.on_n1("ip link set eth0 up; ip route replace default via 192.168.1.1")?;
    bed.publishes("BackendType", other)?;
    bed.cluster.await_settled()?;
    bed.talk()
}
