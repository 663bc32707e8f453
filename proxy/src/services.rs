//! The state: all Services and slices of the cluster, and which service ports a change concerns.
//!
//! Pure.

mod claims;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::types::{Family, Prefix};

use self::claims::Claims;
pub use self::claims::{Claim, Conflict};
use self::names::Names;
use crate::model::{
    Collection, Endpoint, Event, Node, Object, ObjectName, PortKey, Service, ServiceName, ServicePort, Slice,
    SliceName, SlicePort,
};
use crate::problem::{Problem, Problems};
use crate::topology::{self, Candidate, LeftOut, Place, Resolved};

/// What an event has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// The service ports that may resolve otherwise than before: new, changed or gone.
    pub ports: BTreeSet<PortKey>,
    /// The own Node.
    pub node: bool,
    /// The ranges of the `ServiceCIDRs`.
    pub service_cidrs: bool,
    /// The problems.
    pub problems: bool,
}

impl Changed {
    /// Adds what another event has changed.
    pub fn add(&mut self, other: Self) {
        self.ports.extend(other.ports);
        self.node |= other.node;
        self.service_cidrs |= other.service_cidrs;
        self.problems |= other.problems;
    }

    /// True where nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A Service's ports and the slices of its endpoints. Each may be known before the other.
#[derive(Debug, Default)]
struct Entry {
    ports: Vec<Arc<ServicePort>>,
    slices: Vec<Slice>,
}

/// An endpoint of a service port, and whether the port uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// The address and port.
    pub address: SocketAddr,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Why the endpoint is left out for policy Cluster, if it is.
    pub cluster: Option<LeftOut>,
    /// Why the endpoint is left out for policy Local, if it is.
    pub local: Option<LeftOut>,
}

/// All Services, slices and `ServiceCIDRs`, and the own Node, as the source knows them.
#[derive(Debug, Default)]
pub struct Services {
    node_name: Arc<str>,
    node: Option<Node>,
    names: Names,
    entries: BTreeMap<ServiceName, Entry>,
    /// The Service of each slice.
    slices: BTreeMap<SliceName, ServiceName>,
    claims: Claims,
    service_cidrs: BTreeMap<Arc<str>, Vec<Prefix>>,
    faults: BTreeMap<ObjectName, Vec<Problem>>,
    other_faults: BTreeMap<Arc<str>, Vec<Problem>>,
    /// The collections that were whole once.
    listed: BTreeSet<Collection>,
    /// What was known before a list began and was not in it yet.
    stale: BTreeSet<ObjectName>,
}

impl Services {
    /// No Services; this node has that name.
    pub fn new(node_name: &str) -> Self {
        Self { node_name: node_name.into(), ..Self::default() }
    }

    /// Takes an event. Says what has changed by it.
    pub fn apply(&mut self, event: Event) -> Changed {
        match event {
            Event::Init(collection) => {
                let known = self.known(collection);
                self.stale.extend(known);
                Changed::default()
            }
            Event::InitDone(collection) => {
                self.listed.insert(collection);
                let (gone, stale) =
                    std::mem::take(&mut self.stale).into_iter().partition(|name| name.collection() == collection);
                self.stale = stale;
                let gone: BTreeSet<ObjectName> = gone;
                let mut changed = Changed::default();
                for name in gone {
                    changed.add(self.unset(name, Vec::new()));
                }
                changed
            }
            Event::Set(object, faults) => self.set(object, faults),
            Event::Unset(name, faults) => self.unset(name, faults),
            Event::Faults(subject, faults) => {
                Changed { problems: put(&mut self.other_faults, subject, faults), ..Changed::default() }
            }
        }
    }

    /// True once Services, slices and the own Node were whole: nothing may be programmed before that. Without the Node its node ports would
    /// lose their addresses.
    pub fn is_listed(&self) -> bool {
        use Collection::{Nodes, Services, Slices};
        [Services, Slices, Nodes].iter().all(|collection| self.listed.contains(collection))
    }

    /// This node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// The own Node.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The ranges of all `ServiceCIDRs`.
    pub fn service_cidrs(&self) -> BTreeSet<Prefix> {
        self.service_cidrs.values().flatten().copied().collect()
    }

    /// Every service port, with or without endpoints, also where another one has its cluster IP.
    pub fn ports(&self) -> impl Iterator<Item = &Arc<ServicePort>> {
        self.entries.values().flat_map(|entry| &entry.ports)
    }

    /// What the service port means on this node. `None` where there is no such port, or another one has its cluster IP and port.
    pub fn resolve(&self, key: &PortKey) -> Option<Resolved> {
        let (entry, port) = self.find(key)?;
        let port = self.claims.granted(port)?;
        let candidates = entry.candidates(&port);
        Some(topology::resolve(port, &candidates, self.place()))
    }

    /// Every endpoint of a service port, and why it is left out.
    pub fn endpoints(&self, key: &PortKey) -> Vec<EndpointState> {
        let Some((entry, port)) = self.find(key) else { return Vec::new() };
        let candidates = entry.candidates(port);
        let parts = topology::judge(&candidates, self.place());
        let state = |(Candidate { address, endpoint }, part): (&Candidate<'_>, topology::Part)| EndpointState {
            address: *address,
            endpoint: Endpoint::clone(endpoint),
            cluster: part.cluster,
            local: part.local,
        };
        candidates.iter().zip(parts).map(state).collect()
    }

    /// The port of a Service's health check, and how many addresses of ready endpoints this node has, of the family that has more.
    pub fn health_check(&self, name: &ServiceName) -> Option<(u16, usize)> {
        let entry = self.entries.get(name)?;
        let number = entry.ports.iter().find_map(|port| port.health_check_node_port)?;
        let ready = |family| {
            let ports = entry.ports.iter().filter(|port| port.family == family);
            let candidates = ports.flat_map(|port| entry.candidates(port));
            let ready = candidates.filter(|candidate| candidate.endpoint.ready && candidate.endpoint.is_local);
            ready.map(|candidate| candidate.address.ip()).collect::<BTreeSet<_>>().len()
        };
        Some((number, Family::BOTH.into_iter().map(ready).max().unwrap_or(0)))
    }

    /// The claims that service ports have lost to others.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        self.claims.conflicts()
    }

    /// Everything that is wrong with the objects.
    pub fn problems(&self) -> Problems {
        let faults = self.faults.values().chain(self.other_faults.values()).flatten().cloned();
        faults.chain(self.conflicts().map(|conflict| conflict.problem())).collect()
    }

    fn place(&self) -> Place<'_> {
        let zone = self.node.as_ref().and_then(|node| node.zone.as_deref());
        Place { node: &self.node_name, zone }
    }

    fn find(&self, key: &PortKey) -> Option<(&Entry, &Arc<ServicePort>)> {
        let entry = self.entries.get(&key.name.service)?;
        let port = entry.ports.iter().find(|port| port.family == key.family && port.name == key.name)?;
        Some((entry, port))
    }

    fn known(&self, collection: Collection) -> Vec<ObjectName> {
        let objects: Vec<ObjectName> = match collection {
            Collection::Services => {
                let services = self.entries.iter().filter(|(_, entry)| !entry.ports.is_empty());
                services.map(|(name, _)| ObjectName::Service(name.clone())).collect()
            }
            Collection::Slices => self.slices.keys().cloned().map(ObjectName::Slice).collect(),
            Collection::Nodes => self.node.iter().map(|node| ObjectName::Node(node.name.clone())).collect(),
            Collection::ServiceCidrs => self.service_cidrs.keys().cloned().map(ObjectName::ServiceCidr).collect(),
        };
        let faulty = self.faults.keys().filter(|name| name.collection() == collection).cloned();
        objects.into_iter().chain(faulty).collect()
    }

    fn set(&mut self, object: Object, faults: Vec<Problem>) -> Changed {
        let name = object.name();
        self.stale.remove(&name);
        let mut changed = match object {
            Object::Service(service) => self.set_ports(service),
            Object::Slice(slice, _) => self.set_slice(slice),
            Object::Node(node) => self.set_node(Some(node)),
            Object::ServiceCidr(name, ranges) => {
                let is_new = self.service_cidrs.get(&name) != Some(&ranges);
                self.service_cidrs.insert(name, ranges);
                Changed { service_cidrs: is_new, ..Changed::default() }
            }
        };
        changed.problems |= put(&mut self.faults, name, faults);
        changed
    }

    fn unset(&mut self, name: ObjectName, faults: Vec<Problem>) -> Changed {
        self.stale.remove(&name);
        let mut changed = match &name {
            ObjectName::Service(name) => self.set_ports(Service { name: name.clone(), ports: Vec::new() }),
            ObjectName::Slice(name) => self.remove_slice(name),
            ObjectName::Node(_) => self.set_node(None),
            ObjectName::ServiceCidr(name) => {
                Changed { service_cidrs: self.service_cidrs.remove(name).is_some(), ..Changed::default() }
            }
        };
        changed.problems |= put(&mut self.faults, name, faults);
        changed
    }

    fn set_ports(&mut self, mut service: Service) -> Changed {
        let mut changed = Changed::default();
        if service.ports.is_empty() && !self.entries.contains_key(&service.name) {
            return changed;
        }
        self.names.share_service(&mut service.name);
        let entry = self.entries.entry(service.name.clone()).or_default();
        let former = std::mem::take(&mut entry.ports);
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        for mut port in service.ports {
            self.names.share_port(&mut port.name);
            match former.iter().find(|former| ***former == port) {
                Some(same) => kept.push(Arc::clone(same)),
                None => new.push(Arc::new(port)),
            }
        }
        for gone in former.iter().filter(|former| !kept.iter().any(|kept| Arc::ptr_eq(kept, former))) {
            changed.problems |= self.claims.is_contested(gone);
            changed.ports.insert(gone.key());
            changed.ports.extend(self.claims.remove(gone));
        }
        for port in &new {
            changed.ports.insert(port.key());
            changed.ports.extend(self.claims.add(port));
            changed.problems |= self.claims.is_contested(port);
        }
        kept.append(&mut new);
        kept.shrink_to_fit();
        entry.ports = kept;
        self.forget_empty(&service.name);
        changed
    }

    fn set_slice(&mut self, mut slice: Slice) -> Changed {
        self.names.share_slice(&mut slice);
        let service = ServiceName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        let mut changed = Changed::default();
        if self.slices.get(&slice.name).is_some_and(|former| *former != service) {
            changed = self.remove_slice(&slice.name);
        }
        self.slices.insert(slice.name.clone(), service.clone());
        let entry = self.entries.entry(service).or_default();
        let place = entry.slices.iter().position(|known| known.name == slice.name);
        if let Some(place) = place {
            if entry.slices[place] != slice {
                entry.concerned(&entry.slices[place], &mut changed.ports);
                entry.concerned(&slice, &mut changed.ports);
                entry.slices[place] = slice;
            }
        } else {
            entry.concerned(&slice, &mut changed.ports);
            // Most Services have one slice.
            entry.slices.reserve_exact(usize::from(entry.slices.is_empty()));
            entry.slices.push(slice);
        }
        changed
    }

    fn remove_slice(&mut self, name: &SliceName) -> Changed {
        let mut changed = Changed::default();
        let Some(service) = self.slices.remove(name) else { return changed };
        if let Some(entry) = self.entries.get_mut(&service)
            && let Some(place) = entry.slices.iter().position(|slice| slice.name == *name)
        {
            let slice = entry.slices.swap_remove(place);
            entry.concerned(&slice, &mut changed.ports);
        }
        self.forget_empty(&service);
        changed
    }

    fn set_node(&mut self, node: Option<Node>) -> Changed {
        let mut changed = Changed { node: self.node != node, ..Changed::default() };
        let zone = |node: &Option<Node>| node.as_ref().and_then(|node| node.zone.clone());
        if zone(&self.node) != zone(&node) {
            for entry in self.entries.values() {
                let hinted =
                    entry.slices.iter().filter(|slice| slice.endpoints.iter().any(|e| !e.zone_hints.is_empty()));
                hinted.for_each(|slice| entry.concerned(slice, &mut changed.ports));
            }
        }
        self.node = node;
        changed
    }

    fn forget_empty(&mut self, name: &ServiceName) {
        if self.entries.get(name).is_some_and(|entry| entry.ports.is_empty() && entry.slices.is_empty()) {
            self.entries.remove(name);
        }
    }
}

impl Entry {
    /// Adds the service ports that a slice says something about.
    fn concerned(&self, slice: &Slice, ports: &mut BTreeSet<PortKey>) {
        let concerned =
            self.ports.iter().filter(|port| port.family == slice.family && ports_of(slice, port).next().is_some());
        ports.extend(concerned.map(|port| port.key()));
    }

    /// The endpoints of a port, sorted and each once: where several slices have an address and port, the endpoint of this node goes
    /// first, then the one that is ready.
    fn candidates(&self, port: &ServicePort) -> Vec<Candidate<'_>> {
        let slices = self.slices.iter().filter(|slice| slice.family == port.family);
        let endpoints = slices.flat_map(|slice| {
            ports_of(slice, port).flat_map(|number| {
                let address = move |endpoint: &Endpoint| SocketAddr::new(endpoint.address, number);
                slice.endpoints.iter().map(move |endpoint| Candidate { address: address(endpoint), endpoint })
            })
        });
        let mut candidates: Vec<_> = endpoints.collect();
        candidates.sort_unstable_by(|a, b| a.address.cmp(&b.address).then_with(|| b.endpoint.cmp(a.endpoint)));
        candidates.dedup_by_key(|candidate| candidate.address);
        candidates
    }
}

/// The numbers of a slice's ports that are those of the service port.
fn ports_of<'s>(slice: &'s Slice, port: &ServicePort) -> impl Iterator<Item = u16> + use<'s> {
    let (name, protocol) = (Arc::clone(&port.name.port), port.name.protocol);
    let is_of = move |port: &&SlicePort| port.protocol == protocol && port.name == name;
    slice.ports.iter().filter(is_of).map(|port| port.port)
}

/// Sets faults. True where they have changed.
fn put<K: Ord>(all: &mut BTreeMap<K, Vec<Problem>>, subject: K, faults: Vec<Problem>) -> bool {
    if faults.is_empty() {
        return all.remove(&subject).is_some();
    }
    let say_the_same = |known: &Vec<Problem>| {
        known.len() == faults.len() && faults.iter().zip(known).all(|(fault, known)| fault.says_the_same_as(known))
    };
    let is_new = !all.get(&subject).is_some_and(say_the_same);
    all.insert(subject, faults);
    is_new
}

#[cfg(test)]
pub(crate) mod tests;
