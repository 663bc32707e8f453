//! `net-conf.json`: the network's ranges and the backend, flannel's format (`Network`, `SubnetLen`, `Backend`, ...).
//!
//! Pure: text to a typed value or to an error that names the field, its value and what is allowed. Keys are matched in any case.

mod ranges;

use dataplane::types::{PerFamily, Prefix};

use crate::backend::Backend;
use crate::caseless::Object;
pub use crate::net_conf_error::NetConfError;

/// The network configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    /// The pods' ranges; at least one family has one.
    pub networks: PerFamily<NetworkRange>,
    /// Flannel's `EnableNFTables`. Accepted, and of no effect: netd always uses nftables.
    pub nftables: bool,
    /// How packets are carried.
    pub backend: Backend,
}

/// The pods' range of one family and how it is cut into the nodes' subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkRange {
    /// The whole range.
    pub network: Prefix,
    /// The length of a node's subnet.
    pub subnet_len: u8,
    /// The first subnet that a node can get.
    pub min: Prefix,
    /// The last subnet that a node can get.
    pub max: Prefix,
}

impl NetConf {
    /// Reads and judges the text of a `net-conf.json`. Also gives the keys that nothing knows, as written, with `Backend.` before those
    /// inside it.
    pub fn parse(text: &str) -> Result<(NetConf, Vec<String>), NetConfError> {
        let mut object: Object = serde_json::from_str(text).map_err(NetConfError::Syntax)?;
        let networks = ranges::take(&mut object)?;
        let nftables = object.take("EnableNFTables", "true or false")?.unwrap_or(false);
        let (backend, of_backend) = Backend::take(&mut object, networks.v6.is_some())?;
        let of_backend = of_backend.into_iter().map(|key| format!("Backend.{key}"));
        Ok((NetConf { networks, nftables, backend }, object.into_keys().chain(of_backend).collect()))
    }

    /// The pods' whole ranges.
    pub fn prefixes(&self) -> PerFamily<Prefix> {
        self.networks.map(|_, range| range.network)
    }
}

#[cfg(test)]
mod tests;
