//! What keeps the watches from the API server, reported once for all of them: they fail one after another when it goes away, and each finds
//! other words for it.
//!
//! Pure.

use std::collections::BTreeMap;

use apiserver::{ApiError, Remedies, chain};

use crate::model::{Collection, Event};
use crate::problem::{Kind, Problem};

/// What a person types so that netd-proxy reaches the API server.
const REMEDIES: Remedies = Remedies {
    config: "give --kubeconfig or --master, or run netd-proxy in a pod with a ServiceAccount",
    unreachable: "see that it is up, and that --master, the kubeconfig or KUBERNETES_SERVICE_HOST has its own address: the cluster IP of the Service default/kubernetes needs netd-proxy to work already",
    forbidden: "netd-proxy's account lacks this right: bind it to a ClusterRole that may list and watch services, endpointslices, nodes and servicecidrs",
    other_server: "another server may answer at this address: check --master, and what is between the API server and this node",
};

/// The failures that last.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Collection, Failure>);

#[derive(Debug, Clone)]
struct Failure {
    /// What can be done: failures with the same advice are the same.
    advice: &'static str,
    problem: Problem,
    /// How often the API server has refused since it could not be reached.
    refusals: u32,
}

/// An API server that has just started refuses everybody (403) until it has read its own rules, which takes some seconds: so many refusals
/// still count as the outage.
const REFUSALS_OF_A_START: u32 = 3;

impl Failures {
    /// A watch fails. Returns an event where it did not, or failed for something else.
    pub(super) fn begin(&mut self, collection: Collection, error: &ApiError) -> Option<Event> {
        let advice = match error.code() {
            // A load balancer answers in place of an API server that is away.
            Some(429 | 500..) => REMEDIES.unreachable,
            _ => error.advice(&REMEDIES),
        };
        let subject = match error.code() {
            Some(code @ 400..500) if !matches!(code, 401 | 429) => name(collection),
            _ => "the API server",
        };
        let is_same = |known: &&Failure| known.advice == advice && known.problem.subject == subject;
        if self.0.get(&collection).as_ref().is_some_and(is_same) {
            return None;
        }
        if let Some(known) = self.0.get_mut(&collection).filter(|known| known.advice == REMEDIES.unreachable)
            && error.code() == Some(403)
            && known.refusals < REFUSALS_OF_A_START
        {
            known.refusals += 1;
            return None;
        }
        let known = self.0.values().find(is_same).map(|known| Failure { refusals: 0, ..known.clone() });
        let detail = format!("cannot be followed, and what was last known stays in force: {}", chain(error));
        let problem = Problem::new(Kind::SourceUnavailable, subject, detail).with_remedy(advice);
        self.0.insert(collection, known.unwrap_or(Failure { advice, problem, refusals: 0 }));
        Some(self.event())
    }

    /// A watch does not fail any more. Returns an event where it did.
    pub(super) fn end(&mut self, collection: Collection) -> Option<Event> {
        self.0.remove(&collection)?;
        Some(self.event())
    }

    /// All failures, each subject once.
    fn event(&self) -> Event {
        let mut problems: Vec<Problem> = Vec::new();
        for Failure { problem, .. } in self.0.values() {
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
        Event::Faults("the API server".into(), problems)
    }
}

fn name(collection: Collection) -> &'static str {
    match collection {
        Collection::Services => "the list of Services",
        Collection::Slices => "the list of EndpointSlices",
        Collection::Nodes => "this node's Node",
        Collection::ServiceCidrs => "the list of ServiceCIDRs",
    }
}

#[cfg(test)]
mod tests;
