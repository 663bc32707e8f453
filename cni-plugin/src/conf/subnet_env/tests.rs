use dataplane::types::{Family, Mtu};
use proptest::prelude::*;

use super::parse;

const DUAL: &str = "FLANNEL_NETWORK=10.244.0.0/16,10.3.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
    FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

fn without(keys: &[&str]) -> String {
    let stays = |line: &&str| !keys.iter().any(|key| line.split('=').next() == Some(key));
    DUAL.split_inclusive('\n').filter(stays).collect()
}

#[test]
fn both_families_are_read() {
    let env = parse(DUAL.as_bytes()).expect("a whole file");
    let networks: Vec<_> = env.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.244.0.0/16", "10.3.0.0/16", "fd00:10:244::/56"]);
    assert_eq!(env.subnets.v4.map(|net| net.to_string()).as_deref(), Some("10.244.1.1/24"));
    assert_eq!(env.subnets.v6.map(|net| net.to_string()).as_deref(), Some("fd00:10:244:1::1/64"));
    assert_eq!(env.mtu, Mtu::try_from(1450).expect("an MTU"));
}

#[test]
fn one_family_suffices_and_line_ends_do_not_matter() {
    let only_v4 = without(&["FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"]).replace('\n', "\r\n") + "SOMETHING_ELSE\n";
    let env = parse(only_v4.as_bytes()).expect("IPv4 alone");
    assert_eq!(env.subnets.families().collect::<Vec<_>>(), [Family::V4]);
    let only_v6 = without(&["FLANNEL_NETWORK", "FLANNEL_SUBNET"]);
    let env = parse(only_v6.as_bytes()).expect("IPv6 alone");
    assert_eq!(env.subnets.families().collect::<Vec<_>>(), [Family::V6]);
}

#[test]
fn what_is_missing_is_named() {
    let missing = |text: &str| parse(text.as_bytes()).expect_err(text).to_string();
    assert_eq!(
        missing(""),
        "it is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_NETWORK, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, \
         FLANNEL_IPMASQ"
    );
    assert_eq!(missing(&without(&["FLANNEL_MTU"])), "it is missing FLANNEL_MTU");
    assert_eq!(
        missing(&without(&["FLANNEL_IPV6_SUBNET", "FLANNEL_IPMASQ"])),
        "it is missing FLANNEL_IPV6_SUBNET, FLANNEL_IPMASQ"
    );
}

#[test]
fn a_line_that_was_cut_short_is_an_error() {
    let cut = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET";
    let error = parse(cut.as_bytes()).expect_err("the second line has no value");
    assert_eq!(error.to_string(), "line 2 has FLANNEL_SUBNET without '='");
}

#[test]
fn wrong_values_are_errors() {
    for (from, to, text) in [
        ("10.244.1.1/24", "10.244.1.1", "FLANNEL_SUBNET is \"10.244.1.1\": it must be ADDRESS/LENGTH"),
        ("10.244.1.1/24", "fd00::1/64", "FLANNEL_SUBNET is \"fd00::1/64\": it must be IPv4"),
        ("10.244.0.0/16", "10.244.0.0/33", "FLANNEL_NETWORK is \"10.244.0.0/33\": "),
        ("FLANNEL_MTU=1450", "FLANNEL_MTU=many", "FLANNEL_MTU is \"many\": it must be a number of bytes"),
        ("FLANNEL_MTU=1450", "FLANNEL_MTU=9000000", "FLANNEL_MTU is \"9000000\": "),
    ] {
        let error = parse(DUAL.replace(from, to).as_bytes()).expect_err(to).to_string();
        assert!(error.starts_with(text), "{to}: {error}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&content);
    }

    #[test]
    fn every_part_of_a_file_is_an_error_or_the_whole(end in 0..DUAL.len()) {
        if let Ok(env) = parse(&DUAL.as_bytes()[..end]) {
            prop_assert_eq!(Ok(env), parse(DUAL.as_bytes()), "cut at {}", end);
        }
    }
}
