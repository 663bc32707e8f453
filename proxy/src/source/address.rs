//! Addresses as kube-proxy accepts them: objects of old clusters have leading zeros, which count as decimal.
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::types::Prefix;

/// Reads an address. One of IPv4 that is written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4, as in Go.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return ipv4(text).map(IpAddr::V4);
    }
    let (groups, tail) = match text.rsplit_once(':') {
        Some((groups, tail)) if tail.contains('.') => (format!("{groups}:"), ipv4(tail)?.to_string()),
        _ => (text.to_owned(), String::new()),
    };
    let groups: Vec<&str> = groups.split(':').map(without_zeros).collect();
    let address: Ipv6Addr = format!("{}{tail}", groups.join(":")).parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

/// Reads a range and clears its host bits.
pub(super) fn range(text: &str) -> Option<Prefix> {
    let (text, len) = text.split_once('/')?;
    Prefix::new(address(text)?, u8::try_from(decimal(len)?).ok()?)
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let octet = |part: &str| u8::try_from(decimal(part)?).ok();
    let octets: Option<Vec<u8>> = text.split('.').map(octet).collect();
    <[u8; 4]>::try_from(octets?).ok().map(Ipv4Addr::from)
}

fn decimal(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A group of an IPv6 address without the zeros that make it longer than four digits.
fn without_zeros(mut group: &str) -> &str {
    while let Some(rest) = group.strip_prefix('0').filter(|_| group.len() > 4) {
        group = rest;
    }
    group
}

#[cfg(test)]
mod tests;
