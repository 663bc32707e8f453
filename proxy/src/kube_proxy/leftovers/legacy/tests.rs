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
