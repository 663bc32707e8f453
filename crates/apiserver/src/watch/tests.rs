use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use tokio::task::JoinHandle;

use super::*;
use crate::Address;
use crate::fake;

#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
struct Node {
    #[serde(default, deserialize_with = "crate::metadata::slim")]
    metadata: ObjectMeta,
}

const OBJECT: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"n1","resourceVersion":"2"}}}"#;
const WHOLE: &str = r#"{"type":"BOOKMARK","object":{"kind":"Node","apiVersion":"v1","metadata":{"resourceVersion":"3","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
const PAGE: &str = r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"3"},"items":[{"metadata":{"name":"n1","resourceVersion":"2"}}]}"#;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A watch that begins with a list.
    List,
    Page,
    /// The version that the API server has reached.
    Version,
    /// A watch from this version.
    Watch(u64),
}

impl Asked {
    fn by(request: &fake::Request) -> Self {
        let (_, query) = request.line.split_once('?').expect("a query");
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok());
        match version {
            _ if query.starts_with("limit=1&") || query == "limit=1" => Self::Version,
            _ if query.contains("limit=") => Self::Page,
            _ if query.contains("sendInitialEvents=true") => Self::List,
            version => Self::Watch(version.expect("a version")),
        }
    }
}

/// A watch of a server that gives one answer to each request and closes the connection; and what it was asked for.
async fn watch_of(answers: Vec<(u16, String)>) -> (Watch<Node>, JoinHandle<Vec<Asked>>) {
    let (url, requests) = fake::serve(answers).await;
    let asked = tokio::spawn(async move { requests.await.expect("answers").iter().map(Asked::by).collect() });
    let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
    (watch(&server, Selection::default()), asked)
}

/// The next event, as a word.
async fn next(watch: &mut Watch<Node>) -> String {
    match watch.next().await {
        WatchEvent::Init => "Init".to_owned(),
        WatchEvent::Object(node) => format!("Object {}", node.metadata.name.unwrap_or_default()),
        WatchEvent::InitDone => "InitDone".to_owned(),
        WatchEvent::Deleted(node) => format!("Deleted {}", node.metadata.name.unwrap_or_default()),
        WatchEvent::Trouble(error) => format!("Trouble {:?}", error.code()),
        WatchEvent::Recovered => "Recovered".to_owned(),
    }
}

async fn until(watch: &mut Watch<Node>, wanted: &str) {
    while next(watch).await != wanted {}
}

fn lines(lines: &[&str]) -> (u16, String) {
    (200, lines.join("\n"))
}

#[tokio::test]
async fn a_list_and_the_changes_after_it() {
    let changed = r#"{"type":"MODIFIED","object":{"metadata":{"name":"n1","resourceVersion":"4"}}}"#;
    let odd = r#"{"type":"ADDED","object":{"metadata":{"annotations":7}}}"#;
    let gone = r#"{"type":"DELETED","object":{"metadata":{"name":"n1","resourceVersion":"5"}}}"#;
    let (mut watch, _asked) = watch_of(vec![lines(&[OBJECT, WHOLE, changed, odd, gone])]).await;
    assert_eq!(next(&mut watch).await, "Init");
    assert_eq!(watch.version(), None, "nothing is known");
    assert_eq!(next(&mut watch).await, "Object n1");
    assert_eq!(watch.version(), None, "the list is not whole");
    assert_eq!(next(&mut watch).await, "InitDone");
    assert_eq!(watch.version(), Some(2));
    assert_eq!(next(&mut watch).await, "Object n1");
    assert_eq!(watch.version(), Some(4));
    assert_eq!(next(&mut watch).await, "Deleted n1", "an object that cannot be read is left out");
    assert_eq!(watch.version(), Some(5));
}

#[tokio::test]
async fn a_list_that_broke_with_the_server_is_begun_as_a_watch_again() {
    let (broken, whole) = (lines(&[OBJECT]), lines(&[OBJECT, WHOLE]));
    let (mut watch, asked) = watch_of(vec![broken.clone(), broken.clone(), whole.clone(), broken, whole]).await;
    until(&mut watch, "InitDone").await;
    watch.force_relist();
    until(&mut watch, "InitDone").await;
    assert_eq!(asked.await.expect("answers"), [Asked::List; 5], "none was asked for in pages");
}

#[tokio::test]
async fn a_server_that_ends_each_list_is_asked_for_pages_for_that_list() {
    let broken = lines(&[OBJECT]);
    let (mut watch, asked) =
        watch_of(vec![broken.clone(), broken.clone(), broken, lines(&[PAGE]), lines(&[OBJECT, WHOLE])]).await;
    until(&mut watch, "InitDone").await;
    watch.force_relist();
    until(&mut watch, "InitDone").await;
    let expected = [Asked::List, Asked::List, Asked::List, Asked::Page, Asked::List];
    assert_eq!(asked.await.expect("answers"), expected);
}

#[tokio::test]
async fn a_server_that_refuses_such_lists_is_asked_for_pages_from_then_on() {
    for code in [400, 422] {
        let refusal = fake::refusal(code, "sendInitialEvents is forbidden");
        let (mut watch, asked) = watch_of(vec![refusal, lines(&[PAGE]), lines(&[PAGE])]).await;
        for expected in ["Init", "Object n1", "InitDone"] {
            assert_eq!(next(&mut watch).await, expected, "{code}");
        }
        watch.force_relist();
        until(&mut watch, "InitDone").await;
        assert_eq!(asked.await.expect("answers"), [Asked::List, Asked::Page, Asked::Page], "{code}");
    }
}

/// An answer that says that the server has reached this version.
fn at(version: u64) -> (u16, String) {
    (200, format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#))
}

#[tokio::test]
async fn a_server_that_was_away_and_has_not_reached_the_version_is_listed_again() {
    let whole = lines(&[OBJECT, WHOLE]);
    let away = fake::refusal(503, "it begins");
    let (mut watch, asked) = watch_of(vec![whole.clone(), away, at(2), whole]).await;
    until(&mut watch, "InitDone").await;
    // The connection ends with the list, long before its time.
    assert_eq!(next(&mut watch).await, "Trouble Some(503)");
    assert_eq!(next(&mut watch).await, "Init", "3 was the version of the bookmark, and is in the future now");
    until(&mut watch, "InitDone").await;
    assert_eq!(asked.await.expect("answers"), [Asked::List, Asked::Version, Asked::Version, Asked::List]);
}

#[tokio::test]
async fn a_server_that_was_away_and_has_reached_the_version_is_asked_for_changes_since() {
    let changed = r#"{"type":"MODIFIED","object":{"metadata":{"name":"n1","resourceVersion":"10"}}}"#;
    for version in [3, 9] {
        let away = fake::refusal(503, "it begins");
        let answers = vec![lines(&[OBJECT, WHOLE]), away, at(version), lines(&[changed])];
        let (mut watch, asked) = watch_of(answers).await;
        until(&mut watch, "InitDone").await;
        assert_eq!(next(&mut watch).await, "Trouble Some(503)");
        assert_eq!(next(&mut watch).await, "Recovered", "{version}");
        assert_eq!(next(&mut watch).await, "Object n1", "{version}");
        assert_eq!(asked.await.expect("answers"), [Asked::List, Asked::Version, Asked::Version, Asked::Watch(3)]);
    }
}

#[tokio::test]
async fn a_version_that_is_too_old_is_no_trouble() {
    let event = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}}"#;
    for too_old in [lines(&[event]), fake::refusal(410, "too old resource version")] {
        let whole = lines(&[OBJECT, WHOLE]);
        let (mut watch, _asked) = watch_of(vec![whole.clone(), at(3), too_old, whole]).await;
        until(&mut watch, "InitDone").await;
        assert_eq!(next(&mut watch).await, "Init");
        until(&mut watch, "InitDone").await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_without_the_version_is_listed_at_once() {
    let away = fake::refusal(503, "it begins");
    let too_old = fake::refusal(410, "too old resource version");
    let whole = lines(&[OBJECT, WHOLE]);
    let answers = vec![whole.clone(), away.clone(), away, at(3), too_old.clone(), whole, at(3), too_old];
    let (mut watch, asked) = watch_of(answers).await;
    until(&mut watch, "InitDone").await;
    until(&mut watch, "Init").await;
    assert_eq!(watch.gate.next_wait(), Duration::from_millis(400), "the list has waited as a first try does");
    until(&mut watch, "InitDone").await;
    until(&mut watch, "Init").await;
    assert!(watch.gate.next_wait() > Duration::from_secs(1), "one that forgets again and again has to wait");
    asked.await.expect("answers");
}

#[tokio::test]
async fn an_answer_that_is_not_of_the_api_is_trouble() {
    let page = lines(&["<html>Welcome</html>"]);
    let (mut watch, _asked) = watch_of(vec![page, lines(&[OBJECT, WHOLE])]).await;
    assert_eq!(next(&mut watch).await, "Init");
    assert!(matches!(watch.next().await, WatchEvent::Trouble(ApiError::Garbage(_))));
    until(&mut watch, "InitDone").await;
}

#[tokio::test]
async fn a_server_that_wants_rest_has_it() {
    let busy = (429, r#"{"code":429,"message":"busy","details":{"retryAfterSeconds":2}}"#.to_owned());
    let (mut watch, _asked) = watch_of(vec![busy, lines(&[OBJECT, WHOLE])]).await;
    until(&mut watch, "Trouble Some(429)").await;
    assert_eq!(watch.wait, Some(Duration::from_secs(2)));
    until(&mut watch, "InitDone").await;
}

#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Service)]
struct Service {
    #[serde(default, deserialize_with = "crate::metadata::slim")]
    metadata: ObjectMeta,
}

#[tokio::test]
async fn objects_of_all_namespaces_are_selected_by_labels_and_fields() {
    for (fields, labels, expected) in [
        ("", "", ""),
        ("", "app=web,!canary", "labelSelector=app%3Dweb%2C%21canary"),
        ("metadata.name=s1", "app", "fieldSelector=metadata.name%3Ds1&labelSelector=app"),
    ] {
        // Both ways to list: as the beginning of a watch, and in pages.
        let (url, requests) = fake::serve(vec![fake::refusal(400, "no"), lines(&[PAGE])]).await;
        let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
        let selection = Selection { fields: fields.to_owned(), labels: labels.to_owned(), spread: 0 };
        let mut watch: Watch<Service> = watch(&server, selection);
        while !matches!(watch.next().await, WatchEvent::InitDone) {}
        for request in requests.await.expect("answers") {
            let (path, query) = request.line.split_once('?').expect("a query");
            assert_eq!(path, "GET /api/v1/services");
            let selectors: Vec<_> = query.split('&').filter(|pair| pair.contains("Selector=")).collect();
            assert_eq!(selectors.join("&"), expected, "{}", request.line);
        }
    }
}
