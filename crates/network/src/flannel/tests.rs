//! What flannel has left goes, by iptables' own rules and by nft's, and nothing else does.

use dataplane::kernel::Linux;
use dataplane::netns::scratch;
use dataplane::types::PerFamily;

use crate::fixtures::sh;
use crate::fixtures::{DUAL, Network, V4, vxlan};
use crate::overlay::masquerade::Ports;

fn masquerading(pods: PerFamily<()>) -> Network {
    Network { masquerade: Some(Ports::FullyRandom), forward_rules: true, ..vxlan(pods, V4) }
}

const UNDERLAY: &str =
    "ip link add eth0 up type veth peer name wire; ip link set wire up; ip address add 192.168.1.1/24 dev eth0";

/// Rules as flannel makes them by iptables, in both families, for this network.
fn by_iptables(network: &str) {
    let add = |program: &str, network: &str, multicast: &str| {
        let masq = "-m comment --comment 'flanneld masq'";
        sh(&format!(
            "{program} -t nat -N FLANNEL-POSTRTG; {program} -t nat -A POSTROUTING {masq} -j FLANNEL-POSTRTG
            {program} -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN
            {program} -t nat -A FLANNEL-POSTRTG -s {network} ! -d {multicast} {masq} -j MASQUERADE --random-fully
            {program} -N FLANNEL-FWD; {program} -A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD
            {program} -A FLANNEL-FWD -s {network} -m comment --comment 'flanneld forward' -j ACCEPT"
        ));
    };
    add("iptables", network, "224.0.0.0/4");
    add("ip6tables", "fd00:10::/48", "ff00::/8");
    sh("iptables -t nat -A POSTROUTING -s 192.0.2.1 -j MASQUERADE; iptables -A FORWARD -s 192.0.2.1 -j DROP");
}

#[test]
fn its_chains_go_once_ours_stand_and_what_others_have_beside_them_stays() {
    let network = masquerading(DUAL);
    scratch(|| {
        sh(UNDERLAY);
        by_iptables("10.244.0.0/16");
        let mut kernel = Linux::open().expect("netlink sockets");
        let plan = network.plan(&mut kernel).to_string();
        let place = |text: &str| plan.find(text).unwrap_or_else(|| panic!("the plan has {text:?}:\n{plan}"));
        assert!(place("table inet netd") < place("FLANNEL-POSTRTG"), "ours come first:\n{plan}");
        network.settle(&mut kernel);
        let rules = sh("iptables-save; ip6tables-save");
        assert!(!rules.contains("FLANNEL"), "flannel's are gone:\n{rules}");
        assert_eq!(rules.matches("192.0.2.1").count(), 2, "others' are there:\n{rules}");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

#[test]
fn its_tables_go() {
    let network = masquerading(V4);
    scratch(|| {
        sh(UNDERLAY);
        sh("nft -f - <<'EOF'
            table ip flannel-ipv4 {
                chain postrtg {
                    type nat hook postrouting priority srcnat;
                    ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
                    ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
                }
                chain forward { type filter hook forward priority filter; ip saddr 10.244.0.0/16 accept; }
            }
            table ip6 flannel-ipv6 { chain forward { type filter hook forward priority filter; }; }
EOF");
        let mut kernel = Linux::open().expect("netlink sockets");
        network.settle(&mut kernel);
        assert_eq!(sh("nft list tables"), "table inet netd\n", "ours alone is there");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

#[test]
fn chains_that_a_flannel_left_empty_go() {
    let network = masquerading(V4);
    scratch(|| {
        sh(UNDERLAY);
        by_iptables("10.244.0.0/16");
        // It empties them before it fills them, and was killed between.
        for program in ["iptables", "ip6tables"] {
            sh(&format!("{program} -t nat -F FLANNEL-POSTRTG; {program} -F FLANNEL-FWD"));
        }
        let mut kernel = Linux::open().expect("netlink sockets");
        network.settle(&mut kernel);
        let rules = sh("iptables-save; ip6tables-save");
        assert!(!rules.contains("FLANNEL"), "flannel's are gone:\n{rules}");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

#[test]
fn those_of_another_network_stay() {
    let network = masquerading(V4);
    scratch(|| {
        sh(UNDERLAY);
        by_iptables("10.9.0.0/16");
        let before = sh("iptables-save | grep -v '^#'");
        let mut kernel = Linux::open().expect("netlink sockets");
        network.settle(&mut kernel);
        assert_eq!(sh("iptables-save | grep -v '^#'"), before, "a flannel of another network keeps its own");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}
