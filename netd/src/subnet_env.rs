//! `subnet.env`: this node's network for the CNI plugin and other programs, in flannel's format byte for byte.
//!
//! Only [`write()`] touches a file.

use std::fmt::Write as _;
use std::path::Path;

use dataplane::types::{Family, Mtu, PerFamily, Prefix};

use crate::access_error::AccessError;
use crate::whole_file;

/// Where flannel's users and plugins look for the file.
pub const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// The file's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The pods' whole ranges.
    pub networks: PerFamily<Prefix>,
    /// This node's ranges.
    pub subnets: PerFamily<Prefix>,
    /// The MTU of a pod's interface.
    pub mtu: Mtu,
    /// True if traffic that leaves the network is masqueraded.
    pub ip_masq: bool,
}

impl SubnetEnv {
    /// The file's text. `FLANNEL_SUBNET` holds the range's first host, which the bridge gets.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in Family::BOTH {
            let (Some(network), Some(subnet)) = (self.networks.get(family), self.subnets.get(family)) else { continue };
            let (network_key, subnet_key) = keys(family);
            let host = subnet.nth(1).unwrap_or(subnet.address());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{network_key}={network}\n{subnet_key}={host}/{}", subnet.len());
        }
        let _ = writeln!(text, "FLANNEL_MTU={}\nFLANNEL_IPMASQ={}", self.mtu, self.ip_masq);
        text
    }
}

/// The names of a family's network and subnet.
fn keys(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("FLANNEL_NETWORK", "FLANNEL_SUBNET"),
        Family::V6 => ("FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"),
    }
}

/// The subnets that an earlier run has written. Lines that cannot be parsed are ignored.
pub fn previous_subnets(text: &str) -> PerFamily<Prefix> {
    previous(text, |family| keys(family).1)
}

/// The networks that an earlier run has written. Lines that cannot be parsed are ignored.
pub fn previous_networks(text: &str) -> PerFamily<Prefix> {
    previous(text, |family| keys(family).0)
}

fn previous(text: &str, key: impl Fn(Family) -> &'static str) -> PerFamily<Prefix> {
    PerFamily::from_fn(|family| {
        let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(key(family))?.strip_prefix('='))?;
        value.trim().parse().ok().filter(|range: &Prefix| range.family() == family)
    })
}

/// Writes the file in one step, mode 0644. Missing directories are made, mode 0755.
pub fn write(path: &Path, env: &SubnetEnv) -> Result<(), AccessError> {
    whole_file::sweep(path);
    whole_file::install(path, env.render().as_bytes(), whole_file::FILE).map_err(|error| {
        let advice = "pods cannot start until netd can write it; look at the folder's permissions and free space";
        AccessError::new("write", path.display(), advice, error)
    })
}

#[cfg(test)]
mod tests;
