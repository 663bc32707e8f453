//! What a node can receive and what it sends by: told to its peers, so that a change of the backend loses no packet.
//!
//! Pure. A node sends to a peer only in a manner that the peer has said it receives, and goes on receiving in each manner
//! that a peer still sends by. So nodes may change their configuration in any order, with pauses of any length.

use std::collections::BTreeSet;
use std::fmt;

use dataplane::words::{Mac, PerFamily, Vni};

use super::few::{FewMap, FewSet};

/// One VXLAN tunnel of the network; the nodes of a cluster have the same one, but while it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId {
    /// The network identifier.
    pub vni: Vni,
    /// The UDP port.
    pub port: u16,
}

/// In what manner packets travel from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// As they are, by a plain route.
    Direct,
    /// In a tunnel.
    Tunnel(TunnelId),
}

impl Manner {
    /// The tunnel, where it is one.
    pub fn tunnel(&self) -> Option<TunnelId> {
        match self {
            Manner::Direct => None,
            Manner::Tunnel(id) => Some(*id),
        }
    }
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ways {
    /// The tunnels that it receives from, with the hardware address of its end for the pods of each family.
    pub tunnels: FewMap<TunnelId, PerFamily<Mac>>,
    /// It receives plain packets for its pods.
    pub direct: bool,
    /// In what manners it sends to its peers, each to at least one of them.
    pub sends: FewSet<Manner>,
}

impl Ways {
    /// The manners in which it receives.
    pub fn receives(&self) -> BTreeSet<Manner> {
        let tunnels = self.tunnels.keys().map(|id| Manner::Tunnel(*id));
        tunnels.chain(self.direct.then_some(Manner::Direct)).collect()
    }

    /// These, and what was told before: where the kernel may not have followed yet, nothing of that is taken back.
    #[must_use]
    pub fn beside(mut self, former: &Ways) -> Self {
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
    pub fn sending_too(&self, wanted: &Ways) -> Option<Self> {
        let mut more = self.clone();
        more.sends.extend(wanted.sends.iter().copied());
        (more != *self).then_some(more)
    }

    /// The tunnels that it speaks of, whether it sends or receives by them.
    pub fn all_tunnels(&self) -> impl Iterator<Item = TunnelId> {
        self.tunnels.keys().copied().chain(self.sends.iter().filter_map(Manner::tunnel))
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VNI {} port {}", self.vni, self.port)
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Manner::Direct => f.write_str("plain routes"),
            Manner::Tunnel(id) => write!(f, "the tunnel of {id}"),
        }
    }
}
