//! Whether pods, the bridge and the tunnel agree on how large a packet may be on this node. Pure.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let devices = facts.outcome.desired.devices.iter().filter_map(|(name, device)| {
        let link = facts.kernel.host.links.get(name).filter(|link| link.mtu != device.mtu.get())?;
        let (underlay, fits) = (&device.underlay, device.mtu);
        let what = format!("its MTU is {}, and {underlay} leaves {fits}", link.mtu);
        Some(Finding::fault(name, what).remedy(format!("ip link set {name} mtu {fits}")))
    });
    let mut findings: Vec<_> = devices.collect();
    let Some(fits) = facts.outcome.pod_mtu.map(dataplane::types::Mtu::get) else { return findings };
    if let Some(written) = facts.subnet_file.mtu().filter(|written| *written != fits) {
        let what = format!("new pods get MTU {written} from it, and {fits} is right");
        let remedy = "start netd, which writes it anew; with pods made meanwhile: delete them";
        findings.push(Finding::fault(facts.subnet_file.path.display(), what).remedy(remedy));
    }
    let name = &facts.node.bridge;
    if let Some(bridge) = facts.link(name.as_str()) {
        let ports =
            facts.kernel.host.links.values().filter(|link| link.master == Some(bridge.index) && link.mtu > fits);
        let ports: Vec<_> = ports.map(|port| port.name.as_str()).collect();
        if !ports.is_empty() {
            let what =
                format!("{} pods have a larger MTU than the {fits} that routes to other nodes carry", ports.len());
            let remedy = format!("delete these pods, so that they are made again; they are behind {}", ports.join(" "));
            findings.push(Finding::warning(name, what).remedy(remedy));
        }
        if bridge.mtu > fits {
            let what = format!("its MTU is {}, and routes to other nodes carry {fits}", bridge.mtu);
            findings.push(Finding::warning(name, what).remedy(format!("ip link set {name} mtu {fits}")));
        }
    }
    findings
}
