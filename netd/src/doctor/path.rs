//! Whether the largest packets of pods arrive, where small ones do. Pure.

use super::facts::Facts;
use super::finding::Finding;
use super::probe::{Answer, Question};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (key, question) in &facts.questions {
        let Some(carries) = facts.answers.get(key).and_then(|answer| carries(question, *answer)) else { continue };
        let (name, outer, needed) = (&key.0, question.outer, question.outer_bytes);
        let what = format!(
            "the path to {outer} carries packets of {carries} bytes, and the largest of pods need {needed}: they are lost or fragmented"
        );

        let remedy = if facts.node.conf.backend.has_mtu() && !question.route.is_direct() {
            format!("set \"MTU\": {carries} in Backend of net-conf.json, then restart the pods; or mend the path")
        } else {
            let underlay = &facts.node.underlay.ifname;
            format!("ip link set {underlay} mtu {carries}, on every node, then restart the pods; or mend the path")
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

    let headers = question.route.overhead();
    let seen = answer.inner_passes.filter(|_| answer.inner && !answer.inner_full).map(|bytes| bytes + headers);
    known.or(seen)
}
