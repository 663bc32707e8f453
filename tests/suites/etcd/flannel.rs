//! Real flanneld beside netd, netd in its place, and flanneld back.

use std::net::IpAddr;

use libtest_mimic::Trial;
use netd_tests::etcd::{Etcd, PREFIX};
use netd_tests::flanneld::Flanneld;
use netd_tests::mixed::{Store, every_order, topology};
use netd_tests::suite::test;
use netd_tests::{
    Fabric, Namespace, Node, Outcome, Pod, Stack, Topology, ensure, eventually, kernel, net_conf, seconds,
};
use serde_json::json;

use dataplane::types::Family;

use crate::bed::{Bed, ENDPOINT, key_at, key_of};

pub(crate) fn trials() -> Vec<Trial> {
    let cases = [("vxlan", Stack::V4), ("vxlan", Stack::Dual), ("host-gw", Stack::V4), ("host-gw", Stack::Dual)];
    let trials = |(backend, stack)| {
        let of = |what: &str| format!("{what}/{backend} {stack:?}");
        [
            test(of("flanneld beside netd, replaced by netd, and back"), move || both(backend, stack)),
            test(of("flanneld and netd join, restart and leave in every order"), move || mixed(backend, stack)),
        ]
    };
    cases.into_iter().flat_map(trials).collect()
}

/// flannel's keys.
struct Keys {
    etcd: Etcd,
}

impl Store for Keys {
    fn of_netd(&self, _: &Node) -> Vec<String> {
        vec![ENDPOINT.to_owned()]
    }

    fn of_flanneld(&self) -> Vec<String> {
        vec![ENDPOINT.to_owned()]
    }

    fn admit(&self, _: &Node) -> Outcome {
        Ok(())
    }

    /// As when its lease has ended.
    fn expel(&self, fabric: &Fabric, node: &Node) -> Outcome {
        let machine = fabric.node("etcd");
        let (key, _, _) = key_at(&self.etcd, machine, node.address(Family::V4))?;
        self.etcd.ctl(machine, &["del", &format!("{PREFIX}/subnets/{key}")]).map(drop)
    }
}

fn mixed(backend: &str, stack: Stack) -> Outcome {
    let mut bed = Bed::on(&topology(backend, stack).with("etcd", 1))?;
    bed.put("config", &net_conf(stack, &json!({ "Type": backend })).to_string())?;
    every_order(&mut bed.fabric, &Keys { etcd: bed.etcd })
}

fn both(backend: &str, stack: Stack) -> Outcome {
    let bed = Bed::on(&Topology::one_segment(stack).with("etcd", 1))?;
    bed.put("config", &net_conf(stack, &json!({ "Type": backend })).to_string())?;
    let flanneld = Flanneld::start(bed.node("n2"), ENDPOINT)?;
    let n1 = bed.node("n1").start_netd(&[ENDPOINT])?;
    let n3 = bed.node("n3").start_netd(&[ENDPOINT])?;
    let n2 = bed.node("n2").namespace();
    let (key, wrote, lease) = key_of(&bed.etcd, bed.machine(), 12)?;
    // Pods of n2's, without their interfaces.
    let there: Vec<IpAddr> = key.split('&').filter_map(pod_in).collect();
    for address in &there {
        n2.ip(&format!("addr add {address} dev lo"))?;
    }
    let pods = [Pod::add(bed.node("n1"), "a")?, Pod::add(bed.node("n3"), "c")?];
    let talk = || pods.iter().try_for_each(|pod| talk(pod, n2, &there));
    talk().map_err(|failure| flanneld.with_logs(failure.with("n1", &n1.log())))?;
    let device = |wanted: &str| -> Outcome {
        if backend == "vxlan" {
            let link = kernel::existing_link(n2, "flannel.1")?;
            let seen = format!("{} {}", link["ifindex"], link["address"]);
            ensure!(wanted.is_empty() || seen == wanted, "the device was {wanted} and is {seen}");
        }
        Ok(())
    };
    let link = kernel::link(n2, "flannel.1")?.unwrap_or_default();
    let before = if link.is_null() { String::new() } else { format!("{} {}", link["ifindex"], link["address"]) };
    drop(flanneld);

    let daemon = bed.node("n2").start_netd(&[ENDPOINT])?;
    let (now, value, kept) = key_of(&bed.etcd, bed.machine(), 12)?;
    ensure!(now == key && kept == lease, "n2 had {key} with the lease {lease:x}, and has {now} with {kept:x}");
    ensure!(value.starts_with(wrote.trim_end_matches('}')), "flannel wrote\n{wrote}\nand netd\n{value}");
    device(&before)?;
    talk().map_err(|failure| failure.with("n1", &n1.log()).with("n2", &daemon.log()))?;
    daemon.terminate()?;

    let flanneld = Flanneld::start(bed.node("n2"), ENDPOINT)?;
    let (now, value, _) = key_of(&bed.etcd, bed.machine(), 12)?;
    ensure!(now == key && value == wrote, "n2 had {key}\n{wrote}\nand has {now}\n{value}");
    device(&before)?;
    talk().map_err(|failure| flanneld.with_logs(failure.with("n1", &n1.log()).with("n3", &n3.log())))
}

/// The fifth address of half a key, such as `10.244.1.0-24`.
fn pod_in(half: &str) -> Option<IpAddr> {
    let (first, _) = half.split_once('-')?;
    first.strip_suffix(".0").map_or_else(|| format!("{first}5"), |range| format!("{range}.5")).parse().ok()
}

/// A pod reaches the node's pods, and the other way round.
fn talk(pod: &Pod, node: &Namespace, there: &[IpAddr]) -> Outcome {
    for address in there {
        let here = pod.address(Family::of(*address))?;
        eventually(seconds(30), &format!("{} and {address} reach each other", pod.name()), || {
            pod.namespace().run(&format!("ping -n -q -c 1 -W 1 {address}"))?;
            node.run(&format!("ping -n -q -c 1 -W 1 -I {address} {here}")).map(drop)
        })?;
    }
    Ok(())
}
