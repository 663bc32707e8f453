//! What `notrack` for the tunnel's own packets saves: entries of the nodes' conntrack tables, and packets a second, with netd's two
//! chains and without them, in turns on the same two nodes.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dataplane::types::Family;
use serde_json::json;

use super::figures::{note, quantile, to_f64};
use crate::cluster::{Cluster, net_conf};
use crate::ensure;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::topology::{Stack, Topology};

/// Inner flows, as many as there are source ports from the first.
const FLOWS: u16 = 10_000;
const FIRST_PORT: u16 = 20_000;
/// Sockets that are open at once.
const AT_ONCE: usize = 500;
/// Packets of each flow.
const PACKETS: u32 = 5;
const ROUNDS: usize = 7;
const CHAINS: [&str; 2] = ["tunnel-received", "tunnel-sent"];

/// What the rounds gave: entries of the first and of the second node, packets a second.
#[derive(Default)]
struct Rounds {
    entries: [Vec<f64>; 2],
    rate: Vec<f64>,
}

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan" }));
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &conf, &["--ip-masq"])?;
    let (from, to) = (cluster.pod("n1", "a")?, cluster.pod("n2", "b")?);
    cluster.settle(&from, &to)?;
    // A running one would put the chains back.
    for name in ["n1", "n2"] {
        cluster.take(name).terminate()?;
    }
    let nodes = ["n1", "n2"].map(|name| cluster.node(name).namespace());
    let sides = [Side::of(nodes[0])?, Side::of(nodes[1])?];
    let mut rounds = [Rounds::default(), Rounds::default()];
    for round in 0..=ROUNDS {
        // Each goes first as often as the other.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for place in order {
            for side in &sides {
                side.set(place == 0)?;
            }
            let (entries, rate) = flows(nodes, &from, &to)?;
            // The first round of each finds caches cold.
            if round > 0 {
                rounds[place].rate.push(rate);
                for (all, count) in rounds[place].entries.iter_mut().zip(entries) {
                    all.push(count);
                }
            }
        }
    }
    print(&rounds);
    Ok(())
}

/// A node's two chains.
struct Side<'n> {
    node: &'n Namespace,
    /// As `nft` prints them, the first name first.
    text: String,
    /// What deletes them.
    delete: String,
}

impl<'n> Side<'n> {
    fn of(node: &'n Namespace) -> Outcome<Self> {
        let tables = node.run("nft list tables inet")?;
        let table = tables.lines().find(|line| line.contains(" netd")).context("netd has no table")?;
        let table = table.trim_start_matches("table ").to_owned();
        let mut text = String::new();
        for chain in CHAINS {
            text.push_str(&node.run(&format!("nft list chain {table} {chain}"))?);
        }
        ensure!(text.matches("notrack").count() == CHAINS.len(), "not each chain has its rule: {text}");
        let delete = CHAINS.map(|chain| format!("nft delete chain {table} {chain}")).join("\n");
        Ok(Self { node, text, delete })
    }

    fn set(&self, wanted: bool) -> Outcome {
        let is_there = self.node.run("nft list chains inet")?.contains(CHAINS[0]);
        match (wanted, is_there) {
            (true, false) => self.node.shell(&format!("nft -f - <<'EOF'\n{}\nEOF", self.text)).map(drop),
            (false, true) => self.node.shell(&self.delete).map(drop),
            _ => Ok(()),
        }
    }
}

fn print([with, without]: &[Rounds; 2]) {
    let title = format!("{FLOWS} UDP flows between pods");
    println!(
        "{title:<34} {:>14} {:>14} {:>14} {:>18}",
        "entries on n1", "entries on n2", "packets/s", "ratio (p10-p90)"
    );
    let ratios: Vec<f64> = with.rate.iter().zip(&without.rate).map(|(one, other)| one / other).collect();
    let [low, middle, high] = [10, 50, 90].map(|percent| quantile(&ratios, percent));
    let ratio = format!("{middle:.3} ({low:.2}-{high:.2})");
    for (label, Rounds { entries: [first, second], rate }, ratio) in
        [("netd's notrack", with, ratio.as_str()), ("without its two chains", without, "")]
    {
        let [first, second, rate] = [first, second, rate].map(|numbers| quantile(numbers, 50));
        println!("{label:<34} {first:>14.0} {second:>14.0} {rate:>14.0} {ratio:>18}");
    }
    note(&format!(
        "medians of {ROUNDS} rounds in turns, {PACKETS} packets of each flow; entries: all of the node, the flows' own included"
    ));
}

/// Sends the flows' packets from empty tables: the entries that they leave, and packets a second.
fn flows(nodes: [&Namespace; 2], from: &Pod, to: &Pod) -> Outcome<([f64; 2], f64)> {
    for node in nodes {
        node.run("conntrack -F")?;
    }
    let address = to.address(Family::V4)?;
    // Nobody reads: what is beyond its buffer is dropped behind all that is measured.
    let receiver = to.namespace().within(|| UdpSocket::bind((address, 0)))?.context("take a port")?;
    let receiver = receiver.local_addr().context("take a port")?;
    let before = received(to)?;
    let ports: Vec<u16> = (FIRST_PORT..FIRST_PORT + FLOWS).collect();
    let mut took = Duration::ZERO;
    for ports in ports.chunks(AT_ONCE) {
        took += from.namespace().within(|| send(ports, receiver))?.context("send")?;
    }
    let wanted = u64::from(FLOWS) * u64::from(PACKETS);
    let arrived = received(to)? - before;
    ensure!(arrived >= wanted, "{arrived} of {wanted} packets have arrived");
    let mut entries = [0.0; 2];
    for (count, node) in entries.iter_mut().zip(nodes) {
        *count = node.run("conntrack -C")?.trim().parse().context("a count")?;
    }
    Ok((entries, to_f64(wanted) / took.as_secs_f64()))
}

/// The time that it takes to send these flows' packets: a virtual cable carries each to the other end within the call.
fn send(ports: &[u16], to: SocketAddr) -> std::io::Result<Duration> {
    let sockets: Vec<UdpSocket> =
        ports.iter().map(|port| UdpSocket::bind(("0.0.0.0", *port))).collect::<Result<_, _>>()?;
    for socket in &sockets {
        socket.connect(to)?;
    }
    let begun = Instant::now();
    for _ in 0..PACKETS {
        for socket in &sockets {
            socket.send(&[0; 64])?;
        }
    }
    Ok(begun.elapsed())
}

/// Packets that a pod's interface has received.
fn received(pod: &Pod) -> Outcome<u64> {
    let link = pod.namespace().json("ip -s -j link show eth0")?;
    let link = link.first().context("a pod has eth0")?;
    link["stats64"]["rx"]["packets"].as_u64().context(format!("no count in {link}"))
}
