//! The desired objects that the kernel does not have after a run: refused, deferred, or in conflict with others' objects.
//!
//! Pure. Almost always empty.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::op::Op;
use dataplane::types::{IfName, Mac, Prefix};
use network::backend::PeerRoute;
use network::overlay::Desired;
use network::plan::Conflict;

use crate::reconcile::Report;

/// The objects.
#[derive(Debug, Default)]
pub struct Unprogrammed {
    routes: BTreeSet<Prefix>,
    neighbours: BTreeSet<IpAddr>,
    tunnel_ends: BTreeSet<Mac>,
    devices: BTreeSet<IfName>,
}

impl Unprogrammed {
    /// After a run with this report and these deferred operations.
    pub fn of(report: &Report, deferred: &[Op]) -> Self {
        let mut unprogrammed = Self::default();
        for op in report.failed.iter().map(|(op, _)| op).chain(deferred) {
            match op {
                Op::AddRoute(route) | Op::ReplaceRoute(route) => drop(unprogrammed.routes.insert(route.destination)),
                Op::PutNeighbour { address, .. } => drop(unprogrammed.neighbours.insert(*address)),
                Op::PutFdb { mac, .. } => drop(unprogrammed.tunnel_ends.insert(*mac)),
                Op::AddTunnel { name, .. } | Op::SetLink { name, .. } => {
                    unprogrammed.devices.insert(name.clone());
                }
                _ => {}
            }
        }
        for conflict in &report.conflicts {
            match conflict {
                Conflict::Route { wanted, .. } => drop(unprogrammed.routes.insert(wanted.destination)),
                Conflict::Name { name, .. } | Conflict::Tunnel { name, .. } => {
                    unprogrammed.devices.insert(name.clone());
                }
            }
        }
        unprogrammed
    }

    /// True if the route to these pods of a peer lacks an object.
    pub fn covers(&self, desired: &Desired, route: PeerRoute, subnet: Prefix) -> bool {
        if self.routes.is_empty()
            && self.neighbours.is_empty()
            && self.tunnel_ends.is_empty()
            && self.devices.is_empty()
        {
            return false;
        }
        let device = desired.routes.get(&subnet).map(|route| &route.device);
        self.routes.contains(&subnet)
            || self.neighbours.contains(&subnet.address())
            || route.mac.is_some_and(|mac| self.tunnel_ends.contains(&mac))
            || device.is_some_and(|device| self.devices.contains(device))
    }
}
