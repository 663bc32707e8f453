//! VXLAN as the kernel sees it: the entries of a peer, the device, its options, and what changes with a peer.

use std::net::IpAddr;
use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Node, Outcome, PacketPath, Peer, Pod, Stack, Topology, ensure, eventually, flow, kernel, net_conf, peer,
    seconds,
};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:50";
const OTHER_MAC: &str = "02:00:00:00:00:51";

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("a peer has exactly three entries, and none when it has left", come_and_go),
            test("a peer that changes MAC, then address, has exactly one FDB entry", moved),
            test("the underlay's MTU changes", underlay_mtu),
            test("the MTU is 50 below an IPv4 and 70 below an IPv6 underlay", mtu_by_underlay),
            test("a full-size packet of a pod passes", full_size),
            test("the device has the local address, peers get the public one", public_ip),
            test("the VTEP has the subnet's first address, alone", vtep_address),
            test("VNI, Port, GBP and Learning are honoured", options),
            test("a deleted entry comes back", healed),
            test("the MAC survives the loss of the device", kept_mac),
            test("a record with an unknown VNI or backend is left alone", strange_peers),
        ]
    })
}

fn vxlan() -> Value {
    json!({ "Type": "vxlan" })
}

fn one_node(net_conf: &Value) -> Outcome<Cluster> {
    let topology = Topology { machines: vec![("n1", 1)], underlay: Stack::Dual, mtu: 1500 };
    Cluster::start(&topology, net_conf, &[])
}

/// Waits until n1 has exactly these FDB entries and neighbours with those MACs.
fn await_entries(cluster: &Cluster, fdb: &[(&str, &str)], neighbours: &[(&str, &str)]) -> Outcome {
    let namespace = cluster.node("n1").namespace();
    eventually(seconds(5), "the entries to follow the store", || {
        let seen: Vec<(String, String)> =
            kernel::fdb(namespace)?.into_iter().map(|(mac, end)| (mac, end.to_string())).collect();
        let wanted: Vec<(String, String)> = fdb.iter().map(|(mac, end)| (mac.to_string(), end.to_string())).collect();
        ensure!(seen == wanted, "the FDB is {seen:?}, {wanted:?} is wanted");
        let seen: Vec<(String, String)> =
            kernel::neighbours(namespace)?.into_iter().map(|(address, mac)| (address.to_string(), mac)).collect();
        let wanted: Vec<(String, String)> =
            neighbours.iter().map(|(address, mac)| (address.to_string(), mac.to_string())).collect();
        ensure!(seen == wanted, "the neighbours are {seen:?}, {wanted:?} are wanted");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

fn await_route(cluster: &Cluster, range: &str, wanted: Option<&str>) -> Outcome {
    eventually(seconds(5), &format!("the route to {range}"), || {
        let route = kernel::route(cluster.node("n1").namespace(), Family::V4, range)?;
        match (&route, wanted) {
            (None, None) => Ok(()),
            (Some(route), Some(gateway)) => {
                let flags = route["flags"].to_string();
                let same = route["gateway"] == gateway && route["dev"] == "flannel.1" && flags.contains("onlink");
                ensure!(same, "it is {route}");
                Ok(())
            }
            _ => netd_tests::fail!("it is {route:?}, {wanted:?} is wanted"),
        }
    })
    .map_err(|failure| cluster.with_logs(failure))
}

fn come_and_go() -> Outcome {
    let cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let stays = Peer::vxlan("p1", "10.244.80.0/24", "192.168.1.80", MAC);
    let leaves = Peer::vxlan("p2", "10.244.81.0/24", "192.168.1.81", OTHER_MAC);
    stays.write(&cluster.fabric.store)?;
    await_entries(&cluster, &[(MAC, "192.168.1.80")], &[("10.244.80.0", MAC)])?;
    await_route(&cluster, "10.244.80.0/24", Some("10.244.80.0"))?;
    leaves.write(&cluster.fabric.store)?;
    let both = [(MAC, "192.168.1.80"), (OTHER_MAC, "192.168.1.81")];
    await_entries(&cluster, &both, &[("10.244.80.0", MAC), ("10.244.81.0", OTHER_MAC)])?;
    await_route(&cluster, "10.244.81.0/24", Some("10.244.81.0"))?;
    leaves.remove(&cluster.fabric.store)?;
    await_entries(&cluster, &both[..1], &[("10.244.80.0", MAC)])?;
    await_route(&cluster, "10.244.81.0/24", None)?;
    await_route(&cluster, "10.244.80.0/24", Some("10.244.80.0"))
}

fn moved() -> Outcome {
    let cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let store = &cluster.fabric.store;
    Peer::vxlan("p1", "10.244.80.0/24", "192.168.1.80", MAC).write(store)?;
    await_entries(&cluster, &[(MAC, "192.168.1.80")], &[("10.244.80.0", MAC)])?;
    Peer::vxlan("p1", "10.244.80.0/24", "192.168.1.80", OTHER_MAC).write(store)?;
    await_entries(&cluster, &[(OTHER_MAC, "192.168.1.80")], &[("10.244.80.0", OTHER_MAC)])?;
    Peer::vxlan("p1", "10.244.80.0/24", "192.168.1.81", OTHER_MAC).write(store)?;
    await_entries(&cluster, &[(OTHER_MAC, "192.168.1.81")], &[("10.244.80.0", OTHER_MAC)])?;
    Peer::vxlan("p1", "10.244.82.0/24", "192.168.1.81", OTHER_MAC).write(store)?;
    await_entries(&cluster, &[(OTHER_MAC, "192.168.1.81")], &[("10.244.82.0", OTHER_MAC)])?;
    await_route(&cluster, "10.244.80.0/24", None)
}

fn mtu_of(node: &Node, device: &str) -> Outcome<(u64, String)> {
    let link = kernel::existing_link(node.namespace(), device)?;
    let file = std::fs::read_to_string(node.subnet_file()).unwrap_or_default();
    let setting = file.lines().find(|text| text.starts_with("FLANNEL_MTU=")).unwrap_or_default();
    Ok((link["mtu"].as_u64().unwrap_or(0), setting.to_owned()))
}

fn mtu_by_underlay() -> Outcome {
    for (underlay, headers) in [(Stack::V4, 50), (Stack::V6, 70)] {
        for mtu in [1500, 1400] {
            let topology = Topology::one_segment(underlay).with_mtu(mtu);
            let cluster = Cluster::start(&topology, &net_conf(Stack::V4, &vxlan()), &[])?;
            let (device, line) = mtu_of(cluster.node("n1"), "flannel.1")?;
            let wanted = mtu - headers;
            let holds = device == u64::from(wanted) && line == format!("FLANNEL_MTU={wanted}");
            ensure!(holds, "{underlay:?} underlay with MTU {mtu}: the device has {device}, subnet.env says {line}");
        }
    }
    Ok(())
}

fn underlay_mtu() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let n1 = cluster.node("n1");
    n1.namespace().ip("link set eth0 mtu 1400")?;
    eventually(seconds(10), "the device and subnet.env to follow eth0", || {
        let (device, line) = mtu_of(n1, "flannel.1")?;
        ensure!((device, line.as_str()) == (1350, "FLANNEL_MTU=1350"), "the device has {device}, the file {line}");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

fn full_size() -> Outcome {
    for underlay in [Stack::V4, Stack::V6] {
        let cluster = Cluster::start(&Topology::two_segments(underlay), &net_conf(Stack::Dual, &vxlan()), &[])?;
        let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
        cluster.settle(&a, &d)?;
        let mtu = if underlay == Stack::V4 { 1450 } else { 1430 };
        let own = kernel::existing_link(a.namespace(), "eth0")?["mtu"].clone();
        ensure!(own == mtu, "the pod has MTU {own} over {underlay:?}");
        for (_, address) in d.addresses().iter() {
            flow::ping_of(a.namespace(), *address, mtu)?;
            flow::too_big(a.namespace(), *address, mtu + 1)?;
        }
    }
    Ok(())
}

/// n1's router maps 192.168.1.211 to it, as a cloud's gateway does.
fn public_ip() -> Outcome {
    let fabric = Topology::two_segments(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _n1 = n1.start_netd(&["--public-ip", "203.0.113.11"])?;
    let n3 = fabric.node("n3");
    let _n3 = n3.start_netd(&[])?;
    let data = kernel::existing_link(n1.namespace(), "flannel.1")?["linkinfo"]["info_data"].clone();
    ensure!(data["local"] == "192.168.1.11", "the device's local address is {}", data["local"]);
    let record = peer::read(&fabric.store, "n1")?;
    ensure!(record["PublicIP"] == "203.0.113.11", "the store says {record}");
    let public: IpAddr = [203, 0, 113, 11].into();
    eventually(seconds(5), "n3 to send to the public address", || {
        let fdb = kernel::fdb(n3.namespace())?;
        ensure!(fdb.len() == 1 && fdb[0].1 == public, "its FDB is {fdb:?}");
        Ok(())
    })?;
    fabric.router.shell(
        "nft add table ip nat
         nft add chain ip nat pre '{ type nat hook prerouting priority -100; }'
         nft add chain ip nat post '{ type nat hook postrouting priority 100; }'
         nft add rule ip nat pre ip daddr 203.0.113.11 dnat to 192.168.1.11
         nft add rule ip nat post ip saddr 192.168.1.11 snat to 203.0.113.11",
    )?;
    let (a, d) = (Pod::add(n1, "a")?, Pod::add(n3, "d")?);
    let (from, to) = (a.address(Family::V4)?, d.address(Family::V4)?);
    let sniffer = fabric.sniffer(2)?;
    eventually(seconds(5), "pods to talk through the translation", || {
        flow::all(a.namespace(), from, d.namespace(), to)
    })?;
    let way = sniffer.path_of(to, from)?;
    let right = matches!(way, PacketPath::Tunnel { to, .. } if to == public);
    ensure!(right, "n3 sent {way}");
    Ok(())
}

fn vtep_address() -> Outcome {
    let cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = cluster.node("n1");
    let record = peer::read(n1.store(), "n1")?;
    let subnet = record["Subnet"].as_str().unwrap_or_default().replace("/24", "");
    n1.namespace().run("ip address add 10.244.99.1/32 dev flannel.1")?;
    eventually(seconds(5), "a wrong address of the network to go", || {
        let links = n1.namespace().json("ip -j -4 address show dev flannel.1")?;
        let addresses: Vec<String> = links[0]["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|address| format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"]))
            .collect();
        ensure!(addresses == [format!("{subnet}/32")], "flannel.1 has {addresses:?}, the lease is {subnet}/24");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

fn options() -> Outcome {
    let backend = json!({ "type": "VXLAN", "vni": 4097, "port": 4789, "gbp": true, "learning": true });
    let cluster = Cluster::start(&Topology::two_segments(Stack::V4), &net_conf(Stack::V4, &backend), &[])?;
    let data = kernel::existing_link(cluster.node("n1").namespace(), "flannel.4097")?["linkinfo"]["info_data"].clone();
    let seen = (data["id"].clone(), data["port"].clone(), data["learning"].clone(), data["gbp"].clone());
    ensure!(seen == (json!(4097), json!(4789), json!(true), json!(true)), "id, port, learning, gbp are {seen:?}");
    let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
    cluster.settle(&a, &d)?;
    let sniffer = cluster.fabric.sniffer(1)?;
    cluster.talk(&a, &d)?;
    let way = sniffer.path_of(a.address(Family::V4)?, d.address(Family::V4)?)?;
    ensure!(matches!(way, PacketPath::Tunnel { port: 4789, vni: 4097, .. }), "the packet went {way}");
    Ok(())
}

fn healed() -> Outcome {
    let cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let namespace = cluster.node("n1").namespace();
    Peer::vxlan("p1", "10.244.80.0/24", "192.168.1.80", MAC).write(&cluster.fabric.store)?;
    let whole = || {
        await_entries(&cluster, &[(MAC, "192.168.1.80")], &[("10.244.80.0", MAC)])?;
        await_route(&cluster, "10.244.80.0/24", Some("10.244.80.0"))
    };
    whole()?;
    for harm in [
        format!("bridge fdb del {MAC} dev flannel.1 dst 192.168.1.80"),
        "ip neigh del 10.244.80.0 dev flannel.1".to_owned(),
        "ip route del 10.244.80.0/24".to_owned(),
        "ip link set flannel.1 down".to_owned(),
        "ip link del flannel.1".to_owned(),
        format!("bridge fdb append {OTHER_MAC} dev flannel.1 dst 192.168.1.99"),
        "ip route replace 10.244.80.0/24 via 10.244.80.9 dev flannel.1 onlink".to_owned(),
    ] {
        namespace.run(&harm)?;
        whole().map_err(|failure| netd_tests::Failure::new(format!("after `{harm}`: {failure}")))?;
    }
    Ok(())
}

fn kept_mac() -> Outcome {
    let mut cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let mac = kernel::existing_link(cluster.node("n1").namespace(), "flannel.1")?["address"].clone();
    cluster.take("n1").terminate()?;
    cluster.node("n1").namespace().run("ip link del flannel.1")?;
    cluster.resume("n1")?;
    let now = kernel::existing_link(cluster.node("n1").namespace(), "flannel.1")?["address"].clone();
    ensure!(now == mac, "the MAC was {mac} and is {now}");
    Ok(())
}

fn strange_peers() -> Outcome {
    let cluster = one_node(&net_conf(Stack::V4, &vxlan()))?;
    let store = &cluster.fabric.store;
    let other_vni = json!({ "VNI": 2, "VtepMAC": OTHER_MAC });
    Peer::vxlan("p1", "10.244.81.0/24", "192.168.1.81", OTHER_MAC).set("BackendData", other_vni).write(store)?;
    Peer::host_gw("p2", "10.244.82.0/24", "192.168.1.82").set("BackendType", "carrier-pigeon").write(store)?;
    Peer::vxlan("p3", "10.244.80.0/24", "192.168.1.80", MAC).write(store)?;
    await_entries(&cluster, &[(MAC, "192.168.1.80")], &[("10.244.80.0", MAC)])?;
    await_route(&cluster, "10.244.81.0/24", None)?;
    await_route(&cluster, "10.244.82.0/24", None)
}
