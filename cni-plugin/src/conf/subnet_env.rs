//! `subnet.env`: the node's part of the network, which the daemon writes for the plugin. Pure.
//!
//! The format is flannel's: `KEY=VALUE` lines. Unknown keys are ignored. A file that was cut short gives an error with the
//! missing keys.

use std::collections::BTreeMap;
use std::fmt::Display;

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

/// Why a `subnet.env` cannot be used. The message names the keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SubnetEnvError(String);

/// The keys of one family: its networks and its subnet.
const fn keys(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["FLANNEL_NETWORK", "FLANNEL_SUBNET"],
        Family::V6 => ["FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"],
    }
}

/// More than any network's ranges need.
pub const MAX_BYTES: u64 = 64 * 1024;

const MTU: &str = "FLANNEL_MTU";
const IPMASQ: &str = "FLANNEL_IPMASQ";

/// Reads a `subnet.env`.
///
/// # Errors
/// Where a line that matters is wrong or missing; one family's lines suffice.
pub fn parse(content: &[u8]) -> Result<SubnetEnv, SubnetEnvError> {
    if content.len() as u64 > MAX_BYTES {
        return Err(SubnetEnvError(format!("it has more than {MAX_BYTES} bytes")));
    }
    let text = std::str::from_utf8(content).map_err(|_| SubnetEnvError("it is no UTF-8 text".to_owned()))?;
    let values = values_of(text)?;
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
    let mtu_of = |value: &&str| {
        let number = value.parse::<i64>().map_err(|_| wrong(MTU, value, "it must be a number of bytes"))?;
        Mtu::try_from(number).map_err(|reason| wrong(MTU, value, reason))
    };
    let mtu = values.get(MTU).map(mtu_of).transpose()?;
    // Of the families, those of which the file has a key. The plugin does not use `FLANNEL_IPMASQ`, but it is the last line:
    // without it the file was cut short.
    let is_begun = |family: &Family| keys(*family).iter().any(|key| values.contains_key(key));
    let is_needed = |family: &Family| is_begun(family) || !Family::BOTH.iter().any(is_begun);
    let needed = Family::BOTH.into_iter().filter(is_needed).flat_map(keys).chain([MTU, IPMASQ]);
    let missing: Vec<_> = needed.filter(|key| !values.contains_key(key)).collect();
    match mtu.filter(|_| missing.is_empty()) {
        Some(mtu) => Ok(SubnetEnv { networks, subnets, mtu }),
        None => Err(SubnetEnvError(format!("it is missing {}", missing.join(", ")))),
    }
}

/// The lines that have one of our keys; of two with the same key the later one counts.
fn values_of(text: &str) -> Result<BTreeMap<&str, &str>, SubnetEnvError> {
    let mut values = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let pair = line.split_once('=');
        let key = pair.map_or(line, |(key, _)| key).trim();
        if Family::BOTH.into_iter().flat_map(keys).chain([MTU, IPMASQ]).any(|known| known == key) {
            let (_, value) = pair.ok_or_else(|| SubnetEnvError(format!("line {number} has {key} without '='")))?;
            values.insert(key, value.trim());
        }
    }
    Ok(values)
}

fn with_length(text: &str) -> Result<IpNetwork, &'static str> {
    text.parse().ok().filter(|_| text.contains('/')).ok_or("it must be ADDRESS/LENGTH")
}

fn of_family<T: Copy, E: Display>(
    key: &str,
    value: &str,
    family: Family,
    parse: impl FnOnce(&str) -> Result<T, E>,
    family_of: impl FnOnce(T) -> Family,
) -> Result<T, SubnetEnvError> {
    let parsed = parse(value).map_err(|reason| wrong(key, value, reason))?;
    if family_of(parsed) == family { Ok(parsed) } else { Err(wrong(key, value, format!("it must be {family}"))) }
}

fn wrong(key: &str, value: &str, reason: impl Display) -> SubnetEnvError {
    SubnetEnvError(format!("{key} is {value:?}: {reason}"))
}

#[cfg(test)]
mod tests;
