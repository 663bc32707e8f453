//! Others' texts: on a terminal, in a log line and in a plan they are escaped and cut.

use libtest_mimic::Trial;
use netd_tests::etcd::{Door, Etcd};
use netd_tests::suite::test;
use netd_tests::{Outcome, Peer, Stack, ensure, eventually, net_conf, seconds};
use serde_json::{Value, json};

use crate::hostile_bed::{Bed, fabric, said, stranger, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = ["plan", "status", "doctor"]
        .into_iter()
        .map(|verb| test(format!("records put no words of their own into netd {verb}"), move || printed(verb)))
        .collect();
    trials.push(test("records put no words of their own into the log", logged));
    trials.push(test("a key of etcd makes no line of the log", forged_by_key));
    trials.push(test("a backend's name in the configuration makes no line of the log", forged_by_conf));
    trials
}

/// A command on a line of its own, a title for the terminal, an empty screen, and letters from right to left.
const HARM: &str = "x\nip route flush table main\n\u{1b}]0;mine\u{7}\u{1b}[2J\u{9b}2J\u{202e}\u{2066}";

fn harm() -> String {
    HARM.to_owned() + &"y".repeat(2000)
}

/// Records with harm in each field that is a text, in the store and read.
fn written() -> Outcome<Bed> {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let of = |n: u8, field: &str, value: Value| stranger(&format!("evil{n}"), n).set(field, value);
    let none = || Value::Null;
    let records: [Peer; 6] = [
        // The lists would say more than the backend's name.
        of(100, "BackendType", harm().into())
            .set("BackendData", json!({}))
            .set("Receives", none())
            .set("Sends", none()),
        of(101, "PublicIP", harm().into()),
        of(102, "Subnet", harm().into()),
        of(103, "BackendData", json!({ "VNI": 1, "VtepMAC": harm() })),
        of(104, "Receives", json!([{ "Type": harm() }])),
        of(105, "Sends", json!([{ "Type": "vxlan", "VNI": harm() }])),
    ];
    records.iter().try_for_each(|record| bed.write(record))?;
    bed.caught_up()?;
    Ok(bed)
}

/// Fails where a text has what is no text, a line of somebody else's, or much of one.
fn clean(text: &str) -> Outcome {
    let is_bidi = |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || is_bidi(c));
    ensure!(bad.is_none(), "{bad:?} is in {text:?}");
    let line = text.lines().find(|line| line.trim_start().starts_with("ip route flush"));
    ensure!(line.is_none(), "a line of the record's is in\n{text}");
    ensure!(!text.contains(&"y".repeat(257)), "more than 256 bytes of a record's text are in {text:?}");
    Ok(())
}

fn printed(verb: &str) -> Outcome {
    let bed = written()?;
    let arguments: &[&str] = if verb == "plan" { &["--ip-masq"] } else { &[] };
    let output = bed.node().run_netd(verb, arguments)?;
    ensure!(matches!(output.status.code(), Some(0 | 2)), "it ended with {}: {}", output.status, said(&output));
    clean(&said(&output))
}

fn logged() -> Outcome {
    let bed = written()?;
    let log = bed.cluster.daemon("n1").log();
    ensure!(log.contains("evil101"), "nothing of it is logged: {log}");
    clean(&log)
}

const LINE: &str = "2026-01-01T00:00:00.000000Z ERROR the disk is full, run rm -rf /var/lib";

fn no_such_line(log: &str) -> Outcome {
    let line = log.lines().find(|line| line.starts_with("2026-01-01T00:00:00"));
    ensure!(line.is_none(), "the log has the line {line:?}");
    Ok(())
}

fn forged_by_key() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &["etcd"])?;
    let etcd = Etcd::start(fabric.node("etcd"), fabric.disk(), Door::Open)?;
    etcd.put(fabric.node("etcd"), "config", &net_conf(Stack::V4, &vxlan()).to_string())?;
    let daemon = fabric.node("n1").start_netd(&["--etcd-endpoints=http://192.168.1.13:2379"])?;
    let record =
        r#"{"PublicIP":"192.168.1.66","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:02:42"}}"#;
    etcd.put(fabric.node("etcd"), &format!("subnets/10.244.66.0-24\n{LINE}"), record)?;
    etcd.put(fabric.node("etcd"), "subnets/10.244.67.0-24", &record.replace("66", "67").replace("42", "43"))?;
    netd_tests::node::routed(fabric.node("n1"), "10.244.67.0/24", true)?;
    no_such_line(&daemon.log())
}

fn forged_by_conf() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    let conf = net_conf(Stack::V4, &json!({ "Type": format!("vxlan\n{LINE}\u{1b}[2J") }));
    bed.cluster.fabric.write_net_conf(&conf)?;
    let daemon = bed.cluster.daemon("n1");
    eventually(seconds(10), "the name is refused", || {
        ensure!(daemon.log().contains("the disk is full"), "it says {}", daemon.log());
        Ok(())
    })?;
    no_such_line(&daemon.log())?;
    clean(&daemon.log())
}
