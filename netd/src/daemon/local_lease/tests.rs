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

/// Another machine has this node's name, while a read of the peers' leases is under way. However it ends, the name stays taken until
/// the lease is this machine's again.
#[tokio::test]
async fn a_read_that_ends_does_not_give_the_name_back() {
    let room = tempfile::tempdir().expect("temporary directory");
    let store = Arc::new(Store::Dir(DirStore::new(room.path().to_owned(), None, Duration::from_hours(1))));
    let conf =
        NetConf::parse(r#"{ "Network": "10.244.0.0/16", "Backend": { "Type": "host-gw" } }"#).expect("net-conf").0;
    let request = LeaseRequest {
        node: node_name(1),
        public: lease(1).public,
        backend: BackendType::HostGw,
        data: PerFamily::none(),
        previous: PerFamily::none(),
        elsewhere: Vec::new(),
    };
    let mut own = LocalLease::new(Publisher::start(&store), request, &lease(1), Instant::now());
    let mut view = StoreView::default();
    assert!(!own.proceed(Some(&lease(2)), &conf, &mut view), "nothing is written");
    let kinds = |own: &LocalLease| own.condition.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&own), [Kind::NodeNameTaken]);
    for answer in [Answer::Read(vec![Arc::new(lease(2))]), Answer::ReadFailed(ReadError::Late)] {
        view.begin_read();
        own.answered(answer, &mut view, false);
        assert_eq!(kinds(&own), [Kind::NodeNameTaken]);
    }
    own.answered(Answer::Written(lease(1)), &mut view, false);
    assert_eq!(kinds(&own), []);
}
