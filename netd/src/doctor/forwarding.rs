//! Whether the kernel forwards packets between devices at all. Pure.

use dataplane::types::Family;

use super::facts::Facts;
use super::finding::Finding;
use super::sysctl;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let families = facts.node.identity.networks.families();
    families.flat_map(|family| if family == Family::V4 { ipv4(facts) } else { ipv6(facts) }).collect()
}

fn ipv4(facts: &Facts) -> Vec<Finding> {
    if facts.sysctl(sysctl::IP_FORWARD) == Some("0") {
        let what = "the kernel forwards no IPv4 packet, so none of a pod leaves its node";
        return vec![Finding::fault("IPv4", what).remedy(sysctl::command(sysctl::IP_FORWARD, "1"))];
    }
    let off = facts.devices().filter(|device| facts.sysctl(&sysctl::forwarding(device)) == Some("0"));
    off.map(|device| {
        Finding::fault(device, "IPv4 packets that come in by this device are not forwarded")
            .remedy(sysctl::command(&sysctl::forwarding(device), "1"))
    })
    .collect()
}

/// IPv6 has one switch for all devices; that of a device makes it a host or a router in other respects.
fn ipv6(facts: &Facts) -> Vec<Finding> {
    if facts.sysctl(sysctl::IPV6_FORWARDING) == Some("0") {
        let what = "the kernel forwards no IPv6 packet, so none of a pod leaves its node";
        return vec![Finding::fault("IPv6", what).remedy(sysctl::command(sysctl::IPV6_FORWARDING, "1"))];
    }
    let expires = facts.announced().filter(|device| facts.sysctl(&sysctl::accept_ra(device)) == Some("1"));
    let finding = |device| {
        let what = "its IPv6 default route is one that a router announced; a machine that forwards takes no announcement more, so it expires";
        Finding::warning(device, what).remedy(sysctl::command(&sysctl::accept_ra(device), "2"))
    };
    expires.map(finding).collect()
}
