//! What the backends say of themselves: values for people, without a decision in them.
//!
//! Pure.

use std::fmt;

use dataplane::types::Vni;
use serde::{Deserialize, Serialize};

/// A backend with its options, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendFacts {
    /// Its type, such as `vxlan`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tunnel's network identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// The tunnel's UDP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether nodes on the same link are reached without the tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_routing: Option<bool>,
}

impl fmt::Display for BackendFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(vni) = self.vni {
            write!(f, ", VNI {vni}")?;
        }
        if let Some(port) = self.port {
            write!(f, ", port {port}")?;
        }
        f.write_str(if self.direct_routing == Some(true) { ", DirectRouting" } else { "" })
    }
}

/// What encapsulated packets are to firewalls between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// For people: `UDP port 8472`.
    pub name: String,
    /// A filter for tcpdump.
    pub tcpdump: String,
    /// A match for a rule of nftables.
    pub nft: String,
}

/// Texts about a kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceTexts {
    /// The kind.
    pub kind: &'static str,
    /// What two devices of it cannot share.
    pub identity: &'static str,
    /// How a person makes room beside removing one of the two; empty where there is no other way.
    pub remedy: &'static str,
}
