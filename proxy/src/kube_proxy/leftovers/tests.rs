//! On the real kernel: chains of both kinds and sets.

use std::process::Command;

use dataplane::netns::scratch;

use super::*;

pub(in crate::kube_proxy) fn sh(lines: &str) {
    let done = Command::new("sh").args(["-ec", lines]).output().expect("a shell");
    assert!(done.status.success(), "`{lines}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
}

/// Makes a set, and a rule in each kind of iptables that uses it.
const MAKE: &str = "ipset create KUBE-CLUSTER-IP hash:ip,port
    for command in iptables-legacy iptables-nft; do
        $command -t nat -N KUBE-SERVICES
        $command -t nat -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
        $command -t nat -A OUTPUT -j KUBE-SERVICES
    done
    ";

fn remove() -> (Leftovers, Option<String>) {
    let mut socket = nft::Socket::open().expect("a socket");
    let found = read(&mut socket).expect("what is left");
    assert!(!found.is_empty());
    found.remove(&mut socket).expect("a removal")
}

#[test]
fn chains_go_before_the_sets_that_they_use() {
    let run = || {
        sh(MAKE);
        assert!(are_there().expect("rules"));
        let (mut removed, mut remains) = remove();
        assert_eq!(removed.chains, 2);
        // The kernel ends the use of a set by rules of nftables a moment after the rules.
        while remains.is_some() {
            (removed, remains) = remove();
        }
        assert_eq!(removed.sets, 1);
        let found = read(&mut nft::Socket::open().expect("a socket")).expect("nothing");
        assert!(found.is_empty() && !are_there().expect("no rules"));
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

#[test]
fn a_set_that_another_program_uses_stays_and_is_named() {
    let run = || {
        sh(&format!("{MAKE} iptables-legacy -A INPUT -m set --match-set KUBE-CLUSTER-IP src,src -j DROP"));
        let (removed, remains) = remove();
        assert_eq!(removed.chains, 2);
        let why = "a rule of iptables or another set uses the set KUBE-CLUSTER-IP: remove that first";
        assert_eq!(remains.as_deref(), Some(why));
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}
