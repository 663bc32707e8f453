//! The metrics for Prometheus: kube-proxy's, under its names, so that its dashboards go on working, and some of our own.

mod loopback;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use apiserver::RequestMetrics;
use dataplane::types;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::loopback::LoopbackMetrics;
use crate::model::{Collection, Policy, PortKey};
use crate::ruleset::SetName;
use crate::topology::{Resolved, Target};

/// Names and values.
type Labels<const N: usize> = [(&'static str, String); N];
type Durations = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// kube-proxy's: from 1 ms to 16 s.
fn sync_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// A change of one endpoint takes a fraction of a millisecond.
fn change_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 16))
}

/// kube-proxy's, for the way from a pod's change to the kernel: from 250 ms to 5 minutes.
fn programming_seconds() -> Histogram {
    let minute = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(minute.map(f64::from)))
}

/// A run of the keeper of a family.
#[derive(Debug, Clone)]
pub struct Run {
    /// The family.
    pub family: types::Family,
    /// Everything was compared.
    pub is_full: bool,
    /// The kernel took everything.
    pub is_clean: bool,
    /// The kernel refused to remove something.
    pub refused_removal: bool,
    /// How long it took.
    pub took: Duration,
    /// The time since the first event came that it has brought into the kernel.
    pub since_event: Option<Duration>,
    /// The time since each change of endpoints that it has brought into the kernel, by the control plane's clock.
    pub since_changes: Vec<Duration>,
}

impl Run {
    /// A run that has not succeeded.
    pub fn new(family: types::Family, is_full: bool) -> Self {
        let (took, since_event, since_changes) = (Duration::ZERO, None, Vec::new());
        Self { family, is_full, is_clean: false, refused_removal: false, took, since_event, since_changes }
    }
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    syncs: Durations,
    full_syncs: Durations,
    partial_syncs: Durations,
    changes: Durations,
    programming: Durations,
    flow_syncs: Durations,
    failures: Family<Labels<1>, Counter>,
    refused_removals: Family<Labels<1>, Counter>,
    updated: Family<Labels<1>, Gauge>,
    queued: Family<Labels<1>, Gauge>,
    objects: BTreeMap<Collection, Counter>,
    /// How many objects had changed when the kernel last had everything.
    programmed: Mutex<BTreeMap<Collection, u64>>,
    deleted_flows: Family<Labels<1>, Counter>,
    healthz: Family<Labels<1>, Counter>,
    livez: Family<Labels<1>, Counter>,
    elements: Family<Labels<2>, Gauge>,
    /// Node ports on loopback.
    pub loopback: LoopbackMetrics,
    /// Requests to the API server, where there is one.
    requests: OnceLock<RequestMetrics>,
    /// Service ports of policy Local whose packets are dropped, since other nodes alone have endpoints.
    no_local: Mutex<BTreeSet<(PortKey, &'static str)>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let syncs = || Durations::new_with_constructor(sync_seconds);
        Self {
            syncs: syncs(),
            full_syncs: syncs(),
            partial_syncs: syncs(),
            changes: Durations::new_with_constructor(change_seconds),
            programming: Durations::new_with_constructor(programming_seconds),
            flow_syncs: syncs(),
            failures: Family::default(),
            refused_removals: Family::default(),
            updated: Family::default(),
            queued: Family::default(),
            objects: Collection::ALL.into_iter().map(|collection| (collection, Counter::default())).collect(),
            programmed: Mutex::default(),
            deleted_flows: Family::default(),
            healthz: Family::default(),
            livez: Family::default(),
            elements: Family::default(),
            loopback: LoopbackMetrics::default(),
            requests: OnceLock::new(),
            no_local: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Nothing counted yet. Node ports of these families are on loopback.
    pub fn new(on_loopback: &BTreeSet<types::Family>) -> Self {
        Self { loopback: LoopbackMetrics::new(on_loopback), ..Self::default() }
    }

    /// Shows the requests to the API server too.
    pub fn show_requests(&self, requests: &RequestMetrics) {
        self.requests.get_or_init(|| requests.clone());
    }

    /// An object of a collection has changed.
    pub fn object(&self, collection: Collection) {
        self.objects.get(&collection).map(Counter::inc);
    }

    /// The kernel has everything that is known.
    pub fn nothing_pending(&self) {
        let counts = self.objects.iter().map(|(collection, counter)| (*collection, counter.get()));
        *self.programmed.lock().unwrap_or_else(PoisonError::into_inner) = counts.collect();
    }

    /// A change of the family's table has come.
    pub fn queued(&self, family: types::Family, now: Timestamp) {
        self.queued.get_or_create(&of(family)).set(now.as_second());
    }

    /// A run has ended.
    pub fn run(&self, run: &Run, now: Timestamp) {
        let labels = of(run.family);
        let seconds = run.took.as_secs_f64();
        self.syncs.get_or_create(&labels).observe(seconds);
        let kind = if run.is_full { &self.full_syncs } else { &self.partial_syncs };
        kind.get_or_create(&labels).observe(seconds);
        if run.refused_removal {
            self.refused_removals.get_or_create(&labels).inc();
        }
        if !run.is_clean {
            self.failures.get_or_create(&labels).inc();
            return;
        }
        self.updated.get_or_create(&labels).set(now.as_second());
        for (durations, observed) in
            [(&self.changes, run.since_event.as_slice()), (&self.programming, run.since_changes.as_slice())]
        {
            for duration in observed {
                durations.get_or_create(&labels).observe(duration.as_secs_f64());
            }
        }
    }

    /// How many elements the maps and sets of a family's table have.
    pub fn elements<'s>(&self, family: types::Family, sizes: impl Iterator<Item = (&'s SetName, &'s i64)>) {
        let [family] = of(family);
        for (set, size) in sizes {
            self.elements.get_or_create(&[family.clone(), ("map", set.to_string())]).set(*size);
        }
    }

    /// Flows to endpoints that are gone were looked for and deleted.
    pub fn flows(&self, family: types::Family, deleted: usize, took: Duration) {
        let labels = of(family);
        self.deleted_flows.get_or_create(&labels).inc_by(u64::try_from(deleted).unwrap_or(u64::MAX));
        self.flow_syncs.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A service port has changed, or is gone.
    pub fn resolved(&self, key: &PortKey, resolved: Option<&Resolved>) {
        let mut no_local = self.no_local.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, policy) in [
            ("internal", resolved.map(|resolved| resolved.port.internal_policy)),
            ("external", resolved.map(|resolved| resolved.port.external_policy)),
        ] {
            let is_dropped = resolved.is_some_and(|resolved| resolved.target(Policy::Local) == Target::Drop);
            let entry = (key.clone(), name);
            if is_dropped && policy == Some(Policy::Local) {
                no_local.insert(entry);
            } else {
                no_local.remove(&entry);
            }
        }
    }

    /// A question about the health was answered.
    pub(super) fn health(&self, is_livez: bool, code: u16) {
        let counters = if is_livez { &self.livez } else { &self.healthz };
        counters.get_or_create(&[("code", code.to_string())]).inc();
    }

    /// The text (`application/openmetrics-text`). The registry adds the suffix `_total` of counters.
    pub fn text(&self) -> String {
        let mut all = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        all.register("netd_proxy_build", "Which netd-proxy this is", build);
        for (name, help, durations) in [
            ("kubeproxy_sync_proxy_rules_duration_seconds", "How long a run took", &self.syncs),
            ("kubeproxy_sync_full_proxy_rules_duration_seconds", "How long a run over all took", &self.full_syncs),
            (
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "How long a run over changes took",
                &self.partial_syncs,
            ),
            (
                "kubeproxy_network_programming_duration_seconds",
                "From a change of endpoints, as the control plane saw it, to the kernel",
                &self.programming,
            ),
            (
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "How long it took to look for flows to endpoints that are gone",
                &self.flow_syncs,
            ),
            ("netd_proxy_change_duration_seconds", "From a change of an object to the kernel", &self.changes),
        ] {
            all.register(name, help, durations.clone());
        }
        for (name, help, gauges) in [
            ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the table was last as desired", &self.updated),
            ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a change last came", &self.queued),
        ] {
            all.register(name, help, gauges.clone());
        }
        let no_local = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        all.register(no_local, "Service ports of policy Local without an endpoint of this node", self.no_local());
        for (name, help, counters) in [
            ("kubeproxy_sync_proxy_rules_nftables_sync_failures", "Runs that the kernel refused", &self.failures),
            (
                "kubeproxy_sync_proxy_rules_nftables_cleanup_failures",
                "Runs in which the kernel refused to remove something",
                &self.refused_removals,
            ),
            ("kubeproxy_conntrack_reconciler_deleted_entries", "Flows to endpoints that are gone", &self.deleted_flows),
            ("kubeproxy_proxy_healthz", "Answers to /healthz", &self.healthz),
            ("kubeproxy_proxy_livez", "Answers to /livez", &self.livez),
        ] {
            all.register(name, help, counters.clone());
        }
        for (collection, name, of) in [
            (Collection::Services, "kubeproxy_sync_proxy_rules_service_changes", "Services"),
            (Collection::Slices, "kubeproxy_sync_proxy_rules_endpoint_changes", "EndpointSlices"),
        ] {
            let Some(counter) = self.objects.get(&collection) else { continue };
            all.register(name, format!("Changes of {of}"), counter.clone());
            let pending = ConstGauge::new(i64::try_from(self.pending(collection)).unwrap_or(i64::MAX));
            all.register(
                format!("{name}_pending"),
                format!("Changes of {of} that the kernel does not have yet"),
                pending,
            );
        }
        all.register("netd_proxy_elements", "Elements of the table, by map", self.elements.clone());
        self.loopback.register(&mut all);
        if let Some(requests) = self.requests.get() {
            requests.register(&mut all);
        }
        listener::process::register(&mut all);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &all);
        text
    }

    fn pending(&self, collection: Collection) -> u64 {
        let programmed = self.programmed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.objects.get(&collection).map_or(0, Counter::get);
        count.saturating_sub(programmed.get(&collection).copied().unwrap_or_default())
    }

    fn no_local(&self) -> Family<Labels<2>, Gauge> {
        let gauges = Family::<Labels<2>, Gauge>::default();
        let no_local = self.no_local.lock().unwrap_or_else(PoisonError::into_inner);
        for family in types::Family::BOTH {
            for policy in ["internal", "external"] {
                let count = no_local.iter().filter(|(key, of)| key.family == family && *of == policy).count();
                let [family] = of(family);
                let gauge = gauges.get_or_create(&[family, ("traffic_policy", policy.to_owned())]).clone();
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        gauges
    }
}

fn of(family: types::Family) -> Labels<1> {
    [("ip_family", if family == types::Family::V4 { "IPv4" } else { "IPv6" }.to_owned())]
}

#[cfg(test)]
mod tests;
