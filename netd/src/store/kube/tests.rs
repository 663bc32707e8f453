use network::model::BackendType;
use tokio::time::{sleep, timeout};

use super::*;

/// A store whose API server nobody asks, with the own Node at this version.
fn store(version: &str) -> KubeStore {
    let store = fake::store("http://127.0.0.1:1", false);
    store.shared.own.heard(Some(node(version)));
    store
}

fn node(version: &str) -> object::Node {
    object::Node { version: version.to_owned(), ..object::Node::default() }
}

fn lease() -> Arc<Lease> {
    let node = "n2".parse().expect("a name");
    let (subnets, public, data) = (PerFamily::none(), PerFamily::none(), PerFamily::none());
    Arc::new(Lease { node, subnets, public, backend: BackendType::HostGw, data, encapsulations: None })
}

#[tokio::test]
async fn who_has_written_reads_what_was_written_before_it() {
    let store = store("20");
    store.shared.reached.send_replace(Some(0));
    store.shared.has_reached(Some("19"));
    let (read, ()) = tokio::join!(timeout(Duration::from_secs(30), store.leases()), async {
        // It has nothing to read yet.
        assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "19 is older than the own write");
        store.shared.learns(&lease());
        store.shared.has_reached(Some("20"));
        sleep(Duration::ZERO).await;
    });
    let read = read.expect("it has been reached").expect("leases");
    assert_eq!(read, [lease()], "what came with it is in it");
}

#[tokio::test]
async fn a_list_of_an_etcd_that_was_put_back_is_all_that_is_waited_for() {
    let store = store("20");
    store.shared.reached.send_replace(Some(20));
    let asked = store.shared.own.asks();
    store.shared.own.answered(asked, Some(node("7")));
    store.shared.has_reached(Some("9"));
    let read = timeout(Duration::from_millis(100), store.leases()).await;
    assert_eq!(read.expect("nothing newer is coming").expect("leases"), []);
}

#[tokio::test]
async fn before_the_first_list_nothing_is_known() {
    let store = store("20");
    store.shared.own.heard(None);
    store.shared.reached.send_replace(Some(0));
    assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "nobody has listed them");
    store.shared.has_reached(None);
    assert!(timeout(Duration::from_millis(20), store.leases()).await.is_err(), "a list is under way");
    store.shared.has_reached(Some("7"));
    assert_eq!(store.leases().await.expect("leases"), []);
}

#[tokio::test]
async fn a_command_that_follows_nothing_asks_the_api_server() {
    assert!(store("20").leases().await.is_err(), "there is none");
}
