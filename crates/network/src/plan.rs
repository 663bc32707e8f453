//! The difference between the observed and the desired state, as a list of ops in a safe order.
//!
//! Pure. Make before break: a new object stands before the old one is removed. A peer is added in the order neighbour, FDB entry, route,
//! so that no packet finds a route that leads nowhere, and removed in the reverse order. The same rules make the plan of a full run and of
//! a run over dirty keys.

pub(crate) mod devices;
mod entries;
mod keys;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataplane::op::{DeviceRoute, Op};
use dataplane::types::{IfName, Prefix, RouteProtocol};
use reconcile::problem::Problem;

use crate::backend::DeviceTexts;
use crate::observe::Observed;
use crate::overlay::{Desired, Identity, PROTOCOL};

/// The changes to make, in this order, and the places where none can be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The changes.
    pub ops: Vec<Op>,
    /// Places where an object of somebody else stands instead of a desired one.
    pub conflicts: Vec<Conflict>,
}

/// An object of somebody else in the place of a desired one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// A route to one of our destinations.
    Route {
        /// Ours.
        wanted: Box<DeviceRoute>,
        /// Theirs.
        present: Box<DeviceRoute>,
    },
    /// A device of another kind has our device's name.
    Name {
        /// The name.
        name: IfName,
        /// About the kind of our device.
        texts: DeviceTexts,
    },
    /// A device of another name and of the kind of ours keeps the kernel from making ours.
    Tunnel {
        /// Our device.
        name: IfName,
        /// Theirs.
        other: IfName,
        /// About the kind of both.
        texts: DeviceTexts,
    },
}

impl Conflict {
    /// The conflict as a problem of this kind.
    pub fn problem<K>(&self, kind: K) -> Problem<K> {
        let (subject, detail, remedy) = match self {
            Conflict::Route { wanted, present } => {
                let detail = "cannot be added, since another one is there that is not netd's".to_owned();
                (format!("route {wanted}"), detail, format!("ip route delete {present}"))
            }
            Conflict::Name { name, texts } => {
                let detail = "cannot be made, since a device of another kind has its name".to_owned();
                (format!("{} device {name}", texts.kind), detail, format!("ip link delete {name}"))
            }
            Conflict::Tunnel { name, other, texts } => {
                let detail = format!("cannot be made, since {other} has the same {}", texts.identity);
                (format!("{} device {name}", texts.kind), detail, format!("ip link delete {other}{}", texts.remedy))
            }
        };
        Problem::new(kind, subject, detail).with_remedy(remedy)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem(()).fmt(f)
    }
}

impl Plan {
    /// True where there is no op and no conflict.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.conflicts.is_empty()
    }

    /// The plan that makes `observed` like `desired`.
    pub fn diff(observed: &Observed, desired: &Desired, identity: &Identity) -> Self {
        let mut diff = Diff {
            observed,
            desired,
            identity,
            blocked: BTreeSet::new(),
            replaced: BTreeSet::new(),
            forgetful: BTreeSet::new(),
            present: BTreeMap::new(),
            lengths: BTreeSet::new(),
            plan: Plan::default(),
        };
        diff.devices();
        diff.bridge();
        // A link on which IPv6 is switched off takes no IPv6 address.
        diff.sysctls();
        diff.addresses_to_add();
        diff.ports();
        diff.peers_to_add();
        diff.rules();
        diff.peers_to_remove();
        diff.devices_to_remove();
        diff.leftovers();
        diff.plan
    }
}

struct Diff<'a> {
    observed: &'a Observed,
    desired: &'a Desired,
    identity: &'a Identity,
    /// Devices that cannot be made, so that nothing on them can be made.
    blocked: BTreeSet<&'a IfName>,
    /// Devices that this plan deletes or makes anew: what was observed on them goes with the old device.
    replaced: BTreeSet<&'a IfName>,
    /// Devices that get another hardware address: with the old one, the kernel drops even permanent neighbours.
    forgetful: BTreeSet<&'a IfName>,
    /// The observed routes that no device takes along, by destination and metric: two routes cannot have the same of both.
    present: BTreeMap<(Prefix, u32), Vec<&'a DeviceRoute>>,
    /// The prefix lengths of the IPv6 routes among `present`, without that of the default route.
    lengths: BTreeSet<u8>,
    plan: Plan,
}

impl Diff<'_> {
    fn push(&mut self, op: Op) {
        self.plan.ops.push(op);
    }

    /// True for a device that this plan does not delete: what was observed on it is still there.
    fn keeps(&self, device: &IfName) -> bool {
        !self.replaced.contains(device)
    }

    /// True for a device whose observed neighbours are still there when the plan comes to neighbours.
    fn remembers(&self, device: &IfName) -> bool {
        self.keeps(device) && !self.forgetful.contains(device)
    }

    /// False for a device of somebody else: the plan adds nothing there, and removes nothing.
    fn usable(&self, device: &IfName) -> bool {
        !self.blocked.contains(device)
    }

    fn sysctls(&mut self) {
        for (key, value) in &self.desired.sysctls {
            let is_of = |devices: &BTreeSet<&IfName>| devices.iter().any(|device| key.contains(&format!("/{device}/")));
            let differs = is_of(&self.replaced) || self.observed.sysctls.get(key) != Some(value);
            if differs && !is_of(&self.blocked) {
                self.preconditions_of(key);
                let (key, value) = (key.clone(), value.clone());
                self.push(Op::SetSysctl { key, value });
            }
        }
    }

    /// A sysctl that would do harm together with the new value of `key` is changed first.
    fn preconditions_of(&mut self, key: &str) {
        for precondition in self.desired.preconditions.iter().filter(|precondition| precondition.before == key) {
            if self.observed.sysctls.get(&precondition.key).is_some_and(|value| value == precondition.from) {
                self.push(Op::SetSysctl { key: precondition.key.clone(), value: precondition.to.to_owned() });
            }
        }
    }

    /// Ours are the routes into our networks that bear our protocol number or lead out of our devices, so that the routes of another
    /// daemon that had these devices before are adopted. A route of protocol "boot" (`ip route` without `proto`) in the place of one of
    /// ours is one of ours that somebody changed by hand.
    fn owns(&self, route: &DeviceRoute) -> bool {
        let on_our_device = self.desired.devices.contains_key(&route.device) && self.usable(&route.device)
            || self.observed.links.get(&route.device).is_some_and(|link| self.identity.owns(link));
        let in_our_place = self.desired.routes.get(&route.destination).is_some_and(|ours| ours.metric == route.metric);
        self.identity.covers(route.destination)
            && (route.protocol == PROTOCOL
                || on_our_device && route.protocol != RouteProtocol::KERNEL
                || in_our_place && route.protocol == RouteProtocol::BOOT)
    }
}

impl fmt::Display for Plan {
    /// Lines for a shell; conflicts as comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for conflict in &self.conflicts {
            writeln!(f, "# {conflict}")?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

#[cfg(test)]
mod tests;
