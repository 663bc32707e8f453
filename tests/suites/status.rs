//! Looking inside: `netd status` of a netd that runs, one that is dead, and two on one host; health and metrics over HTTP.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, ExitCode, Output, Stdio};

use netd_tests::health::{PORT, ask};
use netd_tests::suite::test;
use netd_tests::{
    Cluster, Context, Fabric, Node, Outcome, Peer, Stack, Topology, ensure, eventually, kernel, net_conf, peer, seconds,
};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("status shows peers, ways and why, as table, JSON and YAML", running),
            test("status of a killed netd says so and shows the kernel", killed),
            test("status --watch prints each change and the end", watched),
            test("status shows what failed, and since when", failed),
            test("two netds on one host have two sockets", two),
            test("a second netd for one subnet file does not start", robbed),
            test("H1 /readyz is 503, 200, and 503 again while something is wrong", readiness),
            test("H1 a busy port is a clear error before anything is touched", busy_port),
            test("H1 health over IPv6, and nothing else is answered", health_ipv6),
            test("metrics count a repair", metrics),
        ]
    })
}

fn vxlan() -> Value {
    json!({ "Type": "vxlan" })
}

fn fabric(conf: &Value) -> Outcome<Fabric> {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(conf)?;
    Ok(fabric)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `netd status` in a format: exit code and text.
fn status(node: &Node, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
    let output = node.run_netd("status", arguments)?;
    Ok((output.status.code(), said(&output)))
}

fn document(node: &Node) -> Outcome<Value> {
    let (code, text) = status(node, &["-o", "json"])?;
    serde_json::from_str(&text).context(format!("exit {code:?}, it says\n{text}"))
}

/// The sockets next to a node's subnet file.
fn sockets(node: &Node) -> Outcome<Vec<PathBuf>> {
    let folder = node.subnet_file().parent().context("the file is in a folder")?.to_owned();
    let entries = std::fs::read_dir(folder).context("list the folder")?;
    let sockets = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    Ok(sockets.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sock")).collect())
}

fn running() -> Outcome {
    let conf = net_conf(Stack::Dual, &json!({ "Type": "vxlan", "DirectRouting": true }));
    let mut cluster = Cluster::start(&Topology::two_segments(Stack::Dual), &conf, &[])?;
    Peer::host_gw("stranger", "10.244.200.0/24", "192.168.1.200").write(&cluster.fabric.store)?;
    let n1 = cluster.node("n1");
    let own = peer::read(n1.store(), "n1")?;
    // The routes to a peer follow what the two have published by then, so they may change a few times.
    eventually(seconds(10), "n1 knows the others and the routes to them", || {
        let seen = document(n1)?;
        ensure!(seen["peers"].as_object().is_some_and(|peers| peers.len() == 3), "its status is {seen:#}");
        ensure!(seen["running"] == true && seen["ready"] == true, "its status is {seen:#}");
        ensure!(seen["node"]["lease"]["subnets"][0] == own["Subnet"], "its lease is {:#}", seen["node"]["lease"]);
        let (near, far) = (&seen["peers"]["n2"]["ways"], &seen["peers"]["n3"]["ways"]);
        for family in 0..2 {
            ensure!(near[family]["way"] == "direct" && near[family]["programmed"] == true, "the way to n2 is {near:#}");
            ensure!(far[family]["way"] == "tunnel" && far[family]["programmed"] == true, "the way to n3 is {far:#}");
        }
        ensure!(far[0]["to"] == "192.168.2.13", "the way to n3 is {far:#}");
        let none = &seen["peers"]["stranger"]["ways"][0];
        ensure!(
            none["way"] == "none" && none["why"].to_string().contains("host-gw"),
            "the way to stranger is {none:#}"
        );
        let problems = &seen["problems"];
        ensure!(problems.to_string().contains("stranger"), "a full run has not reported stranger yet: {problems:#}");
        ensure!(seen["lastReconcile"]["failed"] == 0 && seen["lastFullRead"].is_string(), "its status is {seen:#}");
        Ok(())
    })?;

    let (code, table) = status(n1, &[])?;
    ensure!(code == Some(0) && table.starts_with("netd ") && table.contains(" on n1: ready\n"), "{code:?}: {table}");
    for part in ["direct via 192.168.1.12", "tunnel to 192.168.2.13", "not on this node's link", "PROBLEMS"] {
        ensure!(table.contains(part), "{part} is not in\n{table}");
    }
    let (code, yaml) = status(n1, &["-oyaml"])?;
    ensure!(code == Some(0) && yaml.contains("\n  n3:\n"), "{code:?}: {yaml}");
    ensure!(yaml.contains("way: tunnel\n") && yaml.contains("\nready: true\n"), "{yaml}");
    let [socket] = &sockets(n1)?[..] else { netd_tests::fail!("{:?}", sockets(n1)?) };
    let mode = std::fs::metadata(socket).context("look at the socket")?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the socket's mode is {mode:o}");
    cluster.take("n1").terminate()?;
    ensure!(sockets(cluster.node("n1"))?.is_empty(), "the socket is still there");
    Ok(())
}

fn killed() -> Outcome {
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    cluster.await_settled()?;
    cluster.take("n1").crash()?;
    let n1 = cluster.node("n1");
    let (code, text) = status(n1, &[])?;
    let first = text.lines().next().unwrap_or_default();
    ensure!(code == Some(3) && first.starts_with("netd is not running on n1"), "exit {code:?}, it says\n{text}");
    for part in ["flannel.1", "proto 110", "(from the store)"] {
        ensure!(text.contains(part), "{part} is not in\n{text}");
    }
    let (code, text) = status(n1, &["-o", "json"])?;
    let seen: Value = serde_json::from_str(&text).context("parse the status")?;
    ensure!(code == Some(3) && seen["running"] == false, "exit {code:?}: {seen:#}");
    let device = &seen["devices"][0];
    ensure!(device["fdb"] == 2 && device["up"] == true && seen["routes"][0].is_string(), "{seen:#}");
    // Its socket is still there, and does not keep the next one from starting.
    ensure!(sockets(n1)?.len() == 1, "{:?}", sockets(n1)?);
    cluster.resume("n1")?;
    let (code, text) = status(cluster.node("n1"), &[])?;
    ensure!(code == Some(0), "exit {code:?}, it says\n{text}");
    cluster.take("n1").crash()?;
    let output = cluster.node("n1").run_netd("cleanup", &[])?;
    ensure!(output.status.success() && sockets(cluster.node("n1"))?.is_empty(), "{}", said(&output));
    Ok(())
}

/// Reads documents until one will do.
fn await_document(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    enough: impl Fn(&Value) -> bool,
) -> Outcome<Value> {
    for line in lines {
        let document = serde_json::from_str(&line.context("read a line")?).context("parse a line")?;
        if enough(&document) {
            return Ok(document);
        }
    }
    netd_tests::fail!("it ended before")
}

/// Ended with the test.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watched() -> Outcome {
    let mut cluster = Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &vxlan()), &[])?;
    let n1 = cluster.node("n1");
    let mut command = n1.netd("status", &["--watch", "-o", "json"])?;
    let mut watcher = Watcher(n1.namespace().spawn(command.stdout(Stdio::piped()))?);
    let mut lines = BufReader::new(watcher.0.stdout.take().context("its output")?).lines();
    await_document(&mut lines, |seen| seen["ready"] == true)?;
    let ghost = Peer::vxlan("ghost", "10.244.200.0/24", "192.168.1.200", "02:00:00:00:02:00");
    ghost.write(&cluster.fabric.store)?;
    await_document(&mut lines, |seen| seen["peers"]["ghost"]["ways"][0]["way"] == "tunnel").context("a peer comes")?;
    ghost.remove(&cluster.fabric.store)?;
    await_document(&mut lines, |seen| seen["peers"]["ghost"].is_null()).context("it goes")?;
    cluster.take("n1").crash()?;
    await_document(&mut lines, |seen| seen["running"] == false).context("netd is killed")?;
    let end = watcher.0.wait().context("wait for it")?;
    ensure!(end.code() == Some(3), "it ended with {end}");
    Ok(())
}

/// Another's route in the place of ours, in one step.
const TAKE_PLACE: &str = "ip route replace 10.244.200.0/24 via 192.168.1.12 proto static";

fn ghost(fabric: &Fabric) -> Outcome {
    Peer::vxlan("ghost", "10.244.200.0/24", "192.168.1.200", "02:00:00:00:02:00").write(&fabric.store)
}

fn failed() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    ghost(&fabric)?;
    let n1 = fabric.node("n1");
    let _daemon = n1.start_netd(&[])?;
    n1.namespace().run(TAKE_PLACE)?;
    eventually(seconds(10), "n1 is not ready", || {
        let (code, text) = status(n1, &[])?;
        ensure!(code == Some(2) && text.contains(" on n1: not ready"), "exit {code:?}, it says\n{text}");
        ensure!(text.contains("(not programmed)") && text.contains("ip route delete 10.244.200.0/24"), "{text}");
        Ok(())
    })?;
    let seen = document(n1)?;
    ensure!(seen["ready"] == false && seen["lastReconcile"]["failed"] == 1, "{seen:#}");
    n1.namespace().run("ip route del 10.244.200.0/24 proto static")?;
    eventually(seconds(10), "n1 is ready", || {
        let seen = document(n1)?;
        ensure!(seen["ready"] == true && seen["problems"] == json!([]), "{seen:#}");
        Ok(())
    })
}

fn two() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _first = n1.start_netd(&[])?;
    let other = fabric.disk().join("other");
    std::fs::create_dir_all(&other).context("make a store")?;
    let conf = json!({ "Network": "10.245.0.0/16", "Backend": { "Type": "vxlan", "VNI": 2 } });
    std::fs::write(other.join("net-conf.json"), conf.to_string()).context("write its net-conf.json")?;
    let (store, file) = (other.to_string_lossy().into_owned(), other.join("subnet.env").to_string_lossy().into_owned());
    let flags = ["--store-dir", &store, "--subnet-file", &file, "--cni-conf-dir", &store];
    let second = n1.start_netd(&flags)?;
    let document = |flags: &[&str]| -> Outcome<Value> {
        let (code, text) = status(n1, &[flags, &["-o", "json"]].concat())?;
        ensure!(code == Some(0), "exit {code:?}, it says\n{text}");
        serde_json::from_str(&text).context("parse the status")
    };
    let (one, two) = (document(&[])?, document(&flags)?);
    let vnis = (&one["node"]["backend"]["vni"], &two["node"]["backend"]["vni"]);
    ensure!(vnis == (&json!(1), &json!(2)) && one["node"]["mark"] != two["node"]["mark"], "{one:#}\n{two:#}");
    second.terminate()?;
    document(&[]).context("the second has ended").map(drop)?;
    let (code, text) = status(n1, &flags)?;
    ensure!(code == Some(3), "exit {code:?}, it says\n{text}");
    Ok(())
}

fn robbed() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _first = n1.start_netd(&[])?;
    let mut second = n1.launch_netd(&[])?;
    let end = second.await_end()?;
    ensure!(end.code() == Some(1) && second.log().contains("another netd answers on"), "{end}: {}", second.log());
    let (code, text) = status(n1, &[])?;
    ensure!(code == Some(0), "exit {code:?}, it says\n{text}");
    Ok(())
}

fn answers(node: &Node, path: &str, code: u16, body: &str) -> Outcome {
    let (line, answer) = ask(node, [127, 0, 0, 1].into(), &format!("GET {path}"))?;
    ensure!(line.contains(&format!(" {code} ")) && answer.ends_with(body), "GET {path}: {answer}");
    Ok(())
}

fn readiness() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    ghost(&fabric)?;
    let n1 = fabric.node("n1");
    // A device of another kind in the place of ours: the network cannot be made.
    n1.namespace().run("ip link add flannel.1 type bridge")?;
    let daemon = n1.launch_netd(&["--healthz-port", "8081"])?;
    let is = |code: u16, body: &str| {
        eventually(seconds(10), &format!("/readyz is {code}"), || answers(n1, "/readyz", code, body))
            .map_err(|failure| failure.with("its log", &daemon.log()))
    };
    daemon.await_log("device of another kind", seconds(10))?;
    answers(n1, "/healthz", 200, "\r\n\r\nnetd is running")?;
    is(503, "\r\n\r\nnetd is not ready yet")?;
    n1.namespace().run("ip link del flannel.1")?;
    is(200, "\r\n\r\nnetd is ready")?;
    n1.namespace().run(TAKE_PLACE)?;
    is(503, "\r\n\r\nnetd is not ready yet")?;
    answers(n1, "/healthz", 200, "\r\n\r\nnetd is running")?;
    n1.namespace().run("ip route del 10.244.200.0/24 proto static")?;
    is(200, "\r\n\r\nnetd is ready")
}

fn busy_port() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _taken = n1.namespace().within(|| TcpListener::bind(("0.0.0.0", PORT)))?.context("take the port")?;
    let mut daemon = n1.launch_netd(&["--healthz-port", "8081"])?;
    let end = daemon.await_end()?;
    let log = daemon.log();
    ensure!(end.code() == Some(1), "it ended with {end}: {log}");
    for part in ["0.0.0.0:8081", "--healthz-ip", "--healthz-port 8081", "in use"] {
        ensure!(log.contains(part), "{part} is not in\n{log}");
    }
    ensure!(kernel::link(n1.namespace(), "flannel.1")?.is_none(), "flannel.1 was made");
    ensure!(!peer::file(n1.store(), "n1").exists() && sockets(n1)?.is_empty(), "something was touched");
    Ok(())
}

fn health_ipv6() -> Outcome {
    let fabric = fabric(&net_conf(Stack::V4, &vxlan()))?;
    let n1 = fabric.node("n1");
    let _daemon = n1.start_netd(&["--healthz-ip", "::1", "--healthz-port", "8081"])?;
    let loopback = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
    for (request, code) in [
        ("GET /healthz", 200),
        ("GET /readyz?verbose", 200),
        ("HEAD /readyz", 200),
        ("GET /", 404),
        ("POST /healthz", 405),
    ] {
        let (line, answer) = ask(n1, loopback, request)?;
        ensure!(line.contains(&format!(" {code} ")), "{request}: {answer}");
    }
    let (_, answer) = ask(n1, loopback, "HEAD /readyz")?;
    ensure!(answer.ends_with("\r\n\r\n"), "HEAD has a body: {answer}");
    ensure!(ask(n1, [127, 0, 0, 1].into(), "GET /healthz").is_err(), "another address answers too");
    Ok(())
}

/// The value of a metric, by its name with labels.
fn metric(node: &Node, name: &str) -> Outcome<f64> {
    let (_, answer) = ask(node, [127, 0, 0, 1].into(), "GET /metrics")?;
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.context(format!("{name} is not in\n{answer}"))?.parse().context(format!("read {name}"))
}

fn metrics() -> Outcome {
    let conf = net_conf(Stack::V4, &vxlan());
    let cluster = Cluster::start(&Topology::one_segment(Stack::V4), &conf, &["--healthz-port", "8081"])?;
    let n1 = cluster.node("n1");
    let is = |name: &str, wanted: f64| {
        eventually(seconds(10), &format!("{name} is {wanted}"), || {
            let value = metric(n1, name)?;
            ensure!((value - wanted).abs() < 0.5, "it is {value}");
            Ok(())
        })
    };
    is("netd_peers_programmed", 2.0)?;
    is("netd_peers_desired", 2.0)?;
    is(r#"netd_peers{family="ipv4",way="tunnel"}"#, 2.0)?;
    is("netd_ready", 1.0)?;
    is("netd_store_trouble_timestamp_seconds", 0.0)?;
    let subnet = peer::read(n1.store(), "n2")?["Subnet"].as_str().context("n2 has a subnet")?.to_owned();
    let repairs = r#"netd_repairs_total{kind="add_route"}"#;
    cluster.await_settled()?;
    let before = metric(n1, repairs)?;
    n1.namespace().run(&format!("ip route del {subnet}"))?;
    is(repairs, before + 1.0)?;
    is(r#"netd_operation_failures_total{kind="add_route"}"#, 0.0)?;
    let (line, answer) = ask(n1, [127, 0, 0, 1].into(), "GET /metrics")?;
    ensure!(line.contains(" 200 ") && answer.ends_with("# EOF\n"), "{answer}");
    ensure!(answer.contains("application/openmetrics-text; version=1.0.0"), "{answer}");
    ensure!(metric(n1, "netd_last_full_read_timestamp_seconds")? > 1e9, "{answer}");
    let histogram = r#"netd_reconcile_duration_seconds_count{trigger="kernel_changed"}"#;
    ensure!(metric(n1, histogram)? >= 1.0, "{answer}");
    Ok(())
}
