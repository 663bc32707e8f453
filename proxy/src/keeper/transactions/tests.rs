use dataplane::nft::{Element as Held, Key, SetFlags, TableFamily, TableId, Value};

use super::{Op, steps};
use crate::ruleset::{Element, SetName};

/// An op on the element with a number.
fn op(set: SetName, number: u32, is_there: bool, is_desired: bool) -> Op {
    let is_range = set == SetName::ServiceCidrs;
    Op::Element {
        table: TableId::new(TableFamily::Ip, "netd-proxy"),
        element: Element { set, key: Key::from(Value::Integer(number)) },
        flags: if is_range { SetFlags::INTERVAL } else { SetFlags::default() },
        is_there,
        desired: is_desired.then(Held::default),
    }
}

#[test]
fn what_moves_is_removed_once_it_is_elsewhere() {
    let (old, new) = (SetName::ClusterIps, SetName::Restricted);
    let ops = [op(old, 1, true, false), op(new, 1, false, true), op(old, 2, true, true)];
    assert_eq!(steps(&ops), [vec![1, 2], vec![0]]);
}

#[test]
fn a_range_is_removed_with_the_addition_of_others() {
    let ranges = SetName::ServiceCidrs;
    let ops = [op(ranges, 1, true, false), op(ranges, 2, false, true)];
    assert_eq!(steps(&ops), [vec![0, 1], vec![]]);
    assert_eq!(steps(&ops[..1]), [vec![], vec![0]], "none is added");
}
