//! What is told of this node, to an API server that answers as a test has thought of.

use serde_json::Value;

use super::super::fake::{self, Request};
use super::super::object::{Node, Object as _};
use super::super::{KubeStore, Store as _};
use super::*;
use crate::problem::Kind;

const EVENTS: &str = "POST /api/v1/namespaces/default/events";
const STATUS: &str = "PATCH /api/v1/nodes/n1/status";

fn created() -> (u16, String) {
    (201, "{}".to_owned())
}

fn problem(subject: &str) -> Problem {
    Problem::new(Kind::LeaseLost, subject, "is lost")
}

fn warning(subject: &str) -> Notice {
    Notice::Problem(problem(subject))
}

fn over(subject: &str) -> Notice {
    Notice::Resolved(problem(subject))
}

/// The own Node, whose condition may say something.
fn node(version: u64, unavailable: Option<&str>) -> Value {
    let mut node = fake::node(version, "10.244.1.0/24", &json!({}));
    if let Some(status) = unavailable {
        node["status"]["conditions"] = json!([{ "type": "NetworkUnavailable", "status": status }]);
    }
    node
}

/// The store of a daemon on `n1` whose API server is at an address.
fn store(url: &str) -> KubeStore {
    let store = fake::store(url, true);
    store.shared.own.is(&"n1".parse().expect("a name"));
    hears(&store, &node(5, None));
    store
}

fn hears(store: &KubeStore, node: &Value) {
    let asked = store.shared.own.asks();
    assert!(store.shared.own.answered(asked, Some(Node::read(&node.to_string()).expect("a Node"))));
}

/// What was asked once the store has told all of it, in the order in which that was.
async fn told(answers: Vec<(u16, String)>, notices: &[Notice]) -> Vec<Request> {
    let (url, asked) = fake::serve(answers).await;
    let store = store(&url);
    notices.iter().cloned().for_each(|notice| store.notify(notice));
    asked.await.expect("it has answered")
}

/// The subjects of the Events.
fn messages(asked: &[Request]) -> Vec<&str> {
    let texts = asked.iter().map(|request| request.body["message"].as_str().unwrap_or_default());
    texts.map(|text| text.strip_suffix(" is lost").unwrap_or(text)).collect()
}

#[tokio::test]
async fn a_warning_is_an_event_of_the_node() {
    let asked = told(vec![created()], &[warning("a")]).await;
    let Request { line, body } = &asked[0];
    assert_eq!(line, EVENTS);
    let object = json!({ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1" });
    assert_eq!(body["involvedObject"], object);
    assert_eq!(
        (&body["type"], &body["reason"], &body["message"]),
        (&json!("Warning"), &json!("LeaseLost"), &json!("a is lost"))
    );
    assert_eq!(body["source"], json!({ "component": "netd", "host": "n1" }));
}

#[tokio::test]
async fn a_warning_is_told_again_only_when_it_was_over() {
    let notices = [warning("a"), warning("a"), over("a"), warning("a"), warning("b"), warning("b")];
    let asked = told(vec![created(), created(), created()], &notices).await;
    assert_eq!(messages(&asked), ["a", "a", "b"]);
}

#[tokio::test]
async fn a_long_text_is_cut_to_what_the_api_takes() {
    let asked = told(vec![created()], &[warning(&"ü".repeat(2000))]).await;
    assert_eq!(messages(&asked), ["ü".repeat(1000)]);
}

#[tokio::test]
async fn what_fails_for_a_moment_is_told_later() {
    let answers = vec![fake::refusal(503, "it begins"), created(), created()];
    let asked = told(answers, &[warning("a"), warning("b")]).await;
    assert_eq!(messages(&asked), ["a", "a", "b"]);
}

#[tokio::test]
async fn what_is_over_by_then_is_not_told_any_more() {
    let answers = vec![fake::refusal(503, "it begins"), created()];
    let asked = told(answers, &[warning("a"), over("a"), warning("b")]).await;
    assert_eq!(messages(&asked), ["a", "b"]);
}

#[tokio::test]
async fn what_is_refused_for_good_is_let_go() {
    let answers = vec![fake::refusal(403, "forbidden"), created()];
    let asked = told(answers, &[warning("a"), warning("b")]).await;
    assert_eq!(messages(&asked), ["a", "b"], "another one is tried all the same");
}

#[tokio::test]
async fn of_much_that_waits_the_last_is_told() {
    let mut answers = vec![fake::refusal(503, "it begins")];
    answers.extend(vec![created(); WAITING]);
    let texts: Vec<String> = (0..WAITING + 4).map(|number| number.to_string()).collect();
    let asked = told(answers, &texts.iter().map(|text| warning(text)).collect::<Vec<_>>()).await;
    assert_eq!(messages(&asked[1..]), texts[4..]);
}

#[tokio::test]
async fn the_condition_is_set_once_and_before_events() {
    let answers = vec![(200, node(6, Some("False")).to_string()), created()];
    let asked = told(answers, &[Notice::Ready, Notice::Ready, warning("a")]).await;
    let lines: Vec<&str> = asked.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [STATUS, EVENTS]);
    let condition = &asked[0].body["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("NetworkUnavailable"), &json!("False")));
}

#[tokio::test]
async fn the_condition_is_set_again_on_another_node_and_on_one_that_was_put_back() {
    let set = |node: &Value| (200, node.to_string());
    let mut other = node(8, Some("False"));
    other["metadata"]["uid"] = "u2".into();
    let (url, asked) = fake::serve(vec![
        set(&node(6, Some("False"))),
        created(),
        set(&other),
        created(),
        set(&other),
        created(),
        created(),
    ])
    .await;
    let store = store(&url);
    // Each warning ends what was to be done before it.
    let steps = [
        ("first", None),
        ("another", Some(json!({ "metadata": { "name": "n1", "uid": "u2", "resourceVersion": "7" } }))),
        ("put back", Some(json!({ "metadata": { "name": "n1", "uid": "u2", "resourceVersion": "3" } }))),
    ];
    for (text, seen) in steps {
        if let Some(node) = seen {
            hears(&store, &node);
        }
        store.notify(Notice::Ready);
        store.notify(warning(text));
        let is_set = async {
            while store.shared.own.node().is_none_or(|node| node.unavailable.is_none()) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(Duration::from_secs(30), is_set).await.unwrap_or_else(|_| panic!("{text}: it is not set"));
    }
    store.shared.herald(Job::Look);
    store.notify(warning("the same"));
    let asked = asked.await.expect("it has answered");
    let lines: Vec<&str> = asked.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [STATUS, EVENTS, STATUS, EVENTS, STATUS, EVENTS, EVENTS]);
}

#[tokio::test]
async fn a_condition_that_is_as_it_should_be_is_left() {
    let (url, asked) = fake::serve(vec![created()]).await;
    let store = store(&url);
    hears(&store, &node(6, Some("False")));
    store.notify(Notice::Ready);
    store.notify(warning("a"));
    let asked = asked.await.expect("it has answered");
    assert_eq!(messages(&asked), ["a"], "nothing else was asked");
}

#[tokio::test]
async fn the_last_words_are_of_the_node_and_do_not_take_long() {
    let (url, asked) = fake::serve(vec![(200, node(5, None).to_string()), created()]).await;
    let name = "n1".parse().expect("a name");
    fake::store(&url, true).notify_before_exit(Some(&name), problem("a")).await;
    let asked = asked.await.expect("it has answered");
    assert_eq!(asked[0].line, "GET /api/v1/nodes/n1");
    assert_eq!(asked[1].body["involvedObject"]["uid"], "u1");
    let begun = Instant::now();
    fake::store("http://127.0.0.1:1", true).notify_before_exit(Some(&name), problem("a")).await;
    fake::store("http://127.0.0.1:1", true).notify_before_exit(None, problem("a")).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}
