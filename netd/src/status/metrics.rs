//! The metrics for Prometheus, by its rules for names and units.
//!
//! What the status has is read from there when somebody reads the metrics; the rest is counted when runs end.

use std::borrow::Cow;
use std::time::Duration;

use dataplane::types;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Operations, PeerStatus, RouteKind, Status};
use crate::reconcile::{Deferred, Trigger};

/// Names and values.
type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// From an idle run among few peers to a run that programs thousands.
fn seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
}

/// What is not in the status. The rest is made from the status when somebody reads the metrics.
#[derive(Debug)]
pub struct Metrics {
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    held: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { durations: Family::new_with_constructor(seconds), held: Family::default() }
    }
}

impl Metrics {
    /// A run has left this for later.
    pub fn deferred(&self, deferred: &Deferred) {
        for (kind, begun) in &deferred.begun {
            self.held.get_or_create(&[("kind", Cow::Borrowed(kind))]).inc_by(*begun);
        }
    }

    /// Records the duration of a run.
    pub fn time(&self, trigger: Trigger, took: Duration) {
        let trigger = match trigger {
            Trigger::Lingered => "lingered".to_owned(),
            other => other.name().replace(' ', "_"),
        };
        self.durations.get_or_create(&[("trigger", trigger.into())]).observe(took.as_secs_f64());
    }

    /// The text (`application/openmetrics-text`). The registry adds the suffixes `_total` and `_seconds`.
    pub fn text(&self, status: &Status) -> String {
        let mut all = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        all.register("netd_build", "Which netd this is", build);
        let is_programmed = |peer: &&PeerStatus| peer.routes.iter().all(|route| route.programmed);
        let programmed = status.peers.values().filter(is_programmed).count();
        for (name, help, value) in [
            (
                "netd_ready",
                "1 if the kernel has the desired state, pods can be wired, and Services are programmed",
                usize::from(status.is_ready()),
            ),
            ("netd_peers_desired", "Other nodes that should be reachable", status.peers.len()),
            ("netd_peers_programmed", "Other nodes whose routes are in the kernel", programmed),
            ("netd_peers_left_out", "Nodes of the store that are left out", status.store.left_out),
            ("netd_backend_changing", "1 while the backend is being changed", usize::from(status.daemon.changing)),
            ("netd_problems", "What netd status lists as problems", status.problems.len()),
            ("netd_contested_objects", "What something else undoes again and again", status.contested.len()),
        ] {
            all.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
        }
        if let Some(proxy) = &status.daemon.proxy {
            let help = "1 if the kernel has every Service, or kube-proxy has them";
            all.register("netd_services_ready", help, ConstGauge::new(i64::from(proxy.state.is_ready())));
        }
        all.register("netd_peers", "Other nodes by the kind of route to their pods", routes(status));
        let by_kind = |value: fn(&Operations) -> u64| {
            let counters = Family::<Labels<1>, Counter>::default();
            for (kind, count) in &status.operations {
                counters.get_or_create(&[("kind", kind.clone())]).inc_by(value(count));
            }
            counters
        };
        let tried = by_kind(|count| count.applied + count.failed);
        all.register("netd_operations", "Changes to the kernel that were tried", tried);
        let refused = by_kind(|count| count.failed);
        all.register("netd_operation_failures", "Changes that the kernel refused", refused);
        let repairs = by_kind(|count| count.repairs);
        all.register("netd_repairs", "Changes that restored what had been right before", repairs);
        all.register("netd_repairs_held", "Repairs that wait since something undoes them", self.held.clone());
        let trouble = status.store.trouble.as_ref().map(|trouble| trouble.since);
        for (name, help, at) in [
            ("netd_start_timestamp", "When netd started", Some(status.daemon.started)),
            ("netd_last_full_read_timestamp", "When all of netd's in the kernel was last read", status.last_full_read),
            ("netd_store_last_event_timestamp", "When the store last had an event", status.store.last_event),
            ("netd_store_trouble_timestamp", "Since when the store cannot be followed; 0 if it can", trouble),
        ] {
            // Whole seconds of this age are exact in a double.
            #[expect(clippy::cast_precision_loss)]
            let seconds = at.map_or(0, Timestamp::as_second) as f64;
            all.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(seconds));
        }
        let durations = self.durations.clone();
        all.register_with_unit("netd_reconcile_duration", "How long a reconcile took", Unit::Seconds, durations);
        listener::process::register(&mut all);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &all);
        text
    }
}

fn routes(status: &Status) -> Family<Labels<2>, Gauge> {
    let routes = Family::<_, Gauge>::default();
    for subnet in status.node.iter().flat_map(|node| &node.lease.subnets) {
        let family = if subnet.family() == types::Family::V4 { "ipv4" } else { "ipv6" };
        let of_kind = |kind: RouteKind| [("family", family.into()), ("way", kind.to_string().into())];
        for kind in RouteKind::ALL {
            drop(routes.get_or_create(&of_kind(kind)));
        }
        for route in status.peers.values().flat_map(|peer| &peer.routes) {
            if route.subnet.family() == subnet.family() {
                routes.get_or_create(&of_kind(route.kind)).inc();
            }
        }
    }
    routes
}
