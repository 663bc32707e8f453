//! The ranges of addresses: `runtimeConfig.ipRanges` and `ipam`, else the node's subnet in `subnet.env`. Pure.

use std::net::IpAddr;

use dataplane::types::Prefix;
use ipnetwork::IpNetwork;

use super::subnet_env::SubnetEnv;
use super::{ConfError, Fields};
use crate::ipam::range::{RangeRequest, RangeSet};

/// Each outer item gives one address. `ipam`'s flat `subnet` comes before its `ranges`, the runtime's before both.
pub(super) fn read(
    ipam: Option<&Fields<'_>>,
    runtime: Option<&Fields<'_>>,
    env: Option<&SubnetEnv>,
) -> Result<Vec<RangeSet>, ConfError> {
    let mut sets = runtime.map_or(Ok(Vec::new()), |runtime| sets_of(runtime, "ipRanges"))?;
    if let Some(ipam) = ipam {
        sets.extend(range_of(ipam)?.map(|range| vec![range]));
        sets.extend(sets_of(ipam, "ranges")?);
    }
    if sets.is_empty() {
        sets.extend(env.into_iter().flat_map(|env| env.subnets.iter()).filter_map(|(_, subnet)| of_node(*subnet)));
    }
    if sets.is_empty() { Err(ConfError::NoRanges) } else { Ok(RangeSet::all(&sets)?) }
}

/// True where the configuration itself has ranges.
pub(super) fn are_given(ipam: Option<&Fields<'_>>, runtime: Option<&Fields<'_>>) -> bool {
    let some = |fields: Option<&Fields<'_>>, key| fields.and_then(|fields| fields.value(key)).is_some();
    some(ipam, "subnet") || some(ipam, "ranges") || some(runtime, "ipRanges")
}

fn sets_of(fields: &Fields<'_>, key: &str) -> Result<Vec<Vec<RangeRequest>>, ConfError> {
    let mut sets = Vec::new();
    for (path, value) in fields.list(key)? {
        let items =
            value.as_array().ok_or_else(|| super::fields::wrong_type(path.clone(), "a list of ranges", value))?;
        let mut set = Vec::new();
        for (n, item) in items.iter().enumerate() {
            let range = Fields::of(format!("{path}[{n}]"), item)?;
            let no_subnet = || range.wrong_value("subnet", "missing", "each range needs its subnet");
            set.push(range_of(&range)?.ok_or_else(no_subnet)?);
        }
        sets.push(set);
    }
    Ok(sets)
}

fn range_of(fields: &Fields<'_>) -> Result<Option<RangeRequest>, ConfError> {
    let Some(subnet) = fields.parsed("subnet", subnet_of)? else { return Ok(None) };
    let address = |key| fields.parsed(key, |text| text.parse::<IpAddr>().map_err(|_| "it must be an IP address"));
    let start = address("rangeStart")?;
    let end = address("rangeEnd")?;
    Ok(Some(RangeRequest { subnet, start, end, gateway: address("gateway")? }))
}

fn subnet_of(text: &str) -> Result<IpNetwork, &'static str> {
    let fault = "it must be ADDRESS/LENGTH, like 10.244.1.0/24";
    if text.contains('/') { text.parse().map_err(|_| fault) } else { Err(fault) }
}

/// The range of a subnet in `subnet.env`, which is written with the gateway's address.
fn of_node(subnet: IpNetwork) -> Option<Vec<RangeRequest>> {
    let network = Prefix::new(subnet.ip(), subnet.prefix())?;
    let gateway = Some(subnet.ip()).filter(|address| *address != network.address());
    let subnet = IpNetwork::new(network.address(), network.len()).ok()?;
    Some(vec![RangeRequest { subnet, start: None, end: None, gateway }])
}
