//! What dashboards for kube-proxy show of netd-proxy.

use netd_tests::{Context, Outcome, ensure, eventually, seconds};
use serde_json::json;

use crate::ask::Protocol;
use crate::bed::{Bed, POD, WEB};

/// The values of a metric in all its series.
fn values(text: &str, series: &str) -> Vec<f64> {
    let values =
        text.lines().filter_map(|line| line.strip_prefix(series)?.rsplit_once([' ', '}'])?.1.trim().parse().ok());
    values.collect()
}

/// The way of an endpoint's change from the control plane to the kernel, requests to the API server, and what the process uses.
pub(crate) fn of_dashboards() -> Outcome {
    let bed = Bed::start()?;
    let daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    let text = || bed.node().run("curl --silent --fail --max-time 10 http://127.0.0.1:10249/metrics");
    let run = || {
        bed.reaches(POD, WEB, Protocol::Tcp, &[1, 2])?;
        let programmed = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}";
        let before = text()?;
        ensure!(values(&before, programmed).is_empty(), "a change of before the start is counted:\n{before}");
        let now = bed.node().run("date --utc +%Y-%m-%dT%H:%M:%S.%NZ")?;
        let changed = json!({ "endpoints.kubernetes.io/last-change-trigger-time": now.trim() });
        let endpoints = json!([{ "addresses": ["10.244.2.3"], "conditions": {} }]);
        bed.change_slice(&json!({ "metadata": { "annotations": changed }, "endpoints": endpoints }))?;
        bed.reaches(POD, WEB, Protocol::Tcp, &[3])?;
        eventually(seconds(20), "the change is counted, and nothing waits", || {
            let text = text()?;
            ensure!(values(&text, programmed) == [1.0], "{text}");
            for kind in ["service", "endpoint"] {
                let pending = format!("kubeproxy_sync_proxy_rules_{kind}_changes_pending");
                ensure!(values(&text, &pending) == [0.0], "{text}");
            }
            Ok(())
        })?;
        let text = text()?;
        for series in [
            "rest_client_requests_total{code=\"200\",method=\"GET\"}",
            "rest_client_request_duration_seconds_bucket{le=\"60.0\",verb=\"GET\"}",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
        ] {
            let value = values(&text, series).first().copied().context(format!("no {series} in\n{text}"))?;
            ensure!(value > 0.0, "{series} is {value}");
        }
        Ok(())
    };
    run().map_err(|failure: netd_tests::Failure| bed.with_logs(failure, &daemon))
}
