//! What the proxy is started with, and the settings that follow from it and from the node. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::types::{Family, IfName, PerFamily, Prefix};

use crate::model::Services;
use crate::ruleset::{LocalPods, NodePorts, Settings};

/// How pods of this node are recognised (`detectLocalMode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the cluster's pod ranges (`ClusterCIDR`). Without a range of a family no pod is recognised in it.
    ClusterCidr(PerFamily<Prefix>),
    /// By the ranges of the Node (`NodeCIDR`).
    NodeCidr,
    /// By the bridge (`BridgeInterface`).
    Bridge(IfName),
    /// By the beginning of the interface's name (`InterfaceNamePrefix`).
    InterfacePrefix(IfName),
}

/// Which of the node's addresses have node ports (`nodePortAddresses`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The addresses that the node is known by (`primary`).
    Primary,
    /// All.
    All,
}

/// What the proxy is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The node's name.
    pub node_name: String,
    /// How pods of this node are recognised.
    pub detect_local: DetectLocal,
    /// Which addresses have node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Packets to cluster IPs always get the node's own address as their source.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for that, from 0 to 31.
    pub masquerade_bit: u8,
    /// Addresses that the node is known by, before those of its Node.
    pub addresses: PerFamily<IpAddr>,
}

/// The name of the tables.
pub const TABLE: &str = "netd-proxy";

impl Options {
    /// The settings of the table of a family.
    pub fn settings(&self, family: Family, services: &Services) -> Settings {
        let node = services.node();
        let range = |ranges: &PerFamily<Prefix>| ranges.get(family).copied().map(LocalPods::Range);
        let local_pods = match &self.detect_local {
            DetectLocal::ClusterCidr(ranges) => range(ranges),
            DetectLocal::NodeCidr => node.and_then(|node| range(&node.pod_cidrs)),
            DetectLocal::Bridge(name) => Some(LocalPods::Bridge(name.clone())),
            DetectLocal::InterfacePrefix(prefix) => Some(LocalPods::InterfacePrefix(prefix.clone())),
        };
        let address = self.addresses.get(family).or_else(|| node?.addresses.get(family)).copied();
        let service_cidrs: BTreeSet<Prefix> = services.service_cidrs();
        Settings {
            family,
            table: TABLE.to_owned(),
            local_pods,
            masquerade_all: self.masquerade_all,
            masquerade_mark: 1 << self.masquerade_bit,
            node_ports: match self.node_port_addresses {
                NodePortAddresses::Primary => NodePorts::Addresses(address.into_iter().collect()),
                NodePortAddresses::All => NodePorts::All,
            },
            node_address: address,
            service_cidrs,
        }
    }
}
