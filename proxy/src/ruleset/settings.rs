//! What the operator and the node decide about all Services alike. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::types::{Family, IfName, Prefix};

/// How a packet of a pod of this node is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalPods {
    /// By its source address.
    Range(Prefix),
    /// By the bridge that it comes from.
    Bridge(IfName),
    /// By the beginning of the name of the interface that it comes from.
    InterfacePrefix(IfName),
}

/// Which addresses of the node have node ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePorts {
    /// All but those of the loopback network.
    All,
    /// These.
    Addresses(BTreeSet<IpAddr>),
}

/// The settings of the table of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// How packets of this node's pods are recognised. Without it none is, and every client of a cluster IP is taken for a pod.
    pub local_pods: Option<LocalPods>,
    /// Packets to cluster IPs always get the node's own address as their source.
    pub masquerade_all: bool,
    /// The bit of the packet mark that says that the source address is to be replaced.
    pub masquerade_mark: u32,
    /// Which addresses have node ports.
    pub node_ports: NodePorts,
    /// The node's own address, if it has one of the family: a node that may use a load balancer may do so from the load balancer's address.
    pub node_address: Option<IpAddr>,
    /// The ranges of which cluster IPs are given. Packets to an address of them that no Service has are dropped.
    pub service_cidrs: BTreeSet<Prefix>,
}
