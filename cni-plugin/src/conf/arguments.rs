//! The runtime's requests for one pod: `CNI_ARGS`, `args.cni` and `runtimeConfig`. Pure.
//!
//! The last of the three that has a value counts, as the conventions of the specification have it.

use std::net::IpAddr;

use dataplane::types::Mac;

use super::{ConfError, Fields};

/// The requests for one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The hardware address of its interface.
    pub mac: Option<Mac>,
    /// Addresses, one from each range set at most.
    pub ips: Vec<IpAddr>,
}

impl Requested {
    /// Reads the three sources. `cni_args` is the text of `CNI_ARGS`.
    ///
    /// # Errors
    /// Where a source is malformed, or has an unknown key and `IgnoreUnknown` is not set.
    pub fn read(cni_args: &str, conf: &Fields<'_>) -> Result<Self, ConfError> {
        let mut requested = from_cni_args(cni_args)?;
        let labels = conf.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
        let runtime = conf.object("runtimeConfig")?;
        for source in labels.into_iter().chain(runtime) {
            requested.mac = source.parsed("mac", mac_of)?.or(requested.mac);
            let ips = ips_of(&source)?;
            if !ips.is_empty() {
                requested.ips = ips;
            }
        }
        Ok(requested)
    }
}

fn from_cni_args(text: &str) -> Result<Requested, ConfError> {
    let mut requested = Requested::default();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    for pair in text.split(';').filter(|_| !text.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(ConfError::Arguments(format!("invalid pair {pair:?}")));
        };
        let wrong = |reason: &dyn std::fmt::Display| ConfError::Arguments(format!("{key} is {value:?}: {reason}"));
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
        Err(ConfError::Arguments(format!("unknown args {unknown:?}; IgnoreUnknown=1 lets them pass")))
    }
}

fn ips_of(source: &Fields<'_>) -> Result<Vec<IpAddr>, ConfError> {
    let path = source.path_of("ips");
    let parsed = |(n, text): (usize, &str)| {
        ip_of(text).map_err(|reason| ConfError::Value {
            field: format!("{path}[{n}]"),
            value: format!("{text:?}"),
            reason: reason.to_owned(),
        })
    };
    source.texts("ips")?.into_iter().enumerate().map(parsed).collect()
}

/// An address, with or without a prefix length: the length is the range's.
fn ip_of(text: &str) -> Result<IpAddr, &'static str> {
    let fault = "it must be an IP address, with or without /LENGTH";
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| fault)?;
    match length.map(str::parse::<u8>) {
        Some(Ok(length)) if length <= dataplane::types::Family::of(address).bits() => Ok(address),
        Some(_) => Err(fault),
        None => Ok(address),
    }
}

fn mac_of(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|reason| format!("address {text}: invalid MAC address: {reason}"))?;
    if mac.is_unusable() { Err(format!("address {text}: invalid MAC address: no host can have it")) } else { Ok(mac) }
}

#[cfg(test)]
mod tests;
