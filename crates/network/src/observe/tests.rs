//! What others' tools made is seen as it is, and ours in it is known again.

use dataplane::kernel::Linux;
use dataplane::netns::scratch;

use crate::fixtures::sh;
use crate::fixtures::{DUAL, Network, V4, vxlan};

#[test]
fn our_rules_in_the_chain_of_iptables_are_printed_by_it_and_known_again() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    scratch(|| {
        sh("ip link add eth0 up type veth peer name wire; ip link set wire up; ip address add 192.168.1.1/24 dev eth0");
        sh("iptables -P FORWARD DROP; iptables -A FORWARD -s 192.0.2.1 -j DROP; ip6tables -P FORWARD DROP");
        let mut kernel = Linux::open().expect("netlink sockets");
        network.settle(&mut kernel);
        let ours = [
            "-A FORWARD -s 10.244.0.0/16 -m comment --comment \"netd: pods may be forwarded\" -j ACCEPT",
            "-A FORWARD -d 10.244.0.0/16 -m comment --comment \"netd: pods may be forwarded\" -j ACCEPT",
        ];
        let expected = ["-P FORWARD DROP", "-A FORWARD -s 192.0.2.1/32 -j DROP", ours[0], ours[1]];
        let shown = |line| sh(line).lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shown("iptables -S FORWARD"), expected, "iptables prints them as its own, after those of others");
        assert_eq!(shown("ip6tables -S FORWARD").len(), 3, "ip6tables too");

        sh("iptables -A FORWARD -s 192.0.2.2 -j DROP; iptables -D FORWARD -s 192.0.2.1 -j DROP");
        assert!(network.plan(&mut kernel).is_empty(), "they are known again among what iptables has changed");
        sh("iptables-save > /dev/null; iptables-save | iptables-restore");
        assert!(network.plan(&mut kernel).is_empty(), "they are known after iptables has written them itself");

        sh("iptables -F FORWARD; iptables -A FORWARD -s 192.0.2.2 -j DROP");
        network.settle(&mut kernel);
        let expected = ["-P FORWARD DROP", "-A FORWARD -s 192.0.2.2/32 -j DROP", ours[0], ours[1]];
        assert_eq!(shown("iptables -S FORWARD"), expected, "they come back after a flush");
        sh("iptables -A FORWARD -s 10.244.0.0/16 -m comment --comment 'netd: pods may be forwarded' -j ACCEPT");
        network.settle(&mut kernel);
        assert_eq!(shown("iptables -S FORWARD"), expected, "one too many is removed");

        sh("iptables -P FORWARD ACCEPT");
        network.settle(&mut kernel);
        let expected = ["-P FORWARD ACCEPT", "-A FORWARD -s 192.0.2.2/32 -j DROP"];
        assert_eq!(shown("iptables -S FORWARD"), expected, "they go where they are not needed, and nothing else does");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

#[test]
fn what_an_operator_typed_against_a_blocker_is_seen() {
    let network = Network { forward_rules: true, ..vxlan(DUAL, V4) };
    scratch(|| {
        sh("ip link add eth0 up type veth peer name wire; ip link set wire up; ip address add 192.168.1.1/24 dev eth0");
        // As firewalld 1.3 lays out its table.
        sh("nft -f - <<'EOF'
            table inet firewalld {
                chain filter_FORWARD {
                    type filter hook forward priority 10; policy accept;
                    ct state { established, related } accept
                    jump filter_FORWARD_ZONES
                    reject with icmpx admin-prohibited
                }
                chain filter_FWD_trusted { accept; }
                chain filter_FWD_public { reject with icmpx admin-prohibited; }
                chain filter_FORWARD_ZONES { goto filter_FWD_public; }
            }
            table inet other {
                chain f {
                    type filter hook forward priority 0; policy drop;
                }
            }
            table ip6 late {
                chain f {
                    type filter hook forward priority 0; policy drop;
                    counter log reject
                    accept
                }
            }\nEOF");
        sh("iptables-legacy -P FORWARD DROP");
        let mut kernel = Linux::open().expect("netlink sockets");
        let reported = |kernel: &mut Linux| {
            let outcome = network.outcome(kernel).expect("a network that can be carried");
            outcome.blockers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let before = reported(&mut kernel);
        assert_eq!(before.len(), 4, "each is reported, but: {before:#?}");
        for blocker in before.iter().filter_map(|reported| reported.split_once("to let them pass: ")) {
            sh(blocker.1);
        }
        let zones = "nft insert rule inet firewalld filter_FORWARD_ZONES";
        sh(&format!("{zones} ip saddr 10.244.0.0/16 goto filter_FWD_trusted"));
        let after = reported(&mut kernel);
        let [firewalld] = after.as_slice() else { panic!("only IPv6 is not trusted yet, but: {after:#?}") };
        assert!(firewalld.contains("does not trust fd00:10::/48;"), "IPv4 is trusted: {firewalld}");
        sh(&format!("{zones} ip6 saddr fd00:10::/48 goto filter_FWD_trusted"));
        assert_eq!(reported(&mut kernel), [""; 0], "nothing blocks any more");
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}
