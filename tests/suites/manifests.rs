//! The manifests against a real API server: every field is one that it knows, what they grant is what netd needs, and nothing more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use netd_tests::apiserver::{self, ACCOUNT, ApiServer, PROXY_ACCOUNT, node_object};
use netd_tests::suite::test;
use netd_tests::{Context, Fabric, Outcome, Pod, Stack, Topology, ensure, eventually, peers, seconds};
use serde_json::json;

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || peers::prepare(&apiserver::PROGRAMS),
        || {
            vec![
                test("the base of the overlays is netd.yml", one_truth),
                test("an API server takes netd.yml and every overlay, with strict fields", strict),
                test("the clean-up is taken for each node", cleanup),
                test("netd gets the rights that it needs and no other", rights),
                test("the etcd overlay leaves netd without rights", no_rights),
                test(
                    "an API server takes netd-proxy.yml, with strict fields, for the configuration of kubeadm too",
                    proxy,
                ),
                test("netd-proxy gets the rights that it needs and no other", proxy_rights),
                test("netd runs with the rights of the manifest, and asks for nothing beyond", runs),
            ]
        },
    )
}

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("")).join("manifests")
}

fn path(name: &str) -> String {
    manifests().join(name).to_string_lossy().into_owned()
}

fn text(name: &str) -> Outcome<String> {
    std::fs::read_to_string(manifests().join(name)).context(format!("read {name}"))
}

fn bed() -> Outcome<(Fabric, ApiServer)> {
    let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
    let server = ApiServer::start(&fabric, "api", Stack::V4)?;
    // What every cluster has is made by the API server itself, soon after it is ready.
    eventually(seconds(60), "the API server has its own objects", || {
        server.get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical").map(drop)
    })?;
    Ok((fabric, server))
}

fn one_truth() -> Outcome {
    ensure!(text("netd.yml")? == text("base/netd.yml")?, "manifests/netd.yml and manifests/base/netd.yml differ");
    let base = text("base/kustomization.yaml")?;
    let resources = base.split("resources:").nth(1).unwrap_or_default().trim();
    ensure!(resources == "- netd.yml", "the base changes netd.yml:\n{base}");
    Ok(())
}

fn strict() -> Outcome {
    let (_fabric, server) = bed()?;
    let said = server.kubectl(&["apply", "--validate=strict", "-f", &path("netd.yml")])?;
    ensure!(said.lines().count() == 10 && said.contains("daemonset.apps/netd created"), "it said\n{said}");
    // Nothing is left to change: what was written is what the API server keeps.
    let again = server.kubectl(&["apply", "--validate=strict", "-f", &path("netd.yml")])?;
    let unchanged = again.lines().filter(|line| line.ends_with("unchanged")).count();
    ensure!(unchanged == said.lines().count(), "the second time it said\n{again}");
    server.kubectl(&["create", "namespace", "kube-flannel"])?;
    let mut overlays = vec!["base".to_owned()];
    for entry in std::fs::read_dir(manifests().join("overlays")).context("list the overlays")?.flatten() {
        overlays.push(format!("overlays/{}", entry.file_name().to_string_lossy()));
    }
    ensure!(overlays.len() == 6, "there are {overlays:?}");
    for overlay in overlays {
        let folder = path(&overlay);
        for how in [&["--dry-run=server"][..], &[]] {
            let arguments = [&["apply", "--validate=strict", "-k", &folder], how].concat();
            let said = server.kubectl(&arguments)?;
            ensure!(said.contains("daemonset.apps/netd"), "{overlay}: it said\n{said}");
        }
    }
    Ok(())
}

/// `cleanup.yml` as README's line makes it for a node.
fn cleanup_of(node: &str) -> Outcome<String> {
    Ok(text("cleanup.yml")?.replace("THE-NODE", node))
}

fn cleanup() -> Outcome {
    let (_fabric, server) = bed()?;
    server.kubectl(&["apply", "-f", &path("netd.yml")])?;
    for node in ["n1", "node-2.example.com"] {
        let said = server.kubectl_with(&["create", "--validate=strict", "-f", "-"], &cleanup_of(node)?)?;
        ensure!(said.contains("job.batch/netd-cleanup-"), "it said {said}");
    }
    let jobs = server.get("/apis/batch/v1/namespaces/netd/jobs?labelSelector=app.kubernetes.io/name%3Dnetd-cleanup")?;
    let nodes: Vec<_> = jobs["items"].as_array().into_iter().flatten().map(node_of).collect();
    ensure!(nodes.len() == 2 && nodes.contains(&"n1"), "the jobs are for {nodes:?}");
    Ok(())
}

fn node_of(job: &serde_json::Value) -> &str {
    job["spec"]["template"]["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// Whether netd may: `kubectl auth can-i` with these words.
fn may(server: &ApiServer, words: &str) -> Outcome<bool> {
    account_may(server, ACCOUNT, words)
}

fn account_may(server: &ApiServer, account: &str, words: &str) -> Outcome<bool> {
    // Its exit code says no, too: then the answer is in the failure.
    let words = words.split_whitespace();
    let arguments: Vec<&str> = ["auth", "can-i", "--as", account].into_iter().chain(words).collect();
    match server.kubectl(&arguments) {
        Ok(said) => Ok(said.trim() == "yes"),
        Err(failure) if failure.to_string().contains(": no") => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn rights() -> Outcome {
    let (_fabric, server) = bed()?;
    server.kubectl(&["create", "namespace", "kube-flannel"])?;
    server.kubectl(&["apply", "-f", &path("netd.yml")])?;
    let granted = [
        "get nodes",
        "list nodes",
        "watch nodes",
        "patch nodes --subresource status",
        "list configmaps/netd-cfg -n netd",
        "watch configmaps/netd-cfg -n netd",
        "create events -n default",
        "list services",
        "watch services",
        "list endpointslices.discovery.k8s.io",
        "watch endpointslices.discovery.k8s.io",
        "list servicecidrs.networking.k8s.io",
        "watch servicecidrs.networking.k8s.io",
        "patch events -n default",
    ];
    for words in granted {
        ensure!(may(&server, words)?, "netd may not {words}");
    }
    let withheld = [
        "patch nodes",
        "update nodes",
        "delete nodes",
        "create nodes",
        "update nodes --subresource status",
        "get nodes --subresource proxy",
        "list configmaps -n netd",
        "get configmaps/other -n netd",
        "update configmaps/netd-cfg -n netd",
        "list configmaps/kube-flannel-cfg -n kube-flannel",
        "list configmaps -n kube-system",
        "list secrets -n netd",
        "get secrets -n kube-system",
        "list pods",
        "create pods -n netd",
        "get services",
        "patch services --subresource status",
        "update endpointslices.discovery.k8s.io",
        "create events -n kube-system",
        "list events -n default",
        "create serviceaccounts -n netd --subresource token",
        "impersonate users",
    ];
    for words in withheld {
        ensure!(!may(&server, words)?, "netd may {words}");
    }
    server.kubectl(&["apply", "-k", &path("overlays/from-flannel")])?;
    ensure!(may(&server, "list configmaps/kube-flannel-cfg -n kube-flannel")?, "flannel's configuration is withheld");
    ensure!(!may(&server, "list configmaps -n kube-flannel")?, "netd may list all of flannel's configuration");
    Ok(())
}

/// The lines of README: with the API server's address, and with kubeadm's `ConfigMap`.
fn proxy() -> Outcome {
    let (_fabric, server) = bed()?;
    server.get("/api/v1/namespaces/kube-system")?;
    let readme = text("README.md")?;
    let commands: Vec<&str> =
        readme.lines().filter(|line| line.contains("manifests/netd-proxy.yml | kubectl")).collect();
    ensure!(commands.len() == 2, "the commands are {commands:?}");
    for (command, map) in commands.into_iter().zip(["netd-proxy", "kube-proxy"]) {
        let command = command.split(" #").next().unwrap_or_default().trim();
        server.shell(&command.replace("kubectl apply", "kubectl apply --validate=strict"))?;
        let again = server.shell(command)?;
        let unchanged = again.lines().filter(|line| line.ends_with("unchanged")).count();
        ensure!(unchanged == 5, "the second time it said\n{again}");
        let set = server.get("/apis/apps/v1/namespaces/kube-system/daemonsets/netd-proxy")?;
        let volume = &set["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"];
        ensure!(volume == map, "{command}: the configuration is that of {volume}");
    }
    let job = text("netd-proxy-cleanup.yml")?.replace("THE-NODE", "n1");
    let said = server.kubectl_with(&["create", "--validate=strict", "-f", "-"], &job)?;
    ensure!(said.contains("job.batch/netd-proxy-cleanup-"), "it said {said}");
    let own = server.get("/api/v1/namespaces/kube-system/configmaps/netd-proxy")?;
    let kubeconfig = own["data"]["kubeconfig.conf"].as_str().unwrap_or_default();
    ensure!(kubeconfig.contains("server: https://"), "the kubeconfig is {kubeconfig}");
    Ok(())
}

fn proxy_rights() -> Outcome {
    let (_fabric, server) = bed()?;
    server.admit_proxy()?;
    for kind in ["services", "nodes", "endpointslices.discovery.k8s.io", "servicecidrs.networking.k8s.io"] {
        for verb in ["list", "watch"] {
            ensure!(
                account_may(&server, PROXY_ACCOUNT, &format!("{verb} {kind}"))?,
                "netd-proxy may not {verb} {kind}"
            );
        }
        for verb in ["get", "create", "update", "patch", "delete"] {
            ensure!(!account_may(&server, PROXY_ACCOUNT, &format!("{verb} {kind}"))?, "netd-proxy may {verb} {kind}");
        }
    }
    for verb in ["create", "patch"] {
        ensure!(account_may(&server, PROXY_ACCOUNT, &format!("{verb} events"))?, "netd-proxy may not {verb} Events");
    }
    for words in [
        "list events",
        "delete events",
        "list pods",
        "list endpoints",
        "list secrets -n kube-system",
        "list configmaps -n kube-system",
        "patch services --subresource status",
        "create serviceaccounts -n kube-system --subresource token",
    ] {
        ensure!(!account_may(&server, PROXY_ACCOUNT, words)?, "netd-proxy may {words}");
    }
    Ok(())
}

fn no_rights() -> Outcome {
    let (_fabric, server) = bed()?;
    server.kubectl(&["apply", "-k", &path("overlays/etcd")])?;
    for words in ["list nodes", "patch nodes --subresource status", "list configmaps/netd-cfg -n netd", "list services"]
    {
        ensure!(!may(&server, words)?, "netd may {words}");
    }
    Ok(())
}

fn runs() -> Outcome {
    let (fabric, server) = bed()?;
    server.kubectl(&["apply", "-f", &path("netd.yml")])?;
    let token = server.account_token("netd", "netd")?;
    let kubeconfig = server.kubeconfig("netd", &token)?.to_string_lossy().into_owned();
    let mut daemons = Vec::new();
    for (name, subnet) in [("n1", "10.244.1.0/24"), ("n2", "10.244.2.0/24")] {
        server.create("/api/v1/nodes", &node_object(name, &[subnet], &json!({}), 0))?;
        let state = fabric.disk().join(format!("state-{name}")).to_string_lossy().into_owned();
        let flags = [
            "--kube-subnet-mgr",
            "--net-conf-configmap=netd/netd-cfg",
            "--ip-masq",
            "--proxy=auto",
            "--kubeconfig-file",
            &kubeconfig,
        ];
        let daemon = fabric.node(name).launch_netd(&[&flags[..], &["--state-dir", &state]].concat())?;
        daemon.await_ready()?;
        daemons.push(daemon);
    }
    let (n1, n2) = (fabric.node("n1"), fabric.node("n2"));
    let (a, c) = (Pod::add(n1, "a")?, Pod::add(n2, "c")?);
    eventually(seconds(10), "a pod reaches the other", || {
        let to = c.addresses().iter().next().context("no address")?.1.to_string();
        a.namespace().run(&format!("ping -c1 -W1 {to}")).map(drop)
    })?;
    // What a person must know goes into an Event, which is a right too.
    let wrong = json!({ "data": { "net-conf.json": "{ \"Network\": \"10.244.0.0/16\", \"Backend\": { \"Type\": \"bogus\" } }" } });
    server.patch("/api/v1/namespaces/netd/configmaps/netd-cfg", &wrong)?;
    eventually(seconds(20), "an Event reports the wrong configuration", || {
        let events = server.get("/api/v1/namespaces/default/events")?;
        ensure!(events.to_string().contains("bogus"), "the Events are {events}");
        Ok(())
    })?;
    server.nothing_was_refused(ACCOUNT)
}
