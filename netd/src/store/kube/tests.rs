use dataplane::types::PerFamily;
use network::model::BackendType;
use tokio::time::{sleep, timeout};

use super::*;

/// A store that sends no requests, with the own Node at this version.
fn store(version: &str) -> KubeStore {
    let store = fake::store("http://127.0.0.1:1", false);
    store.shared.own.take_event(Some(node(version)));
    store
}

fn node(version: &str) -> object::Node {
    object::Node { version: version.parse().ok(), ..object::Node::default() }
}

fn lease() -> Arc<Lease> {
    let node = "n2".parse().expect("a name");
    let (subnets, public, data) = (PerFamily::none(), PerFamily::none(), PerFamily::none());
    Arc::new(Lease { node, subnets, public, backend: BackendType::HostGw, data, encapsulations: None })
}

#[tokio::test]
async fn leases_wait_for_the_own_write() {
    let store = store("20");
    store.shared.reached.send_replace(Some(0));
    store.shared.set_reached(Some(19));
    let (read, ()) = tokio::join!(timeout(Duration::from_secs(30), store.leases()), async {
        // It has nothing to read yet.
        assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "19 is older than the own write");
        store.shared.set_lease(&lease());
        store.shared.set_reached(Some(20));
        sleep(Duration::ZERO).await;
    });
    let read = read.expect("the version is reached").expect("leases");
    assert_eq!(read, [lease()], "what came with it is in it");
}

#[tokio::test]
async fn a_list_of_a_restored_etcd_is_enough() {
    let store = store("20");
    store.shared.reached.send_replace(Some(20));
    let mark = store.shared.own.mark();
    store.shared.own.take_answer(mark, Some(node("7")));
    store.shared.set_reached(Some(9));
    let read = timeout(Duration::from_millis(100), store.leases()).await;
    assert_eq!(read.expect("nothing newer is coming").expect("leases"), []);
}

#[tokio::test]
async fn leases_wait_for_the_first_list() {
    let store = store("20");
    store.shared.own.take_event(None);
    store.shared.reached.send_replace(Some(0));
    assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "nobody has listed them");
    store.shared.set_reached(None);
    assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "a list is under way");
    store.shared.set_reached(Some(7));
    assert_eq!(store.leases().await.expect("leases"), []);
}

#[tokio::test]
async fn a_command_without_a_watch_asks_the_api_server() {
    assert!(store("20").leases().await.is_err(), "there is none");
}
