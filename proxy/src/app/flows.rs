//! Flows that go on to endpoints that are gone are deleted, once the new endpoints are in the kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::error::KernelError;
use dataplane::types::Family;

use super::Tables;
use crate::conntrack::{self, Flows};
use crate::health::Metrics;
use crate::model::PortKey;
use crate::ruleset::{NodePorts, Settings};
use crate::services::Services;
use crate::topology::Resolved;

/// Which flows are to be looked at, and the kernel's sockets.
#[derive(Debug)]
pub(super) struct FlowCleaner {
    flows: Flows,
    kernel: conntrack::Kernel,
    /// Connections could not be read or deleted at the last attempt.
    fails: bool,
}

impl FlowCleaner {
    /// Opens the sockets in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, KernelError> {
        Ok(Self { flows: Flows::default(), kernel: conntrack::Kernel::open()?, fails: false })
    }

    /// Service ports have changed.
    pub(super) fn update(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>, services: &Services) {
        let of_flows = ports.iter().filter(|(key, _)| Flows::concern(key)).map(|(key, resolved)| {
            let serving = || services.endpoints(key).into_iter().filter(|state| state.endpoint.is_serving());
            let serves = |port: &Arc<_>| (Arc::clone(port), serving().map(|state| state.address).collect());
            (key.clone(), resolved.as_ref().map(|resolved| serves(&resolved.port)))
        });
        self.flows.update(of_flows);
    }

    /// Takes from the tables what belongs to no Service any more, and did before this process began.
    pub(super) fn forget(&mut self, tables: &mut Tables) {
        for keeper in tables.keepers_mut() {
            let family = keeper.family();
            self.flows.forget(family, keeper.take_gone());
        }
    }

    /// When something is to be looked at again: time since the begin of the process.
    pub(super) fn next(&self) -> Option<Duration> {
        self.flows.next()
    }

    /// Deletes the flows, where the tables are as desired. False where that failed.
    pub(super) fn clean(&mut self, tables: &Tables, now: Duration, metrics: &Metrics) -> bool {
        let mut failed = None;
        for keeper in tables.keepers().iter().filter(|keeper| !keeper.is_dirty()) {
            let Settings { family, node_ports, .. } = keeper.ruleset().settings();
            let began = Instant::now();
            match self.flows.clean(&mut self.kernel, *family, node_ports, now) {
                Ok(None) => {}
                Ok(Some(deleted)) => {
                    metrics.flows(*family, deleted, began.elapsed());
                    tracing::debug!(deleted, "stale flows to Services");
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed.as_ref().filter(|_| !self.fails) {
            tracing::warn!("cannot delete connections to endpoints that are gone: {error}");
        }
        self.fails = failed.is_some();
        !self.fails
    }

    /// The node's addresses that have node ports; `None` where all have. An address of one link alone is nothing to listen on without the
    /// link.
    pub(super) fn node_addresses(&mut self, tables: &Tables) -> Option<Vec<IpAddr>> {
        if tables.settings().all(|settings| settings.node_ports == NodePorts::All) {
            return None;
        }
        let mut of_family = |family: Family, node_ports| self.kernel.node_addresses(family, node_ports);
        let addresses = tables.settings().filter_map(|settings| of_family(settings.family, &settings.node_ports).ok());
        let is_of_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Some(addresses.flatten().filter(|address| !is_of_link(address)).collect())
    }
}
