//! The `Backend` object of `net-conf.json`.
//!
//! Pure.

use std::ops::RangeInclusive;

use dataplane::types::{Mtu, Vni};
use serde::de::DeserializeOwned;

use super::{Backend, NetConfError, VxlanOptions};
use crate::caseless::{FieldError, Object};
use crate::model::BackendType;

/// Flannel's backends that netd does not have.
const UNAVAILABLE: [&str; 7] = ["wireguard", "ipip", "udp", "ipsec", "alloc", "extension", "tencent-vpc"];

/// Takes `Backend` out of the configuration; vxlan with its defaults where it is missing. Also gives the keys that nobody knows.
pub(super) fn take(conf: &mut Object, ipv6: bool) -> Result<(Backend, Vec<String>), NetConfError> {
    let Some(mut object) = conf.take::<Object>("Backend", r#"an object like {"Type": "vxlan"}"#)? else {
        return Ok((Backend::Vxlan(vxlan(&mut Object::default(), ipv6)?), Vec::new()));
    };
    let name = field::<String>(&mut object, "Type", "the text vxlan or host-gw")?.unwrap_or_default();
    let backend = match BackendType::from(name.as_str()) {
        BackendType::Vxlan => Backend::Vxlan(vxlan(&mut object, ipv6)?),
        BackendType::HostGw => Backend::HostGw,
        BackendType::Other(name) if UNAVAILABLE.contains(&name.as_str()) => {
            return Err(NetConfError::Unavailable { name });
        }
        BackendType::Other(_) => return Err(NetConfError::UnknownBackend { name }),
    };
    Ok((backend, object.into_keys().collect()))
}

fn vxlan(object: &mut Object, ipv6: bool) -> Result<VxlanOptions, NetConfError> {
    // RFC 8200 section 5: no link with a smaller MTU carries IPv6.
    let least_mtu = if ipv6 { 1280 } else { 68 };
    let vni = number(object, "VNI", 1..=0x00ff_ffff)?.unwrap_or(1);
    let port = number_or_zero(object, "Port", 1..=i64::from(u16::MAX))?;
    let mtu = number_or_zero(object, "MTU", least_mtu..=65535)?;
    Ok(VxlanOptions {
        vni: Vni::try_from(vni)?,
        port: port.and_then(|port| u16::try_from(port).ok()),
        mtu: mtu.map(Mtu::try_from).transpose()?,
        gbp: switch(object, "GBP")?,
        learning: switch(object, "Learning")?,
        direct_routing: switch(object, "DirectRouting")?,
    })
}

/// Takes a field, named in faults as the operator finds it: inside `Backend`.
fn field<T: DeserializeOwned>(object: &mut Object, name: &str, expected: &str) -> Result<Option<T>, FieldError> {
    object.take(name, expected).map_err(|fault| FieldError { field: format!("Backend.{name}"), ..fault })
}

fn switch(object: &mut Object, name: &str) -> Result<bool, FieldError> {
    Ok(field(object, name, "true or false")?.unwrap_or(false))
}

fn number(object: &mut Object, name: &str, allowed: RangeInclusive<i64>) -> Result<Option<i64>, NetConfError> {
    let expected = format!("a whole number from {} to {}", allowed.start(), allowed.end());
    ranged(object, name, &expected, |number| allowed.contains(&number))
}

/// As [`number`], where 0 is flannel's other way to leave the field out.
fn number_or_zero(object: &mut Object, name: &str, allowed: RangeInclusive<i64>) -> Result<Option<i64>, NetConfError> {
    let expected = format!("a whole number from {} to {}, or 0 for the default", allowed.start(), allowed.end());
    let number = ranged(object, name, &expected, |number| number == 0 || allowed.contains(&number))?;
    Ok(number.filter(|&number| number != 0))
}

fn ranged(
    object: &mut Object,
    name: &str,
    expected: &str,
    allows: impl Fn(i64) -> bool,
) -> Result<Option<i64>, NetConfError> {
    match field(object, name, expected)? {
        Some(number) if !allows(number) => Err(NetConfError::Range {
            problem: "error decoding backend config".to_owned(),
            field: format!("Backend.{name}"),
            value: number.to_string(),
            allowed: expected.to_owned(),
        }),
        fits => Ok(fits),
    }
}
