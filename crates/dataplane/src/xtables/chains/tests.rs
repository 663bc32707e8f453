//! On the real kernel: tables that `iptables-legacy` makes, and what it shows of them afterwards.

use std::process::Command;

use proptest::prelude::*;

use super::super::{chains, remove_chains};
use super::*;
use crate::netns::scratch;

fn sh(line: &str) -> String {
    let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    assert!(done.status.success(), "`{line}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("a text")
}

/// Makes a table by lines of `iptables-restore`, and runs `body` in its namespace.
fn with<T: Send>(family: Family, lines: &str, body: impl FnOnce() -> T + Send) -> T {
    let command = command(family);
    let run = || {
        sh(&format!("{command}-restore <<'END'\n{lines}\nCOMMIT\nEND"));
        body()
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

fn command(family: Family) -> &'static str {
    if family == Family::V4 { "iptables-legacy" } else { "ip6tables-legacy" }
}

/// The lines of a table with its counters, without remarks.
fn saved(family: Family, table: &str) -> Vec<String> {
    let text = sh(&format!("{}-save -c -t {table}", command(family)));
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

const TABLE: &str = "*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:A-FIRST - [0:0]
:KEPT - [0:0]
:OWN-ONE - [0:0]
:OWN-TWO - [0:0]
:OWN-LAST - [0:0]
:Z-LAST - [0:0]
-A PREROUTING -m comment --comment \"the first\" -j OWN-ONE
-A PREROUTING -m mark --mark 7
-A PREROUTING -p tcp -j KEPT
-A OUTPUT -j OWN-ONE
-A POSTROUTING -m mark --mark 1 -j OWN-LAST
-A POSTROUTING -g Z-LAST
-A POSTROUTING -p udp -j MASQUERADE
-A A-FIRST -m mark --mark 3
-A KEPT -p tcp --dport 80 -j A-FIRST
-A KEPT -m statistic --mode random --probability 0.5 -j RETURN
-A OWN-ONE -m mark --mark 9
-A OWN-ONE -j OWN-TWO
-A OWN-TWO -m recent --set --name X -j OWN-LAST
-A OWN-LAST -j MARK --set-xmark 0x4000/0x4000
-A Z-LAST -j A-FIRST";

fn own(chains: &[Chain]) -> BTreeSet<String> {
    chains.iter().map(|chain| chain.name.clone()).filter(|name| name.starts_with("OWN-")).collect()
}

#[test]
fn chains_are_listed_with_what_their_rules_lead_to() {
    for family in Family::BOTH {
        let chains = with(family, TABLE, || chains(family, "nat")).expect("a readable table").expect("a table");
        let listed = chains
            .iter()
            .map(|chain| format!("{}{} {}", if chain.is_base { "*" } else { "" }, chain.name, chain.targets.join(" ")));
        let expected = [
            "*PREROUTING OWN-ONE KEPT",
            "*INPUT ",
            "*OUTPUT OWN-ONE",
            "*POSTROUTING OWN-LAST Z-LAST",
            "A-FIRST ",
            "KEPT A-FIRST",
            "OWN-LAST ",
            "OWN-ONE OWN-TWO",
            "OWN-TWO OWN-LAST",
            "Z-LAST A-FIRST",
        ];
        let mut listed: Vec<_> = listed.collect();
        listed[4..].sort();
        assert_eq!(listed, expected, "{family}");
    }
}

#[test]
fn chains_go_with_the_rules_that_lead_to_them_and_all_else_stays() {
    for family in Family::BOTH {
        let (before, removed, after, again) = with(family, TABLE, || {
            // So that rules have counted.
            sh("ip link set lo up; ping -c 1 -W 1 127.0.0.1 >/dev/null; ping -c 1 -W 1 ::1 >/dev/null || true");
            let before = saved(family, "nat");
            let removed = remove_chains(family, "nat", own).expect("a removal");
            (before, removed, saved(family, "nat"), remove_chains(family, "nat", own).expect("a second one"))
        });
        assert!(before.iter().any(|line| line.starts_with("[1:")), "{family}: rules have counted: {before:#?}");
        let left: Vec<_> = before.into_iter().filter(|line| !line.contains("OWN-")).collect();
        assert_eq!((removed, after), (3, left), "{family}");
        assert_eq!(again, 0, "{family}: nothing is left to do");
    }
}

#[test]
fn a_table_that_nobody_made_is_not_made() {
    for family in Family::BOTH {
        let names = scratch(|| {
            assert_eq!(chains(family, "nat").expect("an answer"), None);
            assert_eq!(remove_chains(family, "nat", own).expect("nothing to do"), 0);
            sh("cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names 2>/dev/null || true")
        });
        assert_eq!(names.expect("a new namespace: be root, or run the tests in `unshare -Urnm`"), "", "{family}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(
        v6: bool,
        info in proptest::collection::vec(any::<u8>(), 0..100),
        bytes in proptest::collection::vec(any::<u8>(), 0..1000),
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        if let Ok(listing) = Listing::of(family, &info, &bytes) {
            let _ = listing.without(&own(&listing.chains), &bytes);
        }
    }
}
