//! The harness against itself, without netd: what it builds is there, what it says is so, and nothing stays.

#[path = "harness/interrupted.rs"]
mod interrupted;

use std::net::IpAddr;
use std::process::ExitCode;

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::flow::{self, Stream};
use netd_tests::suite::test;
use netd_tests::{Namespace, Outcome, PacketPath, Snapshot, Stack, Topology, ensure, eventually, seconds};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials: Vec<Trial> = Stack::ALL
            .into_iter()
            .map(|underlay| {
                test(format!("machines reach each other across the router/{underlay:?}"), move || reach(underlay))
            })
            .collect();
        trials.push(test("a machine is reached again after a reboot", rebooted));
        trials.push(test("the sniffer distinguishes a tunnelled from a plain packet", ways));
        trials.push(test("a translated source is noticed", translated));
        trials.push(test("a lost packet is counted", lost));
        trials.push(test("a snapshot finds what was left", leftovers));
        trials.push(test("a namespace goes when dropped", dropped));
        trials.push(interrupted::trial());
        trials
    })
}

fn reach(underlay: Stack) -> Outcome {
    let fabric = Topology::two_segments(underlay).build()?;
    let (n1, n3) = (fabric.node("n1"), fabric.node("n3"));
    for family in Family::BOTH.into_iter().filter(|family| underlay.has(*family)) {
        let sniffer = fabric.sniffer(2)?;
        let (source, address) = (n1.address(family), n3.address(family));
        flow::all(n1.namespace(), source, n3.namespace(), address)?;
        ensure!(sniffer.path_of(source, address)? == PacketPath::Plain, "nothing made a tunnel");
    }
    Ok(())
}

fn rebooted() -> Outcome {
    let mut fabric = Topology::two_segments(Stack::Dual).build()?;
    for _ in 0..2 {
        for family in Family::BOTH {
            let (n1, n2, n3) = (fabric.node("n1"), fabric.node("n2"), fabric.node("n3"));
            n1.namespace().ip("neigh flush dev eth0")?;
            flow::all(n1.namespace(), n1.address(family), n2.namespace(), n2.address(family))?;
            flow::all(n3.namespace(), n3.address(family), n2.namespace(), n2.address(family))?;
        }
        fabric.reboot("n2")?;
    }
    Ok(())
}

/// Two machines with a VXLAN device each, made by hand.
fn ways() -> Outcome {
    let fabric = Topology::two_segments(Stack::V4).build()?;
    let (n1, n3) = (fabric.node("n1"), fabric.node("n3"));
    let inside: [IpAddr; 2] = [[10, 99, 0, 1].into(), [10, 99, 0, 3].into()];
    let outside = [n1.address(Family::V4), n3.address(Family::V4)];
    for (node, own, other) in [(n1, 0, 1), (n3, 1, 0)] {
        node.namespace().ip(&format!(
            "link add vx0 type vxlan id 77 dstport 4789 local {} remote {}\naddr add {}/24 dev vx0\nlink set vx0 up",
            outside[own], outside[other], inside[own]
        ))?;
    }
    let sniffer = fabric.sniffer(1)?;
    flow::all(n1.namespace(), inside[0], n3.namespace(), inside[1])?;
    let way = sniffer.path_of(inside[0], inside[1])?;
    let wanted = PacketPath::Tunnel { from: outside[0], to: outside[1], port: 4789, vni: 77 };
    ensure!(way == wanted, "{wanted} was expected, {way} seen");
    Ok(())
}

fn translated() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let (n1, n2) = (fabric.node("n1"), fabric.node("n2"));
    n1.namespace().ip("addr add 10.99.0.1/32 dev lo")?;
    n1.namespace().run("ip route replace 192.168.1.12/32 dev eth0 src 10.99.0.1")?;
    n2.namespace().ip("route add 10.99.0.1/32 via 192.168.1.11")?;
    let (own, address) = (IpAddr::from([10, 99, 0, 1]), n2.address(Family::V4));
    flow::all(n1.namespace(), own, n2.namespace(), address)?;
    n1.namespace().shell(
        "nft add table ip t; nft add chain ip t post '{ type nat hook postrouting priority 100; }'
         nft add rule ip t post ip saddr 10.99.0.1 snat to 192.168.1.11",
    )?;
    let seen = flow::tcp(n1.namespace(), n2.namespace(), address)?;
    ensure!(seen == n1.address(Family::V4), "the server saw {seen}");
    let verdict = flow::all(n1.namespace(), own, n2.namespace(), address);
    ensure!(verdict.is_err(), "the translation went unnoticed");
    Ok(())
}

fn lost() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let (n1, n2) = (fabric.node("n1"), fabric.node("n2"));
    let address = n2.address(Family::V4);
    flow::ping(n1.namespace(), address)?;
    let stream = Stream::start(n1.namespace(), address)?;
    let sniffer = fabric.sniffer(1)?;
    sniffer.path_of(n1.address(Family::V4), address)?;
    stream.nothing_lost()?;

    let stream = Stream::start(n1.namespace(), address)?;
    sniffer.forget();
    sniffer.path_of(n1.address(Family::V4), address)?;
    fabric.segments[0].ip("link set n2 down")?;
    sniffer.forget();
    for _ in 0..5 {
        sniffer.path_of(n1.address(Family::V4), address)?;
    }
    ensure!(stream.nothing_lost().is_err(), "five packets were lost unnoticed");
    Ok(())
}

fn leftovers() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let namespace = fabric.node("n1").namespace();
    let folders = [fabric.disk().to_owned()];
    fabric.node("n1").await_interface()?;
    let before = Snapshot::take(namespace, &folders)?;
    before.same_as(&Snapshot::take(namespace, &folders)?)?;

    let leave_and_clear: [(&str, &str); 4] = [
        ("ip link add cni0 type bridge", "ip link del cni0"),
        ("ip route add blackhole 10.9.0.0/24", "ip route del blackhole 10.9.0.0/24"),
        ("nft add table ip netd", "nft delete table ip netd"),
        ("ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0", "ip neigh del 10.9.0.1 dev eth0"),
    ];
    for (leave, clear) in leave_and_clear {
        namespace.run(leave)?;
        ensure!(before.same_as(&Snapshot::take(namespace, &folders)?).is_err(), "`{leave}` went unnoticed");
        namespace.run(clear)?;
        before.same_as(&Snapshot::take(namespace, &folders)?)?;
    }
    namespace.run(&format!("touch {}/left", fabric.disk().display()))?;
    ensure!(before.same_as(&Snapshot::take(namespace, &folders)?).is_err(), "a file went unnoticed");
    Ok(())
}

fn dropped() -> Outcome {
    let namespace = Namespace::new("short")?;
    let path = namespace.path().to_owned();
    ensure!(path.exists(), "{} is not there", path.display());
    drop(namespace);
    eventually(seconds(1), "the name to go", || {
        ensure!(!path.exists(), "{} is still there", path.display());
        Ok(())
    })
}
