//! Every pair of pods, in every backend, pod family and underlay: ping, TCP and UDP each way, untranslated, and the way
//! that the packets took on the wire.

use std::process::ExitCode;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Node, Outcome, PacketPath, Pod, Sniffer, Stack, Topology, ensure, eventually, fail, net_conf, seconds,
};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Vxlan,
    HostGw,
    Direct,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Vxlan, Self::HostGw, Self::Direct];

    fn conf(self) -> Value {
        match self {
            Self::Vxlan => json!({ "Type": "vxlan" }),
            Self::HostGw => json!({ "Type": "host-gw" }),
            Self::Direct => json!({ "Type": "vxlan", "DirectRouting": true }),
        }
    }

    /// Plain routes need every node on one segment.
    fn topology(self, underlay: Stack) -> Topology {
        if self == Self::HostGw { Topology::one_segment(underlay) } else { Topology::two_segments(underlay) }
    }

    /// Whether packets of `family` go plain between two nodes.
    fn is_plain(self, family: Family, underlay: Stack, from: &Node, to: &Node) -> bool {
        // A plain route of one family can have a gateway of the other only as IPv4 via IPv6 (RFC 8950).
        let routable = underlay.has(family) || family == Family::V4;
        match self {
            Self::Vxlan => false,
            Self::HostGw => true,
            Self::Direct => routable && from.segment() == to.segment(),
        }
    }
}

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials: Vec<Trial> = Vec::new();
        for backend in Backend::ALL {
            for pods in Stack::ALL {
                for underlay in Stack::ALL {
                    let name = format!("{backend:?}/{pods:?} pods/{underlay:?} underlay");
                    // The kernel has no IPv6 route with an IPv4 gateway.
                    let impossible = backend == Backend::HostGw && pods.has(Family::V6) && !underlay.has(Family::V6);
                    trials.push(if impossible {
                        test(format!("{name} is refused"), move || refused(pods))
                    } else {
                        test(name, move || all_pairs(backend, pods, underlay))
                    });
                }
            }
        }
        trials
    })
}

fn all_pairs(backend: Backend, pods: Stack, underlay: Stack) -> Outcome {
    let conf = net_conf(pods, &backend.conf());
    let cluster = Cluster::start(&backend.topology(underlay), &conf, &["--ip-masq"])?;
    let placed = [("n1", "a"), ("n1", "b"), ("n2", "c"), ("n3", "d")];
    let pods: Vec<(&Node, Pod)> = placed
        .into_iter()
        .map(|(node, name)| Ok((cluster.node(node), cluster.pod(node, name)?)))
        .collect::<Outcome<_>>()?;
    let segments = 1..=u8::try_from(cluster.fabric.segments.len()).unwrap_or(u8::MAX);
    let sniffers: Vec<Sniffer> = segments.map(|segment| cluster.fabric.sniffer(segment)).collect::<Outcome<_>>()?;
    for (index, (from, source)) in pods.iter().enumerate() {
        for (_, (to, destination)) in pods.iter().enumerate().filter(|(other, _)| *other != index) {
            for (family, address) in destination.addresses().iter().filter(|_| from.name() != to.name()) {
                let plain = backend.is_plain(family, underlay, from, to);
                // A node sends plain only after it has published that. Until then it takes the tunnel.
                eventually(seconds(10), &format!("{} has its way to {address}", from.name()), || {
                    let route = from.namespace().run(&format!("ip route get {address}"))?;
                    ensure!(plain != route.contains("dev flannel"), "it is {route}");
                    Ok(())
                })
                .map_err(|failure| cluster.with_logs(failure))?;
            }
            cluster.settle(source, destination)?;
            sniffers.iter().for_each(Sniffer::forget);
            cluster.talk(source, destination)?;
            for (family, address) in destination.addresses().iter() {
                let plain = backend.is_plain(family, underlay, from, to);
                let wire = Wire { sniffers: &sniffers, from, to, plain };
                wire.took(source, destination, family).map_err(|failure| {
                    cluster.with_logs(netd_tests::Failure::new(format!("to {address}: {failure}")))
                })?;
            }
        }
    }
    Ok(())
}

/// Where packets between two nodes were listened to, and how they should travel.
struct Wire<'a> {
    sniffers: &'a [Sniffer],
    from: &'a Node,
    to: &'a Node,
    plain: bool,
}

impl Wire<'_> {
    fn took(&self, source: &Pod, destination: &Pod, family: Family) -> Outcome {
        let (own, other) = (source.address(family)?, destination.address(family)?);
        if self.from.name() == self.to.name() {
            // Translated or not. The last packet of an earlier talk may still come from a pod of another node.
            let is_from_here = |address| address == own || self.from.addresses().iter().any(|(_, of)| *of == address);
            let mut packets = self.sniffers.iter().flat_map(Sniffer::seen);
            let outside = packets.find(|packet| packet.destination == other && is_from_here(packet.source));
            return outside.map_or(Ok(()), |packet| fail!("a packet between pods of one node left it: {packet}"));
        }
        let way = self.sniffers[usize::from(self.from.segment() - 1)].path_of(own, other)?;
        match way {
            PacketPath::Plain => ensure!(self.plain, "{own} > {other} went plain, a tunnel was expected"),
            PacketPath::Tunnel { from, to, port, vni } => {
                ensure!(!self.plain, "{own} > {other} went through a tunnel, plain was expected");
                let is_of = |address, node: &Node| node.addresses().iter().any(|(_, own)| *own == address);
                ensure!(is_of(from, self.from) && is_of(to, self.to), "the tunnel has other ends: {way}");
                ensure!((port, vni) == (8472, 1), "the tunnel has another port or VNI: {way}");
            }
        }
        Ok(())
    }
}

fn refused(pods: Stack) -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(pods, &Backend::HostGw.conf()))?;
    let mut daemon = fabric.node("n1").launch_netd(&[])?;
    let status = daemon.await_end()?;
    let log = daemon.log();
    ensure!(status.code() == Some(1), "netd ended with {status}: {log}");
    ensure!(log.contains("IPv6") && log.contains("host-gw"), "the error does not say what is impossible: {log}");
    eventually(seconds(1), "nothing is left half done", || {
        ensure!(!fabric.node("n1").subnet_file().exists(), "subnet.env was written");
        Ok(())
    })
}
