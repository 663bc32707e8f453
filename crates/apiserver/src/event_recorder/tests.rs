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
    Warning { reason: "OfATest".to_owned(), subject: text.to_owned(), text: text.to_owned() }
}

fn node() -> ObjectReference {
    let text = |text: &str| Some(text.to_owned());
    ObjectReference {
        api_version: text("v1"),
        kind: text("Node"),
        name: text("n1"),
        uid: text("u1"),
        ..ObjectReference::default()
    }
}

/// The requests of a recorder with these orders.
async fn requests(answers: Vec<(u16, String)>, orders: impl FnOnce(&EventRecorder)) -> Vec<Request> {
    let (url, requests) = fake::serve(answers).await;
    let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
    let (recorder, run) = EventRecorder::new(server, "netd", &REMEDIES, || Some(node()));
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
    assert_eq!(body["metadata"]["generateName"], "n1.");
}

#[tokio::test]
async fn a_warning_is_recorded_again_only_after_it_was_over() {
    let requests = requests(vec![created(), created(), created()], |recorder| {
        all(&["a", "a"])(recorder);
        recorder.over(warning("a"));
        all(&["b", "b", "a", "a"])(recorder);
    });
    assert_eq!(messages(&requests.await), ["a", "b", "a"]);
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
