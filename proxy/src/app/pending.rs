//! What has changed and is not in the kernel yet.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::types::Family;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::health::Run;
use crate::model::PortKey;

/// So many times of changes wait at most, while the kernel refuses a table.
const MOST_WAITING: usize = 1000;

/// The changes.
#[derive(Debug)]
pub(super) struct Pending {
    /// Service ports to resolve again.
    ports: BTreeSet<PortKey>,
    /// When the first of them changed.
    since: Option<Instant>,
    /// When the endpoints of these families changed, by the clock of the control plane.
    endpoints: BTreeMap<Family, Vec<Timestamp>>,
    /// Changes before this are those of other processes.
    began: Timestamp,
}

impl Pending {
    /// Nothing has changed. `began` is when the process began, by the wall clock.
    pub(super) fn new(began: Timestamp) -> Self {
        Self { ports: BTreeSet::new(), since: None, endpoints: BTreeMap::new(), began }
    }

    /// Service ports have changed.
    pub(super) fn extend(&mut self, ports: BTreeSet<PortKey>) {
        if !ports.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        self.ports.extend(ports);
    }

    /// Endpoints of these service ports have changed at a time, if that is known.
    pub(super) fn endpoints_changed<'p>(&mut self, ports: impl Iterator<Item = &'p PortKey>, at: Option<Timestamp>) {
        let Some(at) = at.filter(|at| *at >= self.began) else { return };
        let families: BTreeSet<Family> = ports.map(|key| key.family).collect();
        for family in families {
            let waiting = self.endpoints.entry(family).or_default();
            if waiting.len() < MOST_WAITING {
                waiting.push(at);
            }
        }
    }

    /// The service ports to resolve.
    pub(super) fn take(&mut self) -> BTreeSet<PortKey> {
        std::mem::take(&mut self.ports)
    }

    /// A run has ended. Where it was clean, it learns how long its changes took.
    pub(super) fn complete(&mut self, run: &mut Run, now: Timestamp) {
        if run.is_clean {
            let changes = self.endpoints.remove(&run.family).unwrap_or_default();
            run.since_changes = changes.iter().filter_map(|at| now.duration_since(*at).try_into().ok()).collect();
            run.since_event = self.since.map(|since| since.elapsed());
        }
    }

    /// All runs have ended. What waits on is what the kernel refused: other changes altered no table, or are in the kernel.
    pub(super) fn end(&mut self, runs: &[Run]) {
        self.since = None;
        self.endpoints.retain(|family, _| runs.iter().any(|run| run.family == *family && !run.is_clean));
    }
}

#[cfg(test)]
mod tests;
