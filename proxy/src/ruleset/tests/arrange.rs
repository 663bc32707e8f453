//! The order of endpoints.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::super::arrange;

fn endpoints(numbers: &[u8]) -> Vec<SocketAddr> {
    numbers.iter().map(|number| SocketAddr::from(([10, 0, 0, *number], 80))).collect()
}

#[test]
fn an_endpoint_that_comes_is_the_last() {
    assert_eq!(arrange(&endpoints(&[1, 3]), &endpoints(&[1, 2, 3])), endpoints(&[1, 3, 2]));
}

#[test]
fn the_last_endpoint_takes_the_number_of_one_that_is_gone() {
    assert_eq!(arrange(&endpoints(&[1, 2, 3, 4]), &endpoints(&[1, 3, 4])), endpoints(&[1, 4, 3]));
    assert_eq!(arrange(&endpoints(&[1, 2, 3, 4]), &endpoints(&[1, 2])), endpoints(&[1, 2]));
}

#[test]
fn a_new_endpoint_takes_the_number_of_one_that_is_gone() {
    assert_eq!(arrange(&endpoints(&[1, 2, 3]), &endpoints(&[1, 3, 9])), endpoints(&[1, 9, 3]));
}

proptest! {
    #[test]
    fn every_endpoint_has_one_number_and_few_change(
        former in proptest::collection::btree_set(0_u8..40, 0..20),
        wanted in proptest::collection::btree_set(0_u8..40, 0..20),
    ) {
        let list = |set: &BTreeSet<u8>| endpoints(&set.iter().copied().collect::<Vec<_>>());
        let (former, wanted) = (list(&former), list(&wanted));
        let order = arrange(&former, &wanted);
        prop_assert_eq!(order.iter().collect::<BTreeSet<_>>(), wanted.iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(order.len(), wanted.len());
        let gone = former.iter().filter(|endpoint| !wanted.contains(endpoint)).count();
        let moved = former.iter().enumerate().filter(|(number, endpoint)| {
            wanted.contains(endpoint) && order.get(*number) != Some(endpoint)
        }).count();
        prop_assert!(moved <= gone, "{moved} endpoints got another number where {gone} went");
    }
}
