//! What the owner of a Service should know, as Events about that Service: conflicts that the Service has lost.
//!
//! Nobody waits for an Event. Without an API server there is none, and the log says the same.

use std::collections::BTreeMap;

use apiserver::ApiServer;
use apiserver::event_recorder::{EventRecorder, Warning};
use reconcile::problem::Changes;
use tokio::task::JoinSet;

use crate::model::ServiceName;
use crate::problem::Kind;
use crate::services::Services;
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

    /// Records what has changed of the problems.
    pub fn record(&self, changes: &Changes<'_, Kind>, services: &Services) {
        let Some(recorder) = &self.0 else { return };
        for over in &changes.over {
            recorder.over(over.kind.to_string(), over.subject.clone());
        }
        let is_conflict = |kind| matches!(kind, Kind::AddressConflict | Kind::NodePortConflict);
        if !changes.new.iter().any(|problem| is_conflict(problem.kind)) {
            return;
        }
        let losers: BTreeMap<String, ServiceName> =
            services.conflicts().map(|conflict| (conflict.problem().subject, conflict.loser.name.service)).collect();
        for problem in changes.new.iter().filter(|problem| is_conflict(problem.kind)) {
            let Some(target) = losers.get(&problem.subject).cloned() else { continue };
            let (reason, subject) = (problem.kind.to_string(), problem.subject.clone());
            recorder.warn(Warning { reason, subject, text: problem.to_string(), target });
        }
    }
}
