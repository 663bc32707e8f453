//! netd-proxy in kube-proxy's place, kube-proxy again, then netd itself in its place, as a user puts them there, while requests go on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use netd_tests::apiserver::{ACCOUNT, PROXY_ACCOUNT};
use netd_tests::kubernetes::CONTROL;
use netd_tests::repeated::{self, Repeated};
use netd_tests::{Context, Namespace, Outcome, ensure, eventually, seconds};
use serde_json::json;

use crate::bed::{Bed, NODES, manifests};
use crate::{deployment, switch};

const TIMEOUT: std::time::Duration = seconds(10);
const PODS: &str = "/api/v1/namespaces/default/pods";
const NODE_PORT: u16 = 30080;

/// Asks for the name of the pod that answers, over a connection that stays open where both want it.
fn name(stream: &mut TcpStream) -> Outcome<String> {
    stream.set_read_timeout(Some(TIMEOUT)).context("bound the wait")?;
    stream.write_all(b"GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n").context("ask a pod")?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        let count = stream.read(&mut part).context("read from a pod")?;
        ensure!(count > 0, "the pod has closed the connection");
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("HTTP/1.1 200"), "a pod answers {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        if body.len() >= length.context("an answer without a length")? {
            return Ok(body.to_owned());
        }
    }
}

/// The same over a connection of its own. To be called in the client's namespace.
pub(crate) fn name_once(to: SocketAddr) -> Outcome<String> {
    name(&mut TcpStream::connect_timeout(&to, TIMEOUT).context(format!("connect to {to}"))?)
}

/// Waits until requests are answered by all of these pods and no other one.
pub(crate) fn answer(namespace: &Namespace, to: SocketAddr, pods: &[&str]) -> Outcome {
    let wanted: BTreeSet<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
    eventually(seconds(60), &format!("{wanted:?} answer at {to}"), || {
        let ask = || (0..30).map(|_| name_once(to)).collect::<Outcome<BTreeSet<_>>>();
        let seen = namespace.within(ask)??;
        ensure!(seen == wanted, "{seen:?} do");
        Ok(())
    })
}

/// Makes a pod an endpoint of the Service `rolling`, or takes it out.
fn member(bed: &Bed, pod: &str, label: Option<&str>) -> Outcome {
    let change = json!({ "metadata": { "labels": { "web": label } } });
    bed.cluster.server.patch(&format!("{PODS}/{pod}"), &change).map(drop)
}

/// Replaces kube-proxy on every node. `web` is a Service whose only endpoint is `pod-n3`.
pub(crate) fn replaces_kube_proxy(bed: &mut Bed, web: IpAddr) -> Outcome {
    let web = SocketAddr::new(web, 80);
    member(bed, "pod-n2", Some("yes"))?;
    member(bed, "pod-n3", Some("yes"))?;
    let port = json!({ "port": 80, "targetPort": 8080, "nodePort": NODE_PORT });
    let rolling = json!({ "metadata": { "name": "rolling" }, "spec": {
        "type": "NodePort", "selector": { "web": "yes" }, "ports": [port] } });
    let rolling = bed.cluster.server.create("/api/v1/namespaces/default/services", &rolling)?;
    let rolling = rolling["spec"]["clusterIP"].as_str().unwrap_or_default();
    let rolling = SocketAddr::new(rolling.parse().context("read a clusterIP")?, 80);
    let node_port = SocketAddr::new(bed.cluster.fabric.node("n1").first_address(), NODE_PORT);
    // The control plane's machine is outside of the pods' network, and no node.
    let outside = bed.cluster.server.namespace().again();
    let pod = bed.pods[0].namespace().again();
    for (from, to) in [(&pod, rolling), (&outside, node_port)] {
        answer(from, to, &["pod-n2", "pod-n3"])?;
    }

    let new = |from: &Namespace, to| Repeated::start(from, move || name_once(to).map(drop));
    let connect = || TcpStream::connect_timeout(&web, TIMEOUT);
    let mut stream = pod.within(connect)?.context("connect to the Service web")?;
    let kept = Repeated::start(&pod, move || name(&mut stream).map(drop));
    let load = vec![new(&pod, rolling), new(&outside, node_port), kept];
    repeated::go_on(&load)?;

    // As kubeadm has it, and the manifest with that ConfigMap.
    let server = &bed.cluster.server;
    server.apply(&include_str!("kubeadm-kube-proxy.yml").replace("SERVER", &server.url()))?;
    let path = manifests().join("netd-proxy.yml");
    let commands = format!("sed '/configMap:/{{n;s/netd-proxy/kube-proxy/}}' {} | kubectl apply -f -", path.display());
    server.shell(&commands)?;
    let rollout = ["--namespace=kube-system", "rollout", "status", "daemonset/netd-proxy", "--timeout=120s"];
    server.kubectl(&rollout).map_err(|failure| with_logs(bed, failure))?;
    repeated::go_on(&load)?;
    end_kube_proxy(bed, "netd-proxy")?;
    repeated::go_on(&load)?;

    // As a rolling update does: one more, one less.
    let steps: [(&str, Option<&str>, &[&str]); 4] = [
        ("pod-n1", Some("yes"), &["pod-n1", "pod-n2", "pod-n3"]),
        ("pod-n2", None, &["pod-n1", "pod-n3"]),
        ("pod-n2", Some("yes"), &["pod-n1", "pod-n2", "pod-n3"]),
        ("pod-n3", None, &["pod-n1", "pod-n2"]),
    ];
    for (changed, is, expected) in steps {
        member(bed, changed, is)?;
        for (from, to) in [(&pod, rolling), (&outside, node_port)] {
            answer(from, to, expected).map_err(|failure| with_logs(bed, failure))?;
        }
    }
    let resolve = "/agnhost connect rolling.default.svc.cluster.local:80 --timeout=5s";
    let words: Vec<&str> = ["exec", "pod-n1", "--"].into_iter().chain(resolve.split(' ')).collect();
    // A lost answer of the cluster DNS is asked for again later than that.
    eventually(seconds(60), "a pod reaches the Service by its name", || bed.cluster.server.kubectl(&words).map(drop))
        .map_err(|failure| with_logs(bed, failure))?;
    deployment::is_updated(bed, &pod, &outside)?;
    deployment::is_reached_from_outside(bed, &outside)?;
    repeated::go_on(&load)?;

    bring_kube_proxy_back(bed)?;
    member(bed, "pod-n3", Some("yes"))?;
    let both = [(&pod, rolling), (&outside, node_port)];
    for (from, to) in both {
        answer(from, to, &["pod-n1", "pod-n2", "pod-n3"]).map_err(|failure| with_logs(bed, failure))?;
    }
    repeated::go_on(&load)?;

    take_over_by_netd(bed)?;
    member(bed, "pod-n1", None)?;
    for (from, to) in both {
        answer(from, to, &["pod-n2", "pod-n3"]).map_err(|failure| with_logs(bed, failure))?;
    }
    repeated::go_on(&load)?;

    // The pod network changes below the Services. n3 is behind a router, which host-gw leaves to the tunnel.
    for (backend, device) in [("host-gw", "eth0"), ("vxlan", "flannel.1")] {
        bed.configure(&json!({ "Type": backend }))?;
        for (from, to) in [("n1", "n2"), ("n2", "n1")] {
            switch::sends(bed, from, to, device)?;
        }
        repeated::go_on(&load)?;
    }
    repeated::unharmed(load).map_err(|failure| with_logs(bed, failure))?;
    bed.cluster.server.nothing_was_refused(PROXY_ACCOUNT)?;
    bed.cluster.server.nothing_was_refused(ACCOUNT)
}

/// Ends kube-proxy on each node, and waits until the other program's tables stand in the place of those that kube-proxy has left.
fn end_kube_proxy(bed: &mut Bed, program: &str) -> Outcome {
    for machine in &mut bed.cluster.machines {
        machine.end_kube_proxy()?;
    }
    for node in NODES {
        eventually(seconds(120), &format!("{program} takes kube-proxy's place on {node}"), || {
            let tables = bed.cluster.machine(node).namespace().run("nft list tables")?;
            ensure!(!tables.contains(" kube-proxy"), "the tables are {tables}");
            ensure!(tables.contains("table ip netd-proxy"), "the tables are {tables}");
            Ok(())
        })
        .map_err(|failure| with_logs(bed, failure))?;
    }
    Ok(())
}

/// As the README says: kube-proxy first, netd-proxy's end, then its job on each node.
fn bring_kube_proxy_back(bed: &mut Bed) -> Outcome {
    for machine in &mut bed.cluster.machines {
        machine.start_kube_proxy(&bed.cluster.server)?;
    }
    for node in NODES {
        eventually(seconds(60), &format!("kube-proxy makes its rules on {node}"), || {
            let map = bed.cluster.machine(node).namespace().run("nft list map ip kube-proxy service-ips")?;
            ensure!(map.contains("rolling"), "they are {map}");
            Ok(())
        })?;
    }
    let jobs = manifests().join("netd-proxy-cleanup.yml");
    let commands = format!(
        "kubectl --namespace=kube-system delete daemonset netd-proxy --cascade=foreground
        for node in $(kubectl get nodes -o name); do
            sed \"s/THE-NODE/${{node#node/}}/\" {} | kubectl create -f -
        done
        kubectl --namespace=kube-system wait --for=condition=Complete --timeout=2m \
            job -l app.kubernetes.io/name=netd-proxy-cleanup",
        jobs.display()
    );
    bed.cluster.server.shell(&commands).map_err(|failure| with_logs(bed, failure))?;
    for node in NODES {
        let tables = bed.cluster.machine(node).namespace().run("nft list tables")?;
        ensure!(!tables.contains("netd-proxy"), "{node} has the tables {tables}");
    }
    Ok(())
}

/// As the manifests' README says: the API server's own address, then the end of kube-proxy.
fn take_over_by_netd(bed: &mut Bed) -> Outcome {
    let address = bed.cluster.fabric.node(CONTROL).first_address();
    let create = format!(
        "kubectl -n netd create configmap kubernetes-services-endpoint \
            --from-literal=KUBERNETES_SERVICE_HOST={address} --from-literal=KUBERNETES_SERVICE_PORT=6443"
    );
    bed.cluster.server.shell(&create)?;
    // With the proxy, which was off beside netd-proxy.
    bed.apply()?;
    end_kube_proxy(bed, "netd")?;
    let status = ["--namespace=netd", "exec", "daemonset/netd", "--", "/netd", "status"];
    let status = bed.cluster.server.kubectl(&status)?;
    ensure!(status.contains("programmed: see netd services"), "netd says {status}");
    Ok(())
}

pub(crate) fn with_logs(bed: &Bed, failure: netd_tests::Failure) -> netd_tests::Failure {
    let arguments =
        ["--namespace=kube-system", "logs", "--selector=app.kubernetes.io/name=netd-proxy", "--tail=40", "--prefix"];
    let logs = bed.cluster.server.kubectl(&arguments).unwrap_or_else(|failure| failure.to_string());
    bed.with_logs(failure).with("netd-proxy", &logs)
}
