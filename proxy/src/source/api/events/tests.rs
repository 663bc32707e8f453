use apiserver::Address;
use apiserver::event_recorder::Warning;
use apiserver::fake;
use serde_json::json;
use tokio::task;

use super::*;

fn warn(recorder: &EventRecorder<ServiceName>, name: &str) {
    let (reason, subject) = ("NodePortConflict".to_owned(), name.to_owned());
    recorder.warn(Warning { reason, subject, text: name.to_owned(), target: ServiceName::new("ns", name) });
}

#[tokio::test]
async fn an_event_is_about_the_service_as_it_is_now() {
    let list = |items| json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items });
    let found = list(json!([{ "metadata": { "name": "b", "namespace": "ns", "uid": "u1" } }]));
    let answers = vec![(200, list(json!([])).to_string()), (200, found.to_string()), (201, "{}".to_owned())];
    let (url, requests) = fake::serve(answers).await;
    let (recorder, run) = recorder(&ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1"), "n1");
    task::spawn(run);
    warn(&recorder, "a");
    warn(&recorder, "b");
    let requests = requests.await.expect("answers");
    let lines: Vec<&str> = requests.iter().map(|request| &*request.line).collect();
    let find = |name| format!("GET /api/v1/namespaces/ns/services?&fieldSelector=metadata.name%3D{name}");
    assert_eq!(
        lines,
        [&*find("a"), &*find("b"), "POST /api/v1/namespaces/ns/events"],
        "a Service that is gone has no Event"
    );
    let body = &requests[2].body;
    let object = json!({ "apiVersion": "v1", "kind": "Service", "namespace": "ns", "name": "b", "uid": "u1" });
    assert_eq!(body["involvedObject"], object);
    assert_eq!(body["source"], json!({ "component": "netd-proxy", "host": "n1" }));
}
