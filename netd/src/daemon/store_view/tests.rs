use network::fixtures::{address, node_name, prefix};
use network::model::{BackendType, EncapsulationSupport};

use super::*;

/// Node `n`'s lease, with a public address that ends in `host`.
fn lease(n: u8, host: u8) -> Arc<Lease> {
    let subnet = prefix(&format!("10.244.{n}.0/24"));
    Arc::new(Lease {
        node: node_name(n),
        subnets: dataplane::types::PerFamily { v4: Some(subnet), v6: None },
        public: dataplane::types::PerFamily { v4: Some(address(&format!("192.168.1.{host}"))), v6: None },
        backend: BackendType::Vxlan,
        data: dataplane::types::PerFamily::none(),
        encapsulations: None,
    })
}

fn listed(leases: &[Arc<Lease>]) -> StoreView {
    let mut view = StoreView::default();
    view.begin_list();
    for lease in leases {
        view.insert(Arc::clone(lease));
    }
    assert!(view.end_list(), "the first list");
    view
}

fn news(view: &mut StoreView) -> Vec<NodeName> {
    view.take_news().into_keys().collect()
}

#[test]
fn a_list_makes_news_of_what_differs_and_leaves_the_view_as_it_is_until_its_end() {
    let mut view = listed(&[lease(2, 2), lease(3, 3)]);
    assert!(!view.has_news(), "the first list is for a full run");
    view.begin_list();
    view.insert(lease(2, 22));
    view.insert(lease(4, 4));
    assert_eq!(view.leases.len(), 2);
    assert_eq!(view.leases[&node_name(2)], lease(2, 2));
    assert!(!view.end_list());
    assert_eq!(news(&mut view), [node_name(2), node_name(3), node_name(4)]);
    view.insert(lease(4, 4));
    assert!(!view.has_news(), "the same again");
}

#[test]
fn a_read_does_not_undo_an_event_that_came_after_its_beginning() {
    let mut view = listed(&[lease(1, 1), lease(2, 2), lease(3, 3), lease(4, 4)]);
    view.begin_read();
    view.remove(node_name(2), &node_name(1));
    view.insert(lease(3, 33));
    let read = view.end_read(vec![lease(1, 99), lease(2, 2), lease(3, 3), lease(4, 44)], &node_name(1));
    assert_eq!(read, ReadResult { changed: true, agrees: true });
    assert_eq!(view.leases.values().cloned().collect::<Vec<_>>(), [lease(1, 1), lease(3, 33), lease(4, 44)]);
    assert_eq!(news(&mut view), [node_name(2), node_name(3), node_name(4)]);
    view.begin_read();
    let read = view.end_read(vec![lease(3, 33), lease(4, 44)], &node_name(1));
    assert_eq!(read, ReadResult { changed: false, agrees: true });
}

#[test]
fn a_read_that_disagrees_with_an_event_about_encapsulations_is_not_to_be_relied_on() {
    let mut view = listed(&[lease(2, 2)]);
    view.begin_read();
    let changed = Lease { encapsulations: Some(EncapsulationSupport::default()), ..(*lease(2, 2)).clone() };
    view.insert(Arc::new(changed.clone()));
    assert!(!view.end_read(vec![lease(2, 2)], &node_name(1)).agrees);
    view.begin_read();
    assert!(view.end_read(vec![Arc::new(changed)], &node_name(1)).agrees, "the next one is");
}
