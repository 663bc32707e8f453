//! TCP through netd's tunnel against TCP through a VXLAN made by hand, on the same two machines, in turns.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::types::Family;
use serde_json::json;

use super::figures::{note, quantile, to_f64};
use super::process::Process;
use crate::cluster::{Cluster, net_conf};
use crate::failure::{Context, Outcome};
use crate::kernel;
use crate::namespace::Namespace;
use crate::topology::{Stack, Topology};

const BLOCKS: usize = 14;
const BLOCK: Duration = Duration::from_millis(450);
const CHUNK: usize = 128 * 1024;

/// What one block gave: megabits a second, and milliseconds of processor time for each gigabyte.
#[derive(Default)]
struct Blocks {
    rate: Vec<f64>,
    cost: Vec<f64>,
}

/// Two ends of a way, and the address of the second.
struct Ends<'a> {
    from: &'a Namespace,
    to: &'a Namespace,
    address: IpAddr,
}

/// Prints the table.
pub(super) fn measure() -> Outcome {
    println!(
        "{:<34} {:>9} {:>9} {:>18} {:>9} {:>9} {:>18}",
        "TCP, one stream", "Mbit/s", "by hand", "ratio (p10-p90)", "CPU ms/GB", "by hand", "ratio (p10-p90)"
    );
    under(false)?;
    under(true)?;
    note(&format!(
        "medians of {BLOCKS} blocks of {} ms each, in turns; CPU: the sender's and the receiver's, with what the kernel did on their account",
        BLOCK.as_millis()
    ));
    note(
        "by hand: the same MTU, entries, bridge and cables, without netd's forwarding rules; masquerading by one rule",
    );
    Ok(())
}

/// Measures with or without masquerading, on both sides.
fn under(masquerade: bool) -> Outcome {
    let conf = net_conf(Stack::V4, &json!({ "Type": "vxlan" }));
    let topology = Topology::one_segment(Stack::V4).with("h4", 1).with("h5", 1);
    let arguments: &[&str] = if masquerade { &["--ip-masq"] } else { &[] };
    let cluster = Cluster::start(&topology, &conf, arguments)?;
    let (one, two) = (cluster.node("n1"), cluster.node("n2"));
    let pods = (cluster.pod("n1", "a")?, cluster.pod("n2", "b")?);
    cluster.settle(&pods.0, &pods.1)?;
    let hands = ["h4", "h5"].map(|name| cluster.node(name));
    for (number, (own, other)) in (1..).zip([(hands[0], hands[1]), (hands[1], hands[0])]) {
        by_hand(own.namespace(), own.address(Family::V4), other.address(Family::V4), number, 3 - number)?;
        if masquerade {
            own.namespace().shell(MASQUERADE)?;
        }
    }
    let also = if masquerade { ", masquerading" } else { "" };
    let far = kernel::addresses(two.namespace(), "flannel.1")?;
    let ours = Ends { from: one.namespace(), to: two.namespace(), address: *far.first().context("no address")? };
    let theirs = Ends { from: hands[0].namespace(), to: hands[1].namespace(), address: [10, 60, 2, 0].into() };
    row(&format!("tunnel end to end{also}"), &ours, &theirs)?;
    let (here, there) = (pod_by_hand(hands[0].namespace(), 1)?, pod_by_hand(hands[1].namespace(), 2)?);
    let ours = Ends { from: pods.0.namespace(), to: pods.1.namespace(), address: pods.1.address(Family::V4)? };
    let theirs = Ends { from: &here, to: &there, address: [10, 60, 2, 2].into() };
    row(&format!("pod to pod{also}"), &ours, &theirs)
}

/// What a person would write.
const MASQUERADE: &str = "nft add table ip hand; \
    nft 'add chain ip hand postrouting { type nat hook postrouting priority srcnat; }'; \
    nft add rule ip hand postrouting ip saddr 10.60.0.0/16 ip daddr != 10.60.0.0/16 masquerade";

fn row(label: &str, ours: &Ends<'_>, theirs: &Ends<'_>) -> Outcome {
    let mut blocks = [Blocks::default(), Blocks::default()];
    for round in 0..=BLOCKS {
        let mut pair = [(0, ours), (1, theirs)];
        // Each goes first as often as the other.
        if round % 2 == 1 {
            pair.reverse();
        }
        for (place, ends) in pair {
            let (rate, cost) = stream(ends)?;
            // The first block of each finds caches and neighbours cold.
            if round > 0 {
                blocks[place].rate.push(rate);
                blocks[place].cost.push(cost);
            }
        }
    }
    let [ours, theirs] = blocks;
    let rates = against(&ours.rate, &theirs.rate);
    let costs = against(&ours.cost, &theirs.cost);
    println!("{label:<34} {rates} {costs}");
    Ok(())
}

/// Both medians, and the ratio block by block: its median and from the tenth to the ninetieth percentile.
fn against(ours: &[f64], theirs: &[f64]) -> String {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(one, other)| one / other).collect();
    let [low, middle, high] = [10, 50, 90].map(|percent| quantile(&ratios, percent));
    let (ours, theirs) = (quantile(ours, 50), quantile(theirs, 50));
    format!("{ours:>9.0} {theirs:>9.0} {:>18}", format!("{middle:.3} ({low:.2}-{high:.2})"))
}

/// One block.
fn stream(ends: &Ends<'_>) -> Outcome<(f64, f64)> {
    let address = SocketAddr::new(ends.address, 0);
    let listener = ends.to.within(|| TcpListener::bind(address))?.context("listen")?;
    let address = listener.local_addr().context("listen")?;
    let receiver = thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; CHUNK];
        let mut sum = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(sum),
                length => sum += length as u64,
            }
        }
    });
    let mut sender = ends.from.within(|| TcpStream::connect(address))?.context("connect")?;
    let itself = Process(std::process::id());
    let (begun, before) = (Instant::now(), itself.cpu()?);
    let buffer = vec![0; CHUNK];
    while begun.elapsed() < BLOCK {
        sender.write_all(&buffer).context("send")?;
    }
    drop(sender);
    let sum = receiver.join().ok().context("the receiver broke")?.context("receive")?;
    let (took, used) = (begun.elapsed(), itself.cpu()?.saturating_sub(before));
    let gigabytes = to_f64(sum) / 1e9;
    Ok((gigabytes * 8000.0 / took.as_secs_f64(), used.as_secs_f64() * 1000.0 / gigabytes))
}

/// The same tunnel end as netd makes, by `ip` and `bridge`: `10.60.<number>.0`.
fn by_hand(namespace: &Namespace, own: IpAddr, other: IpAddr, number: u8, others: u8) -> Outcome {
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    let mac = |number: u8| format!("02:60:00:00:00:{number:02x}");
    namespace.ip(&format!(
        "link add hand address {} mtu 1450 type vxlan id 60 local {own} dev eth0 dstport 8472 nolearning\n\
         link set hand up\n\
         addr add 10.60.{number}.0/32 dev hand\n\
         neigh add 10.60.{others}.0 lladdr {} dev hand nud permanent\n\
         route add 10.60.{others}.0/24 via 10.60.{others}.0 dev hand onlink",
        mac(number),
        mac(others),
    ))?;
    namespace.run(&format!("bridge fdb add {} dev hand dst {other} self permanent", mac(others))).map(drop)
}

/// A bridge `10.60.<number>.1` and a pod `.2` on it, as the plugin makes them.
fn pod_by_hand(node: &Namespace, number: u8) -> Outcome<Namespace> {
    let pod = Namespace::new("hand")?;
    node.ip(&format!(
        "link add cni0 mtu 1450 type bridge\n\
         addr add 10.60.{number}.1/24 brd + dev cni0\n\
         link set cni0 up\n\
         link add veth0 mtu 1450 numtxqueues 1 numrxqueues 1 type veth peer name eth0 mtu 1450 numtxqueues 1 numrxqueues 1 netns {}\n\
         link set veth0 master cni0 up\n\
         link set veth0 type bridge_slave hairpin on",
        pod.name(),
    ))?;
    pod.ip(&format!(
        "addr add 10.60.{number}.2/24 brd + dev eth0\nlink set eth0 up\nroute add default via 10.60.{number}.1"
    ))?;
    Ok(pod)
}
