//! `net-conf.json`: the network's ranges and the backend, flannel's format (`Network`, `SubnetLen`, `Backend`, ...).
//!
//! Pure: text to a typed value or to an error that names the field, its value and what is allowed. Keys are matched in any case.

mod ranges;

use dataplane::types::{PerFamily, Prefix, ValueError};

use crate::backend::{self, Backend};
use crate::caseless::{FieldError, Object};

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

/// Keys of the file that nothing knows, as written, `Backend.` before those inside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownKeys(pub Vec<String>);

/// Why a network configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NetConfError {
    /// It is no JSON object.
    #[error(
        "error parsing subnet config: net-conf.json must hold one JSON object like {{\"Network\": \"10.244.0.0/16\"}}"
    )]
    Syntax {
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value has the wrong JSON type or is no address.
    #[error("error parsing subnet config: {field} is {value}, but must be {expected}")]
    Type {
        /// The field.
        field: String,
        /// Its value, as JSON.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A value is not allowed. `problem` has flannel's words where flannel has any.
    #[error("{problem}: {field} is {value}, but must be {allowed}")]
    Range {
        /// What is wrong.
        problem: String,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A number that the kernel does not take.
    #[error("error decoding backend config")]
    Word(#[from] ValueError),
    /// Neither family is enabled.
    #[error("none defined stack: EnableIPv4 and EnableIPv6 are both false, but one must be true")]
    NoStack,
    /// A backend that flannel has and netd does not.
    #[error("backend type {name} is not available in netd: Backend.Type must be {}", backend::TYPES)]
    Unavailable {
        /// The backend's name.
        name: String,
    },
    /// A backend that nobody knows.
    #[error("unknown backend type: {name} (Backend.Type must be {})", backend::TYPES)]
    UnknownBackend {
        /// The text of `Backend.Type`, empty where it is missing.
        name: String,
    },
}

impl From<FieldError> for NetConfError {
    fn from(FieldError { field, value, expected }: FieldError) -> Self {
        NetConfError::Type { field, value, expected }
    }
}

impl NetConf {
    /// Reads and judges the text of a `net-conf.json`.
    pub fn parse(text: &str) -> Result<(NetConf, UnknownKeys), NetConfError> {
        let mut object: Object = serde_json::from_str(text).map_err(|source| NetConfError::Syntax { source })?;
        let networks = ranges::take(&mut object)?;
        let nftables = object.take("EnableNFTables", "true or false")?.unwrap_or(false);
        let (backend, unknown_of_backend) = Backend::take(&mut object, networks.v6.is_some())?;
        let unknown =
            object.into_keys().chain(unknown_of_backend.into_iter().map(|key| format!("Backend.{key}"))).collect();
        Ok((NetConf { networks, nftables, backend }, UnknownKeys(unknown)))
    }

    /// The pods' whole ranges.
    pub fn prefixes(&self) -> PerFamily<Prefix> {
        self.networks.map(|_, range| range.network)
    }
}

#[cfg(test)]
mod tests;
