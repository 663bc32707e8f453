//! The names of a table's sets, maps and chains. Pure.

use std::fmt;
use std::time::Duration;

/// By what a service port is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// By address, protocol and port: cluster IPs, external and load balancers' addresses.
    Address,
    /// By protocol and port, on the node's addresses.
    NodePort,
}

/// From which endpoints one is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Those of policy Cluster; for a cluster IP whose policy is Local those of this node.
    Cluster,
    /// Those of this node, for clients from outside under the external policy Local.
    Local,
}

/// One way to look up a service port: a group of sets and maps and the chain that uses them. Displayed as the chain's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// By what.
    pub destination: Destination,
    /// From which endpoints.
    pub pool: Pool,
}

impl Lookup {
    /// All lookups.
    pub const ALL: [Self; 4] = [
        Self { destination: Destination::Address, pool: Pool::Cluster },
        Self { destination: Destination::Address, pool: Pool::Local },
        Self { destination: Destination::NodePort, pool: Pool::Cluster },
        Self { destination: Destination::NodePort, pool: Pool::Local },
    ];
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.pool, self.destination) {
            (Pool::Cluster, Destination::Address) => "services",
            (Pool::Local, Destination::Address) => "local-services",
            (Pool::Cluster, Destination::NodePort) => "node-ports",
            (Pool::Local, Destination::NodePort) => "local-node-ports",
        })
    }
}

/// A set or a map. Displayed as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// The destinations of all Services, by address alone or by node port: packets to others are looked up here and nowhere else.
    Gate(Destination),
    /// The cluster IPs of all Services.
    ClusterIps,
    /// The ranges of which cluster IPs are given.
    ServiceCidrs,
    /// The node's addresses that have node ports.
    NodeIps,
    /// The protocols whose node ports nobody serves on loopback. Each has a counter.
    RejectedOnLoopback,
    /// External destinations under policy Cluster: packets to them get the node's own source address.
    Masquerade(Destination),
    /// External destinations under policy Local.
    LocalOnly(Destination),
    /// Destinations without an endpoint.
    Reject(Destination),
    /// Destinations under policy Local with endpoints on other nodes alone.
    Drop(Destination),
    /// Load balancers' addresses that not everybody may use.
    Restricted,
    /// Who may use which of them.
    Allowed,
    /// This node's endpoints, as the source and the destination of a packet to itself.
    Hairpin,
    /// Service ports with one endpoint, and the endpoint.
    Single(Lookup),
    /// Service ports with that many endpoints.
    Count(Lookup, u32),
    /// The endpoints of service ports with several, by number.
    Endpoints(Lookup),
    /// Service ports with that many endpoints and affinity for so long, and the number by which their clients are known.
    Affinity(Lookup, u32, Duration),
    /// The endpoint of that number of service ports with affinity.
    Slot(Lookup, u32),
    /// Clients that stay with the endpoint of that number, whichever address they use. The kernel fills it.
    Clients(u32),
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all_of = |destination: &Destination| Lookup { destination: *destination, pool: Pool::Cluster };
        match self {
            SetName::Gate(Destination::Address) => f.write_str("service-ips"),
            SetName::Gate(Destination::NodePort) => f.write_str("service-node-ports"),
            SetName::ClusterIps => f.write_str("cluster-ips"),
            SetName::ServiceCidrs => f.write_str("service-cidrs"),
            SetName::NodeIps => f.write_str("node-ips"),
            SetName::RejectedOnLoopback => f.write_str("rejected-on-loopback"),
            SetName::Masquerade(of) => write!(f, "masquerade-{}", all_of(of)),
            SetName::LocalOnly(of) => write!(f, "local-only-{}", all_of(of)),
            SetName::Reject(of) => write!(f, "reject-{}", all_of(of)),
            SetName::Drop(of) => write!(f, "drop-{}", all_of(of)),
            SetName::Restricted => f.write_str("restricted-services"),
            SetName::Allowed => f.write_str("allowed-clients"),
            SetName::Hairpin => f.write_str("hairpin"),
            SetName::Single(lookup) => write!(f, "{lookup}-1"),
            SetName::Count(lookup, count) => write!(f, "{lookup}-{count}"),
            SetName::Endpoints(lookup) => write!(f, "{lookup}-endpoints"),
            SetName::Affinity(lookup, count, timeout) => write!(f, "{lookup}-{count}-for-{}s", timeout.as_secs()),
            SetName::Slot(lookup, slot) => write!(f, "{lookup}-slot-{slot}"),
            SetName::Clients(slot) => write!(f, "clients-{slot}"),
        }
    }
}
