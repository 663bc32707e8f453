//! What others learn of the proxy: status, health, metrics and Events.

use std::collections::BTreeMap;
use std::sync::Arc;

use dataplane::types::Family;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Status;
use crate::config::Config;
use crate::events::Events;
use crate::health::{Health, Metrics, Run};
use crate::model::{PortKey, ServiceName};
use crate::problem::{Problem, Problems};
use crate::topology::Resolved;

/// Where it is said.
#[derive(Debug)]
pub(super) struct Outputs {
    /// Whether the proxy is healthy.
    pub(super) health: Health,
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
    /// Events of the API server.
    pub(super) events: Events,
    /// What a program learns that has the proxy inside.
    pub(super) status: watch::Sender<Status>,
    /// The tables have been as desired.
    pub(super) programmed: watch::Sender<bool>,
    /// Changes with what is listed.
    pub(super) changes: watch::Sender<u64>,
}

impl Outputs {
    /// Nothing is known yet.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            health: Health::new(2 * config.sync_period),
            metrics: Arc::new(Metrics::new(&config.node_port_addresses.loopback())),
            events: Events::default(),
            status: watch::Sender::default(),
            programmed: watch::Sender::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Says whether the tables are as desired.
    pub(super) fn publish(&self, is_programmed: bool) {
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.is_programmed, is_programmed) != is_programmed);
    }

    /// Service ports of a family have changed.
    pub(super) fn update(&self, family: Family, ports: &BTreeMap<PortKey, Option<Resolved>>, now: Timestamp) {
        if !ports.is_empty() {
            self.metrics.queued(family, now);
        }
        for (key, resolved) in ports {
            self.metrics.resolved(key, resolved.as_ref());
        }
    }

    /// A run has ended.
    pub(super) fn run(&self, run: &Run, now: Timestamp) {
        if run.is_clean {
            self.health.updated(run.family, now);
        } else {
            self.health.pending(run.family);
        }
        self.metrics.run(run, now);
    }

    /// Logs and publishes what is wrong, where that has changed. `owners` gives the Services whose owners should know.
    pub(super) fn set_problems(&self, now: Problems, owners: impl FnOnce() -> BTreeMap<Problem, ServiceName>) {
        let is_other = {
            let status = self.status.borrow();
            let changes = reconcile::problem::changes(&status.problems, &now);
            for problem in &changes.new {
                tracing::warn!("{problem}");
            }
            for problem in &changes.over {
                tracing::info!("over: {problem}");
            }
            self.events.record(&changes, owners);
            !(changes.new.is_empty() && changes.over.is_empty())
        };
        if is_other {
            self.status.send_modify(|status| status.problems = now);
        }
    }
}
