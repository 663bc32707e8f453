//! `prevResult`: the result of the plugins before this one. Pure.

use dataplane::types::Prefix;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::{Fields, dns, invalid};
use crate::cni_error::CniError;
use crate::result::{CniResult, Interface, Ip, Route};
use crate::version::Version;

/// Attributes of a route that only other plugins set.
pub(super) const ROUTE_ATTRIBUTES: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// Reads `prevResult` of a configuration; `None` where there is none.
///
/// # Errors
/// Where it has another version than the configuration, or a field is wrong.
pub fn read(conf: &Fields<'_>, version: Version) -> Result<Option<CniResult>, CniError> {
    if conf.value("prevResult").is_none() {
        return Ok(None);
    }
    let fields = conf.object("prevResult")?;
    let found = fields.text("cniVersion")?.unwrap_or(version.as_str());
    if !Version::ALL.into_iter().any(|known| known.as_str() == found && form(known) == form(version)) {
        return Err(invalid(format!(
            "could not parse prevResult: result type supports [{version}] but unmarshalled CNIVersion is {found:?}"
        )));
    }
    let mut result = CniResult { dns: dns::read_first(&[&fields])?, ..CniResult::default() };
    let families = [fields.object("ip4")?, fields.object("ip6")?];
    for family in &families {
        result.ips.extend(ip_of(family, "ip")?);
    }
    for ip in fields.objects("ips")? {
        result.ips.extend(ip_of(&ip, "address")?);
    }
    result.interfaces = fields.objects("interfaces")?.iter().map(interface_of).collect::<Result<_, _>>()?;
    for with_routes in families.iter().chain([&fields]) {
        for route in with_routes.objects("routes")? {
            result.routes.push(Route { others: others(&route, &ROUTE_ATTRIBUTES), ..route_of(&route)? });
        }
    }
    Ok(Some(result))
}

/// Versions of one form read each other's results: there is a new form since 0.3.0, and another since 1.0.0.
fn form(version: Version) -> usize {
    [Version::V0_3_0, Version::V1_0_0].iter().filter(|first| version >= **first).count()
}

fn ip_of(fields: &Fields<'_>, key: &str) -> Result<Option<Ip>, CniError> {
    let address = fields.parsed(key, |text| text.parse::<IpNetwork>().map_err(|_| "it must be ADDRESS/LENGTH"))?;
    let Some(address) = address else { return Ok(None) };
    let place = |number| {
        let wrong = |_| fields.wrong_value("interface", number, "it must be the place of an interface");
        usize::try_from(number).map_err(wrong)
    };
    let interface = fields.number("interface")?.map(place).transpose()?;
    Ok(Some(Ip { address, gateway: fields.address("gateway")?, interface }))
}

/// A route by its destination and next hop.
pub(super) fn route_of(fields: &Fields<'_>) -> Result<Route, CniError> {
    let no_dst = || fields.wrong_value("dst", "missing", "each route needs its destination");
    let dst: Prefix = fields.parsed("dst", str::parse)?.ok_or_else(no_dst)?;
    Ok(Route::via(dst, fields.address("gw")?))
}

fn interface_of(fields: &Fields<'_>) -> Result<Interface, CniError> {
    let owned = |key| Ok::<_, CniError>(fields.text(key)?.filter(|text| !text.is_empty()).map(str::to_owned));
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
