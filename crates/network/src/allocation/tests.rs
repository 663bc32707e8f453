use crate::net_conf::NetConf;
use dataplane::types::Family;
use proptest::prelude::*;

use super::*;

fn range(text: &str) -> NetworkRange {
    let conf = NetConf::parse(text).expect(text).0;
    *conf.networks.iter().next().expect("one family").1
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

#[test]
fn a_wanted_subnet_is_given_when_it_suits_and_is_free() {
    let range = range(r#"{"Network":"10.3.0.0/16"}"#);
    let give = |taken: &[&str], wanted: &str| {
        next_free(&range, taken.iter().map(|text| prefix(text)), [prefix(wanted)], 0).expect("room").to_string()
    };
    assert_eq!(give(&[], "10.3.6.0/24"), "10.3.6.0/24");
    assert_eq!(give(&["10.3.6.0/24"], "10.3.6.0/24"), "10.3.1.0/24", "taken");
    assert_eq!(give(&["10.3.6.64/26"], "10.3.6.0/24"), "10.3.1.0/24", "partly taken");
    assert_eq!(give(&[], "10.4.1.0/24"), "10.3.1.0/24", "outside of the network");
    assert_eq!(give(&[], "10.3.6.0/25"), "10.3.1.0/24", "of another length");
    assert_eq!(give(&[], "10.3.0.0/24"), "10.3.1.0/24", "before SubnetMin");
    assert_eq!(
        give(&["10.3.0.0/20", "10.4.0.0/14", "fd00::/8"], "fd00::/64"),
        "10.3.16.0/24",
        "wide leases are passed over"
    );
}

#[test]
fn the_last_subnet_is_given_and_then_there_are_none() {
    let range = range(r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.7.0"}"#);
    let mut taken = Vec::new();
    for seed in 0..3 {
        taken.push(next_free(&range, taken.clone(), [], seed).expect("room for three"));
    }
    taken.sort();
    assert_eq!(taken, ["10.3.5.0/24", "10.3.6.0/24", "10.3.7.0/24"].map(prefix));
    let error = next_free(&range, taken, [], 7).expect_err("all are taken").to_string();
    for part in ["out of subnets", "10.3.0.0/16", "SubnetLen 24", "3 leases", "larger Network"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_last_address_of_a_family_is_no_trap() {
    let range =
        range(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"ffff:ffff:ffff:fffc::/62","IPv6SubnetLen":64}"#);
    let taken = ["ffff:ffff:ffff:fffd::/64", "ffff:ffff:ffff:fffe::/64"].map(prefix);
    assert_eq!(next_free(&range, taken, [], 1).expect("one is left"), prefix("ffff:ffff:ffff:ffff::/64"));
    next_free(&range, taken.into_iter().chain([range.max]), [], 1).expect_err("none is left");
}

#[test]
fn thousands_of_leases_leave_room_for_one_more() {
    for text in [r#"{"Network":"10.0.0.0/8"}"#, r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#] {
        let range = range(text);
        let family = range.network.family();
        let taken =
            |n: u128| Prefix::new(types::address(family, range.min.first() + n * range.step()), range.subnet_len);
        let taken: Vec<Prefix> = (0..5000).filter_map(taken).collect();
        let subnet = next_free(&range, taken.iter().copied(), [], 42).expect("room");
        assert!(!taken.contains(&subnet));
    }
}

proptest! {
    #[test]
    fn what_is_given_is_free_and_in_range(
        taken in prop::collection::vec((0_u32..1 << 16, 18_u8..=32), 0..200),
        wanted in prop::collection::vec((0_u32..1 << 16, 18_u8..=32), 0..3),
        seed in any::<u64>(),
        len in 18_u8..=30,
    ) {
        let range = range(&format!(r#"{{"Network":"10.3.0.0/16","SubnetLen":{len}}}"#));
        let make = |(offset, len): (u32, u8)| {
            Prefix::new(types::address(Family::V4, range.network.first() + u128::from(offset)), len)
        };
        let taken: Vec<Prefix> = taken.into_iter().filter_map(make).collect();
        let wanted: Vec<Prefix> = wanted.into_iter().filter_map(make).collect();
        let given = next_free(&range, taken.iter().copied(), wanted.iter().copied(), seed);
        prop_assert_eq!(&next_free(&range, taken.iter().copied(), wanted, seed), &given, "the seed alone decides");
        let is_free = |subnet: Prefix| !taken.iter().any(|taken| taken.overlaps(subnet));
        if let Ok(subnet) = given {
            prop_assert!(range.suits(subnet) && is_free(subnet));
        } else {
            let mut first = range.min.first();
            while first <= range.max.first() {
                let subnet = Prefix::new(types::address(Family::V4, first), len).expect("subnet");
                prop_assert!(!is_free(subnet), "{} is free", subnet);
                first += range.step();
            }
        }
    }
}
