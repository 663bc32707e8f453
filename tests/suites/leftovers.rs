//! netd-proxy in the place of a kube-proxy of the mode ipvs that has ended, in a machine whose kernel has IPVS.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use netd_tests::apiserver::{self, ApiServer, Credentials, node_object};
use netd_tests::suite::test;
use netd_tests::{Outcome, Stack, Topology, binaries, ensure, peers, qemu};
use serde_json::json;

const SCRIPT: &str = include_str!("leftovers/guest.sh");

fn main() -> ExitCode {
    let prepare = || {
        qemu::prepare()?;
        peers::prepare(&[&apiserver::PROGRAMS[..], &[peers::KUBE_PROXY]].concat())
    };
    netd_tests::suite::run_with(prepare, || vec![test("kube-proxy of the mode ipvs has ended", ipvs)])
}

/// An API server with the Service `web`, which has a node port, and its endpoint 10.244.1.2.
fn objects(server: &ApiServer) -> Outcome {
    let mut node = node_object("n1", &["10.244.1.0/24"], &json!({}), 1);
    node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "172.16.1.1" }]);
    server.create("/api/v1/nodes", &node)?;
    let port = |name, protocol, port| json!({ "name": name, "protocol": protocol, "port": port });
    let (mut http, words) = (port("http", "TCP", 80), port("words", "UDP", 53));
    http["nodePort"] = json!(30080);
    let service = json!({ "metadata": { "name": "web" },
        "spec": { "type": "NodePort", "clusterIP": "10.96.0.80", "ports": [http, words] } });
    server.create("/api/v1/namespaces/default/services", &service)?;
    let slice = json!({
        "metadata": { "name": "web", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [port("http", "TCP", 8080), port("words", "UDP", 5353)],
        "endpoints": [{ "addresses": ["10.244.1.2"], "nodeName": "n1", "conditions": {} }],
    });
    server.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).map(drop)
}

/// What the script calls, beside busybox's programs.
const PROGRAMS: [&str; 13] = [
    "ip",
    "ipset",
    "ipvsadm",
    "nft",
    "iptables-legacy",
    "iptables-legacy-save",
    "iptables-legacy-restore",
    "ip6tables-legacy",
    "ip6tables-legacy-save",
    "ip6tables-legacy-restore",
    "ip6tables-nft",
    "ip6tables-nft-save",
    "iptables-nft-save",
];

/// What the script has shown, by its name.
type Shown = BTreeMap<String, Vec<String>>;

fn ipvs() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
    let server = ApiServer::start(&fabric, "api", Stack::V4)?;
    objects(&server)?;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": server.url(), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "it", "user": { "token": Credentials::control_token("system:kube-proxy") } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    let script = format!("{SCRIPT}\nkubeconfig() {{ echo '{kubeconfig}'; }}\n");
    let (kube_proxy, proxy) = (peers::KUBE_PROXY.path()?, binaries::proxy()?);
    let programs: Vec<&Path> = PROGRAMS.iter().map(Path::new).chain([kube_proxy.as_path(), &proxy]).collect();
    let lines = qemu::run(server.namespace(), &script, "run", &programs)?;
    let mut shown = Shown::new();
    for (name, value) in lines.iter().filter_map(|line| line.split_once(": ")) {
        shown.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    let is = |name: &str, expected: &[&str]| {
        let mut found = shown.get(name).cloned().unwrap_or_default();
        found.sort();
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}; all that was shown: {shown:#?}");
        Ok(())
    };
    ensure!(shown.contains_key("before iptables-legacy-save"), "kube-proxy has made chains elsewhere: {shown:#?}");
    let before = shown.get("before servers").cloned().unwrap_or_default();
    for server in ["10.96.0.80:80", "10.96.0.80:53", "10.244.1.1:30080", "172.16.1.1:30080", "[fd00:96::80]:80"] {
        ensure!(before.iter().any(|one| one == server), "kube-proxy has no virtual server {server}, but {before:?}");
    }
    is("before ip6tables-nft-save", &["KUBE-SERVICES"])?;
    is("through IPVS", &["two"])?;
    is("datagrams through IPVS", &["0"])?;
    // A connection goes on through IPVS, and new ones go through netd-proxy's rules.
    let no_chains = |when: &str| {
        is(&format!("{when} iptables-legacy-save"), &["OTHER"])?;
        ["ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"]
            .iter()
            .try_for_each(|save| is(&format!("{when} {save}"), &[]))
    };
    no_chains("during")?;
    is("during servers", &["10.96.0.80:80", "172.16.1.1:8443"])?;
    is("during devices", &["kube-ipvs0"])?;
    is("beside IPVS", &["three", "three"])?;
    is("datagrams beside IPVS", &["1"])?;
    is("lasting", &["two"])?;
    // Its end was the last that they waited for.
    no_chains("after")?;
    is("after servers", &["172.16.1.1:8443"])?;
    is("after devices", &[])?;
    is("after sets", &["other"])?;
    is("after IPVS", &["three", "three"])?;
    is("foreign", &["two", "two"])
}
