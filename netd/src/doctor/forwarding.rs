//! Whether the kernel forwards packets between devices at all. Pure.

use dataplane::types::Family;

use super::facts::Facts;
use super::finding::Finding;
use super::sysctl;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let families = facts.node.identity.networks.families();
    families.flat_map(|family| of_family(facts, family)).collect()
}

fn of_family(facts: &Facts, family: Family) -> Vec<Finding> {
    let (key, judge): (_, fn(&Facts) -> Vec<Finding>) = match family {
        Family::V4 => (sysctl::IP_FORWARD, ipv4),
        Family::V6 => (sysctl::IPV6_FORWARDING, ipv6),
    };
    if facts.sysctl(key) != Some("0") {
        return judge(facts);
    }
    let what = format!("the kernel forwards no {family} packet, so none of a pod leaves its node");
    vec![Finding::fault(family, what).remedy(sysctl::command(key, "1"))]
}

fn ipv4(facts: &Facts) -> Vec<Finding> {
    let off = facts.devices().filter(|device| facts.sysctl(&sysctl::forwarding(device)) == Some("0"));
    off.map(|device| {
        Finding::fault(device, "IPv4 packets that come in by this device are not forwarded")
            .remedy(sysctl::command(&sysctl::forwarding(device), "1"))
    })
    .collect()
}

/// IPv6 has one switch for all devices; that of a device makes it a host or a router in other respects.
fn ipv6(facts: &Facts) -> Vec<Finding> {
    let expires = facts.announced().filter(|device| facts.sysctl(&sysctl::accept_ra(device)) == Some("1"));
    let finding = |device| {
        let what = "its IPv6 default route is one that a router announced; a machine that forwards takes no announcement more, so it expires";
        Finding::warning(device, what).remedy(sysctl::command(&sysctl::accept_ra(device), "2"))
    };
    expires.map(finding).collect()
}
