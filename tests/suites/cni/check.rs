//! CHECK: silent where all is as ADD made it, an error for each thing that is not (cases 33 to 35).

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, ensure};

use crate::bed::{BRIDGE, Bed};

/// What is wrong, what CHECK must say, and how it came to be.
type Spoiled = (&'static str, &'static str, fn(&Bed) -> Outcome);

pub(crate) fn trials() -> Vec<Trial> {
    let spoiled: [Spoiled; 8] = [
        ("a lost address", "address", |bed| bed.pod.ip("addr del 10.9.0.2/24 dev eth0")),
        ("a lost default route", "route 0.0.0.0/0", |bed| bed.pod.ip("route del default")),
        ("a port off the bridge", "no port", |bed| {
            let port = bed.veths()?.pop().context("a port")?;
            bed.node.ip(&format!("link set {port} nomaster"))
        }),
        ("a pod's end that is down", "is down", |bed| bed.pod.ip("link set eth0 down")),
        ("a lost reservation", "Failed to find address", |bed| {
            std::fs::remove_file(bed.disk.path().join("net0/10.9.0.2")).context("remove the reservation")
        }),
        ("another hardware address", "hardware address", |bed| bed.pod.ip("link set eth0 address 02:00:00:00:00:77")),
        ("a bridge without its address", "lost its address", |bed| {
            bed.node.ip(&format!("addr del 10.9.0.1/24 dev {BRIDGE}"))
        }),
        ("a lost pod's end", "gone", |bed| bed.pod.ip("link del eth0")),
    ];
    let spoil = |(name, text, how): Spoiled| {
        test(format!("CHECK sees {name}"), move || {
            let bed = added()?;
            how(&bed)?;
            bed.refused("CHECK", &[102], text)?;
            ensure!(bed.call("DEL")?.succeeded, "DEL still works");
            bed.is_clean()
        })
    };
    let mut trials: Vec<_> = spoiled.into_iter().map(spoil).collect();
    trials.push(test("CHECK right after ADD, each time", right_after));
    trials.push(test("CHECK needs prevResult", without_result));
    trials
}

fn added() -> Outcome<Bed> {
    let mut bed = Bed::new()?;
    bed.conf["prevResult"] = bed.succeed("ADD")?;
    Ok(bed)
}

fn right_after() -> Outcome {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let mut bed = Bed::new()?;
        bed.conf["cniVersion"] = version.into();
        for _ in 0..30 {
            bed.conf["prevResult"] = bed.succeed("ADD")?;
            bed.quiet("CHECK")?;
            bed.quiet("DEL")?;
            bed.conf["prevResult"].take();
        }
    }
    Ok(())
}

fn without_result() -> Outcome {
    let bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.refused("CHECK", &[7], "prevResult").map(drop)
}
