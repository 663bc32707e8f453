//! Events of the API server about Services.

use apiserver::event_recorder::{EventRecorder, Regarding};
use apiserver::{ApiError, ApiServer, chain};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::api::ListParams;

use crate::model::ServiceName;

/// The program's name in Events.
const COMPONENT: &str = "netd-proxy";

/// A recorder of Events about Services on a node of that name, and the task that posts them. An API server that refuses Events is no
/// problem of the proxy: the log says so where it says everything.
pub fn recorder(
    server: &ApiServer,
    node: &str,
) -> (EventRecorder<ServiceName>, impl Future<Output = ()> + Send + 'static) {
    let (asked, node) = (server.clone(), node.to_owned());
    let regarding = move |service: &ServiceName| find(asked.clone(), service.clone(), node.clone());
    let complain = |error: &ApiError| tracing::debug!("an Event about a Service is not recorded: {}", chain(error));
    EventRecorder::new(server.clone(), regarding, complain)
}

/// The Service with its UID, by which `kubectl describe` finds Events. The proxy keeps no UIDs, and has the right to list alone.
async fn find(server: ApiServer, service: ServiceName, host: String) -> Result<Option<Regarding>, ApiError> {
    let ServiceName { namespace, name } = service;
    let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = server.namespaced::<Service>(&namespace).list_metadata(&by_name).await.map_err(ApiError::from)?;
    let object = found.items.into_iter().next().map(|service| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(namespace.to_string()),
        name: Some(name.to_string()),
        uid: service.metadata.uid,
        ..ObjectReference::default()
    });
    Ok(object.map(|object| Regarding { object, component: COMPONENT, host }))
}

#[cfg(test)]
mod tests;
