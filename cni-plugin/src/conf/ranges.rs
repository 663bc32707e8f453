//! The ranges of addresses: `runtimeConfig.ipRanges` and `ipam`, else the node's subnet in `subnet.env`. Pure.

use ipnetwork::IpNetwork;

use super::fields::wrong_type;
use super::subnet_env::SubnetEnv;
use super::{Fields, invalid};
use crate::cni_error::CniError;
use crate::ipam::range::{RangeRequest, RangeSet};

/// Each outer item gives one address. `ipam`'s flat `subnet` comes before its `ranges`, the runtime's before both.
pub(super) fn read(
    ipam: &Fields<'_>,
    runtime: &Fields<'_>,
    env: Option<&SubnetEnv>,
) -> Result<Vec<RangeSet>, CniError> {
    let mut sets = sets_of(runtime, "ipRanges")?;
    sets.extend(range_of(ipam)?.map(|range| vec![range]));
    sets.extend(sets_of(ipam, "ranges")?);
    if sets.is_empty() {
        sets.extend(env.into_iter().flat_map(|env| env.subnets.iter()).filter_map(|(_, subnet)| of_node(*subnet)));
    }
    if sets.is_empty() { Err(invalid("no IP ranges specified")) } else { RangeSet::all(&sets) }
}

/// True where the configuration itself has ranges.
pub(super) fn are_given(ipam: &Fields<'_>, runtime: &Fields<'_>) -> bool {
    let given = [ipam.value("subnet"), ipam.value("ranges"), runtime.value("ipRanges")];
    given.iter().any(Option::is_some)
}

fn sets_of(fields: &Fields<'_>, key: &str) -> Result<Vec<Vec<RangeRequest>>, CniError> {
    let mut sets = Vec::new();
    for (path, value) in fields.list(key)? {
        let items = value.as_array().ok_or_else(|| wrong_type(&path, "a list of ranges", value))?;
        let ranges = items.iter().enumerate().map(|(n, item)| {
            let range = Fields::of(format!("{path}[{n}]"), item)?;
            let no_subnet = || range.wrong_value("subnet", "missing", "each range needs its subnet");
            range_of(&range)?.ok_or_else(no_subnet)
        });
        sets.push(ranges.collect::<Result<_, _>>()?);
    }
    Ok(sets)
}

fn range_of(fields: &Fields<'_>) -> Result<Option<RangeRequest>, CniError> {
    let with_length = |text: &str| {
        let subnet = text.parse().ok().filter(|_| text.contains('/'));
        subnet.ok_or("it must be ADDRESS/LENGTH, like 10.244.1.0/24")
    };
    let Some(subnet) = fields.parsed("subnet", with_length)? else { return Ok(None) };
    let (start, end) = (fields.address("rangeStart")?, fields.address("rangeEnd")?);
    Ok(Some(RangeRequest { subnet, start, end, gateway: fields.address("gateway")? }))
}

/// The range of a subnet in `subnet.env`, which is written with the gateway's address.
fn of_node(subnet: IpNetwork) -> Option<Vec<RangeRequest>> {
    let network = IpNetwork::new(subnet.network(), subnet.prefix()).ok()?;
    let gateway = Some(subnet.ip()).filter(|address| *address != network.ip());
    Some(vec![RangeRequest { subnet: network, start: None, end: None, gateway }])
}
