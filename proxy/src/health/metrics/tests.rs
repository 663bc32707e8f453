//! What dashboards for kube-proxy read.

use super::*;

const V4: types::Family = types::Family::V4;

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    metrics.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn run(is_clean: bool) -> Run {
    Run { is_clean, ..Run::new(V4, false) }
}

#[test]
fn a_run_is_counted_with_what_it_has_brought_into_the_kernel() {
    let metrics = Metrics::default();
    let since_changes = vec![Duration::from_millis(300), Duration::from_secs(7)];
    metrics.run(&Run { since_changes, since_event: Some(Duration::from_millis(1)), ..run(true) }, Timestamp::now());
    let programming = "kubeproxy_network_programming_duration_seconds";
    for (series, expected) in [
        (format!("{programming}_count{{ip_family=\"IPv4\"}}"), 2.0),
        (format!("{programming}_bucket{{le=\"0.25\",ip_family=\"IPv4\"}}"), 0.0),
        (format!("{programming}_bucket{{le=\"0.5\",ip_family=\"IPv4\"}}"), 1.0),
        (format!("{programming}_bucket{{le=\"6.0\",ip_family=\"IPv4\"}}"), 1.0),
        (format!("{programming}_bucket{{le=\"7.0\",ip_family=\"IPv4\"}}"), 2.0),
        (format!("{programming}_bucket{{le=\"300.0\",ip_family=\"IPv4\"}}"), 2.0),
        ("netd_proxy_change_duration_seconds_count{ip_family=\"IPv4\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
    }
}

#[test]
fn a_run_that_the_kernel_refused_is_a_failure_and_no_duration_of_a_change() {
    let metrics = Metrics::default();
    metrics.run(&run(false), Timestamp::now());
    metrics.run(&Run { refused_removal: true, ..run(false) }, Timestamp::now());
    let failures = |kind| {
        value(&metrics, &format!("kubeproxy_sync_proxy_rules_nftables_{kind}_failures_total{{ip_family=\"IPv4\"}}"))
    };
    assert_eq!((failures("sync"), failures("cleanup")), (Some(2.0), Some(1.0)));
    assert_eq!(value(&metrics, "netd_proxy_change_duration_seconds_count{ip_family=\"IPv4\"}"), None);
}

#[test]
fn changes_wait_until_the_kernel_has_everything() {
    let metrics = Metrics::default();
    let pending = |kind| value(&metrics, &format!("kubeproxy_sync_proxy_rules_{kind}_changes_pending"));
    metrics.object(Collection::Services);
    metrics.object(Collection::Slices);
    metrics.object(Collection::Slices);
    assert_eq!((pending("service"), pending("endpoint")), (Some(1.0), Some(2.0)));
    metrics.nothing_pending();
    assert_eq!((pending("service"), pending("endpoint")), (Some(0.0), Some(0.0)));
    metrics.object(Collection::Slices);
    assert_eq!((pending("service"), pending("endpoint")), (Some(0.0), Some(1.0)));
    assert_eq!(value(&metrics, "kubeproxy_sync_proxy_rules_endpoint_changes_total"), Some(3.0));
}

#[test]
fn a_look_for_flows_is_counted() {
    let metrics = Metrics::default();
    metrics.flows(V4, 3, Duration::from_millis(2));
    let series = "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"}";
    assert_eq!(value(&metrics, series), Some(1.0));
    let series = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
    assert_eq!(value(&metrics, series), Some(3.0));
}
