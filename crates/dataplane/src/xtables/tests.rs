//! The chain FORWARD of iptables-legacy: as `iptables-legacy` itself makes it, and as no kernel would ever give it.

use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::netns::scratch;
use crate::nft::{Policy, Side};
use crate::types::Prefix;

fn sh(line: &str) {
    let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    assert!(done.status.success(), "`{line}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
}

fn range(text: &str) -> Prefix {
    text.parse().expect("an address range")
}

/// Runs lines in a new namespace, `$T` in them being the command of the family, and reads the chain.
fn made_by(family: Family, lines: &str) -> Option<Forward> {
    let command = if family == Family::V4 { "iptables-legacy" } else { "ip6tables-legacy" };
    scratch(|| {
        sh(&format!("T={command}; {lines}"));
        forward(family).expect("a readable table")
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

/// A pod network of the family.
fn pods(family: Family) -> Prefix {
    range(if family == Family::V4 { "10.244.0.0/16" } else { "fd00:10::/48" })
}

#[test]
fn nothing_is_told_and_nothing_made_where_it_is_not_in_use() {
    for family in Family::BOTH {
        assert_eq!(made_by(family, "true"), None, "there is no table");
        let names =
            "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names 2>/dev/null || true";
        let after = scratch(|| {
            forward(family).expect("an answer");
            Command::new("sh").args(["-c", names]).output().expect("a shell").stdout
        });
        assert!(after.expect("a new namespace").is_empty(), "to look makes no table");
    }
}

#[test]
fn the_policy_is_read() {
    for family in Family::BOTH {
        for (line, policy) in [("$T -P FORWARD DROP", Policy::Drop), ("$T -P FORWARD ACCEPT", Policy::Accept)] {
            let expected = Forward { policy, closed: false, accepts: Vec::new() };
            assert_eq!(made_by(family, line), Some(expected), "{family}: {line}");
        }
    }
}

#[test]
fn what_is_accepted_by_one_address_alone_is_told() {
    for family in Family::BOTH {
        let (net, any) = (pods(family), family.default_route());
        let (from, to) = ((Side::Source, net), (Side::Destination, net));
        let cases = [
            (format!("$T -A FORWARD -s {net} -j ACCEPT"), vec![from]),
            (format!("$T -A FORWARD -d {net} -j ACCEPT"), vec![to]),
            (format!("$T -A FORWARD -s {net} -m comment --comment pods -j ACCEPT"), vec![from]),
            ("$T -A FORWARD -j ACCEPT".to_owned(), vec![(Side::Source, any), (Side::Destination, any)]),
            (format!("$T -A FORWARD -s {net} -d {net} -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD ! -s {net} -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -s {net} -i eth0 -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -s {net} -o eth+ -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -s {net} -p tcp -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -s {net} -m mark --mark 1 -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -s {net} -j DROP"), vec![]),
            (format!("$T -A INPUT -s {net} -j ACCEPT; $T -A OUTPUT -d {net} -j ACCEPT"), vec![]),
            (format!("$T -A FORWARD -m mark --mark 1; $T -A FORWARD -s {net} -j ACCEPT"), vec![from]),
            (format!("$T -N MINE; $T -A FORWARD -j MINE; $T -A MINE -s {net} -j ACCEPT"), vec![from]),
            (
                format!(
                    "$T -N ONE; $T -N TWO; $T -A FORWARD -j ONE; $T -A ONE -j TWO; $T -A TWO -s {net} -j ACCEPT; \
                     $T -A TWO -j RETURN; $T -A FORWARD -d {net} -j ACCEPT"
                ),
                vec![from, to],
            ),
            (format!("$T -N MINE; $T -A FORWARD -i eth0 -j MINE; $T -A MINE -s {net} -j ACCEPT"), vec![]),
            (format!("$T -N MINE; $T -A FORWARD -g MINE; $T -A MINE -s {net} -j ACCEPT"), vec![]),
        ];
        for (line, accepts) in cases {
            let line = format!("$T -P FORWARD DROP; {line}");
            let expected = Forward { policy: Policy::Drop, closed: false, accepts };
            assert_eq!(made_by(family, &line), Some(expected), "{family}: {line}");
        }
    }
}

#[test]
fn what_follows_on_a_rule_for_all_packets_is_not_reached() {
    for family in Family::BOTH {
        let net = pods(family);
        for end in ["DROP", "REJECT"] {
            let line =
                format!("$T -A FORWARD -s {net} -j ACCEPT; $T -A FORWARD -j {end}; $T -A FORWARD -d {net} -j ACCEPT");
            let expected = Forward { policy: Policy::Accept, closed: true, accepts: vec![(Side::Source, net)] };
            assert_eq!(made_by(family, &line), Some(expected), "{family}: {line}");
        }
    }
}

/// A rule of IPv4 without matches: source and its mask, the rest of nothing.
fn entry(source: [u8; 8], target: &str, verdict: i32) -> Vec<u8> {
    let (head, data) = (112_u16, 40_u16);
    let mut bytes = vec![0; usize::from(head + data)];
    bytes[..4].copy_from_slice(&source[..4]);
    bytes[8..12].copy_from_slice(&source[4..]);
    bytes[88..90].copy_from_slice(&head.to_ne_bytes());
    bytes[90..92].copy_from_slice(&(head + data).to_ne_bytes());
    bytes[112..114].copy_from_slice(&data.to_ne_bytes());
    bytes[114..114 + target.len()].copy_from_slice(target.as_bytes());
    bytes[144..148].copy_from_slice(&verdict.to_ne_bytes());
    bytes
}

/// A table of a rule that accepts 10.244.0.0/16 and the policy drop, of which FORWARD is the first chain.
fn small() -> (Vec<u8>, Vec<u8>) {
    let mut info = vec![0; INFO_BYTES];
    let mut put = |place: usize, value: u32| info[32 + 4 * place..][..4].copy_from_slice(&value.to_ne_bytes());
    put(0, 0b1110);
    put(3, 0);
    put(8, 152);
    let rules = [entry([10, 244, 0, 0, 255, 255, 0, 0], "", -2), entry([0; 8], "", -1), entry([0; 8], "ERROR", 0)];
    (info, rules.concat())
}

#[test]
fn bytes_are_read_as_the_kernel_lays_them_out() {
    let (info, entries) = small();
    let expected =
        Forward { policy: Policy::Drop, closed: false, accepts: vec![(Side::Source, range("10.244.0.0/16"))] };
    assert_eq!(parse(Family::V4, &info, &entries), Ok(expected));
    let mut torn = entries.clone();
    torn[8..12].copy_from_slice(&[255, 0, 255, 0]);
    assert_eq!(
        parse(Family::V4, &info, &torn).map(|forward| forward.accepts),
        Ok(Vec::new()),
        "no range has that mask"
    );
    assert!(parse(Family::V4, &info[..60], &entries).is_err(), "an answer that ends too early is refused");
    assert!(parse(Family::V4, &[0; INFO_BYTES], &entries).is_err(), "a table without the chain too");
    let mut queue = entries.clone();
    queue[152 + 144..152 + 148].copy_from_slice(&(-4_i32).to_ne_bytes());
    assert!(parse(Family::V4, &info, &queue).is_err(), "and a policy that is none");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(
        v6: bool,
        info in proptest::collection::vec(any::<u8>(), 0..100),
        entries in proptest::collection::vec(any::<u8>(), 0..1000),
    ) {
        let _ = parse(if v6 { Family::V6 } else { Family::V4 }, &info, &entries);
    }

    #[test]
    fn a_spoilt_table_is_read_or_refused(
        v6: bool,
        spoilt in proptest::collection::vec((0..456_usize, any::<u8>()), 0..8),
        numbers in proptest::collection::vec((0..11_usize, 0..500_u32), 0..2),
        length in 0..=456_usize,
    ) {
        let (mut info, mut entries) = small();
        for (place, byte) in spoilt {
            entries[place] = byte;
        }
        for (place, value) in numbers {
            info[32 + 4 * place..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let _ = parse(if v6 { Family::V6 } else { Family::V4 }, &info, &entries[..length]);
    }
}
