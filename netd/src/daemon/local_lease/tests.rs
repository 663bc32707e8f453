use std::path::Path;
use std::sync::Arc;

use dataplane::types::Prefix;
use network::fixtures::{address, node_name, prefix};
use network::model::BackendType;

use super::*;
use crate::daemon::publisher::ReadError;
use crate::problem::Kind;
use crate::store::Store;
use crate::store::dir::DirStore;

/// Node 1's lease, with a public address that ends in `host`.
fn lease(host: u8) -> Lease {
    let subnet: Prefix = prefix("10.244.1.0/24");
    Lease {
        node: node_name(1),
        subnets: PerFamily { v4: Some(subnet), v6: None },
        public: PerFamily { v4: Some(address(&format!("192.168.1.{host}"))), v6: None },
        backend: BackendType::HostGw,
        data: PerFamily::none(),
        encapsulations: None,
    }
}

fn conf() -> NetConf {
    NetConf::parse(r#"{ "Network": "10.244.0.0/16", "Backend": { "Type": "host-gw" } }"#).expect("net-conf").0
}

/// Node 1's, in a store of this directory.
fn own(room: &Path) -> LocalLease {
    let store = Arc::new(Store::Dir(DirStore::new(room.to_owned(), None, Duration::from_hours(1))));
    let request = LeaseRequest {
        node: node_name(1),
        public: lease(1).public,
        backend: BackendType::HostGw,
        data: PerFamily::none(),
        previous: PerFamily::none(),
        elsewhere: Vec::new(),
    };
    LocalLease::new(Publisher::start(&store), request, &lease(1), Instant::now())
}

fn kinds(own: &LocalLease) -> Vec<Kind> {
    own.condition.problems.iter().map(|problem| problem.kind).collect()
}

/// Another machine has this node's name, while a read of the peers' leases is under way. However it ends, the name stays taken until
/// the lease is this machine's again.
#[tokio::test]
async fn a_read_that_ends_does_not_give_the_name_back() {
    let room = tempfile::tempdir().expect("temporary directory");
    let mut own = own(room.path());
    let mut view = StoreView::default();
    assert!(!own.proceed(Some(&lease(2)), &conf(), &mut view), "nothing is written");
    assert_eq!(kinds(&own), [Kind::NodeNameTaken]);
    for answer in [Answer::Read(vec![Arc::new(lease(2))]), Answer::ReadFailed(ReadError::Late)] {
        view.begin_read();
        own.answered(answer, &mut view, false);
        assert_eq!(kinds(&own), [Kind::NodeNameTaken]);
    }
    own.answered(Answer::Written(lease(1)), &mut view, false);
    assert_eq!(kinds(&own), []);
}

/// The lease is taken away after it was written and before this node knows that. It is put back.
#[tokio::test]
async fn a_lease_that_is_lost_while_it_is_written_is_put_back() {
    let room = tempfile::tempdir().expect("temporary directory");
    let mut own = own(room.path());
    let mut view = StoreView::default();
    let stored = |view: &StoreView| view.leases.get(&node_name(1)).map(|lease| Lease::clone(lease));
    view.insert(lease(2).into());
    own.addresses.push(lease(2).public);
    assert!(own.proceed(stored(&view).as_ref(), &conf(), &mut view), "it is written");
    own.take_event();
    view.remove(node_name(1), &node_name(1));
    own.answered(Answer::Written(lease(1)), &mut view, false);
    assert!(own.proceed(stored(&view).as_ref(), &conf(), &mut view), "it is put back");
    own.answered(Answer::Written(lease(1)), &mut view, false);
    assert!(!own.proceed(stored(&view).as_ref(), &conf(), &mut view), "the store has it");
}
