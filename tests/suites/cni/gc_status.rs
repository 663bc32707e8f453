//! GC and STATUS (cases 36 to 39).

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Namespace, Outcome, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("GC of nothing valid removes one network's and no other's", nothing_valid),
        test("GC keeps what is valid, by its whole name", keeps),
        test("GC goes on after an error", goes_on),
        test("GC without a list removes nothing", no_list),
        test("STATUS says whether ADD would work", status),
    ]
}

fn three() -> Outcome<(Bed, Vec<Namespace>)> {
    let mut bed = Bed::new()?;
    bed.conf["cniVersion"] = json!("1.1.0");
    let pods: Vec<_> = ["a", "b", "c"].into_iter().map(Namespace::new).collect::<Outcome<_>>()?;
    for (pod, container) in pods.iter().zip(["cid", "cid1", "other"]) {
        bed.set("CNI_CONTAINERID", container).set("CNI_NETNS", pod.path().to_string_lossy()).succeed("ADD")?;
    }
    Ok((bed, pods))
}

fn valid(containers: &[&str]) -> Value {
    containers.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect()
}

fn nothing_valid() -> Outcome {
    let (mut bed, _pods) = three()?;
    let other = Namespace::new("d")?;
    bed.conf["name"] = json!("net1");
    bed.conf["ipam"]["rangeStart"] = json!("10.9.0.100");
    bed.set("CNI_NETNS", other.path().to_string_lossy()).succeed("ADD")?;
    bed.conf["name"] = json!("net0");
    for key in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        bed.env.remove(key);
    }
    bed.conf["cni.dev/valid-attachments"] = json!([]);
    bed.quiet("GC")?;
    ensure!(bed.reservations().is_empty(), "{:?}", bed.reservations());
    ensure!(bed.veths()?.len() == 1, "the other network's pod stays: {:?}", bed.veths()?);
    ensure!(bed.disk.path().join("net1/10.9.0.100").exists(), "and its reservation");
    Ok(())
}

fn keeps() -> Outcome {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let (mut bed, _pods) = three()?;
        bed.conf[key] = valid(&["cid1"]);
        bed.quiet("GC")?;
        ensure!(bed.reservations() == ["10.9.0.3"], "{:?}", bed.reservations());
        ensure!(bed.veths()?.len() == 1, "{:?}", bed.veths()?);
        bed.node.run("ping -c 1 -W 2 10.9.0.3")?;
    }
    Ok(())
}

fn goes_on() -> Outcome {
    let (mut bed, _pods) = three()?;
    let blocked = bed.disk.path().join("net0/10.9.0.1");
    std::fs::create_dir(&blocked).context("make a directory in a reservation's place")?;
    bed.conf["cni.dev/valid-attachments"] = json!([]);
    bed.refused("GC", &[5], "10.9.0.1")?;
    std::fs::remove_dir(blocked).context("remove the directory")?;
    bed.is_clean()
}

fn no_list() -> Outcome {
    let (bed, _pods) = three()?;
    bed.refused("GC", &[7], "valid-attachments")?;
    ensure!(bed.reservations().len() == 3, "a list that was forgotten is no empty list");
    Ok(())
}

fn status() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["cniVersion"] = json!("1.1.0");
    bed.quiet("STATUS")?;
    bed.conf["ipam"]["rangeEnd"] = json!("10.9.0.2");
    bed.succeed("ADD")?;
    bed.refused("STATUS", &[50], "no IP addresses available")?;
    bed.quiet("DEL")?;
    bed.quiet("STATUS")?;
    bed.conf["ipam"] = json!({"dataDir": bed.disk.path()});
    bed.conf["subnetFile"] = json!("/nowhere/subnet.env");
    bed.refused("STATUS", &[50], "subnet.env").map(drop)
}
