//! Which route packets to a peer's pods take: through a tunnel, along a plain route, or none.
//!
//! Pure. Whether a peer is on-link follows from the routes that were observed.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::types::{Family, PerFamily};

use crate::backend::{Encapsulation, NoPeerRoute, PeerRoute, TunnelDevice};
use crate::model::Lease;
use crate::net_conf::NetConf;
use crate::on_link::OnLink;

/// The devices that this node has or can have for each tunnel, by the pods' family.
pub type Tunnels = BTreeMap<Encapsulation, PerFamily<TunnelDevice>>;

/// Chooses the route to the pods of one family behind a peer: in the first encapsulation of this node's configuration that the peer
/// receives, else in one of a `former` configuration. A peer that does not publish what it receives has to be configured as this node is.
/// With the route goes why it is none of the configuration's, where it is not.
/// Only encapsulations are chosen for which `may_send` is true.
pub fn to(
    conf: &NetConf,
    tunnels: &Tunnels,
    peer: &Lease,
    family: Family,
    on_link: &OnLink,
    former: &BTreeSet<Encapsulation>,
    may_send: impl Fn(&Encapsulation) -> bool,
) -> Result<(PeerRoute, Option<NoPeerRoute>), NoPeerRoute> {
    let configured = conf.backend.encapsulations();
    let mut reason = None;
    let received = peer.encapsulations.iter().flat_map(|support| support.receives.keys().copied());
    let others = received.filter(|encapsulation| former.contains(encapsulation));
    for encapsulation in configured.iter().copied().chain(others) {
        let route = if may_send(&encapsulation) {
            by(encapsulation, conf, tunnels, peer, family, on_link)
        } else {
            Err(NoPeerRoute::NotPublished(encapsulation))
        };
        match route {
            Ok(route) if configured.contains(&encapsulation) => return Ok((route, None)),
            Ok(route) => return Ok((route, reason)),
            // The last one of the configuration says the most: DirectRouting is never meant for all.
            Err(why) if configured.contains(&encapsulation) => reason = Some(why),
            Err(_) => {}
        }
    }
    Err(reason.unwrap_or_else(|| conf.backend.mismatch(&peer.backend)))
}

fn by(
    encapsulation: Encapsulation,
    conf: &NetConf,
    tunnels: &Tunnels,
    peer: &Lease,
    family: Family,
    on_link: &OnLink,
) -> Result<PeerRoute, NoPeerRoute> {
    match &peer.encapsulations {
        Some(support) if !support.receives.contains_key(&encapsulation) => {
            return Err(NoPeerRoute::NotReceived(encapsulation));
        }
        None if peer.backend != conf.backend.kind() => return Err(conf.backend.mismatch(&peer.backend)),
        _ => {}
    }
    let device = tunnels.get(&encapsulation).and_then(|devices| devices.get(family));
    encapsulation.route(peer.advertisement(), family, device, on_link)
}
