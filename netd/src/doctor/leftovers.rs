//! What another pod network has left on this node, or still does there. Pure.

use dataplane::nft::TableFamily;
use dataplane::types::Family;
use network::flannel::{CHAINS, TABLES};

use crate::host;

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = conf_dir(facts);
    findings.extend(bridge(facts));
    findings.extend(default_routes(facts));
    findings.extend(flannel(facts));
    findings
}

/// Runtimes take the first file by name.
fn conf_dir(facts: &Facts) -> Vec<Finding> {
    let dir = &facts.conf_dir;
    let known = |name: &&String| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    let before = dir.files.iter().filter(known).filter(|name| **name < dir.own);
    let mut findings: Vec<_> = before
        .map(|name| {
            let path = dir.path.join(name);
            let what = format!("runtimes take this configuration, since its name sorts before {}", dir.own);
            let path = path.display();
            Finding::fault(name, what).remedy(format!("mv '{path}' '{path}.disabled'"))
        })
        .collect();
    if dir.wanted && !dir.files.contains(&dir.own) {
        let what = "the plugin's configuration is missing, so runtimes start no pod on this network";
        findings.push(
            Finding::fault(dir.path.join(&dir.own).display(), what)
                .remedy("start netd, which writes it when the network is ready"),
        );
    }
    findings
}

/// The bridge has the first address of each of this node's subnets, and no other global one.
fn bridge(facts: &Facts) -> Vec<Finding> {
    let Some(cluster) = &facts.cluster else { return Vec::new() };
    let name = &facts.node.bridge;
    let Some(link) = facts.link(name.as_str()) else { return Vec::new() };
    let gateways: Vec<_> = cluster.own.subnets.iter().filter_map(|(_, subnet)| subnet.nth(1)).collect();
    let others = facts
        .kernel
        .host
        .addresses
        .iter()
        .filter(|a| a.index == link.index && a.global && !gateways.contains(&a.address));
    others
        .map(|other| {
            let (ip, len) = (other.address, other.prefix_len);
            let what = format!("it has the address {ip}/{len}, which is of another pod network or of a former subnet: the plugin refuses pods");
            Finding::fault(name, what).remedy(format!("ip address delete {ip}/{len} dev {name}"))
        })
        .collect()
}

/// Default routes out of netd's and the pods' devices, as a DHCP client adds that takes every interface for its own.
fn default_routes(facts: &Facts) -> Vec<Finding> {
    let host = &facts.kernel.host;
    let own = host::own_devices(host.links.values(), &facts.node.bridge);
    let routes = host.routes.iter().filter(|route| route.destination.is_default() && own.contains(&route.index));
    routes
        .filter_map(|route| {
            let (device, metric) = (facts.name_of(route.index)?, route.metric);
            let what = format!("a default route of metric {metric} leads to {device}, which is for pods: let no DHCP client or other program take care of that interface");
            let family = if route.destination.family() == Family::V6 { "-6 " } else { "" };
            Some(Finding::warning(device, what).remedy(format!("ip {family}route delete default dev {device} metric {metric}")))
        })
        .collect()
}

/// Flannel's rules masquerade and accept by its own network, and stay when it is removed.
fn flannel(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (family, program) in [(TableFamily::Ip, "iptables"), (TableFamily::Ip6, "ip6tables")] {
        let names: Vec<_> = CHAINS
            .into_iter()
            .map(|(_, _, name)| name)
            .filter(|name| facts.kernel.chains.iter().any(|(table, chain)| table.family == family && chain == *name))
            .collect();
        if !names.is_empty() {
            let what = "these chains of flannel's stay and rewrite packets as its own network needed it; see that flanneld does not run";
            findings.push(
                Finding::warning(format!("{program} {}", names.join(" ")), what)
                    .remedy(format!("{program}-save | grep -v -e FLANNEL-FWD -e FLANNEL-POSTRTG | {program}-restore")),
            );
        }
    }
    for (family, name) in TABLES {
        if facts.kernel.chains.iter().any(|(table, _)| table.family == family && table.name == name) {
            let what = "this table of flannel's stays and rewrites packets as its own network needed it; see that flanneld does not run";
            let table = format!("{family} {name}");
            findings.push(Finding::warning(&table, what).remedy(format!("nft delete table {table}")));
        }
    }
    findings
}
