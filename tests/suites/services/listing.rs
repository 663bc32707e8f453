//! What an operator is shown: `netd-proxy services`, and `/metrics`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use netd_tests::{Context, Outcome, binaries, ensure, eventually, seconds};
use serde_json::Value;

use super::cases::Settings;
use super::scene::{self, Scene};

/// kube-proxy's names in the mode nftables that a node has which serves Services, with the labels that dashboards select by.
const METRICS: [&str; 13] = [
    "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.001\",ip_family=\"IPv4\"}",
    "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}",
    "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
    "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"}",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"}",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\",traffic_policy=\"external\"}",
    "kubeproxy_proxy_healthz_total{code=\"200\"}",
    "kubeproxy_proxy_livez_total{code=\"200\"}",
    "netd_proxy_change_duration_seconds_count{ip_family=\"IPv4\"}",
];

fn services(scene: &Scene, arguments: &[&str]) -> Outcome<Output> {
    scene.bed.node.output(Command::new(binaries::proxy()?).arg("services").args(arguments))
}

/// The endpoints of the scene's Service that get packets.
fn used(listing: &Value) -> Outcome<Vec<String>> {
    let ports = listing["services"].as_array().context("a listing has no services")?;
    let web = ports.iter().find(|port| port["service"] == "test/web").context(format!("no test/web: {listing}"))?;
    let endpoints = web["endpoints"].as_array().context("a Service has no endpoints")?;
    let used = endpoints.iter().filter(|endpoint| endpoint["leftOutInternally"].is_null());
    Ok(used.filter_map(|endpoint| Some(endpoint["address"].as_str()?.to_owned())).collect())
}

fn addresses(numbers: impl IntoIterator<Item = u8>) -> Vec<String> {
    let mut addresses: Vec<_> = numbers.into_iter().map(scene::endpoint).collect();
    addresses.sort();
    addresses.into_iter().map(|address| address.to_string()).collect()
}

pub(crate) fn formats() -> Outcome {
    let scene = Scene::start(3, None)?;
    let text = |arguments: &[&str]| -> Outcome<String> {
        let output = services(&scene, arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let json: Value = serde_json::from_str(&text(&["-o", "json"])?).context("read JSON")?;
    ensure!(used(&json)? == addresses(1..=3) && json["programmed"] == true, "{json}");
    ensure!(json["node"] == "test-node" && json["problems"] == Value::Array(Vec::new()), "{json}");
    let yaml = text(&["-o", "yaml"])?;
    for part in ["node: test-node\n", "programmed: true\n", "service: test/web\n", "nodePort: 3010\n"] {
        ensure!(yaml.contains(part), "{part:?} is not in {yaml}");
    }
    for address in addresses(1..=3) {
        ensure!(yaml.contains(&address), "{address} is not in {yaml}");
    }
    let table = text(&[])?;
    ensure!(table.starts_with("Services of node test-node: programmed\nSERVICE "), "{table}");
    ensure!(table.lines().any(|line| line.starts_with("test/web ") && line.ends_with("3 of 3")), "{table}");
    let output = services(&scene, &["-o", "xml"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("xml") && said.contains("yaml"), "an unknown format: {said}");
    Ok(())
}

/// `netd-proxy services --watch`. Ended when dropped.
struct Watch(Child);

impl Watch {
    fn start(scene: &Scene, format: &str) -> Outcome<(Self, BufReader<std::process::ChildStdout>)> {
        let mut command = Command::new(binaries::proxy()?);
        command.args(["services", "--watch", "-o", format]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watch = Self(scene.bed.node.spawn(&mut command)?);
        let lines = BufReader::new(watch.0.stdout.take().context("no output")?);
        Ok((watch, lines))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each change is printed as a document of its own, until the proxy ends.
pub(crate) fn watch() -> Outcome {
    let mut scene = Scene::start(3, None)?;
    let (mut json, mut lines) = Watch::start(&scene, "json")?;
    let (mut yaml, mut words) = Watch::start(&scene, "yaml")?;
    let mut next = || -> Outcome<Option<Value>> {
        let mut line = String::new();
        let length = lines.read_line(&mut line).context("read a document")?;
        if length == 0 { Ok(None) } else { serde_json::from_str(&line).map(Some).context(format!("read {line}")) }
    };
    let first = next()?.context("nothing is printed at once")?;
    ensure!(used(&first)? == addresses(1..=3), "{first}");
    for numbers in [&[1, 3][..], &[2], &[], &[1, 2, 3]] {
        scene.set_endpoints(numbers.iter().copied())?;
        loop {
            // The change of the marker may come as another document, and one with both changes is enough.
            let listing = next()?.context("the watch has ended")?;
            if used(&listing)? == addresses(numbers.iter().copied()) {
                break;
            }
        }
    }
    scene.take_proxy()?.terminate()?;
    while next()?.is_some() {}
    ensure!(json.0.wait().context("wait for the watch")?.success(), "the watch fails where the proxy ends");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut words, &mut text).context("read YAML")?;
    let documents: Vec<&str> = text.split("---\n").filter(|document| !document.is_empty()).collect();
    ensure!(documents.len() > 1, "one document: {text}");
    ensure!(documents.iter().all(|document| document.contains("node: test-node\n")), "{text}");
    ensure!(yaml.0.wait().context("wait for the watch")?.success(), "the watch fails where the proxy ends");
    Ok(())
}

pub(crate) fn nobody_answers() -> Outcome {
    let mut scene = Scene::start(1, None)?;
    scene.take_proxy()?.terminate()?;
    for arguments in [&[][..], &["--watch"], &["-o", "json"]] {
        let output = services(&scene, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && output.stdout.is_empty(), "{arguments:?} gives {output:?}");
        ensure!(said.contains("no proxy of netd's runs in this network namespace"), "{arguments:?} says {said}");
    }
    Ok(())
}

pub(crate) fn metrics() -> Outcome {
    let mut scene = Scene::start(3, None)?;
    let mut flags = Settings::default().flags();
    flags.extend(
        ["--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"].map(str::to_owned),
    );
    scene.relaunch(&flags)?;
    let get = |path: &str| scene.bed.node.run(&format!("curl --silent --fail --max-time 10 http://127.0.0.1:{path}"));
    for path in ["10256/healthz", "10256/livez"] {
        get(path)?;
    }
    ensure!(get("10249/proxyMode")? == "nftables", "/proxyMode is another");
    // The names that runs over changes have come with the first one.
    scene.set_endpoints([1, 2])?;
    scene.await_programmed()?;
    let get = |path: &str| scene.bed.node.run(&format!("curl --silent --fail --max-time 10 http://127.0.0.1:{path}"));
    eventually(seconds(20), "the run is counted", || {
        let text = get("10249/metrics")?;
        let names: Vec<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        let missing: Vec<&&str> = METRICS.iter().filter(|name| !names.contains(name)).collect();
        ensure!(missing.is_empty(), "missing {missing:?} in\n{text}");
        Ok(())
    })?;
    Ok(())
}
