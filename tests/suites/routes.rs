//! Plain routes: host-gw, and `DirectRouting` beside the tunnel, decided for each peer and again when things change.

use std::net::IpAddr;
use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::suite::test;
use netd_tests::{Cluster, Outcome, PacketPath, Peer, Stack, Topology, ensure, eventually, kernel, net_conf, seconds};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:50";

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("G1 a peer that moves has one route, to its new address", moved),
            test("G2 a route that is deleted or bent comes back", healed),
            test("G2 a route that somebody signed in place of ours stays, and netd says what to type", usurped),
            test("G3 host-gw behind NAT is refused", nat),
            test("DirectRouting follows a peer behind a router and back", direct_and_back),
            test("DirectRouting is decided again when the underlay's routes change", underlay_changes),
            test("a peer behind a router gets no plain route from host-gw", unreachable),
        ]
    })
}

fn host_gw() -> Value {
    net_conf(Stack::V4, &json!({ "Type": "host-gw" }))
}

fn gateway(cluster: &Cluster, range: &str, wanted: Option<&str>) -> Outcome {
    eventually(seconds(5), &format!("the route to {range}"), || {
        let route = kernel::route(cluster.node("n1").namespace(), Family::V4, range)?;
        let seen = route.as_ref().and_then(|route| route["gateway"].as_str());
        ensure!(seen == wanted, "its gateway is {seen:?}, {wanted:?} is wanted");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

fn moved() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &host_gw(), &[])?;
    let store = &cluster.fabric.store;
    Peer::host_gw("p1", "10.244.80.0/24", "192.168.1.80").write(store)?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))?;
    Peer::host_gw("p1", "10.244.80.0/24", "192.168.1.81").write(store)?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.81"))?;
    Peer::host_gw("p1", "10.244.80.0/24", "192.168.1.81").remove(store)?;
    gateway(&cluster, "10.244.80.0/24", None)
}

fn healed() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &host_gw(), &[])?;
    Peer::host_gw("p1", "10.244.80.0/24", "192.168.1.80").write(&cluster.fabric.store)?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))?;
    for harm in ["ip route del 10.244.80.0/24", "ip route replace 10.244.80.0/24 via 192.168.1.12"] {
        cluster.node("n1").namespace().run(harm)?;
        gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))?;
    }
    Ok(())
}

/// A route that somebody signed stays, and netd says what to type.
fn usurped() -> Outcome {
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &host_gw(), &[])?;
    Peer::host_gw("p1", "10.244.80.0/24", "192.168.1.80").write(&cluster.fabric.store)?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))?;
    cluster.node("n1").namespace().run("ip route replace 10.244.80.0/24 via 192.168.1.12 proto static")?;
    let remedy = "ip route delete 10.244.80.0/24 via 192.168.1.12";
    cluster.daemon("n1").await_log(remedy, seconds(5))?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.12"))?;
    cluster.node("n1").namespace().run(remedy)?;
    gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))
}

fn nat() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&host_gw())?;
    let mut daemon = fabric.node("n1").launch_netd(&["--public-ip", "203.0.113.1"])?;
    let status = daemon.await_end()?;
    let log = daemon.log();
    ensure!(status.code() == Some(1), "netd ended with {status}");
    let text = "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by \
                host-gw backend";
    ensure!(log.contains(text), "flannel's text is missing: {log}");
    Ok(())
}

/// The peer first says that it is on the segment, then that it is behind the router, then back again.
fn direct_and_back() -> Outcome {
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan", "DirectRouting": true }));
    let cluster = Cluster::start(&Topology::two_segments(Stack::V4), &conf, &[])?;
    let peer = |address: &str| Peer::vxlan("p1", "10.244.80.0/24", address, MAC).write(&cluster.fabric.store);
    for _ in 0..2 {
        peer("192.168.1.80")?;
        gateway(&cluster, "10.244.80.0/24", Some("192.168.1.80"))?;
        entries(&cluster, None)?;
        peer("192.168.2.80")?;
        gateway(&cluster, "10.244.80.0/24", Some("10.244.80.0"))?;
        entries(&cluster, Some("192.168.2.80"))?;
    }
    Ok(())
}

/// What n1 has on its device for the peer with [`MAC`].
fn entries(cluster: &Cluster, end: Option<&str>) -> Outcome {
    let namespace = cluster.node("n1").namespace();
    let end: Option<IpAddr> = end.and_then(|text| text.parse().ok());
    eventually(seconds(5), "the tunnel's entries to follow", || {
        let fdb = kernel::fdb(namespace)?.into_iter().find(|(mac, _)| mac == MAC).map(|(_, end)| end);
        let neighbour = kernel::neighbours(namespace)?.iter().any(|(_, mac)| mac == MAC);
        // Entries of a peer that is reached plainly may be kept ready, but never lead elsewhere.
        ensure!(end.is_none() || (fdb == end && neighbour), "FDB {fdb:?}, neighbour {neighbour}");
        Ok(())
    })
    .map_err(|failure| cluster.with_logs(failure))
}

/// A route through the router to a node of the same segment, and back.
fn underlay_changes() -> Outcome {
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan", "DirectRouting": true }));
    let cluster = Cluster::start(&Topology::two_segments(Stack::V4), &conf, &[])?;
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    let (from, to) = (a.address(Family::V4)?, c.address(Family::V4)?);
    let takes = |plain: bool| {
        let sniffer = cluster.fabric.sniffer(1)?;
        eventually(seconds(5), "the way to change", || {
            sniffer.forget();
            netd_tests::flow::ping(a.namespace(), to)?;
            let way = sniffer.path_of(from, to)?;
            ensure!((way == PacketPath::Plain) == plain, "the packet went {way}");
            Ok(())
        })
        .map_err(|failure| cluster.with_logs(failure))
    };
    takes(true)?;
    cluster.node("n1").namespace().run("ip route add 192.168.1.12/32 via 192.168.1.1")?;
    takes(false)?;
    cluster.node("n1").namespace().run("ip route del 192.168.1.12/32 via 192.168.1.1")?;
    takes(true)
}

fn unreachable() -> Outcome {
    let cluster = Cluster::start(&Topology::two_segments(Stack::V4), &host_gw(), &[])?;
    let (a, c, d) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?, cluster.pod("n3", "d")?);
    cluster.settle(&a, &c)?;
    cluster.talk(&a, &c)?;
    let log = || cluster.daemon("n1").log();
    ensure!(netd_tests::flow::tcp(a.namespace(), d.namespace(), d.address(Family::V4)?).is_err(), "n3 was reached");
    ensure!(log().contains("n3"), "netd does not say that n3 cannot be reached: {}", log());
    Ok(())
}
