//! What should be in the kernel and is not, after a run: from what was refused, what has to wait and what
//! stands in the way.
//!
//! Pure. Empty almost always, and then nothing is looked up.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::op::Op;
use dataplane::types::{IfName, Mac, Prefix};
use network::overlay::Desired;
use network::overlay::peer_route::PeerRoute;
use network::plan::Conflict;

use crate::reconcile::Report;

/// The parts that are missing.
#[derive(Debug, Default)]
pub struct Missing {
    routes: BTreeSet<Prefix>,
    neighbours: BTreeSet<IpAddr>,
    tunnel_ends: BTreeSet<Mac>,
    devices: BTreeSet<IfName>,
}

impl Missing {
    /// After this report, with what was left for later.
    pub fn of(report: &Report, held: &[Op]) -> Self {
        let mut missing = Self::default();
        for op in report.failed.iter().map(|(op, _)| op).chain(held) {
            match op {
                Op::AddRoute(route) | Op::ReplaceRoute(route) => drop(missing.routes.insert(route.destination)),
                Op::PutNeighbour { address, .. } => drop(missing.neighbours.insert(*address)),
                Op::PutFdb { mac, .. } => drop(missing.tunnel_ends.insert(*mac)),
                Op::AddTunnel { name, .. } | Op::SetLink { name, .. } => drop(missing.devices.insert(name.clone())),
                _ => {}
            }
        }
        for conflict in &report.conflicts {
            match conflict {
                Conflict::Route { wanted, .. } => drop(missing.routes.insert(wanted.destination)),
                Conflict::Name { name, .. } | Conflict::Tunnel { name, .. } => {
                    missing.devices.insert(name.clone());
                }
            }
        }
        missing
    }

    /// True where a part of the way to these pods of a peer is missing.
    pub fn covers(&self, desired: &Desired, way: PeerRoute, subnet: Prefix) -> bool {
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
            || way.mac.is_some_and(|mac| self.tunnel_ends.contains(&mac))
            || device.is_some_and(|device| self.devices.contains(device))
    }
}
