//! Who sees whose address: the decisions of masquerading, and a host that drops what it forwards.

use std::net::IpAddr;
use std::process::ExitCode;

use dataplane::types::Family;
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Namespace, Node, Outcome, Pod, Stack, Topology, ensure, eventually, flow, net_conf, seconds,
};
use serde_json::json;

type Decision = (&'static str, fn(&Bed) -> Outcome);

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        for family in Family::BOTH {
            let decisions: [Decision; 6] = [
                ("a pod is masqueraded to the outside", outward),
                ("pods see each other as they are", between),
                ("a client outside keeps its address to a pod of the node", inward),
                ("a client outside is masqueraded to a pod of another node", through),
                ("a node's own address is masqueraded to a pod of another node", from_node),
                ("what kube-proxy marked is left to it, whatever other bits", marked),
            ];
            for (name, decision) in decisions {
                trials.push(test(format!("{name}/{family}"), move || decision(&Bed::build(family, &["--ip-masq"])?)));
            }
            let without = move || unmasqueraded(&Bed::build(family, &[])?);
            trials.push(test(format!("without --ip-masq a pod keeps its address/{family}"), without));
            trials.push(test(format!("a FORWARD policy of DROP does not stop pods/{family}"), move || dropped(family)));
            for blocker in [Blocker::Nftables, Blocker::Legacy] {
                let name = format!("what blocks pods is logged with its remedy/{blocker:?}/{family}");
                trials.push(test(name, move || opened(blocker, family)));
            }
        }
        trials
    })
}

/// Nodes n1 and n3 with a pod each, and a host outside on n1's segment that knows the way to pods through n1.
struct Bed {
    family: Family,
    a: Pod,
    d: Pod,
    cluster: Cluster,
}

impl Bed {
    fn build(family: Family, arguments: &[&str]) -> Outcome<Self> {
        let topology = Topology::two_segments(Stack::Dual).with("outside", 1);
        let cluster = Cluster::start(&topology, &net_conf(Stack::Dual, &json!({ "Type": "vxlan" })), arguments)?;
        let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
        cluster.settle(&a, &d)?;
        let bed = Self { family, a, d, cluster };
        let through = bed.node("n1").address(family);
        for range in [netd_tests::cluster::NETWORK, netd_tests::cluster::IPV6_NETWORK] {
            if range.contains(':') == (family == Family::V6) {
                bed.outside().run(&format!("ip route add {range} via {through}"))?;
            }
        }
        Ok(bed)
    }

    fn node(&self, name: &str) -> &Node {
        self.cluster.node(name)
    }

    fn outside(&self) -> &Namespace {
        self.node("outside").namespace()
    }

    /// Whom a server sees, by TCP and by UDP.
    fn seen(&self, client: &Namespace, server: &Namespace, address: IpAddr, wanted: &[IpAddr]) -> Outcome {
        for (name, exchange) in [("TCP", flow::tcp as fn(_, _, _) -> _), ("UDP", flow::udp)] {
            let seen: IpAddr = exchange(client, server, address).map_err(|failure| self.cluster.with_logs(failure))?;
            ensure!(wanted.contains(&seen), "{name} to {address} came from {seen}, one of {wanted:?} was expected");
        }
        Ok(())
    }
}

fn outward(bed: &Bed) -> Outcome {
    let server = bed.node("outside").address(bed.family);
    bed.seen(bed.a.namespace(), bed.outside(), server, &[bed.node("n1").address(bed.family)])
}

fn between(bed: &Bed) -> Outcome {
    bed.cluster.talk(&bed.a, &bed.d)?;
    bed.cluster.talk(&bed.d, &bed.a)
}

fn inward(bed: &Bed) -> Outcome {
    let client = bed.node("outside").address(bed.family);
    bed.seen(bed.outside(), bed.a.namespace(), bed.a.address(bed.family)?, &[client])
}

fn through(bed: &Bed) -> Outcome {
    let wanted = own_addresses(bed)?;
    bed.seen(bed.outside(), bed.d.namespace(), bed.d.address(bed.family)?, &wanted)
}

/// The route to the pods prefers the VTEP's address, so the node gets a source route with the one of eth0.
fn from_node(bed: &Bed) -> Outcome {
    let n1 = bed.node("n1");
    let (own, pod) = (n1.address(bed.family), bed.d.address(bed.family)?);
    let wanted = own_addresses(bed)?;
    let sniffer = netd_tests::Sniffer::start(bed.d.namespace())?;
    n1.namespace().run(&format!("ping -n -q -c 1 -W 4 -I {own} {pod}"))?;
    let packet = sniffer.find("the request at the pod", |packet| packet.destination == pod)?;
    ensure!(wanted.contains(&packet.source), "the pod saw {}, one of {wanted:?} was expected", packet.source);
    Ok(())
}

/// The addresses that n1 has inside the pods' network: of its VTEP and, where pods live, of the bridge.
fn own_addresses(bed: &Bed) -> Outcome<Vec<IpAddr>> {
    let links = bed.node("n1").namespace().json("ip -j address show")?;
    let of_link = |link: &serde_json::Value| -> Vec<IpAddr> {
        let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
        addresses.iter().filter_map(|address| address["local"].as_str()?.parse().ok()).collect()
    };
    let vteps = links.iter().filter(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("flannel")));
    Ok(vteps.flat_map(of_link).filter(|address| Family::of(*address) == bed.family).collect())
}

fn marked(bed: &Bed) -> Outcome {
    let family = if bed.family == Family::V4 { "ip" } else { "ip6" };
    bed.node("n1").namespace().shell(&format!(
        "nft add table {family} marks
         nft add chain {family} marks pre '{{ type filter hook prerouting priority -150; }}'
         nft add rule {family} marks pre iifname cni0 meta mark set 0xc000"
    ))?;
    let server = bed.node("outside").address(bed.family);
    bed.seen(bed.a.namespace(), bed.outside(), server, &[bed.a.address(bed.family)?])
}

fn unmasqueraded(bed: &Bed) -> Outcome {
    let server = bed.node("outside").address(bed.family);
    bed.seen(bed.a.namespace(), bed.outside(), server, &[bed.a.address(bed.family)?])
}

/// Either pods talk all the same, or netd says what blocks them.
fn dropped(family: Family) -> Outcome {
    let fabric = Topology::two_segments(Stack::Dual).build()?;
    fabric.write_net_conf(&net_conf(Stack::Dual, &json!({ "Type": "vxlan" })))?;
    let (n1, n3) = (fabric.node("n1"), fabric.node("n3"));
    for node in [n1, n3] {
        node.namespace().run("iptables -P FORWARD DROP")?;
        node.namespace().run("ip6tables -P FORWARD DROP")?;
    }
    let (one, _three) = (n1.start_netd(&["--ip-masq"])?, n3.start_netd(&["--ip-masq"])?);
    let (a, d) = (Pod::add(n1, "a")?, Pod::add(n3, "d")?);
    let reached = eventually(seconds(5), "pods to talk", || flow::ping(a.namespace(), d.address(family)?));
    let said = one.log().contains("FORWARD");
    ensure!(reached.is_ok() || said, "pods cannot talk, and netd does not say what blocks them:\n{}", one.log());
    Ok(())
}

/// What an operator has on a node that drops what it forwards, and that is not ours to write to.
#[derive(Debug, Clone, Copy)]
enum Blocker {
    Nftables,
    Legacy,
}

/// netd says what blocks pods; what it says to type lets them talk, and it takes note of that.
fn opened(blocker: Blocker, family: Family) -> Outcome {
    let cluster = {
        let fabric = Topology::two_segments(Stack::Dual).build()?;
        fabric.write_net_conf(&net_conf(Stack::Dual, &json!({ "Type": "vxlan" })))?;
        fabric.node("n1").namespace().shell(match (blocker, family) {
            (Blocker::Nftables, _) => {
                "nft add table inet other
                 nft add chain inet other pass '{ type filter hook forward priority 0; policy drop; }'
                 nft add rule inet other pass tcp dport 1 accept"
            }
            (Blocker::Legacy, Family::V4) => "iptables-legacy -P FORWARD DROP",
            (Blocker::Legacy, Family::V6) => "ip6tables-legacy -P FORWARD DROP",
        })?;
        Cluster::on(fabric, &["--iptables-resync", "1"])?
    };
    let (n1, message) = (cluster.node("n1"), "drops forwarded packets of pods; to let them pass: ");
    cluster.daemon("n1").await_log(message, seconds(5))?;
    let log = cluster.daemon("n1").log();
    let remedy = log.lines().find_map(|line| Some(line.split_once(message)?.1.to_owned())).unwrap_or_default();
    let (a, d) = (cluster.pod("n1", "a")?, cluster.pod("n3", "d")?);
    let address = d.address(family)?;
    for name in ["n1", "n3"] {
        eventually(seconds(5), "routes to both peers in both families", || {
            let routes = cluster
                .node(name)
                .namespace()
                .shell("ip route show type unicast proto 110; ip -6 route show type unicast proto 110")?;
            ensure!(routes.lines().count() == 4, "{name} has the routes {routes}");
            Ok(())
        })?;
    }
    let silent = a.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}")).is_err();
    ensure!(silent, "nothing keeps the pods from talking");

    n1.namespace().shell(&remedy)?;
    eventually(seconds(5), "pods to talk", || flow::ping(a.namespace(), address))
        .map_err(|failure| cluster.with_logs(failure))?;
    cluster.daemon("n1").await_log("no longer: chain", seconds(5))
}
