//! What a node can receive and what it sends by: told to its peers, so that a change of the backend loses no packet.
//!
//! Pure. A node sends to a peer only in a encapsulation that the peer has said it receives, and goes on receiving in each encapsulation
//! that a peer still sends by. So nodes may change their configuration in any order, with pauses of any length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataplane::types::{Mac, PerFamily, Vni};

/// One VXLAN tunnel of the network; the nodes of a cluster have the same one, but while it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId {
    /// The network identifier.
    pub vni: Vni,
    /// The UDP port.
    pub port: u16,
}

/// In what encapsulation packets travel from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// As they are, by a plain route.
    Direct,
    /// In a tunnel.
    Tunnel(TunnelId),
}

impl Encapsulation {
    /// The tunnel, where it is one.
    pub fn tunnel(&self) -> Option<TunnelId> {
        match self {
            Encapsulation::Direct => None,
            Encapsulation::Tunnel(id) => Some(*id),
        }
    }
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EncapsulationSupport {
    /// The tunnels that it receives from, with the hardware address of its end for the pods of each family.
    pub tunnels: BTreeMap<TunnelId, PerFamily<Mac>>,
    /// It receives plain packets for its pods.
    pub direct: bool,
    /// In what encapsulations it sends to its peers, each to at least one of them.
    pub sends: BTreeSet<Encapsulation>,
}

impl EncapsulationSupport {
    /// The encapsulations in which it receives.
    pub fn receives(&self) -> BTreeSet<Encapsulation> {
        let tunnels = self.tunnels.keys().map(|id| Encapsulation::Tunnel(*id));
        tunnels.chain(self.direct.then_some(Encapsulation::Direct)).collect()
    }

    /// These, and what was told before: where the kernel may not have followed yet, nothing of that is taken back.
    #[must_use]
    pub fn beside(mut self, former: &EncapsulationSupport) -> Self {
        for (id, macs) in former.tunnels.iter() {
            if !self.tunnels.contains_key(id) {
                self.tunnels.insert(*id, *macs);
            }
        }
        self.direct |= former.direct;
        self.sends.extend(former.sends.iter().copied());
        self
    }

    /// These, with what `wanted` sends by too; `None` where that has been told already.
    #[must_use]
    pub fn sending_too(&self, wanted: &EncapsulationSupport) -> Option<Self> {
        let mut more = self.clone();
        more.sends.extend(wanted.sends.iter().copied());
        (more != *self).then_some(more)
    }

    /// The tunnels that it speaks of, whether it sends or receives by them.
    pub fn all_tunnels(&self) -> impl Iterator<Item = TunnelId> {
        self.tunnels.keys().copied().chain(self.sends.iter().filter_map(Encapsulation::tunnel))
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VNI {} port {}", self.vni, self.port)
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encapsulation::Direct => f.write_str("plain routes"),
            Encapsulation::Tunnel(id) => write!(f, "the tunnel of {id}"),
        }
    }
}
