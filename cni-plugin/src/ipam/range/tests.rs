use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{RangeRequest, RangeSet};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn request(subnet: &str, start: Option<&str>, end: Option<&str>) -> RangeRequest {
    RangeRequest { subnet: subnet.parse().expect("a subnet"), start: start.map(ip), end: end.map(ip), gateway: None }
}

fn set(requests: &[RangeRequest]) -> RangeSet {
    RangeSet::all(&[requests.to_vec()]).expect("a valid set").remove(0)
}

fn order(set: &RangeSet, last: Option<&str>) -> Vec<String> {
    set.candidates(last.map(ip)).map(|(_, address)| address.to_string()).collect()
}

#[test]
fn round_robin_wraps_and_leaves_out_what_is_no_pods() {
    let small = set(&[request("10.9.0.0/29", None, None)]);
    assert_eq!(order(&small, None), ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    assert_eq!(order(&small, Some("10.9.0.5")), ["10.9.0.6", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"]);
    assert_eq!(order(&small, Some("10.8.0.1"))[0], "10.9.0.2", "a foreign last address starts anew");
    let six = set(&[request("fd00::/126", None, None)]);
    assert_eq!(order(&six, None), ["fd00::2", "fd00::3"], "IPv6 has no broadcast address");
}

#[test]
fn ranges_of_a_set_follow_each_other() {
    let two = set(&[
        request("10.9.0.0/24", Some("10.9.0.10"), Some("10.9.0.11")),
        request("10.8.0.0/24", Some("10.8.0.0"), Some("10.8.0.3")),
    ]);
    assert_eq!(order(&two, Some("10.9.0.10")), ["10.9.0.11", "10.8.0.2", "10.8.0.3", "10.9.0.10"]);
    assert_eq!(order(&two, Some("10.8.0.3")), ["10.9.0.10", "10.9.0.11", "10.8.0.2", "10.8.0.3"]);
    assert_eq!(two.to_string(), "10.9.0.10-10.9.0.11,10.8.0.1-10.8.0.3");
}

#[test]
fn wrong_ranges_are_told_as_host_local_tells_them() {
    let fault = |sets: &[Vec<RangeRequest>]| RangeSet::all(sets).expect_err("wrong ranges").to_string();
    let one = |subnet, start, end| fault(&[vec![request(subnet, start, end)]]);
    assert_eq!(one("10.9.0.0/31", None, None), "invalid range set 0: Network 10.9.0.0/31 too small to allocate from");
    assert_eq!(
        one("10.9.0.1/24", None, None),
        "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.9.0.0"
    );
    assert_eq!(
        one("10.9.0.0/24", Some("10.8.0.1"), None),
        "invalid range set 0: RangeStart 10.8.0.1 not in network 10.9.0.0/24"
    );
    assert!(one("10.9.0.0/24", Some("10.9.0.9"), Some("10.9.0.8")).contains("after RangeEnd"));
    let (v4, v6) = (request("10.9.0.0/24", None, None), request("fd00::/64", None, None));
    assert_eq!(fault(&[vec![v4, v6]]), "invalid range set 0: mixed address families");
    assert_eq!(fault(&[vec![v4], vec![v6], vec![v4]]), "range set 0 overlaps with 2");
    let twice = "invalid range set 0: subnet 10.9.0.1-10.9.0.254 overlaps with 10.9.0.1-10.9.0.254";
    assert_eq!(fault(&[vec![v4, v4]]), twice);
    assert_eq!(fault(&[vec![]]), "invalid range set 0: empty range set");
}

proptest! {
    #[test]
    fn each_address_comes_once_and_the_last_one_last(len in 20u8..=30, host in any::<u32>(), start in 0u32..600) {
        let base = 0x0a09_0000;
        let first = std::net::Ipv4Addr::from_bits(base + start.min((1 << (32 - len)) - 2));
        let range = request(&format!("10.9.0.0/{len}"), Some(&first.to_string()), None);
        prop_assume!(RangeSet::all(&[vec![range]]).is_ok());
        let set = set(&[range]);
        let last = IpAddr::from(std::net::Ipv4Addr::from_bits(base + host % (1 << (32 - len))));
        let all: Vec<_> = set.candidates(Some(last)).map(|(_, address)| address).collect();
        let unique: BTreeSet<_> = all.iter().collect();
        prop_assert_eq!(unique.len(), all.len());
        prop_assert!(all.iter().all(|address| set.range_of(*address).is_some()));
        if unique.contains(&last) {
            prop_assert_eq!(all.last(), Some(&last));
        }
    }
}
