//! Whether a device on the way spoils the checksums of what is inside the tunnel. Pure.
//!
//! A finding needs evidence: of two datagrams through the tunnel, the one without a checksum arrives, the other does not.

use super::facts::Facts;
use super::finding::Finding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let spoilt = facts.questions.iter().filter(|(key, _)| facts.answers.get(key).is_some_and(|answer| answer.spoilt));
    spoilt
        .map(|((name, _), question)| {
            let tunnel = &question.device;
            let what = "a datagram without a checksum arrives through the tunnel, one with does not: a device on the way makes wrong checksums";
            let device = match facts.kernel.tx_checksum.get(tunnel) {
                Some(false) => &facts.node.underlay.ifname,
                _ => tunnel,
            };
            let remedy = format!("ethtool -K {device} tx-checksum-ip-generic off, here and on {name}");
            Finding::fault(name, what).remedy(remedy)
        })
        .collect()
}
