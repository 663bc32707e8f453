//! `subnet.env`: the node's part of the network, which the daemon writes for the plugin. Pure.
//!
//! The format is flannel's: `KEY=VALUE` lines. Unknown keys are ignored. A file that was cut short gives an error with the
//! missing keys.

use dataplane::types::{Family, Mtu, PerFamily, Prefix};
use ipnetwork::IpNetwork;

/// The content of a `subnet.env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The whole network's ranges, IPv4 first.
    pub networks: Vec<Prefix>,
    /// The node's own range for each family, as the file has it: with the gateway's address in it.
    pub subnets: PerFamily<IpNetwork>,
    /// The largest packet that fits through the overlay.
    pub mtu: Mtu,
}

/// Why a `subnet.env` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetEnvError {
    /// The file is no text.
    #[error("it is no UTF-8 text")]
    NoText,
    /// A key without a value.
    #[error("line {line} has {key} without '='")]
    NoValue {
        /// Which line, from 1.
        line: usize,
        /// Which key.
        key: String,
    },
    /// A wrong value.
    #[error("{key} is {value:?}: {reason}")]
    Value {
        /// Which key.
        key: String,
        /// Its value.
        value: String,
        /// Why it is wrong.
        reason: String,
    },
    /// Keys are missing.
    #[error("it is missing {}", .0.join(", "))]
    Missing(Vec<&'static str>),
}

/// The keys of one family: its networks and its subnet.
const fn keys(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["FLANNEL_NETWORK", "FLANNEL_SUBNET"],
        Family::V6 => ["FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"],
    }
}

const MTU: &str = "FLANNEL_MTU";
const IPMASQ: &str = "FLANNEL_IPMASQ";

/// Reads a `subnet.env`.
///
/// # Errors
/// Where a line that matters is wrong or missing; one family's lines suffice.
pub fn parse(content: &[u8]) -> Result<SubnetEnv, SubnetEnvError> {
    let text = std::str::from_utf8(content).map_err(|_| SubnetEnvError::NoText)?;
    let values = Values::read(text)?;
    let mut networks = Vec::new();
    let mut subnets = PerFamily::none();
    for family in Family::BOTH {
        let [network, subnet] = keys(family);
        for part in values.get(network).into_iter().flat_map(|list| list.split(',')) {
            networks.push(of_family(network, part.trim(), family, str::parse, Prefix::family)?);
        }
        if let Some(value) = values.get(subnet) {
            let parsed = of_family(subnet, value, family, with_length, |range| Family::of(range.ip()))?;
            *subnets.slot(family) = Some(parsed);
        }
    }
    let mtu = match values.get(MTU) {
        Some(value) => {
            let number = value.parse::<i64>().map_err(|_| wrong(MTU, value, "it must be a number of bytes"))?;
            Some(Mtu::try_from(number).map_err(|reason| wrong(MTU, value, reason))?)
        }
        None => None,
    };
    match (mtu, values.missing()) {
        (Some(mtu), missing) if missing.is_empty() => Ok(SubnetEnv { networks, subnets, mtu }),
        (_, missing) => Err(SubnetEnvError::Missing(missing)),
    }
}

/// The lines that have one of our keys; of two with the same key the later one counts.
struct Values<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Values<'a> {
    fn read(text: &'a str) -> Result<Self, SubnetEnvError> {
        let mut values = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let (key, value) =
                line.split_once('=').map_or((line, None), |(key, value)| (key.trim(), Some(value.trim())));
            let mut known = Family::BOTH.into_iter().flat_map(keys).chain([MTU, IPMASQ]);
            let Some(key) = known.find(|known| *known == key) else { continue };
            let value = value.ok_or_else(|| SubnetEnvError::NoValue { line: number + 1, key: key.to_owned() })?;
            values.push((key, value));
        }
        Ok(Self(values))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// The missing keys: of each family of which the file has a key, and the common ones. The plugin does not use
    /// `FLANNEL_IPMASQ`, but it is the last line: without it the file was cut short.
    fn missing(&self) -> Vec<&'static str> {
        let begun = |family: &Family| keys(*family).iter().any(|key| self.get(key).is_some());
        let nothing_begun = !Family::BOTH.iter().any(begun);
        let of_families = Family::BOTH.into_iter().filter(|family| nothing_begun || begun(family)).flat_map(keys);
        of_families.chain([MTU, IPMASQ]).filter(|key| self.get(key).is_none()).collect()
    }
}

fn with_length(text: &str) -> Result<IpNetwork, String> {
    let fault = || "it must be ADDRESS/LENGTH".to_owned();
    if text.contains('/') { text.parse().map_err(|_| fault()) } else { Err(fault()) }
}

fn of_family<T: Copy, E: std::fmt::Display>(
    key: &str,
    value: &str,
    family: Family,
    parse: impl FnOnce(&str) -> Result<T, E>,
    family_of: impl FnOnce(T) -> Family,
) -> Result<T, SubnetEnvError> {
    let parsed = parse(value).map_err(|reason| wrong(key, value, reason))?;
    if family_of(parsed) == family { Ok(parsed) } else { Err(wrong(key, value, format!("it must be {family}"))) }
}

fn wrong(key: &str, value: &str, reason: impl std::fmt::Display) -> SubnetEnvError {
    SubnetEnvError::Value { key: key.to_owned(), value: value.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
