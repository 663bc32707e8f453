//! What is asked of the API server, and how its refusals are taken.

use std::net::TcpListener;

use super::*;
use crate::store::kube::fake::Request;

const GET: &str = "GET /api/v1/nodes/n1";
const PATCH: &str = "PATCH /api/v1/nodes/n1/status";

/// More than any answer takes here.
const LONG: Duration = Duration::from_secs(30);

/// An answer that is this Node.
fn answer(version: u64, annotations: &Value) -> (u16, String) {
    (200, fake::node(version, RANGE, annotations).to_string())
}

/// Tells the lease to an API server that answers so; what came of it, and what was asked.
async fn tell(known: Option<Node>, answers: Vec<(u16, String)>) -> (Own, Result<(), StoreError>, Vec<Request>) {
    let (url, asked) = fake::serve(answers).await;
    let (own, options) = (Own::default(), fake::options(&url));
    own.heard(known);
    let told = own.tell(&Api::new(&options), &options, &lease(), LONG).await;
    (own, told, asked.await.expect("it has answered"))
}

fn lines(asked: &[Request]) -> Vec<&str> {
    asked.iter().map(|request| request.line.as_str()).collect()
}

#[tokio::test]
async fn only_what_is_not_there_is_written() {
    let mut there = annotations();
    there[format!("{PREFIX}backend-type")] = "vxlan".into();
    there[format!("{PREFIX}netd-sends")] = "[]".into();
    let (own, told, asked) = tell(Some(node(5, RANGE, &there)), vec![answer(6, &annotations())]).await;
    told.expect("it is told");
    let changes = json!({ format!("{PREFIX}backend-type"): "host-gw", format!("{PREFIX}netd-sends"): null });
    let expected = Request { line: PATCH.to_owned(), body: json!({ "metadata": { "annotations": changes } }) };
    assert_eq!(asked, [expected]);
    assert_eq!(own.node(), Some(node(6, RANGE, &annotations())), "the answer is known");
    let (_, told, asked) = tell(Some(node(6, RANGE, &annotations())), Vec::new()).await;
    told.expect("it is told already");
    assert_eq!(asked, [], "nobody was asked");
}

#[tokio::test]
async fn a_node_that_is_not_known_is_read_first() {
    let (_, told, asked) = tell(None, vec![answer(5, &json!({})), answer(6, &annotations())]).await;
    told.expect("it is told");
    assert_eq!(lines(&asked), [GET, PATCH]);
}

#[tokio::test]
async fn a_conflict_is_answered_by_reading_anew() {
    let answers = vec![fake::refusal(409, "modified"), answer(7, &json!({})), answer(8, &annotations())];
    let (_, told, asked) = tell(Some(node(5, RANGE, &json!({}))), answers).await;
    told.expect("it is told");
    assert_eq!(lines(&asked), [PATCH, GET, PATCH]);
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again() {
    let garbage = (200, "<html>".to_owned());
    let answers = vec![fake::refusal(500, "leader changed"), garbage, answer(8, &annotations())];
    let (_, told, asked) = tell(Some(node(5, RANGE, &json!({}))), answers).await;
    told.expect("it is told");
    assert_eq!(lines(&asked), [PATCH, PATCH, PATCH]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_not_asked_for_again() {
    let (_, told, asked) = tell(Some(node(5, RANGE, &json!({}))), vec![fake::refusal(403, "forbidden")]).await;
    let said = chain(&told.expect_err("it is refused"));
    assert!(said.starts_with("cannot write Node n1: ") && said.contains("apply the ClusterRole"), "{said}");
    assert_eq!(lines(&asked), [PATCH]);
}

#[tokio::test]
async fn an_api_server_that_wants_rest_has_it() {
    let busy = (429, r#"{"code":429,"message":"busy","details":{"retryAfterSeconds":120}}"#.to_owned());
    let (url, asked) = fake::serve(vec![busy]).await;
    let (own, options) = (Own::default(), fake::options(&url));
    own.heard(Some(node(5, RANGE, &json!({}))));
    let api = Api::new(&options);
    own.tell(&api, &options, &lease(), LONG).await.expect_err("it is refused for longer than there is time");
    assert_eq!(lines(&asked.await.expect("it has answered")), [PATCH]);
    let error = own.tell(&api, &options, &lease(), LONG).await.expect_err("it is not asked");
    assert!(chain(&error).contains("does not want to be asked yet"), "{}", chain(&error));
}

#[tokio::test]
async fn nobody_is_kept_waiting_for_longer_than_there_is_time() {
    // Connections are made, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (own, options) =
        (Own::default(), fake::options(&format!("http://{}", silent.local_addr().expect("an address"))));
    own.heard(Some(node(5, RANGE, &json!({}))));
    let begun = Instant::now();
    let told = own.tell(&Api::new(&options), &options, &lease(), Duration::from_millis(300)).await;
    let said = chain(&told.expect_err("nobody answers"));
    assert!(said.contains("has not answered"), "{said}");
    assert!(begun.elapsed() < LONG, "it took {:?}", begun.elapsed());
    assert_eq!(own.known().wanted, Some(lease()), "it is what is to be told all the same");
}

#[tokio::test]
async fn nothing_is_written_to_a_node_that_has_another_range() {
    let (_, told, asked) = tell(Some(node(5, "10.244.9.0/24", &json!({}))), Vec::new()).await;
    let error = told.expect_err("it is another range");
    assert!(matches!(error, StoreError::Allocate { .. }), "{error:?}");
    let said = chain(&error);
    assert!(said.contains("podCIDR 10.244.9.0/24 now") && said.contains("drain the node"), "{said}");
    assert_eq!(asked, []);
}

#[tokio::test]
async fn what_peers_see_is_corrected_once_there_is_something_to_see() {
    let mut overwritten = annotations();
    overwritten[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    let (url, asked) = fake::serve(vec![answer(6, &overwritten)]).await;
    let (own, options) = (Own::default(), fake::options(&url));
    own.heard(Some(node(5, RANGE, &overwritten)));
    let api = Api::new(&options);
    own.correct(&api, &options, LONG).await.expect("nothing is wanted yet");
    own.known().wanted = Some(lease());
    own.correct(&api, &options, LONG).await.expect("it is corrected");
    let asked = asked.await.expect("it has answered");
    let seen = json!({ format!("{PREFIX}public-ip"): "203.0.113.7" });
    let expected = Request { line: PATCH.to_owned(), body: json!({ "metadata": { "annotations": seen } }) };
    assert_eq!(asked, [expected]);
}

#[tokio::test]
async fn everything_of_netds_is_taken_off_and_nothing_else() {
    let mut there = annotations();
    there[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    there["of-nobody"] = "".into();
    let (url, asked) = fake::serve(vec![answer(5, &there), answer(6, &json!({}))]).await;
    let (own, options) = (Own::default(), fake::options(&url));
    own.clear(&Api::new(&options), &options, &name()).await.expect("it is cleared");
    let asked = asked.await.expect("it has answered");
    assert_eq!(lines(&asked), [GET, PATCH]);
    let taken = annotations().as_object().expect("annotations").keys().map(|key| (key.clone(), Value::Null)).collect();
    assert_eq!(asked[1].body["metadata"]["annotations"], Value::Object(taken));
}

#[tokio::test]
async fn a_node_that_is_gone_or_says_nothing_needs_no_clearing() {
    for first in [fake::refusal(404, "not found"), answer(5, &json!({ "of-nobody": "" }))] {
        let (url, asked) = fake::serve(vec![first]).await;
        let (own, options) = (Own::default(), fake::options(&url));
        own.clear(&Api::new(&options), &options, &name()).await.expect("there is nothing to do");
        assert_eq!(lines(&asked.await.expect("it has answered")), [GET]);
    }
}

#[tokio::test]
async fn a_node_that_nobody_knows_says_whose_name_may_be_wrong() {
    let (url, _asked) = fake::serve(vec![fake::refusal(404, "not found")]).await;
    let (own, options) = (Own::default(), fake::options(&url));
    let error = own.read(&Api::new(&options), &name()).await.expect_err("there is none");
    let said = chain(&unreadable(&name(), error));
    assert!(said.contains("kubectl get nodes") && said.contains("404"), "{said}");
}
