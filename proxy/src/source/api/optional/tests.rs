use apiserver::{Address, fake};

use super::*;
use crate::source::objects::ServiceCidrObject;

const OBJECT: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"kubernetes","resourceVersion":"2"}}}"#;
const WHOLE: &str = r#"{"type":"BOOKMARK","object":{"kind":"ServiceCIDR","apiVersion":"networking.k8s.io/v1","metadata":{"resourceVersion":"3","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

/// The kinds of the group: those of an API server before 1.33, or with `ServiceCIDR`.
fn kinds(has_kind: bool) -> (u16, String) {
    let name = if has_kind { "servicecidrs" } else { "ingresses" };
    let resource = format!(r#"{{"name":"{name}","singularName":"","namespaced":false,"kind":"K","verbs":["list"]}}"#);
    let list = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"networking.k8s.io/v1","resources":["#;
    (200, format!("{list}{resource}]}}"))
}

/// The first events of a watch of a server that gives these answers, as words.
async fn events(answers: Vec<(u16, String)>, count: usize) -> Vec<String> {
    let (url, _requests) = fake::serve(answers).await;
    let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
    let mut watch = OptionalWatch::<ServiceCidrObject>::new(&server, Selection::default());
    let mut events = Vec::new();
    while events.len() < count {
        events.push(match watch.next().await {
            WatchEvent::Init => "Init".to_owned(),
            WatchEvent::Object(_) => "Object".to_owned(),
            WatchEvent::InitDone => "InitDone".to_owned(),
            WatchEvent::Trouble(error) => format!("Trouble {:?}", error.code()),
            other => format!("{other:?}"),
        });
    }
    events
}

#[tokio::test]
async fn a_kind_that_is_not_there_has_an_empty_list() {
    for code in [403, 404] {
        let refusal = fake::refusal(code, "no");
        assert_eq!(events(vec![refusal, kinds(false)], 2).await, ["Init", "InitDone"], "{code}");
    }
}

#[tokio::test]
async fn a_kind_that_is_there_and_cannot_be_read_is_trouble() {
    let refusal = || fake::refusal(403, "no");
    assert_eq!(events(vec![refusal(), kinds(true)], 2).await, ["Init", "Trouble Some(403)"]);
    let away = fake::refusal(503, "it begins");
    assert_eq!(events(vec![refusal(), away.clone()], 2).await, ["Init", "Trouble Some(403)"], "nobody knows");
    assert_eq!(events(vec![away], 2).await, ["Init", "Trouble Some(503)"]);
}

#[tokio::test]
async fn a_kind_that_goes_with_an_older_api_server_takes_its_objects_along() {
    let gone = || fake::refusal(404, "the server could not find the requested resource");
    let answers = vec![(200, format!("{OBJECT}\n{WHOLE}")), gone(), kinds(false), gone(), kinds(false)];
    assert_eq!(events(answers, 5).await, ["Init", "Object", "InitDone", "Init", "InitDone"]);
}
