use dataplane::netns::scratch;

use super::super::tests::sh;
use super::*;

/// The chains of a table, as lines `CHAIN [*] -> TARGET ...`; the star is a base chain's. Gives those that are removed.
fn removed(lines: &[&str]) -> Vec<String> {
    let chain = |line: &&str| {
        let (left, right) = line.split_once(" ->").unwrap_or((line, ""));
        let (name, is_base) = left.strip_suffix(" *").map_or((left, false), |name| (name, true));
        Chain { name: name.to_owned(), is_base, targets: right.split_whitespace().map(str::to_owned).collect() }
    };
    own(&lines.iter().map(chain).collect::<Vec<_>>()).into_iter().collect()
}

#[test]
fn chains_of_kube_proxy_go_and_no_others() {
    let lines = [
        "OUTPUT * -> DOCKER KUBE-SERVICES",
        "DOCKER",
        "KUBE-SERVICES -> KUBE-SVC-A",
        "KUBE-SVC-A -> KUBE-SEP-A",
        "KUBE-SEP-A",
        "KUBE-KUBELET-CANARY",
        "KUBE-NWPLCY-A",
    ];
    assert_eq!(removed(&lines), ["KUBE-SEP-A", "KUBE-SERVICES", "KUBE-SVC-A"]);
}

#[test]
fn the_mark_of_another_program_goes_on_to_be_masqueraded() {
    let lines = [
        "POSTROUTING * -> KUBE-POSTROUTING",
        "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ",
        "KUBE-NODEPORTS",
        "CNI-HOSTPORT-SETMARK -> KUBE-MARK-MASQ",
    ];
    assert_eq!(removed(&lines), ["KUBE-NODEPORTS"]);
}

#[test]
fn a_table_of_others_is_no_sign_of_kube_proxy() {
    let run = || {
        sh("iptables-legacy -t nat -N DOCKER; iptables-legacy -t nat -A PREROUTING -j DOCKER");
        assert!(!are_there());
        sh("ip6tables-legacy -t nat -N KUBE-SERVICES; ip6tables-legacy -t nat -A OUTPUT -j KUBE-SERVICES");
        assert!(are_there());
        assert_eq!(read(), Found { chains: 1, has_services: true });
        assert_eq!(remove().expect("a removal"), 1);
        assert_eq!(read(), Found::default());
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}
