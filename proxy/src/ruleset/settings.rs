//! What the operator and the node decide about all Services alike. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::types::{Family, IfName, PerFamily, Prefix};

use crate::config::{Config, DetectLocal, NodePortAddresses};
use crate::services::Services;

/// How a packet of a pod of this node is distinguished from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalPods {
    /// By its source address.
    Range(Prefix),
    /// By the bridge that it comes from.
    Bridge(IfName),
    /// By the beginning of the name of the interface that it comes from.
    InterfacePrefix(IfName),
}

/// Which addresses of the node have node ports in the kernel. Those of the loopback network never have any: packets to them cannot leave
/// the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePorts {
    /// All.
    All,
    /// Those in these ranges.
    Within(BTreeSet<Prefix>),
}

impl NodePorts {
    /// True where an address of the node has node ports.
    pub fn contain(&self, address: IpAddr) -> bool {
        let is_chosen = match self {
            NodePorts::All => true,
            NodePorts::Within(ranges) => ranges.iter().any(|range| range.contains(address)),
        };
        is_chosen && !Family::of(address).loopback().contains(address)
    }

    /// True where an address of this network may be among those that are chosen.
    pub(super) fn may_be_in(&self, network: Prefix) -> bool {
        match self {
            NodePorts::All => true,
            NodePorts::Within(ranges) => ranges.iter().any(|range| range.covers(network) || network.covers(*range)),
        }
    }
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
    /// Node ports are on loopback too, where the proxy listens itself.
    pub has_loopback: bool,
    /// The node's own address, if it has one of the family: a node that may use a load balancer may do so from the load balancer's address.
    pub node_address: Option<IpAddr>,
    /// The ranges of which cluster IPs are given. Packets to an address of them that no Service has are dropped.
    pub service_cidrs: BTreeSet<Prefix>,
}

/// The name of the tables.
pub const TABLE: &str = "netd-proxy";
/// kube-proxy's bit of the packet mark (`nftables.masqueradeBit`).
const MASQUERADE_MARK: u32 = 1 << 14;

impl Settings {
    /// The settings of a family that follow from the configuration, the Node and the `ServiceCIDRs`.
    pub fn of(config: &Config, family: Family, services: &Services) -> Self {
        let node = services.node();
        let range = |ranges: &PerFamily<Prefix>| ranges.get(family).copied().map(LocalPods::Range);
        let local_pods = match &config.detect_local {
            DetectLocal::ClusterCidr(ranges) => range(ranges),
            DetectLocal::NodeCidr => node.and_then(|node| range(&node.pod_cidrs)),
            DetectLocal::BridgeInterface(name) => Some(LocalPods::Bridge(name.clone())),
            DetectLocal::InterfaceNamePrefix(prefix) => Some(LocalPods::InterfacePrefix(prefix.clone())),
        };
        let bind = Some(config.bind_address).filter(|bind| !bind.is_unspecified() && Family::of(*bind) == family);
        let of_object = || node?.addresses.get(family).copied();
        let node_address = bind.or_else(of_object).or_else(|| config.node_addresses.get(family).copied());
        Self {
            family,
            table: TABLE.to_owned(),
            local_pods,
            masquerade_all: config.masquerade_all,
            masquerade_mark: MASQUERADE_MARK,
            node_ports: node_ports(&config.node_port_addresses, family, node_address),
            has_loopback: config.node_port_addresses.has_loopback(family),
            node_address,
            service_cidrs: services.service_cidrs().into_iter().filter(|range| range.family() == family).collect(),
        }
    }
}

/// kube-proxy's rule: a family without a range has all addresses where no keyword is given.
fn node_ports(addresses: &NodePortAddresses, family: Family, node: Option<IpAddr>) -> NodePorts {
    let NodePortAddresses { primary, all, localhost, ranges } = addresses;
    let of_family = || ranges.iter().copied().filter(|range| range.family() == family);
    if *all || of_family().next().is_none() && !primary && !localhost {
        return NodePorts::All;
    }
    let of_kernel = of_family().filter(|range| !family.loopback().covers(*range));
    NodePorts::Within(of_kernel.chain(node.filter(|_| *primary).map(Prefix::host)).collect())
}
