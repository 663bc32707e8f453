//! Whether each peer answers, through the tunnel or along the plain route. Pure.
//!
//! [`questions`] says what to ask. The answers are judged here, in [`super::path`] and in [`super::checksum`].

use std::net::IpAddr;

use dataplane::nft::{Hook, Policy};
use dataplane::types::Family;
use network::model::NodeName;
use network::overlay::peer_route::PeerRoute;
use network::overlay::tunnel_device::overhead;

use super::facts::Facts;
use super::finding::{Check, Finding};
use super::probe::{Answer, Question, Questions};
use super::reverse_path;

pub(super) const CHECK: Check =
    Check { name: "peers", well: "every peer answers the way that pods' packets take", judge };

/// The questions to the peers that have a route.
pub(super) fn questions(facts: &Facts) -> Questions {
    let routes = facts.outcome.peer_routes.iter();
    routes
        .filter_map(|((name, family), route)| Some(((name.clone(), *family), question(facts, name, *family, *route)?)))
        .collect()
}

fn question(facts: &Facts, name: &NodeName, family: Family, route: PeerRoute) -> Option<Question> {
    let cluster = facts.cluster.as_ref()?;
    let (peer, own) = (cluster.peers.get(name)?, &cluster.own);
    let (subnet, own_subnet) = (*peer.subnets.get(family)?, *own.subnets.get(family)?);
    let desired = &facts.outcome.desired;
    let device = desired.routes.get(&subnet)?.device.clone();
    // Tunnel ends have the first address of the subnet, bridges the second.
    let certain = peer.vteps.get(family).is_some();
    let has = |address: &IpAddr| facts.kernel.addresses.iter().any(|known| known.address == *address);
    let from = [Some(own_subnet.address()), own_subnet.nth(1)].into_iter().flatten().find(has);
    let inner = if certain { subnet.address() } else { subnet.nth(1)? };
    let (outer, inner_bytes, outer_bytes) = match route {
        PeerRoute::Tunnel { endpoint, .. } => {
            let bytes = desired.devices.get(&device)?.mtu.get();
            // The underlay's MTU counts the inner Ethernet header too.
            (endpoint, bytes, bytes + overhead(Family::of(endpoint)))
        }
        PeerRoute::Direct { gateway } => {
            let bytes = facts.outcome.pod_mtu.unwrap_or(facts.node.underlay.mtu).get();
            (gateway, bytes, bytes)
        }
    };
    Some(Question { route, device, inner: (inner, certain), from, inner_bytes, outer, outer_bytes })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let asked = facts.questions.iter().filter_map(|(key, question)| Some((key, question, facts.answers.get(key)?)));
    asked.filter_map(|((name, family), question, answer)| of_peer(facts, name, *family, question, *answer)).collect()
}

fn of_peer(facts: &Facts, name: &NodeName, family: Family, question: &Question, answer: Answer) -> Option<Finding> {
    let Question { route, device, inner: (inner, certain), outer, .. } = question;
    if answer.inner {
        return None;
    }
    let here = facts.node.underlay.addresses.get(Family::of(*outer)).copied();
    let here = here.map_or_else(|| "this node".to_owned(), |address| address.to_string());
    match route {
        _ if !answer.outer => {
            let what = format!(
                "nothing comes back from it, neither on the way to its {family} pods nor from {outer}: it is down or cut off, or echoes are blocked"
            );
            Some(Finding::fault(name, what).remedy(format!("ping -c 3 {outer}; ip route get {outer}")))
        }
        PeerRoute::Direct { .. } if !certain => None,
        PeerRoute::Direct { .. } => {
            let what = format!(
                "{outer} answers, but {inner} does not: something between the nodes drops packets with pods' addresses, such as a cloud's source/destination check"
            );
            let remedy = format!(
                "switch that check off, or let the pod network pass; see what arrives there: tcpdump -ni any host {inner}"
            );
            Some(Finding::fault(name, what).remedy(remedy))
        }
        PeerRoute::Tunnel { tunnel, .. } => {
            let port = tunnel.port;
            let what = format!(
                "{outer} answers, but nothing comes back through the tunnel to {family} pods: UDP port {port} is blocked between {here} and {outer}, or its tunnel device is gone"
            );
            let mut remedy = format!(
                "let UDP port {port} pass both ways between the nodes; see what arrives there: tcpdump -ni any udp port {port} and host {here}"
            );
            if let Some(open) = own_firewall(facts, port) {
                remedy = format!("{open}\n{remedy}");
            }
            if reverse_path::is_strict(facts, device) {
                remedy = format!("{remedy}\nif answers arrive here and are dropped: {}", reverse_path::loosen(device));
            }
            Some(Finding::fault(name, what).remedy(remedy))
        }
    }
}

/// What opens this node's own chain that drops what comes in by policy.
fn own_firewall(facts: &Facts, port: u16) -> Option<String> {
    let mut chains = facts.kernel.host.base_chains.iter();
    let chain = chains.find(|chain| chain.base.hook == Hook::Input && chain.base.policy == Policy::Drop)?;
    let (table, name) = (&chain.table, &chain.chain);
    Some(format!("nft insert rule {} {} {name} udp dport {port} accept", table.family, table.name))
}
