use std::collections::BTreeMap;

use dataplane::nft::{Chain, ChainType, Hook, Rule};

use super::*;

/// The rules of each chain.
type Rules = BTreeMap<(TableId, String), Vec<RuleWithHandle>>;

/// The chains of a kernel, as lines `FAMILY TABLE CHAIN [*] -> TARGET ...`; the star is a base chain's.
fn kernel(lines: &[&str]) -> (Vec<AnyChain>, Rules) {
    let (mut chains, mut rules) = (Vec::new(), BTreeMap::new());
    for line in lines {
        let (left, right) = line.split_once(" ->").unwrap_or((line, ""));
        let words: Vec<&str> = left.split(' ').collect();
        let family = if words[0] == "ip" { TableFamily::Ip } else { TableFamily::Ip6 };
        let table = TableId::new(family, words[1]);
        let base = words.get(3).and(Chain::base(ChainType::Nat, Hook::Output, -100).base);
        let placed = right.split_whitespace().enumerate().map(|(place, to)| RuleWithHandle {
            handle: place as u64 + 1,
            rule: Rule::new([Statement::Verdict(Verdict::Jump(to.to_owned()))]),
        });
        rules.insert((table.clone(), words[2].to_owned()), placed.collect());
        chains.push((table, words[2].to_owned(), base));
    }
    (chains, rules)
}

/// What is done, as words.
fn removed(lines: &[&str]) -> Vec<String> {
    let (chains, rules) = kernel(lines);
    let read = |table: &TableId, chain: &str| Ok::<_, ()>(rules[&(table.clone(), chain.to_owned())].clone());
    let found = find(&chains, read).expect("rules");
    let word = |operation: &Operation| match operation {
        Operation::DeleteTable(id) => format!("table {} {}", id.family, id.name),
        Operation::DeleteRule { chain, handle, .. } => format!("rule {chain} {handle}"),
        Operation::FlushChain { name, .. } => format!("flush {name}"),
        Operation::DeleteChain { table, name } => format!("chain {} {} {name}", table.family, table.name),
        other => format!("{other:?}"),
    };
    found.operations.iter().map(word).collect()
}

#[test]
fn both_tables_of_nftables_go() {
    let lines =
        ["ip kube-proxy services", "ip kube-proxy nat-output *", "ip6 kube-proxy services", "ip netd-proxy x *"];
    assert_eq!(removed(&lines), ["table ip kube-proxy", "table ip6 kube-proxy"]);
}

#[test]
fn chains_of_iptables_go_with_the_jumps_to_them_and_no_others() {
    let lines = [
        "ip nat OUTPUT * -> CNI-HOSTPORT-DNAT KUBE-SERVICES",
        "ip nat CNI-HOSTPORT-DNAT",
        "ip nat KUBE-SERVICES -> KUBE-SVC-A",
        "ip nat KUBE-SVC-A -> KUBE-SEP-A",
        "ip nat KUBE-SEP-A",
        "ip nat KUBE-KUBELET-CANARY",
        "ip filter INPUT * -> KUBE-FIREWALL",
        "ip filter KUBE-FIREWALL",
        "ip other KUBE-SERVICES",
    ];
    let expected = [
        "rule OUTPUT 2",
        "flush KUBE-SEP-A",
        "flush KUBE-SERVICES",
        "flush KUBE-SVC-A",
        "chain ip nat KUBE-SEP-A",
        "chain ip nat KUBE-SERVICES",
        "chain ip nat KUBE-SVC-A",
    ];
    assert_eq!(removed(&lines), expected);
}

#[test]
fn the_mark_of_another_program_goes_on_to_be_masqueraded() {
    let lines = [
        "ip nat POSTROUTING * -> KUBE-POSTROUTING",
        "ip nat KUBE-POSTROUTING",
        "ip nat KUBE-MARK-MASQ",
        "ip nat KUBE-NODEPORTS",
        "ip nat CNI-HOSTPORT-SETMARK -> KUBE-MARK-MASQ",
    ];
    assert_eq!(removed(&lines), ["flush KUBE-NODEPORTS", "chain ip nat KUBE-NODEPORTS"]);
}

#[test]
fn a_node_without_kube_proxy_has_nothing_to_remove() {
    assert_eq!(removed(&["ip nat POSTROUTING * -> KUBE-SVC-A", "ip filter FORWARD *"]), Vec::<String>::new());
}
