//! The requests of a write, and the refusals of the API server.

use std::net::TcpListener;

use apiserver::fake::{Request, refusal, serve};

use super::*;

const GET: &str = "GET /api/v1/nodes/n1";
const PATCH: &str = "PATCH /api/v1/nodes/n1/status";

/// More than any answer takes here.
const LONG: Duration = Duration::from_secs(30);

/// An answer that is this Node.
fn answer(version: u64, annotations: &Value) -> (u16, String) {
    (200, fake::node_object(version, RANGE, annotations).to_string())
}

/// Publishes the lease to an API server that answers so; the result, and the requests.
async fn publish(known: Option<Node>, answers: Vec<(u16, String)>) -> (OwnNode, Result<(), StoreError>, Vec<Request>) {
    let (url, asked) = serve(answers).await;
    let own = fake::own(&url);
    own.take_event(known);
    let published = own.publish(&lease(), LONG).await;
    (own, published, asked.await.expect("it has answered"))
}

fn lines(asked: &[Request]) -> Vec<&str> {
    asked.iter().map(|request| request.line.as_str()).collect()
}

#[tokio::test]
async fn only_annotations_that_differ_are_written() {
    let mut there = annotations();
    there[format!("{PREFIX}backend-type")] = "vxlan".into();
    there[format!("{PREFIX}netd-sends")] = "[]".into();
    let (own, published, asked) = publish(Some(node(5, RANGE, &there)), vec![answer(6, &annotations())]).await;
    published.expect("it is published");
    let changes = json!({ format!("{PREFIX}backend-type"): "host-gw", format!("{PREFIX}netd-sends"): null });
    let expected = Request { line: PATCH.to_owned(), body: json!({ "metadata": { "annotations": changes } }) };
    assert_eq!(asked, [expected]);
    assert_eq!(own.node(), Some(node(6, RANGE, &annotations())), "the answer is known");
    let (_, published, asked) = publish(Some(node(6, RANGE, &annotations())), Vec::new()).await;
    published.expect("the Node has the lease");
    assert_eq!(asked, [], "nobody was asked");
}

#[tokio::test]
async fn a_node_that_is_not_known_is_read_first() {
    let (_, published, asked) = publish(None, vec![answer(5, &json!({})), answer(6, &annotations())]).await;
    published.expect("it is published");
    assert_eq!(lines(&asked), [GET, PATCH]);
}

#[tokio::test]
async fn after_a_conflict_the_node_is_read_again() {
    let answers = vec![refusal(409, "modified"), answer(7, &json!({})), answer(8, &annotations())];
    let (_, published, asked) = publish(Some(node(5, RANGE, &json!({}))), answers).await;
    published.expect("it is published");
    assert_eq!(lines(&asked), [PATCH, GET, PATCH]);
}

#[tokio::test]
async fn a_write_that_fails_is_repeated() {
    let garbage = (200, "<html>".to_owned());
    let answers = vec![refusal(500, "leader changed"), garbage, answer(8, &annotations())];
    let (_, published, asked) = publish(Some(node(5, RANGE, &json!({}))), answers).await;
    published.expect("it is published");
    assert_eq!(lines(&asked), [PATCH, PATCH, PATCH]);
}

#[tokio::test]
async fn a_write_without_the_right_to_it_is_not_repeated() {
    let (_, published, asked) = publish(Some(node(5, RANGE, &json!({}))), vec![refusal(403, "forbidden")]).await;
    let said = chain(&published.expect_err("it is refused"));
    assert!(said.starts_with("cannot write Node n1: ") && said.contains("apply the ClusterRole"), "{said}");
    assert_eq!(lines(&asked), [PATCH]);
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let busy = (429, r#"{"code":429,"message":"busy","details":{"retryAfterSeconds":120}}"#.to_owned());
    let (url, asked) = serve(vec![busy]).await;
    let own = fake::own(&url);
    own.take_event(Some(node(5, RANGE, &json!({}))));
    own.publish(&lease(), LONG).await.expect_err("it is refused for longer than there is time");
    assert_eq!(lines(&asked.await.expect("it has answered")), [PATCH]);
    let error = own.publish(&lease(), LONG).await.expect_err("it is not asked");
    assert!(chain(&error).contains("does not want to be asked yet"), "{}", chain(&error));
}

#[tokio::test]
async fn a_write_ends_at_its_time_limit() {
    // Connections are made, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let own = fake::own(&url);
    own.take_event(Some(node(5, RANGE, &json!({}))));
    let begun = Instant::now();
    let published = own.publish(&lease(), Duration::from_millis(300)).await;
    let said = chain(&published.expect_err("nobody answers"));
    assert!(said.contains("has not answered"), "{said}");
    assert!(begun.elapsed() < LONG, "it took {:?}", begun.elapsed());
    assert_eq!(own.state().wanted, Some(lease()), "the lease is still wanted");
}

#[tokio::test]
async fn nothing_is_written_to_a_node_that_has_another_range() {
    let (_, published, asked) = publish(Some(node(5, "10.244.9.0/24", &json!({}))), Vec::new()).await;
    let error = published.expect_err("it is another range");
    assert!(matches!(error, StoreError::Allocate { .. }), "{error:?}");
    let said = chain(&error);
    assert!(said.contains("podCIDR 10.244.9.0/24 now") && said.contains("drain the node"), "{said}");
    assert_eq!(asked, []);
}

#[tokio::test]
async fn addresses_are_corrected_once_a_lease_is_wanted() {
    let mut overwritten = annotations();
    overwritten[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    let (url, asked) = serve(vec![answer(6, &overwritten)]).await;
    let own = fake::own(&url);
    own.take_event(Some(node(5, RANGE, &overwritten)));
    own.correct(LONG).await.expect("nothing is wanted yet");
    own.state().wanted = Some(lease());
    own.correct(LONG).await.expect("it is corrected");
    let asked = asked.await.expect("it has answered");
    let seen = json!({ format!("{PREFIX}public-ip"): "203.0.113.7" });
    let expected = Request { line: PATCH.to_owned(), body: json!({ "metadata": { "annotations": seen } }) };
    assert_eq!(asked, [expected]);
}

#[tokio::test]
async fn the_annotations_of_netd_are_removed_and_no_others() {
    let mut there = annotations();
    there[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    there["of-nobody"] = "".into();
    let (url, asked) = serve(vec![answer(5, &there), answer(6, &json!({}))]).await;
    let own = fake::own(&url);
    own.clear(&name()).await.expect("it is cleared");
    let asked = asked.await.expect("it has answered");
    assert_eq!(lines(&asked), [GET, PATCH]);
    let taken = annotations().as_object().expect("annotations").keys().map(|key| (key.clone(), Value::Null)).collect();
    assert_eq!(asked[1].body["metadata"]["annotations"], Value::Object(taken));
}

#[tokio::test]
async fn a_missing_node_or_one_without_annotations_needs_no_clearing() {
    for first in [refusal(404, "not found"), answer(5, &json!({ "of-nobody": "" }))] {
        let (url, asked) = serve(vec![first]).await;
        let own = fake::own(&url);
        own.clear(&name()).await.expect("there is nothing to do");
        assert_eq!(lines(&asked.await.expect("it has answered")), [GET]);
    }
}

#[tokio::test]
async fn an_unknown_node_names_the_flag_to_check() {
    let (url, _asked) = serve(vec![refusal(404, "not found")]).await;
    let error = fake::own(&url).read(&name()).await.expect_err("there is none");
    let said = chain(&unreadable(&name(), error));
    assert!(said.contains("kubectl get nodes") && said.contains("404"), "{said}");
}
