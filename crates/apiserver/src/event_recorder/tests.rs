use serde_json::json;
use tokio::task;

use super::*;
use crate::Address;
use crate::fake::{self, Request};

const REMEDIES: Remedies = Remedies { config: "", unreachable: "", forbidden: "", other_server: "" };

fn created() -> (u16, String) {
    (201, "{}".to_owned())
}

fn warning(text: &str) -> Warning {
    Warning { reason: "OfATest".to_owned(), subject: text.to_owned(), text: text.to_owned(), target: () }
}

fn over(recorder: &EventRecorder, text: &str) {
    recorder.over("OfATest".to_owned(), text.to_owned());
}

fn node() -> Regarding {
    let text = |text: &str| Some(text.to_owned());
    let object = ObjectReference {
        api_version: text("v1"),
        kind: text("Node"),
        name: text("n1"),
        uid: text("u1"),
        ..ObjectReference::default()
    };
    Regarding { object, component: "netd", host: "n1".to_owned() }
}

/// The requests of a recorder with these orders.
async fn requests(answers: Vec<(u16, String)>, orders: impl FnOnce(&EventRecorder)) -> Vec<Request> {
    let (url, requests) = fake::serve(answers).await;
    let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
    let (recorder, run) = EventRecorder::new(server, |()| async { Ok(Some(node())) }, warn_of(&REMEDIES));
    orders(&recorder);
    task::spawn(run);
    requests.await.expect("answers")
}

fn messages(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.body["message"].as_str().unwrap_or_default()).collect()
}

fn all(warnings: &[&str]) -> impl FnOnce(&EventRecorder) {
    move |recorder| warnings.iter().for_each(|text| recorder.warn(warning(text)))
}

#[tokio::test]
async fn a_warning_is_an_event_of_the_object() {
    let requests = requests(vec![created()], all(&["a"])).await;
    let Request { line, body } = &requests[0];
    assert_eq!(line, "POST /api/v1/namespaces/default/events");
    let object = json!({ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1" });
    assert_eq!(body["involvedObject"], object);
    assert_eq!((&body["type"], &body["reason"], &body["message"]), (&json!("Warning"), &json!("OfATest"), &json!("a")));
    assert_eq!(body["source"], json!({ "component": "netd", "host": "n1" }));
    assert_eq!((&body["metadata"]["name"], &body["count"]), (&json!(EVENT), &json!(1)));
}

/// The name of the Event of the warning `a`.
const EVENT: &str = "n1.8f9096297c7199c8";

#[tokio::test]
async fn a_warning_is_recorded_again_only_after_it_was_over() {
    let requests = requests(vec![created(), created(), created()], |recorder| {
        all(&["a", "a"])(recorder);
        over(recorder, "a");
        all(&["b", "b", "a", "a"])(recorder);
    });
    let requests = requests.await;
    assert_eq!(messages(&requests[..2]), ["a", "b"]);
    assert_eq!(requests[2].line, format!("PATCH /api/v1/namespaces/default/events/{EVENT}"));
    assert_eq!(requests[2].body["count"], 2);
}

#[tokio::test]
async fn an_event_that_is_gone_is_made_anew_with_its_count() {
    let answers = vec![created(), fake::refusal(404, "gone"), created()];
    let requests = requests(answers, |recorder| {
        all(&["a"])(recorder);
        over(recorder, "a");
        all(&["a"])(recorder);
    });
    let requests = requests.await;
    assert_eq!((messages(&requests[2..]), &requests[2].body["count"]), (vec!["a"], &json!(2)));
}

#[tokio::test]
async fn what_another_node_has_recorded_is_one_event() {
    let requests = requests(vec![fake::refusal(409, "it is there"), created()], all(&["a"])).await;
    assert_eq!(requests[1].line, format!("PATCH /api/v1/namespaces/default/events/{EVENT}"));
    let fields: Vec<&String> = requests[1].body.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["lastTimestamp"], "the count is that of who has made it");
}

#[test]
fn the_rate_is_bounded() {
    let now = Instant::now();
    let mut budget = Budget::default();
    let (most, period) = RATE;
    assert!((0..most).all(|_| budget.spend(now).is_ok()), "so many at once");
    assert_eq!(budget.spend(now), Err(now + period), "and then one in each period");
    assert_eq!(budget.spend(now + period), Ok(()));
    assert!(budget.spend(now + period).is_err());
    assert!((0..most).all(|_| budget.spend(now + 2 * most * period).is_ok()), "what is not used is there again");
}

#[tokio::test]
async fn a_long_text_is_cut_to_what_the_api_takes() {
    let long = "ü".repeat(2000);
    assert_eq!(messages(&requests(vec![created()], all(&[&long])).await), ["ü".repeat(1000)]);
}

#[tokio::test]
async fn a_post_that_fails_now_is_repeated_later() {
    let answers = vec![fake::refusal(503, "it begins"), created(), created()];
    assert_eq!(messages(&requests(answers, all(&["a", "b"])).await), ["a", "a", "b"]);
}

#[tokio::test]
async fn of_many_waiting_warnings_the_last_are_recorded() {
    let mut answers = vec![fake::refusal(503, "it begins")];
    answers.extend(vec![created(); MAX_WAITING]);
    let texts: Vec<String> = (0..MAX_WAITING + 4).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(messages(&requests(answers, all(&texts)).await[1..]), texts[4..]);
}

#[tokio::test]
async fn after_a_refusal_the_next_warning_is_tried() {
    let answers = vec![fake::refusal(403, "forbidden"), created()];
    assert_eq!(messages(&requests(answers, all(&["a", "b"])).await), ["a", "b"]);
}
