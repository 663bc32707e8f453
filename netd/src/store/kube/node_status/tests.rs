//! The condition and the corrections, written to an API server that answers as a test says.

use apiserver::fake::{Request, refusal, serve};
use serde_json::{Value, json};

use super::super::{KubeStore, Notice, fake};
use super::*;
use crate::problem::{Kind, Problem};

const STATUS: &str = "PATCH /api/v1/nodes/n1/status";

/// The own Node, with a status of its condition.
fn node(uid: &str, version: u64, unavailable: Option<&str>) -> Value {
    let mut node = fake::node_object(version, "10.244.1.0/24", &json!({}));
    node["metadata"]["uid"] = uid.into();
    if let Some(status) = unavailable {
        node["status"]["conditions"] = json!([{ "type": "NetworkUnavailable", "status": status }]);
    }
    node
}

fn answer(uid: &str, version: u64) -> (u16, String) {
    (200, node(uid, version, Some("False")).to_string())
}

/// The store of a daemon on `n1`, whose Node is at version 5.
fn store(url: &str) -> KubeStore {
    let store = fake::store(url, true);
    store.shared.own.set_name(&"n1".parse().expect("a name"));
    take(&store, node("u1", 5, None));
    store
}

fn take(store: &KubeStore, node: Value) {
    let mark = store.shared.own.mark();
    assert!(store.shared.own.take_answer(mark, Some(fake::read(node))));
    store.shared.node_status.changed.notify_one();
}

/// Waits until the Node has the condition.
async fn available(store: &KubeStore) {
    let available = async {
        while store.shared.own.node().is_none_or(|node| node.unavailable.is_none()) {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(30), available).await.expect("the condition is set");
}

fn lines(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.line.as_str()).collect()
}

#[tokio::test]
async fn the_condition_is_set_once_the_network_is_ready() {
    let (url, requests) = serve(vec![refusal(503, "it begins"), answer("u1", 6)]).await;
    let store = store(&url);
    assert!(store.shared.own.node().expect("a Node").unavailable.is_none());
    store.notify(Notice::Ready);
    available(&store).await;
    let requests = requests.await.expect("answers");
    assert_eq!(lines(&requests), [STATUS; 2], "a write that fails is repeated");
    let condition = &requests[0].body["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("NetworkUnavailable"), &json!("False")));
    assert_eq!(condition["reason"], "NetdIsUp");
}

#[tokio::test]
async fn the_condition_is_set_again_on_another_node_and_on_one_of_a_restored_etcd() {
    let (url, requests) = serve(vec![answer("u1", 6), answer("u2", 8), answer("u2", 4)]).await;
    let store = store(&url);
    store.notify(Notice::Ready);
    available(&store).await;
    for version in [7, 3] {
        take(&store, node("u2", version, None));
        available(&store).await;
    }
    assert_eq!(lines(&requests.await.expect("answers")), [STATUS; 3]);
}

#[tokio::test]
async fn a_condition_that_is_set_is_not_written() {
    // The one answer is for the Node that comes after it.
    let (url, requests) = serve(vec![answer("u2", 8)]).await;
    let store = store(&url);
    take(&store, node("u1", 6, Some("False")));
    store.notify(Notice::Ready);
    task_runs().await;
    take(&store, node("u2", 7, None));
    available(&store).await;
    assert_eq!(lines(&requests.await.expect("answers")), [STATUS]);
}

/// Lets the other tasks of this thread run.
async fn task_runs() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_last_event_is_of_the_node_and_has_a_time_limit() {
    let problem = || Problem::new(Kind::LeaseLost, "a", "is lost");
    let (url, requests) = serve(vec![(200, node("u1", 5, None).to_string()), (201, "{}".to_owned())]).await;
    let name = "n1".parse().expect("a name");
    fake::store(&url, true).notify_before_exit(Some(&name), &problem()).await;
    let requests = requests.await.expect("answers");
    assert_eq!(lines(&requests), ["GET /api/v1/nodes/n1", "POST /api/v1/namespaces/default/events"]);
    assert_eq!(requests[1].body["involvedObject"]["uid"], "u1");
    let begun = time::Instant::now();
    fake::store("http://127.0.0.1:1", true).notify_before_exit(Some(&name), &problem()).await;
    fake::store("http://127.0.0.1:1", true).notify_before_exit(None, &problem()).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}
