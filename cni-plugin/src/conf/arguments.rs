//! The runtime's requests for one pod: `CNI_ARGS`, `args.cni` and `runtimeConfig`. Pure.
//!
//! The last of the three that has a value counts, as the conventions of the specification have it.

use std::fmt::Display;
use std::net::IpAddr;

use dataplane::types::{Family, Mac};

use super::Fields;
use crate::cni_error::{CniError, Code};

/// The requests for one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The hardware address of its interface; made from its IP address where absent.
    pub mac: Option<Mac>,
    /// Addresses, one from each range set at most.
    pub ips: Vec<IpAddr>,
}

impl Requested {
    /// Reads the three sources. `cni_args` is the text of `CNI_ARGS`.
    ///
    /// # Errors
    /// Where a source is malformed, or has an unknown key and `IgnoreUnknown` is not set.
    pub fn read(cni_args: &str, conf: &Fields<'_>) -> Result<Self, CniError> {
        let mut requested = from_cni_args(cni_args)?;
        for source in [conf.object("args")?.object("cni")?, conf.object("runtimeConfig")?] {
            requested.mac = source.parsed("mac", mac_of)?.or(requested.mac);
            let ips = ips_of(&source)?;
            if !ips.is_empty() {
                requested.ips = ips;
            }
        }
        Ok(requested)
    }
}

fn from_cni_args(text: &str) -> Result<Requested, CniError> {
    let mut requested = Requested::default();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    for pair in text.split(';').filter(|_| !text.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(wrong_args(format!("invalid pair {pair:?}")));
        };
        let wrong = |reason: &dyn Display| wrong_args(format!("{key} is {value:?}: {reason}"));
        match key {
            "IP" => requested.ips = vec![ip_of(value).map_err(|reason| wrong(&reason))?],
            "MAC" => requested.mac = Some(mac_of(value).map_err(|reason| wrong(&reason))?),
            "IgnoreUnknown" => {
                ignore_unknown = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(wrong(&"it must be true or false")),
                }
            }
            _ => unknown.push(pair),
        }
    }
    if unknown.is_empty() || ignore_unknown {
        Ok(requested)
    } else {
        Err(wrong_args(format!("unknown args {unknown:?}; IgnoreUnknown=1 lets them pass")))
    }
}

fn wrong_args(reason: impl Display) -> CniError {
    CniError::new(Code::InvalidEnvironment, format!("ARGS: {reason}"))
}

fn ips_of(source: &Fields<'_>) -> Result<Vec<IpAddr>, CniError> {
    let wrong = |n, text, reason| source.wrong_value(&format!("ips[{n}]"), format!("{text:?}"), reason);
    let texts = source.texts("ips")?.into_iter().enumerate();
    texts.map(|(n, text)| ip_of(text).map_err(|reason| wrong(n, text, reason))).collect()
}

/// An address, with or without a prefix length: the length is the range's.
fn ip_of(text: &str) -> Result<IpAddr, &'static str> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let fits = |address: &IpAddr| {
        length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= Family::of(*address).bits()))
    };
    address.parse().ok().filter(fits).ok_or("it must be an IP address, with or without /LENGTH")
}

fn mac_of(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|reason| format!("address {text}: invalid MAC address: {reason}"))?;
    if mac.is_unusable() { Err(format!("address {text}: invalid MAC address: no host can have it")) } else { Ok(mac) }
}

#[cfg(test)]
mod tests;
