//! Whether each peer answers, through the tunnel or along the plain route. Pure.
//!
//! [`questions`] says what to ask; what came back is judged here, in [`super::path`] and in [`super::checksum`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::nft::{Hook, Policy};
use dataplane::types::{Family, IfName};
use network::backend::Traffic;
use network::model::NodeName;
use network::overlay::peer_route::PeerRoute;

use super::facts::Facts;
use super::{Check, Trouble, reverse_path};

pub(super) const CHECK: Check =
    Check { name: "peers", well: "every peer answers the way that pods' packets take", judge };

/// What to ask a peer about the way to its pods of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The way.
    pub way: PeerRoute,
    /// The device that packets to its pods leave by.
    pub device: IfName,
    /// An address of it inside the pod network. It is there for sure where `certain`; a bridge is made with the first pod.
    pub inner: (IpAddr, bool),
    /// The address to ask from there, where this node has one in the network.
    pub from: Option<IpAddr>,
    /// The largest packet that pods may send that way.
    pub inner_bytes: u32,
    /// Its address on the underlay.
    pub outer: IpAddr,
    /// The largest packet that the underlay then has to carry.
    pub outer_bytes: u32,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer that came or did not")]
pub struct Answer {
    /// A small packet to the address in the pod network.
    pub inner: bool,
    /// The largest one.
    pub inner_full: bool,
    /// The largest of those that were answered, where the largest of all was not.
    pub inner_passes: Option<u32>,
    /// A small packet on the underlay.
    pub outer: bool,
    /// The largest one.
    pub outer_full: bool,
    /// What the kernel has learnt of the underlay's path.
    pub path_mtu: Option<u32>,
    /// NetlinkSocket arrive without a checksum and not with one.
    pub spoilt: bool,
}

/// Questions by peer and family of pods.
pub type Questions = BTreeMap<(NodeName, Family), Question>;

/// What to ask the peers to which there is a way.
pub fn questions(facts: &Facts) -> Questions {
    let ways = facts.outcome.peer_routes.iter();
    ways.filter_map(|((name, family), way)| Some(((name.clone(), *family), question(facts, name, *family, *way)?)))
        .collect()
}

fn question(facts: &Facts, name: &NodeName, family: Family, way: PeerRoute) -> Option<Question> {
    let cluster = facts.cluster.as_ref()?;
    let (peer, own) = (cluster.peers.get(name)?, &cluster.own);
    let (subnet, own_subnet) = (*peer.subnets.get(family)?, *own.subnets.get(family)?);
    let desired = &facts.outcome.desired;
    let device = desired.routes.get(&subnet)?.device.clone();
    // Tunnel ends have the first address of the subnet, bridges the second.
    let certain = peer.data.get(family).is_some();
    let has = |address: &IpAddr| facts.addresses.iter().any(|known| known.address == *address);
    let from = [Some(own_subnet.address()), own_subnet.nth(1)].into_iter().flatten().find(has);
    let inner = if certain { subnet.address() } else { subnet.nth(1)? };
    // A plain route leads out of no device of netd's. The Ethernet header that a tunnel adds is the inner packet's: the underlay's MTU
    // counts it too.
    let of_pods = || facts.outcome.pod_mtu.unwrap_or(facts.node.underlay.mtu);
    let inner_bytes = desired.devices.get(&device).map_or_else(of_pods, |device| device.mtu).get();
    let (outer, outer_bytes) = (way.endpoint, inner_bytes + way.overhead());
    Some(Question { way, device, inner: (inner, certain), from, inner_bytes, outer, outer_bytes })
}

fn judge(facts: &Facts) -> Vec<Trouble> {
    let asked = facts.questions.iter().filter_map(|(key, question)| Some((key, question, facts.answers.get(key)?)));
    asked.filter_map(|((name, family), question, answer)| of_peer(facts, name, *family, question, *answer)).collect()
}

fn of_peer(facts: &Facts, name: &NodeName, family: Family, question: &Question, answer: Answer) -> Option<Trouble> {
    let Question { way, device, inner: (inner, certain), outer, .. } = question;
    if answer.inner {
        return None;
    }
    let here = facts.node.underlay.addresses.get(Family::of(*outer)).copied();
    let here = here.map_or_else(|| "this node".to_owned(), |address| address.to_string());
    if !answer.outer {
        let what = format!(
            "nothing comes back from it, neither on the way to its {family} pods nor from {outer}: it is down or cut off, or echoes are blocked"
        );
        return Some(Trouble::fault(name, what).remedy(format!("ping -c 3 {outer}; ip route get {outer}")));
    }
    let Some(traffic) = way.encapsulation.traffic() else {
        let what = format!(
            "{outer} answers, but {inner} does not: something between the nodes drops packets with pods' addresses, such as a cloud's source/destination check"
        );
        let remedy = format!(
            "switch that check off, or let the pod network pass; see what arrives there: tcpdump -ni any host {inner}"
        );
        return certain.then(|| Trouble::fault(name, what).remedy(remedy));
    };
    let Traffic { name: packets, tcpdump, nft } = traffic;
    let what = format!(
        "{outer} answers, but nothing comes back through the tunnel to {family} pods: {packets} is blocked between {here} and {outer}, or its tunnel device is gone"
    );
    let mut remedy = format!(
        "let {packets} pass both ways between the nodes; see what arrives there: tcpdump -ni any {tcpdump} and host {here}"
    );
    if let Some(open) = own_firewall(facts, &nft) {
        remedy = format!("{open}\n{remedy}");
    }
    if reverse_path::is_strict(facts, device) {
        remedy = format!("{remedy}\nif answers arrive here and are dropped: {}", reverse_path::loosen(device));
    }
    Some(Trouble::fault(name, what).remedy(remedy))
}

/// What opens this node's own chain that drops what comes in by policy.
fn own_firewall(facts: &Facts, packets: &str) -> Option<String> {
    let mut chains = facts.host.base_chains.iter();
    let chain = chains.find(|chain| chain.base.hook == Hook::Input && chain.base.policy == Policy::Drop)?;
    let (table, name) = (&chain.table, &chain.chain);
    Some(format!("nft insert rule {} {} {name} {packets} accept", table.family, table.name))
}
