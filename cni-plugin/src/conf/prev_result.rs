//! `prevResult`: the result of the plugins before this one. Pure.

use dataplane::types::Prefix;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::{ConfError, Fields, dns};
use crate::result::{CniResult, Interface, Ip, Route};
use crate::version::Version;

/// `prevResult` is not of the configuration's version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not parse prevResult: result type supports [{wanted}] but unmarshalled CNIVersion is {found:?}")]
pub struct PrevResultError {
    /// The configuration's version.
    pub wanted: Version,
    /// The result's version.
    pub found: String,
}

/// Reads `prevResult` of a configuration; `None` where there is none.
///
/// # Errors
/// Where it has another version than the configuration, or a field is wrong.
pub fn read(conf: &Fields<'_>, version: Version) -> Result<Option<CniResult>, ConfError> {
    let Some(fields) = conf.object("prevResult")? else { return Ok(None) };
    let found = fields.text("cniVersion")?.unwrap_or(version.as_str());
    // 0.1.0 and 0.2.0 have the same form; so have the three between them and 1.0.0.
    if Version::ALL.into_iter().find(|known| known.as_str() == found).map(form) != Some(form(version)) {
        return Err(PrevResultError { wanted: version, found: found.to_owned() }.into());
    }
    let mut result = CniResult { dns: dns::read_first(&[Some(&fields)])?, ..CniResult::default() };
    for key in ["ip4", "ip6"] {
        if let Some(family) = fields.object(key)? {
            result.ips.extend(ip_of(&family, "ip")?);
            result.routes.extend(family.objects("routes")?.iter().map(route_of).collect::<Result<Vec<_>, _>>()?);
        }
    }
    for ip in fields.objects("ips")? {
        result.ips.extend(ip_of(&ip, "address")?);
    }
    result.interfaces = fields.objects("interfaces")?.iter().map(interface_of).collect::<Result<_, _>>()?;
    result.routes.extend(fields.objects("routes")?.iter().map(route_of).collect::<Result<Vec<_>, _>>()?);
    Ok(Some(result))
}

/// Versions of one form read each other's results.
fn form(version: Version) -> u8 {
    match version {
        Version::V0_1_0 | Version::V0_2_0 => 0,
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => 1,
        Version::V1_0_0 | Version::V1_1_0 => 2,
    }
}

fn ip_of(fields: &Fields<'_>, key: &str) -> Result<Option<Ip>, ConfError> {
    let address = fields.parsed(key, |text| text.parse::<IpNetwork>().map_err(|_| "it must be ADDRESS/LENGTH"))?;
    let Some(address) = address else { return Ok(None) };
    let interface = match fields.number("interface")? {
        Some(number) => {
            let wrong =
                |_| fields.wrong_value("interface", &number.to_string(), "it must be the place of an interface");
            Some(usize::try_from(number).map_err(wrong)?)
        }
        None => None,
    };
    let gateway = fields.parsed("gateway", |text| text.parse().map_err(|_| "it must be an IP address"))?;
    Ok(Some(Ip { address, gateway, interface }))
}

fn route_of(fields: &Fields<'_>) -> Result<Route, ConfError> {
    let no_dst = || fields.wrong_value("dst", "missing", "each route needs its destination");
    let dst: Prefix = fields.parsed("dst", str::parse)?.ok_or_else(no_dst)?;
    let gw = fields.parsed("gw", |text| text.parse().map_err(|_| "it must be an IP address"))?;
    Ok(Route { dst, gw, others: others(fields, &["mtu", "advmss", "priority", "table", "scope"]) })
}

fn interface_of(fields: &Fields<'_>) -> Result<Interface, ConfError> {
    let owned = |key| Ok::<_, ConfError>(fields.text(key)?.filter(|text| !text.is_empty()).map(str::to_owned));
    Ok(Interface {
        name: owned("name")?.unwrap_or_default(),
        mac: owned("mac")?,
        mtu: fields.number("mtu")?.and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| *mtu != 0),
        sandbox: owned("sandbox")?,
        others: others(fields, &["socketPath", "pciID"]),
    })
}

fn others(fields: &Fields<'_>, keys: &[&str]) -> Map<String, Value> {
    keys.iter().filter_map(|key| Some(((*key).to_owned(), fields.value(key)?.clone()))).collect()
}
