//! What a node publishes that the backends of its peers read; above all the encapsulations that it receives and sends, published for its peers, so that a change of the backend loses no packet.
//!
//! Pure. A node sends to a peer only in an encapsulation that the peer has published as received, and goes on receiving in each
//! encapsulation that a peer still sends. So nodes may change their configuration in any order, with pauses of any length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::types::{Mac, PerFamily};

use super::{BackendData, Encapsulation};

/// The part of a node's lease that the backends read.
#[derive(Debug, Clone, Copy)]
pub struct Advertisement<'a> {
    /// Where peers send packets for the node, by underlay family.
    pub public: &'a PerFamily<IpAddr>,
    /// What its backend publishes, by pod family.
    pub data: &'a PerFamily<BackendData>,
    /// The encapsulations that it receives and sends; none from nodes that do not say so.
    pub encapsulations: Option<&'a EncapsulationSupport>,
}

/// What a node publishes of its encapsulations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EncapsulationSupport {
    /// Those in which it receives, with the hardware address of its tunnel end for the pods of each family.
    pub receives: BTreeMap<Encapsulation, PerFamily<Mac>>,
    /// Those in which it sends to its peers, each to at least one of them.
    pub sends: BTreeSet<Encapsulation>,
    /// Entries of what it receives that no backend here reads, as JSON.
    pub unknown_receives: Vec<Box<str>>,
    /// Entries of what it sends that no backend here reads, as JSON.
    pub unknown_sends: Vec<Box<str>>,
}

impl EncapsulationSupport {
    /// These, and what was published before: where the kernel may not have followed yet, nothing of that is taken back.
    #[must_use]
    pub fn beside(mut self, former: &EncapsulationSupport) -> Self {
        for (encapsulation, macs) in &former.receives {
            self.receives.entry(*encapsulation).or_insert(*macs);
        }
        self.sends.extend(former.sends.iter().copied());
        self
    }

    /// Those that it sends or receives; one may come twice.
    pub fn all(&self) -> impl Iterator<Item = Encapsulation> {
        self.receives.keys().chain(&self.sends).copied()
    }
}
