//! What the owner of a Service should know, as Events about that Service: conflicts that the Service has lost, and health
//! checks that a node cannot answer.
//!
//! Nobody waits for an Event. Without an API server there is none, and the log says the same.

use std::collections::BTreeMap;

use apiserver::ApiServer;
use apiserver::event_recorder::{EventRecorder, Warning};
use reconcile::problem::Changes;
use tokio::task::JoinSet;

use crate::model::ServiceName;
use crate::problem::{Kind, Problem};
use crate::source::api::events;

/// Records Events, where there is a recorder.
#[derive(Debug, Default)]
pub struct Events(Option<EventRecorder<ServiceName>>);

impl Events {
    /// Events that an API server gets from the node of that name, by one of these tasks.
    pub fn start(server: &ApiServer, node: &str, tasks: &mut JoinSet<()>) -> Self {
        let (recorder, run) = events::recorder(server, node);
        tasks.spawn(run);
        Self(Some(recorder))
    }

    /// Records what has changed of the problems. `owners` gives the Services whose owners should know.
    pub fn record(&self, changes: &Changes<'_, Kind>, owners: impl FnOnce() -> BTreeMap<Problem, ServiceName>) {
        let Some(recorder) = &self.0 else { return };
        for over in &changes.over {
            recorder.over(reason(over.kind), over.subject.clone());
        }
        if changes.new.is_empty() {
            return;
        }
        let owners = owners();
        for problem in &changes.new {
            let Some(target) = owners.get(problem).cloned() else { continue };
            let (reason, subject) = (reason(problem.kind), problem.subject.clone());
            recorder.warn(Warning { reason, subject, text: problem.to_string(), target });
        }
    }
}

/// The reason of an Event: kube-proxy's, where it has one.
fn reason(kind: Kind) -> String {
    match kind {
        Kind::HealthCheckUnavailable => "FailedToStartServiceHealthcheck".to_owned(),
        _ => kind.to_string(),
    }
}
