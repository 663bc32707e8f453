//! Node ports on loopback, under kube-proxy's names.

use std::collections::BTreeSet;

use dataplane::nft::{Key, Socket, Value};
use dataplane::types;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, of};
use crate::model::Protocol;
use crate::ruleset::rejected_on_loopback;

/// What is counted of listeners on loopback, for the families that have them.
#[derive(Debug, Default)]
pub struct LoopbackMetrics {
    families: BTreeSet<types::Family>,
    listeners: Family<Labels<1>, Gauge>,
    failures: Family<Labels<1>, Counter>,
}

impl LoopbackMetrics {
    /// Nothing yet.
    pub fn new(families: &BTreeSet<types::Family>) -> Self {
        let metrics = Self { families: families.clone(), ..Self::default() };
        for family in &metrics.families {
            // They are there from the beginning, with 0.
            drop(metrics.listeners.get_or_create(&of(*family)));
            drop(metrics.failures.get_or_create(&of(*family)));
        }
        metrics
    }

    /// A listener is open.
    pub fn opened(&self, family: types::Family) {
        self.listeners.get_or_create(&of(family)).inc();
    }

    /// A listener is closed.
    pub fn closed(&self, family: types::Family) {
        self.listeners.get_or_create(&of(family)).dec();
    }

    /// An attempt to open a listener has failed.
    pub fn failed(&self, family: types::Family) {
        self.failures.get_or_create(&of(family)).inc();
    }

    /// Adds the metrics, and what the kernel has counted, which is read in the network namespace of the calling thread.
    pub(super) fn register(&self, all: &mut Registry) {
        if self.families.is_empty() {
            return;
        }
        let name = |of: &str| format!("kubeproxy_nftables_localhost_nodeport_{of}");
        all.register(name("listeners"), "Listeners on loopback", self.listeners.clone());
        let failures = "Attempts to open a listener on loopback that have failed";
        all.register(name("listener_creation_failures"), failures, self.failures.clone());
        let rejected = Family::<Labels<2>, Counter>::default();
        for family in &self.families {
            for (protocol, count) in read_rejected(*family) {
                let [family] = of(*family);
                rejected.get_or_create(&[family, ("protocol", protocol.to_string())]).inc_by(count);
            }
        }
        all.register(name("rejected_packets"), "Packets to node ports on loopback that are not of TCP", rejected);
    }
}

/// How many packets of each protocol the kernel has rejected. A table that was made anew counts from 0 on.
fn read_rejected(family: types::Family) -> [(Protocol, u64); 2] {
    let (table, set, definition) = rejected_on_loopback(family);
    let elements = Socket::open().and_then(|mut socket| socket.read_elements(&table, &set.to_string(), &definition));
    let elements = elements.unwrap_or_default();
    let count = |protocol: Protocol| {
        let element = elements.get(&Key::from(Value::Protocol(protocol.number())));
        element.and_then(|element| element.usage.counter).map_or(0, |counter| counter.packets)
    };
    [Protocol::Udp, Protocol::Sctp].map(|protocol| (protocol, count(protocol)))
}
