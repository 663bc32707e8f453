//! An attachment: one interface of one container in one network, and every name that follows from it. Pure.
//!
//! DEL and GC must find what ADD made without a file that ADD wrote and without entering the pod's namespace, so the
//! names are functions of the attachment alone, and stay the same for ever: a newer plugin deletes an older one's pods.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use dataplane::types::{IfName, Mac};

/// A network's or a container's name: letters, digits, `_`, `.`, `-`, beginning with a letter or digit. So it is a safe
/// file name and holds no separator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// The text is no [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'")]
pub struct InvalidId;

impl Id {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match text.as_bytes() {
            [first, rest @ ..] if first.is_ascii_alphanumeric() && rest.iter().copied().all(inner) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidId),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One interface of one container in one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The network, as its configuration names it.
    pub network: Id,
    /// The container (the pod's sandbox).
    pub container: Id,
    /// The interface's name inside the container.
    pub ifname: IfName,
}

/// The node's end of a pod's veth pair, and what is behind it, as the kernel has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The link's name.
    pub name: IfName,
    /// The attachment that the link's alias names; `None` where another plugin made the pair.
    pub attachment: Option<Attachment>,
    /// The pod's global addresses on the other end.
    pub addresses: Vec<IpAddr>,
}

/// The attachments that GC must keep, by container and interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidAttachments(pub BTreeSet<(String, String)>);

impl ValidAttachments {
    /// True for an attachment that must stay. An empty `ifname` stands for a reservation of an old plugin, which has no
    /// interface: it stays with any of its container's attachments.
    pub fn keeps(&self, container: &str, ifname: &str) -> bool {
        self.0.iter().any(|(id, name)| id == container && (ifname.is_empty() || name == ifname))
    }
}

/// Begins every host veth's name, as the reference's does: existing firewall rules match on `veth+`.
const VETH: &str = "veth";

impl Attachment {
    /// The name of the veth's end on the node: `veth` and 11 hexadecimal digits, 15 bytes in all.
    ///
    /// # Panics
    /// Never: the text is always an interface name.
    pub fn host_veth(&self) -> IfName {
        let name = format!("{VETH}{:011x}", self.hash() >> 20);
        name.parse().expect("'veth' and 11 digits are an interface name")
    }

    /// The hardware address of the veth's end on the node.
    pub fn host_mac(&self) -> Mac {
        let [_, _, octets @ ..] = self.hash().to_be_bytes();
        Mac::local(octets)
    }

    /// The alias of the host end, which `ip link` shows: network, container and interface. The kernel has room for 255 bytes;
    /// a longer text is cut, without the interface, and does not read back.
    pub fn alias(&self) -> String {
        let whole = format!("{} {} {}", self.network, self.container, self.ifname);
        if whole.len() < 256 {
            return whole;
        }
        let mut short = format!("{} {}", self.network, self.container);
        short.truncate(255);
        short
    }

    /// How long the container's name may be for the alias to be whole: a longer one would not be found again.
    pub fn room(&self) -> usize {
        254_usize.saturating_sub(self.network.as_str().len() + self.ifname.as_str().len() + 2)
    }

    /// Reads an [`Attachment::alias`] back.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let mut words = alias.splitn(3, ' ');
        Some(Self {
            network: words.next()?.parse().ok()?,
            container: words.next()?.parse().ok()?,
            ifname: words.next()?.parse().ok()?,
        })
    }

    /// FNV-1a, 64 bits, over the three names with a NUL between: part of the plugin's format, not to be changed.
    fn hash(&self) -> u64 {
        let names = [self.network.as_str(), self.container.as_str(), self.ifname.as_str()];
        fnv1a(names.join("\0").as_bytes())
    }
}

/// FNV-1a of 64 bits: stable over versions and machines.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
