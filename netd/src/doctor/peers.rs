//! Whether each peer answers, through the tunnel or along the plain route. Pure.
//!
//! [`questions`] says what to ask. The answers are judged here, in [`super::path`] and in [`super::checksum`].

use std::net::IpAddr;

use dataplane::nft::{Hook, Policy};
use dataplane::types::Family;
use network::backend::PeerRoute;
use network::backend::Traffic;
use network::model::NodeName;

use super::facts::Facts;
use super::finding::Finding;
use super::probe::{Answer, Question, Questions};
use super::reverse_path;

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
    let certain = peer.data.get(family).is_some();
    let has = |address: &IpAddr| facts.kernel.host.addresses.iter().any(|known| known.address == *address);
    let from = [Some(own_subnet.address()), own_subnet.nth(1)].into_iter().flatten().find(has);
    let inner = if certain { subnet.address() } else { subnet.nth(1)? };

    // A plain route leads out of no device of netd's. The Ethernet header that a tunnel adds is the inner packet's: the underlay's MTU
    // counts it too.
    let of_pods = || facts.outcome.pod_mtu.unwrap_or(facts.node.underlay.mtu);
    let inner_bytes = desired.devices.get(&device).map_or_else(of_pods, |device| device.mtu).get();
    let (outer, outer_bytes) = (route.endpoint, inner_bytes + route.overhead());
    Some(Question { route, device, inner: (inner, certain), from, inner_bytes, outer, outer_bytes })
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let asked = facts.questions.iter().filter_map(|(key, question)| Some((key, question, facts.answers.get(key)?)));
    asked.filter_map(|((name, family), question, answer)| of_peer(facts, name, *family, question, *answer)).collect()
}

fn of_peer(facts: &Facts, name: &NodeName, family: Family, question: &Question, answer: Answer) -> Option<Finding> {
    let Question { route, device, inner: (inner, certain), outer, .. } = question;
    // A packet that never leaves the way to the peer says nothing of that way.
    if answer.inner || facts.is_diverted(name, family) {
        return None;
    }
    let here = facts.node.underlay.addresses.get(Family::of(*outer)).copied();
    let here = here.map_or_else(|| "this node".to_owned(), |address| address.to_string());
    if !answer.outer {
        let what = format!(
            "nothing comes back from it, neither on the way to its {family} pods nor from {outer}: it is down or cut off, or echoes are blocked"
        );
        return Some(Finding::fault(name, what).remedy(format!("ping -c 3 {outer}; ip route get {outer}")));
    }
    let Some(traffic) = route.encapsulation.traffic() else {
        let what = format!(
            "{outer} answers, but {inner} does not: something between the nodes drops packets with pods' addresses, such as a cloud's source/destination check"
        );
        let remedy = format!(
            "switch that check off, or let the pod network pass; see what arrives there: tcpdump -ni any host {inner}"
        );
        return certain.then(|| Finding::fault(name, what).remedy(remedy));
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
    Some(Finding::fault(name, what).remedy(remedy))
}

/// What opens this node's own chain that drops what comes in by policy.
fn own_firewall(facts: &Facts, packets: &str) -> Option<String> {
    let mut chains = facts.kernel.host.base_chains.iter();
    let chain = chains.find(|chain| chain.base.hook == Hook::Input && chain.base.policy == Policy::Drop)?;
    let (table, name) = (&chain.table, &chain.chain);
    Some(format!("nft insert rule {} {} {name} {packets} accept", table.family, table.name))
}
