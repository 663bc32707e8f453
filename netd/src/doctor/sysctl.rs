//! The sysctls that checks judge, by the names of their keys. Pure.

use dataplane::types::{Family, IfName};

pub(super) const IP_FORWARD: &str = "net/ipv4/ip_forward";
pub(super) const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

pub(super) fn forwarding(device: &IfName) -> String {
    format!("net/ipv4/conf/{device}/forwarding")
}

/// Of a device, or of `all`.
pub(super) fn rp_filter(device: &str) -> String {
    format!("net/ipv4/conf/{device}/rp_filter")
}

pub(super) fn accept_ra(device: &IfName) -> String {
    format!("net/ipv6/conf/{device}/accept_ra")
}

pub(super) fn bridge_nf_call(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    }
}

/// The command that sets a sysctl. Keys have slashes, since names of devices have dots.
pub(super) fn command(key: &str, value: &str) -> String {
    format!("sysctl -w {key}={value}")
}

/// All of them.
pub(super) fn all<'d>(
    devices: impl Iterator<Item = &'d IfName>,
    announced: impl Iterator<Item = &'d IfName>,
) -> impl Iterator<Item = String> {
    let of_devices = devices.flat_map(|device| [forwarding(device), rp_filter(device.as_str())]);
    let of_all = [IP_FORWARD.to_owned(), IPV6_FORWARDING.to_owned(), rp_filter("all")];
    of_devices
        .chain(announced.map(accept_ra))
        .chain(of_all)
        .chain(Family::BOTH.map(|family| bridge_nf_call(family).to_owned()))
}
