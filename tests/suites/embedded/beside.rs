//! A kube-proxy beside netd's proxy, and those who only answer as it does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use netd_tests::services::{Answering, ServicesDir, await_endpoints, service};
use netd_tests::{
    Cluster, Context, Fabric, Node, Outcome, Stack, Topology, ensure, eventually, health, net_conf, seconds,
};
use nix::unistd::{Uid, setfsuid};
use serde_json::json;

use crate::{document, readyz, table};

/// Rules that kube-proxy makes and no other one.
const RULES: &str = "nft add table ip kube-proxy; nft add chain ip kube-proxy services";

/// Who answers as kube-proxy does at its port for metrics, on a node, as this account. It ends with what is returned.
fn stand_in(node: &Node, account: u32) -> Outcome<Answering> {
    let listen = || {
        // A socket has the account of the thread that makes it, and the thread ends with this.
        setfsuid(Uid::from_raw(account));
        TcpListener::bind("127.0.0.1:10249")
    };
    Answering::at(node.namespace().within(listen)?.context("listen")?, |stream, _| answer(stream))
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    // Unread words would reset the connection.
    let mut request = BufReader::new(stream.try_clone()?).lines();
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = r#"{"kubeproxy.config.k8s.io": {}}"#;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Machines, and a folder with the Service `web`, which has no endpoints.
fn prepared() -> Outcome<(Fabric, String)> {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan" })))?;
    let services = ServicesDir::new(&fabric.disk().join("services"))?;
    services.write("web.yaml", &service("web", "10.96.0.10", "", ""))?;
    Ok((fabric, format!("--services-dir={}", services.path())))
}

/// Waits until the proxy is in this state, for a reason with `part` in it, and has tables or none.
fn await_state(node: &Node, state: &str, part: &str, has_table: bool) -> Outcome {
    eventually(seconds(120), &format!("the proxy of {} is {state}: {part}", node.name()), || {
        let proxy = &document(node)?["proxy"];
        let why = proxy["why"].as_str().unwrap_or_default();
        ensure!(proxy["state"] == state && why.contains(part), "it is {proxy}");
        ensure!(table(node) == has_table, "netd's table is {}", if has_table { "missing" } else { "there" });
        Ok(())
    })
}

pub(crate) fn gives_way() -> Outcome {
    let (fabric, dir) = prepared()?;
    fabric.node("n1").namespace().shell(RULES)?;
    let kube_proxy = stand_in(fabric.node("n1"), 0)?;
    let cluster = Cluster::on(fabric, &["--ip-masq", &dir, health::FLAG])?;
    let n1 = cluster.node("n1");
    let has_rules = || n1.namespace().run("nft list table ip kube-proxy").is_ok();
    await_state(n1, "LeftToKubeProxy", "kube-proxy answers on 127.0.0.1:10249", false)?;
    ensure!(readyz(n1)?.contains(" 200 "), "/readyz says {}", readyz(n1)?);

    // It ends. One that is just started again would have its Services still.
    drop(kube_proxy);
    await_state(n1, "LeftToKubeProxy", "no kube-proxy is seen", false)?;
    ensure!(has_rules(), "the rules of a kube-proxy that may start again are gone");
    await_state(n1, "Programmed", "", true)?;
    await_endpoints(n1, "default/web", 0)?;
    eventually(seconds(60), "the rules that kube-proxy left are removed", || {
        ensure!(!has_rules(), "they are there");
        Ok(())
    })?;

    // It begins again, where its port is in use.
    n1.namespace().shell(RULES)?;
    await_state(n1, "LeftToKubeProxy", "kube-proxy has made its rules", false)?;
    ensure!(has_rules(), "the rules of a kube-proxy that has begun are gone");
    n1.namespace().run("nft delete table ip kube-proxy")?;
    await_state(n1, "Programmed", "", true)
}

pub(crate) fn pretends() -> Outcome {
    let (fabric, dir) = prepared()?;
    let _nobody = stand_in(fabric.node("n1"), 65534)?;
    let root = stand_in(fabric.node("n2"), 0)?;
    let cluster = Cluster::on(fabric, &["--ip-masq", &dir, health::FLAG])?;
    let (n1, n2) = (cluster.node("n1"), cluster.node("n2"));
    await_state(n2, "Starting", "somebody answers on 127.0.0.1:10249 as kube-proxy does", false)?;
    await_endpoints(n1, "default/web", 0)?;
    await_state(n2, "Programmed", "", true)?;
    let log = cluster.daemon("n2").log();
    ensure!(log.matches("somebody answers").count() == 1, "it is not logged once: {log}");
    drop(root);
    Ok(())
}
