//! What the kernel should look like for a cluster: tunnels, routes and rules as values.
//!
//! Pure. [`build`] is a function of the cluster, the configuration and what was observed of the host; it touches nothing.

pub mod bridge;
pub mod forward;
pub mod masquerade;
pub mod peer_index;
pub mod peer_route;
pub mod transition;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::link::{Link, Tunnel};
use dataplane::nft;
use dataplane::op::{DeviceAddress, DeviceRoute};
use dataplane::route::{LOOPBACK, Route, RouteKind};
use dataplane::types::{Family, IfName, Mac, Mtu, PerFamily, Prefix, RouteProtocol};

use crate::backend::{NoPeerRoute, PeerRoute, TunnelDeviceError};
use crate::interface::Underlay;
use crate::model::{Cluster, Encapsulation, EncapsulationSupport, NodeName};
use crate::net_conf::NetConf;
pub use crate::on_link::PROTOCOL;
use bridge::Bridge;
use peer_index::PeerIndex;

/// By what our objects are known: another daemon on the same host has another mark, and other networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of our nftables table and the alias of our devices.
    pub mark: String,
    /// The pod networks: routes of ours lead into them.
    pub networks: PerFamily<Prefix>,
    /// The networks of an earlier run: routes of ours that still lead into them are ours to remove. Nothing else follows
    /// from them.
    pub former: PerFamily<Prefix>,
}

impl Identity {
    /// Our nftables table.
    pub fn table(&self) -> nft::TableId {
        nft::TableId::new(nft::TableFamily::Inet, self.mark.clone())
    }

    /// True where `range` is a part of one of our networks, or of one that was.
    pub fn covers(&self, range: Prefix) -> bool {
        self.networks.iter().chain(self.former.iter()).any(|(_, network)| network.covers(range))
    }

    /// True for a tunnel device that bears our mark.
    pub fn owns(&self, link: &Link) -> bool {
        link.tunnel().is_some() && link.alias.as_ref() == Some(&self.mark)
    }
}

/// Everything that the desired state follows from.
#[derive(Debug)]
pub struct Input<'a> {
    /// The network.
    pub conf: &'a NetConf,
    /// This node and its peers.
    pub cluster: &'a Cluster,
    /// The interface and addresses that packets between nodes have.
    pub underlay: &'a Underlay,
    /// How our objects are marked.
    pub identity: &'a Identity,
    /// How source addresses are rewritten on the way out of the network; `None` where they are not.
    pub masquerade: Option<masquerade::Ports>,
    /// Pods' packets may be forwarded whatever else the host's rules say (`--iptables-forward-rules`).
    pub forward_rules: bool,
    /// Every route of the main table.
    pub routes: &'a [Route],
    /// Every link by name.
    pub links: &'a BTreeMap<IfName, Link>,
    /// The reverse-path filters of the links that matter, by sysctl.
    pub reverse_path: &'a BTreeMap<String, String>,
    /// What a change of the backend has left to do.
    pub transition: &'a transition::Transition,
    /// Every chain that the kernel calls for forwarded packets.
    pub forward_chains: &'a [nft::BaseChainFacts],
    /// What others do with those packets.
    pub others: &'a forward::Others,
    /// The name of the pods' bridge.
    pub bridge_name: &'a IfName,
    /// The pods' bridge, where this node has one, or had one that pods are left of.
    pub bridge: Option<&'a Bridge>,
}

/// The kernel as it should be: all that is ours, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Tunnel devices.
    pub devices: BTreeMap<IfName, Device>,
    /// The pods' bridge.
    pub bridge: Option<Bridge>,
    /// The addresses of those devices and of the bridge.
    pub addresses: BTreeSet<DeviceAddress>,
    /// Permanent neighbour entries on those devices.
    pub neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    /// The tunnel end behind which a hardware address is.
    pub fdb: BTreeMap<(IfName, Mac), IpAddr>,
    /// Routes by destination.
    pub routes: BTreeMap<Prefix, DeviceRoute>,
    /// Sysctls by key, with slashes.
    pub sysctls: BTreeMap<String, String>,
    /// Sysctls whose value would do harm together with those.
    pub preconditions: Vec<SysctlPrecondition>,
    /// Our nftables table.
    pub table: Option<nft::Table>,
    /// Rules of ours in chains that are not.
    pub accepts: Vec<forward::Accept>,
}

impl Desired {
    /// The keys of the sysctls to read: those to set, and the preconditions.
    pub fn sysctl_keys(&self) -> impl Iterator<Item = &String> {
        self.sysctls.keys().chain(self.preconditions.iter().map(|precondition| &precondition.key))
    }
}

/// A sysctl that must not have one value any more when another one changes; any other value of it is its owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlPrecondition {
    /// The key, with slashes.
    pub key: String,
    /// The value that would do harm.
    pub from: &'static str,
    /// What it is to be in its place.
    pub to: &'static str,
    /// The key of the other one, which is changed right after it.
    pub before: &'static str,
}

/// A tunnel device to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What defines it.
    pub tunnel: Tunnel,
    /// The name of the device under it.
    pub underlay: IfName,
    /// Its hardware address, for kinds that have one.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: Mtu,
}

/// The desired state, with what could not be desired and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The kernel as it should be.
    pub desired: Desired,
    /// The route that packets to each peer's pods take.
    pub peer_routes: BTreeMap<(NodeName, Family), PeerRoute>,
    /// The peers whose pods cannot be reached, and why.
    pub unreachable: BTreeMap<(NodeName, Family), NoPeerRoute>,
    /// The peers to whose pods packets take another route than the configuration's, and why.
    pub degraded: BTreeMap<(NodeName, Family), NoPeerRoute>,
    /// What to publish for the peers once the kernel is as desired: by what this node sends also what it has not published yet.
    pub advertised: EncapsulationSupport,
    /// The encapsulations by which this node is to send as soon as it may ([`transition::Transition::may_send`]). Until then the peers
    /// concerned are reached by another one that they receive, or not at all.
    pub unpublished: BTreeSet<Encapsulation>,
    /// Reverse-path filters to relax, with their present values, by sysctl: remembered before they are changed.
    pub relaxes: BTreeMap<String, String>,
    /// False while a change of the backend is under way.
    pub settled: bool,
    /// True where both directions of every flow take the same route: only then may reverse-path filters be strict.
    pub one_way: bool,
    /// The MTU that pods are given: what fits each route that their packets may take.
    pub pod_mtu: Option<Mtu>,
    /// What in the host's own rules keeps pods' packets from being forwarded, and what to do.
    pub blockers: Vec<forward::Blocker>,
}

/// The links with an IPv6 default route that a router has announced (`RTPROT_RA`).
pub fn announced<'h>(routes: &'h [Route], links: &'h BTreeMap<IfName, Link>) -> impl Iterator<Item = &'h IfName> {
    let is_announced =
        |route: &&Route| route.protocol == RouteProtocol::ROUTER && route.destination == Family::V6.default_route();
    let link = |route: &Route| links.values().find(|link| link.index == route.index);
    routes.iter().filter(is_announced).filter_map(move |route| link(route).map(|link| &link.name))
}

/// What the kernel should look like, with the index to which further changes of peers are made.
///
/// # Errors
/// Where the network cannot be carried over the underlay at all. One peer that cannot be reached is no error.
pub fn build(input: &Input<'_>) -> Result<(Outcome, PeerIndex), TunnelDeviceError> {
    let mut outcome = Outcome::default();
    outcome.desired.table = masquerade::table(input);
    let mut peers = PeerIndex::new(input, transition::tunnels(input)?);
    for peer in input.cluster.peers.values() {
        peers.add(peer, &mut outcome, &mut None);
    }
    transition::receive(input, &peers.tunnels, &peers.former, &mut outcome);
    let loopback = input.links.values().find(|link| link.index == LOOPBACK);
    let networks = input.identity.networks.iter().map(|(_, network)| *network);
    let nowhere = networks.filter_map(|network| Some((network, nowhere(network, loopback?.name.clone()))));
    outcome.desired.routes.extend(nowhere);
    bridge::want(input, &mut outcome);
    for family in input.cluster.own.subnets.families() {
        let is_v6 = family == Family::V6;
        let key = if is_v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
        outcome.desired.sysctls.insert(key.to_owned(), "1".to_owned());
        if is_v6 {
            // A host that forwards takes no router advertisements, unless it is set to take them all the same (2); with the
            // switch, the kernel drops the default routes that it had from them (`rt6_purge_dflt_routers`).
            let devices: BTreeSet<_> = announced(input.routes, input.links).chain([&input.underlay.ifname]).collect();
            outcome.desired.preconditions.extend(devices.into_iter().map(|device| {
                let accept_ra = format!("net/ipv6/conf/{device}/accept_ra");
                SysctlPrecondition { key: accept_ra, from: "1", to: "2", before: key }
            }));
        }
    }
    masquerade::exempt_tunnels(input, &mut outcome.desired);
    if input.forward_rules {
        (outcome.desired.accepts, outcome.blockers) = forward::accepts(input);
    }
    Ok((outcome, peers))
}

/// Just below the metrics that mean "never" to routing daemons: any other route to the network comes first (the kernel's
/// `Documentation/networking/vrf.rst`).
const LAST: u32 = 4_278_198_272;

/// The route for packets to addresses of the pod network that no node has. By the default route they would leave for a router that may
/// send them back.
fn nowhere(network: Prefix, loopback: IfName) -> DeviceRoute {
    let kind = RouteKind::Unreachable;
    DeviceRoute { protocol: PROTOCOL, metric: LAST, kind, ..DeviceRoute::new(network, loopback) }
}

#[cfg(test)]
pub(crate) mod tests;
