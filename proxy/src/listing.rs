//! What is programmed, as `netd services` and `netd-proxy services` show it: each service port, its endpoints, and why an endpoint is left
//! out.
//!
//! Pure but for [`server`], [`client`] and [`traffic`]. The running proxy makes the listing of its own state.

pub mod client;
pub mod server;
pub mod table;
pub mod traffic;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use self::traffic::Traffic;
use crate::loopback::OnLoopback;
use crate::model::{Policy, ServicePort};
use crate::problem::{Problem, Problems};
use crate::services::{EndpointState, Services};
use crate::topology::LeftOut;

/// Everything that is programmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// This node's name.
    pub node: String,
    /// Services and endpoints are known; nothing is programmed before.
    pub listed: bool,
    /// The kernel has everything as listed.
    pub programmed: bool,
    /// The service ports, by name.
    pub services: Vec<PortListing>,
    /// What is wrong with objects, or with the kernel.
    pub problems: Vec<Problem>,
}

/// A service port of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortListing {
    /// `namespace/name:port`.
    pub service: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The cluster IP, the external and the load balancer's addresses, with the port. Empty where another Service has the cluster IP.
    pub addresses: Vec<SocketAddr>,
    /// The port on the node's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// What becomes of connections to the node port on loopback, where `nodePortAddresses` has loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback: Option<OnLoopback>,
    /// `Cluster` or `Local`: for the cluster IP.
    pub internal_traffic_policy: String,
    /// `Cluster` or `Local`: for the other addresses and the node port.
    pub external_traffic_policy: String,
    /// How many seconds a client stays with its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u64>,
    /// The endpoints.
    pub endpoints: Vec<EndpointListing>,
}

/// An endpoint of a service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointListing {
    /// The address and port.
    pub address: SocketAddr,
    /// The endpoint is on this node.
    pub local: bool,
    /// Why the endpoint gets no packets from the cluster IP, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_internally: Option<String>,
    /// Why the endpoint gets no packets from the other addresses and the node port, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_externally: Option<String>,
    /// What goes through it now. The command that prints the listing adds it, where it may read the kernel's connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

impl Listing {
    /// The listing of a state. `is_programmed`: the kernel has it. `loopback` says what a service port has on loopback.
    pub fn of(
        services: &Services,
        problems: &Problems,
        is_programmed: bool,
        loopback: impl Fn(&ServicePort) -> Option<OnLoopback>,
    ) -> Self {
        let mut ports: Vec<_> = services.ports().map(|port| PortListing::of(port, services, &loopback)).collect();
        ports.sort_by(|a, b| (&a.service, &a.protocol, &a.family).cmp(&(&b.service, &b.protocol, &b.family)));
        Self {
            node: services.node_name().to_owned(),
            listed: services.is_listed(),
            programmed: is_programmed,
            services: ports,
            problems: problems.iter().cloned().collect(),
        }
    }
}

impl PortListing {
    fn of(port: &ServicePort, services: &Services, loopback: &impl Fn(&ServicePort) -> Option<OnLoopback>) -> Self {
        let key = port.key();
        // Without the addresses and the node port that another Service has.
        let granted = services.resolve(&key).map(|resolved| resolved.port);
        let endpoints = services.endpoints(&key).into_iter();
        Self {
            service: port.name.to_string(),
            protocol: port.name.protocol.to_string(),
            family: port.family.to_string(),
            addresses: granted.iter().flat_map(|port| addresses(port)).collect(),
            loopback: granted.as_deref().and_then(loopback),
            node_port: granted.and_then(|port| port.node_port),
            internal_traffic_policy: word(port.internal_policy),
            external_traffic_policy: word(port.external_policy),
            affinity_seconds: port.affinity.map(|time| time.as_secs()),
            endpoints: endpoints.map(|endpoint| EndpointListing::of(port, &endpoint)).collect(),
        }
    }

    /// The endpoints that get packets.
    pub fn used(&self) -> impl Iterator<Item = &EndpointListing> {
        self.endpoints.iter().filter(|endpoint| endpoint.is_used())
    }
}

impl EndpointListing {
    fn of(port: &ServicePort, state: &EndpointState) -> Self {
        let left_out = |policy| match policy {
            Policy::Cluster => state.cluster,
            Policy::Local => state.local,
        };
        let text = |reason: LeftOut| reason.to_string();
        let has_others = port.node_port.is_some() || port.addresses().nth(1).is_some();
        let external_policy = if has_others { port.external_policy } else { port.internal_policy };
        Self {
            address: state.address,
            local: state.endpoint.is_local,
            left_out_internally: left_out(port.internal_policy).map(text),
            left_out_externally: left_out(external_policy).map(text),
            traffic: None,
        }
    }

    /// True for an endpoint that gets packets.
    pub fn is_used(&self) -> bool {
        self.left_out_internally.is_none() || self.left_out_externally.is_none()
    }
}

fn addresses(port: &ServicePort) -> Vec<SocketAddr> {
    port.addresses().map(|address| SocketAddr::new(address, port.port)).collect()
}

fn word(policy: Policy) -> String {
    match policy {
        Policy::Cluster => "Cluster",
        Policy::Local => "Local",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
