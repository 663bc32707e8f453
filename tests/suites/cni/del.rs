//! DEL: succeeds whatever is gone already, removes whatever is left (cases 28 to 32).

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, ensure};
use serde_json::json;

use crate::bed::{BRIDGE, Bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("DEL as often as one likes", again),
        test("DEL without a namespace", without_namespace),
        test("DEL after the namespace is gone", namespace_gone),
        test("DEL after the reservations are gone", state_gone),
        test("a DEL that failed can be repeated", repeated),
        test("DEL whatever else the configuration says", other_configuration),
        test("pods of the reference plugins", reference_pods),
        test("what a killed ADD or DEL leaves, the next DEL removes", killed),
    ]
}

fn again() -> Outcome {
    let bed = Bed::new()?;
    bed.quiet("DEL")?;
    bed.succeed("ADD")?;
    bed.quiet("DEL")?;
    bed.is_clean()?;
    ensure!(bed.interface().is_err(), "the pod's end is gone when DEL returns");
    bed.quiet("DEL")?;
    bed.succeed("ADD").map(drop)
}

fn without_namespace() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.set("CNI_NETNS", "").quiet("DEL")?;
    bed.is_clean()
}

fn namespace_gone() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.pod.remove()?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

fn state_gone() -> Outcome {
    let bed = Bed::new()?;
    bed.succeed("ADD")?;
    std::fs::remove_dir_all(bed.disk.path().join("net0")).context("remove the reservations")?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

fn repeated() -> Outcome {
    let bed = Bed::new()?;
    bed.succeed("ADD")?;
    let path = bed.disk.path().to_string_lossy().into_owned();
    mount(&["--bind", &path, &path])?;
    mount(&["-o", "remount,bind,ro", &path])?;
    let error = bed.refused("DEL", &[5], "")?;
    let message = error["msg"].as_str().unwrap_or_default();
    ensure!(!message.to_lowercase().contains("not found"), "containerd would not repeat it: {message}");
    run(Command::new("umount").arg(&path))?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

fn mount(arguments: &[&str]) -> Outcome {
    run(Command::new("mount").args(arguments))
}

fn run(command: &mut Command) -> Outcome {
    let status = command.status().context("start mount")?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn other_configuration() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.conf["mtu"] = json!("many");
    bed.conf["bridge"] = json!("another");
    bed.conf["ipam"]["subnet"] = json!("10.9.0.0/31");
    bed.set("CNI_ARGS", "FOO").quiet("DEL")?;
    bed.is_clean()
}

fn killed() -> Outcome {
    let bed = Bed::new()?;
    for (verb, delay) in (0..40).map(|n| (if n % 2 == 0 { "ADD" } else { "DEL" }, Duration::from_micros(n * 75))) {
        if verb == "DEL" {
            bed.succeed("ADD")?;
        }
        bed.killed(verb, delay)?;
        bed.quiet("DEL")?;
        bed.is_clean()?;
        ensure!(bed.interface().is_err(), "{verb} killed after {delay:?}: the pod's end is gone");
    }
    bed.succeed("ADD").map(drop)
}

fn reference_pods() -> Outcome {
    let mut bed = Bed::new()?;
    // What bridge and host-local leave of a pod: a host end with a random name, a reservation, no index.
    let pod = bed.pod.name().to_owned();
    bed.node.ip(&format!("link add {BRIDGE} type bridge\nlink add veth0a1b2c3d type veth peer name tmp0"))?;
    bed.node.ip(&format!("link set veth0a1b2c3d master {BRIDGE} up\nlink set tmp0 netns {pod}"))?;
    bed.pod.ip("link set tmp0 name eth0")?;
    std::fs::create_dir(bed.disk.path().join("net0")).context("make the directory")?;
    std::fs::write(bed.disk.path().join("net0/10.9.0.5"), "cid0\r\neth0").context("write the reservation")?;
    bed.set("CNI_CONTAINERID", "cid0").quiet("DEL")?;
    bed.is_clean()?;
    ensure!(bed.interface().is_err(), "the pod's end is gone");
    Ok(())
}
