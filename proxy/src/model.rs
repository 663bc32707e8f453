//! Services and endpoints as plain values, and the events about them.
//!
//! Pure. No type of the Kubernetes API passes into this room. Names are shared texts, since a cluster has ten thousands of objects and
//! few different namespaces, port names, zones and nodes.

mod event;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::{Family, PerFamily, Prefix};
use jiff::Timestamp;

pub use self::event::{Collection, Event, Object, ObjectName};

/// A transport protocol. Displayed as the API writes it: `TCP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number in an IP header (`IPPROTO_TCP`).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// A traffic policy: which endpoints take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Policy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

/// The name of a Service. Displayed as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// The name of a Service in a namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The name of an `EndpointSlice`. Displayed as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What kube-proxy knows a service port by. Displayed as kube-proxy prints it: `namespace/name:port`, or `namespace/name` for a port
/// without a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The Service.
    pub service: ServiceName,
    /// The port's name; may be empty.
    pub port: Arc<str>,
    /// The protocol: two ports may differ by it alone.
    pub protocol: Protocol,
}

impl PortName {
    /// The name of a port of a Service in a namespace.
    pub fn new(namespace: &str, service: &str, port: &str, protocol: Protocol) -> Self {
        Self { service: ServiceName::new(namespace, service), port: port.into(), protocol }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// What a service port of one family is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The port's name.
    pub name: PortName,
    /// The family: a dual-stack Service has each port twice.
    pub family: Family,
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.name, self.name.protocol, self.family)
    }
}

/// One port of a Service in one family. Every address is of that family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name.
    pub name: PortName,
    /// The family.
    pub family: Family,
    /// The Service's address.
    pub cluster_ip: IpAddr,
    /// The port on `cluster_ip`, the external and the load balancer's addresses.
    pub port: u16,
    /// The port on the node's addresses.
    pub node_port: Option<u16>,
    /// `spec.externalIPs`. No source ranges apply.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses that the node serves: not those of `ipMode: Proxy`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use `load_balancer_ips`; `None` for everybody, an empty list for nobody.
    pub source_ranges: Option<Vec<Prefix>>,
    /// Endpoints for node port, external and load balancer's addresses.
    pub external_policy: Policy,
    /// Endpoints for the cluster IP.
    pub internal_policy: Policy,
    /// How long a client stays with its endpoint: `sessionAffinity: ClientIP`.
    pub affinity: Option<Duration>,
    /// The port of the health check of a load balancer with `externalTrafficPolicy: Local`.
    pub health_check_node_port: Option<u16>,
    /// When the Service was made: of two that claim one address or node port the older has it.
    pub created: Option<Timestamp>,
}

impl ServicePort {
    /// What the port is known by.
    pub fn key(&self) -> PortKey {
        PortKey { name: self.name.clone(), family: self.family }
    }

    /// The addresses that have `port`. The first is the cluster IP.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [&self.cluster_ip].into_iter().chain(&self.external_ips).chain(&self.load_balancer_ips).copied()
    }
}

/// A Service: its name and its ports, each once for each of the Service's families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The name.
    pub name: ServiceName,
    /// The ports; their `name.service` is `name`.
    pub ports: Vec<ServicePort>,
}

/// A port that a slice's endpoints have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlicePort {
    /// The name, which is that of the Service's port.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the endpoints' addresses.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "the API's three conditions and where the endpoint is")]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The endpoint is on this node.
    pub is_local: bool,
    /// The condition `ready`.
    pub ready: bool,
    /// The condition `serving`.
    pub serving: bool,
    /// The condition `terminating`.
    pub terminating: bool,
    /// The zones whose nodes should use the endpoint (`hints.forZones`).
    pub zone_hints: Box<[Arc<str>]>,
    /// The nodes that should use the endpoint (`hints.forNodes`).
    pub node_hints: Box<[Arc<str>]>,
}

impl Endpoint {
    /// True for an endpoint that answers, whether it goes away or not.
    pub fn is_serving(&self) -> bool {
        self.ready || self.serving
    }

    /// True for an endpoint that goes away and still answers: it is used where no endpoint is ready.
    pub fn is_serving_terminating(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }
}

/// An `EndpointSlice`: endpoints of one family, each with all of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The name.
    pub name: SliceName,
    /// The name of the Service, in the same namespace.
    pub service: Arc<str>,
    /// The family of the endpoints.
    pub family: Family,
    /// The ports.
    pub ports: Box<[SlicePort]>,
    /// The endpoints.
    pub endpoints: Box<[Endpoint]>,
}

/// This node, as far as Services depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone: the label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// The addresses that the node is known by: the first internal one of each family, else the first external one.
    pub addresses: PerFamily<IpAddr>,
    /// The pods' ranges.
    pub pod_cidrs: PerFamily<Prefix>,
    /// The node is about to leave the cluster: it is being deleted, or its autoscaler has marked it.
    pub is_leaving: bool,
}

#[cfg(test)]
mod tests;
