use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use dataplane::types::Prefix;
use network::fixtures::{address, node_name, prefix};
use network::model::{BackendType, Encapsulation};

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

/// A write fails that says that this node sends no packets any more; then it is to send them again, as the store still has it.
#[tokio::test]
async fn a_write_that_failed_is_made_up_for_where_the_store_has_the_lease() {
    let room = tempfile::tempdir().expect("temporary directory");
    let (mut own, mut view) = (own(room.path()), StoreView::default());
    let with = |sends: &[Encapsulation]| {
        let support =
            EncapsulationSupport { sends: sends.iter().copied().collect(), ..EncapsulationSupport::default() };
        Lease { encapsulations: Some(support), ..lease(1) }
    };
    let (all, none) = (with(&[Encapsulation::Direct]), with(&[]));
    own.advertisement = OwnAdvertisement::new(&all);
    view.insert(all.clone().into());
    own.advertisement.want(none, false);
    assert!(own.proceed(Some(&all), &conf(), &mut view), "it is written");
    let refusal = Problem::new(Kind::LeaseNotPublished, "this node's lease", "cannot be published for its peers");
    own.answered(Answer::WriteFailed(refusal), &mut view, false);
    own.retry = own.retry.map(|(_, wait)| (Duration::ZERO, wait));
    own.advertisement.want(all.clone(), true);
    assert_eq!(own.advertisement.may_send, Some(BTreeSet::new()), "peers may have read that it sends none");
    assert!(own.proceed(Some(&all), &conf(), &mut view), "it is written once more");
    own.answered(Answer::Written(all.clone()), &mut view, false);
    assert!(!own.proceed(Some(&all), &conf(), &mut view), "the peers' leases are read");
    let trigger = own.answered(Answer::Read(vec![Arc::new(all.clone())]), &mut view, false);
    assert_eq!(trigger, Some(Trigger::StoreChanged), "a full run follows");
    assert_eq!(own.advertisement.may_send, Some(BTreeSet::from([Encapsulation::Direct])));
    assert!(!own.proceed(Some(&all), &conf(), &mut view));
    assert_eq!(own.next(), None, "nothing is left to do");
}

/// There is nothing to ask the store for when the time to ask again has come.
#[tokio::test]
async fn a_retry_without_a_request_ends() {
    let room = tempfile::tempdir().expect("temporary directory");
    let (mut own, mut view) = (own(room.path()), StoreView::default());
    own.retry = Some((Duration::ZERO, Duration::from_secs(1)));
    assert!(!own.proceed(Some(&lease(1)), &conf(), &mut view));
    assert_eq!(own.next(), None);
}
