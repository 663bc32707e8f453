//! Whether the largest packets of pods arrive, where small ones do. Pure.

use dataplane::types::Family;
use network::overlay::peer_route::PeerRoute;
use network::overlay::tunnel_device::overhead;

use super::facts::Facts;
use super::finding::{Check, Finding};
use super::probe::{Answer, Question};

pub(super) const CHECK: Check =
    Check { name: "path mtu", well: "the largest packets of pods arrive at every peer that answers", judge };

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (key, question) in &facts.questions {
        let Some(carries) = facts.answers.get(key).and_then(|answer| carries(question, *answer)) else { continue };
        let (name, outer, needed) = (&key.0, question.outer, question.outer_bytes);
        let what = format!(
            "the path to {outer} carries packets of {carries} bytes, and the largest of pods need {needed}: they are lost or fragmented"
        );
        let remedy = match question.route {
            PeerRoute::Tunnel { .. } => {
                format!("set \"MTU\": {carries} in Backend of net-conf.json, then restart the pods; or mend the path")
            }
            PeerRoute::Direct { .. } => {
                format!(
                    "ip link set {} mtu {carries}, on every node, then restart the pods; or mend the path",
                    question.device
                )
            }
        };
        let finding = Finding::fault(name, what).remedy(remedy);
        // Both families of pods may take one path.
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// How large packets the underlay's path carries, where that is too small.
fn carries(question: &Question, answer: Answer) -> Option<u32> {
    let known = answer.path_mtu.filter(|known| !answer.outer_full && *known < question.outer_bytes);
    let headers = match question.route {
        PeerRoute::Tunnel { endpoint, .. } => overhead(Family::of(endpoint)),
        PeerRoute::Direct { .. } => 0,
    };
    let seen = answer.inner_passes.filter(|_| answer.inner && !answer.inner_full).map(|bytes| bytes + headers);
    known.or(seen)
}
