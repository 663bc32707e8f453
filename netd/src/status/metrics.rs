//! The metrics for Prometheus, by its rules for names and units.
//!
//! Counters are counted when runs end. Gauges are set from the status when somebody reads the metrics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dataplane::types;
use jiff::Timestamp;
use network::patience::Held;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::run::Run;
use super::{RouteKind, Status};
use crate::reconcile::Trigger;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    trigger: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    family: &'static str,
    way: &'static str,
}

/// Makes the histograms of durations.
#[derive(Debug, Clone, Copy)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        // From an idle run among few peers to a run that programs thousands.
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    durations: Family<Why, Histogram, Durations>,
    operations: Family<Kind, Counter>,
    failures: Family<Kind, Counter>,
    repairs: Family<Kind, Counter>,
    held: Family<Kind, Counter>,
    contested: Gauge,
    ready: Gauge,
    desired: Gauge,
    programmed: Gauge,
    left_out: Gauge,
    changing: Gauge,
    problems: Gauge,
    routes: Family<ByRoute, Gauge>,
    last_full_read: Seconds,
    last_event: Seconds,
    trouble: Seconds,
    started: Seconds,
}

impl Metrics {
    /// Every metric at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            durations: Family::new_with_constructor(Durations),
            operations: Family::default(),
            failures: Family::default(),
            repairs: Family::default(),
            held: Family::default(),
            contested: Gauge::default(),
            ready: Gauge::default(),
            desired: Gauge::default(),
            programmed: Gauge::default(),
            left_out: Gauge::default(),
            changing: Gauge::default(),
            problems: Gauge::default(),
            routes: Family::default(),
            last_full_read: Seconds::default(),
            last_event: Seconds::default(),
            trouble: Seconds::default(),
            started: Seconds::default(),
        };
        metrics.register();
        metrics
    }

    /// The registry adds the suffixes `_total` and `_seconds`.
    fn register(&mut self) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        let all = &mut self.registry;
        all.register("netd_build", "Which netd this is", build);
        all.register("netd_ready", "1 where everything that should be in the kernel is there", self.ready.clone());
        all.register("netd_peers_desired", "Other nodes that should be reachable", self.desired.clone());
        all.register("netd_peers_programmed", "Those whose ways are in the kernel", self.programmed.clone());
        all.register("netd_peers_left_out", "Nodes of the store that cannot be believed", self.left_out.clone());
        all.register("netd_backend_changing", "1 while a change of the backend is under way", self.changing.clone());
        all.register("netd_peers", "Other nodes by the way to their pods", self.routes.clone());
        all.register("netd_problems", "What netd status lists as problems", self.problems.clone());
        all.register("netd_operations", "Changes to the kernel that were tried", self.operations.clone());
        all.register("netd_operation_failures", "Those that the kernel refused", self.failures.clone());
        all.register("netd_repairs", "Changes that put right what had been right before", self.repairs.clone());
        all.register("netd_repairs_held", "Repairs that wait since something undoes them", self.held.clone());
        all.register("netd_contested_objects", "What something else undoes again and again", self.contested.clone());
        let mut seconds = |name: &str, help: &str, gauge: &Seconds| {
            all.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        };
        seconds("netd_start_timestamp", "When netd started", &self.started);
        seconds(
            "netd_last_full_read_timestamp",
            "When all of netd's in the kernel was last read",
            &self.last_full_read,
        );
        seconds("netd_store_last_event_timestamp", "When the store last told something", &self.last_event);
        let trouble = "Since when the store cannot be followed; 0 where it can";
        seconds("netd_store_trouble_timestamp", trouble, &self.trouble);
        let durations = self.durations.clone();
        all.register_with_unit("netd_reconcile_duration", "How long a reconcile took", Unit::Seconds, durations);
    }

    /// A run has ended.
    pub fn count(&self, run: &Run<'_>) {
        self.time(run.trigger, run.took);
        for (kind, count) in &run.report.counts {
            let kind = Kind { kind };
            self.operations.get_or_create(&kind).inc_by(count.applied + count.failed);
            self.failures.get_or_create(&kind).inc_by(count.failed);
            let repaired = if run.trigger.repairs() { count.applied } else { 0 };
            self.repairs.get_or_create(&kind).inc_by(repaired);
        }
    }

    /// A run has left this for later.
    pub fn held(&self, held: &Held) {
        for (kind, begun) in &held.begun {
            self.held.get_or_create(&Kind { kind }).inc_by(*begun);
        }
    }

    /// Records the duration of a run.
    pub fn time(&self, trigger: Trigger, took: Duration) {
        let trigger = match trigger {
            Trigger::Startup => "startup",
            Trigger::StoreChanged => "store_changed",
            Trigger::KernelChanged => "kernel_changed",
            Trigger::UnderlayChanged => "underlay_changed",
            Trigger::Periodic => "periodic",
            Trigger::Retry => "retry",
            Trigger::Lingered => "lingered",
        };
        self.durations.get_or_create(&Why { trigger }).observe(took.as_secs_f64());
    }

    /// The text (`application/openmetrics-text`).
    pub fn text(&self, status: &Status) -> String {
        self.ready.set(status.ready.into());
        self.desired.set(count(status.peers.len()));
        let programmed = status.peers.values().filter(|peer| peer.routes.iter().all(|route| route.programmed));
        self.programmed.set(count(programmed.count()));
        self.left_out.set(count(status.left_out.len()));
        self.changing.set(status.changing.into());
        self.problems.set(count(status.problems.len()));
        self.contested.set(count(status.contested.len()));
        self.set_routes(status);
        let seconds = |gauge: &Seconds, at: Option<Timestamp>| {
            // Whole seconds of this age are exact in a double.
            #[expect(clippy::cast_precision_loss)]
            gauge.set(at.map_or(0, Timestamp::as_second) as f64);
        };
        seconds(&self.started, Some(status.started));
        seconds(&self.last_full_read, status.last_full_read);
        seconds(&self.last_event, status.store.last_event);
        seconds(&self.trouble, status.store.trouble.as_ref().map(|trouble| trouble.since));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn set_routes(&self, status: &Status) {
        let Some(own) = &status.node else { return };
        let routes = || status.peers.values().flat_map(|peer| &peer.routes);
        for family in own.lease.subnets.iter().map(|subnet| subnet.family()) {
            for kind in RouteKind::ALL {
                let found = routes().filter(|route| route.kind == kind && route.subnet.family() == family).count();
                let family = if family == types::Family::V4 { "ipv4" } else { "ipv6" };
                self.routes.get_or_create(&ByRoute { family, way: kind.as_str() }).set(count(found));
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
