//! Restarts: nothing that was right changes, nothing is lost, and what became wrong meanwhile is put right.

use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::backend::{host_gw, vxlan};
use netd_tests::flow::Stream;
use netd_tests::suite::test;
use netd_tests::{Cluster, Outcome, Peer, Snapshot, Stack, Topology, ensure, eventually, kernel, net_conf, seconds};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("H2 SIGTERM and start again: same kernel, no packet lost/vxlan", || again(&vxlan(), End::Asked)),
            test("H2 SIGKILL and start again: same kernel, no packet lost/vxlan", || again(&vxlan(), End::Killed)),
            test("H2 SIGTERM and start again: same kernel, no packet lost/host-gw", || again(&host_gw(), End::Asked)),
            test("H2 SIGKILL and start again: same kernel, no packet lost/host-gw", || again(&host_gw(), End::Killed)),
            test("a peer that left meanwhile is purged, what is foreign stays", purge),
            test("routes into a network that was left go at the next start", left),
            test("a changed MTU reaches the device", changed_mtu),
            test("a compatible device is adopted", adopt),
            test("a device with another VNI is rebuilt", || rebuild("id 9 dstport 8472 local 192.168.1.11 nolearning")),
            test("a device with another port is rebuilt", || {
                rebuild("id 1 dstport 4789 local 192.168.1.11 nolearning")
            }),
            test("a device with another local address is rebuilt", || {
                rebuild("id 1 dstport 8472 local 192.168.1.99 nolearning")
            }),
            test("a device that learns is rebuilt", || rebuild("id 1 dstport 8472 local 192.168.1.11 learning")),
        ]
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Asked,
    Killed,
}

fn again(backend: &Value, end: End) -> Outcome {
    let conf = net_conf(Stack::Dual, backend);
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::Dual), &conf, &["--ip-masq"])?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    cluster.settle(&c, &a)?;
    cluster.await_settled()?;
    let n1 = cluster.node("n1");
    let files = [n1.cni_conf_dir(), n1.store().join("nodes")];
    let subnet_env = std::fs::read_to_string(n1.subnet_file()).map_err(|error| unreadable(&error))?;
    let before = Snapshot::take(n1.namespace(), &files)?;
    let streams = Family::BOTH
        .into_iter()
        .flat_map(|family| [(&a, &c, family), (&c, &a, family)])
        .map(|(from, to, family)| Stream::start(from.namespace(), to.address(family)?))
        .collect::<Outcome<Vec<Stream>>>()?;

    let daemon = cluster.take("n1");
    if end == End::Asked {
        let status = daemon.terminate()?;
        ensure!(status.success(), "netd ended with {status} on SIGTERM");
    } else {
        daemon.crash()?;
    }
    before.same_as(&Snapshot::take(cluster.node("n1").namespace(), &files)?)?;
    cluster.resume("n1")?;

    before
        .same_as(&Snapshot::take(cluster.node("n1").namespace(), &files)?)
        .map_err(|failure| cluster.with_logs(failure))?;
    streams.into_iter().try_for_each(Stream::nothing_lost).map_err(|failure| cluster.with_logs(failure))?;
    let now = std::fs::read_to_string(cluster.node("n1").subnet_file()).map_err(|error| unreadable(&error))?;
    ensure!(now == subnet_env, "subnet.env changed:\n{subnet_env}{now}");
    Ok(())
}

fn unreadable(error: &std::io::Error) -> netd_tests::Failure {
    netd_tests::Failure::new(format!("subnet.env: {error}"))
}

/// n2 leaves the store while n1's netd is down.
fn purge() -> Outcome {
    let conf = net_conf(Stack::V4, &vxlan());
    let mut cluster = Cluster::start(&Topology::two_segments(Stack::V4), &conf, &[])?;
    let store_peer = Peer::vxlan("store_peer", "10.244.200.0/24", "192.168.1.200", "02:00:00:00:02:00");
    let store = cluster.fabric.store.clone();
    store_peer.write(&store)?;
    let is_known = |cluster: &Cluster, wanted: bool| {
        eventually(seconds(5), if wanted { "the peer is programmed" } else { "the peer is gone" }, || {
            let namespace = cluster.node("n1").namespace();
            let route = kernel::route(namespace, Family::V4, "10.244.200.0/24")?.is_some();
            let fdb = kernel::fdb(namespace)?.iter().any(|(mac, _)| mac == "02:00:00:00:02:00");
            let neighbour = kernel::neighbours(namespace)?.iter().any(|(_, mac)| mac == "02:00:00:00:02:00");
            ensure!([route, fdb, neighbour] == [wanted; 3], "route {route}, FDB {fdb}, neighbour {neighbour}");
            Ok(())
        })
        .map_err(|failure| cluster.with_logs(failure))
    };
    is_known(&cluster, true)?;
    cluster.take("n1").terminate()?;
    store_peer.remove(&store)?;
    let foreign = ["10.99.0.0/24", "10.244.201.0/24"];
    let namespace = cluster.node("n1").namespace();
    for range in foreign {
        namespace.run(&format!("ip route add {range} via 192.168.1.12"))?;
    }
    namespace.run("ip neigh add 192.168.1.77 lladdr 02:00:00:00:00:77 nud permanent dev eth0")?;
    cluster.resume("n1")?;

    is_known(&cluster, false)?;
    let namespace = cluster.node("n1").namespace();
    for range in foreign {
        ensure!(kernel::route(namespace, Family::V4, range)?.is_some(), "the foreign route to {range} was removed");
    }
    let neighbours = namespace.run("ip neigh show nud permanent dev eth0")?;
    ensure!(neighbours.contains("192.168.1.77"), "a foreign neighbour was removed");
    let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
    cluster.settle(&a, &d)?;
    cluster.talk(&a, &d)
}

/// The network moves while every netd is down; then n1's comes back.
fn left() -> Outcome {
    let conf = net_conf(Stack::Dual, &host_gw());
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::Dual), &conf, &[])?;
    let ours = |cluster: &Cluster| {
        let namespace = cluster.node("n1").namespace();
        Ok([
            namespace.run("ip route show type unicast proto 110")?,
            namespace.run("ip -6 route show type unicast proto 110")?,
        ])
    };
    eventually(seconds(10), "routes to both peers", || {
        let routes = ours(&cluster)?;
        ensure!(routes.iter().all(|routes| routes.lines().count() == 2), "there are {routes:?}");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))?;
    for name in ["n1", "n2", "n3"] {
        cluster.take(name).terminate()?;
    }
    let moved = json!({ "Network": "10.245.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:245::/56",
        "Backend": host_gw() });
    cluster.fabric.write_net_conf(&moved)?;
    let foreign = [(Family::V4, "10.244.201.0/24"), (Family::V6, "fd00:10:244:c9::/64")];
    for (family, range) in foreign {
        let through = cluster.node("n2").address(family);
        cluster.node("n1").namespace().run(&format!("ip route add {range} via {through}"))?;
    }
    cluster.resume("n1")?;

    let routes = ours(&cluster)?;
    let gone = routes.iter().all(|routes| !routes.contains("10.244.") && !routes.contains("fd00:10:244:"));
    ensure!(gone, "routes into the network that was left are still there: {routes:?}\n{}", cluster.daemon("n1").log());
    for (family, range) in foreign {
        let there = kernel::route(cluster.node("n1").namespace(), family, range)?.is_some();
        ensure!(there, "the foreign route to {range} was removed");
    }
    Ok(())
}

fn changed_mtu() -> Outcome {
    let conf = net_conf(Stack::V4, &vxlan());
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &conf, &[])?;
    cluster.take("n1").terminate()?;
    cluster.fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan", "MTU": 1400 })))?;
    cluster.resume("n1")?;
    let n1 = cluster.node("n1");
    let mtu = kernel::existing_link(n1.namespace(), "flannel.1")?["mtu"].clone();
    let file = std::fs::read_to_string(n1.subnet_file()).map_err(|error| unreadable(&error))?;
    ensure!(file.contains(&format!("FLANNEL_MTU={mtu}\n")), "the device has MTU {mtu}, subnet.env says:\n{file}");
    // flannel takes the setting for the underlay's MTU, off which the headers go.
    ensure!(mtu == 1350, "the device's MTU is {mtu}");
    Ok(())
}

fn adopt() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    n1.namespace().ip(
        "link add flannel.1 address 02:00:00:00:00:11 mtu 1450 type vxlan id 1 dstport 8472 local 192.168.1.11 dev eth0 nolearning\n\
         link set flannel.1 up",
    )?;
    let before = kernel::existing_link(n1.namespace(), "flannel.1")?;
    let _daemon = n1.start_netd(&[])?;
    let after = kernel::existing_link(n1.namespace(), "flannel.1")?;
    for field in ["ifindex", "address", "mtu"] {
        ensure!(before[field] == after[field], "{field} was {} and is {}", before[field], after[field]);
    }
    let record = netd_tests::peer::read(n1.store(), "n1")?;
    ensure!(record["BackendData"]["VtepMAC"] == "02:00:00:00:00:11", "the store holds another MAC: {record}");
    Ok(())
}

fn rebuild(options: &str) -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    n1.namespace().ip(&format!("link add flannel.1 type vxlan {options} dev eth0"))?;
    let _daemon = n1.start_netd(&[])?;
    let data = kernel::existing_link(n1.namespace(), "flannel.1")?["linkinfo"]["info_data"].clone();
    let seen = (data["id"].clone(), data["port"].clone(), data["local"].clone(), data["learning"].clone());
    let wanted = (json!(1), json!(8472), json!("192.168.1.11"), json!(false));
    ensure!(seen == wanted, "VNI, port, local address, learning are {seen:?}");
    Ok(())
}
