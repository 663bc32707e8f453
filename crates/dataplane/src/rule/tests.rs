use std::process::Command;

use super::*;
use crate::netns::scratch;

fn shell(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn own(to: &str) -> RouteQuery {
    RouteQuery { to: ip(to), forwarded: None }
}

fn forwarded(from: &str, to: &str) -> RouteQuery {
    RouteQuery { to: ip(to), forwarded: Some((ip(from), "cni0".parse().expect("a name"), 0)) }
}

/// What may keep a packet from the main table, as `ip rule` writes it.
fn before_main(rules: &[PolicyRule], flow: &RouteQuery) -> Vec<String> {
    PolicyRule::before_main(rules, flow).map(ToString::to_string).collect()
}

#[test]
fn the_rules_before_main_are_those_that_a_packet_meets() {
    scratch(|| {
        shell(
            "ip rule add pref 100 from all fwmark 0x80000/0xff0000 lookup 52
             ip rule add pref 110 not from all fwmark 0xca6c lookup 51820
             ip rule add pref 120 from 10.244.1.0/24 to 10.244.0.0/16 iif cni0 lookup 53
             ip rule add pref 130 ipproto tcp dport 80 lookup 54
             ip rule add pref 140 to 10.244.3.0/24 unreachable
             ip rule add pref 145 iif eth7 lookup 55
             ip rule add pref 150 iif lo prohibit
             ip rule add pref 160 lookup main suppress_prefixlength 0
             ip rule add pref 170 blackhole
             ip -6 rule add pref 100 to fd00:244::/56 blackhole",
        );
        let mut socket = RouteSocket::open().expect("a socket");
        let rules = socket.rules(Family::V4).expect("rules");
        let inverted = "110: not from all fwmark 0xca6c lookup 51820";
        let source = "120: from 10.244.1.0/24 to 10.244.0.0/16 iif cni0 lookup 53";
        let of_pod = forwarded("10.244.1.2", "10.244.2.2");
        assert_eq!(before_main(&rules, &of_pod), [inverted, source], "a pod's packet");
        let refused = forwarded("10.244.2.2", "10.244.3.2");
        assert_eq!(before_main(&rules, &refused), [inverted, "140: from all to 10.244.3.0/24 unreachable"]);
        assert_eq!(before_main(&rules, &own("10.244.2.2")), [inverted, "150: from all iif lo prohibit"], "the host's");
        let bypass = |of: &str, rules: &[PolicyRule], to: &str| {
            let (rule, to) = (rules.iter().find(|rule| rule.to_string().starts_with(of)).expect(of), ip(to));
            rule.bypass(rules, Prefix::new(to, 16).expect("a range"))
        };
        assert_eq!(bypass("140:", &rules, "10.244.0.0"), "ip rule add pref 130 to 10.244.0.0/16 lookup main");
        let behind = bypass("150:", &rules, "10.244.0.0");
        assert_eq!(behind, "ip rule add pref 145 to 10.244.0.0/16 lookup main", "not before an earlier rule");
        let rules = socket.rules(Family::V6).expect("rules");
        assert_eq!(bypass("100:", &rules, "fd00::"), "ip -6 rule add pref 90 to fd00::/16 lookup main");
        assert_eq!(before_main(&rules, &own("fd00:244::2")), ["100: from all to fd00:244::/56 blackhole"]);
        assert!(before_main(&rules, &own("fd00:245::2")).is_empty(), "elsewhere");
    })
    .expect("a new namespace");
}

#[test]
fn the_kernel_gives_the_table_and_the_link_of_a_packet() {
    scratch(|| {
        shell(
            "ip link set lo up
             for name in cni0 vpn0; do ip link add $name type bridge; ip link set $name up; done
             echo 1 > /proc/sys/net/ipv4/ip_forward
             ip addr add 10.244.1.1/24 dev cni0
             ip route add 10.244.0.0/16 dev cni0
             ip route add 10.244.0.0/16 dev vpn0 table 5200
             ip rule add pref 100 iif cni0 lookup 5200
             ip rule add pref 110 to 10.244.9.0/24 prohibit
             ip -6 route add fd00:244::/56 dev vpn0 table 52
             ip -6 rule add pref 100 lookup 52",
        );
        let mut socket = RouteSocket::open().expect("a socket");
        let [cni0, vpn0] = ["cni0", "vpn0"].map(|name| {
            let name = name.parse().expect("a name");
            (socket.index(&name).expect("an answer").expect("the link"), name)
        });
        let found = socket.lookup(&own("10.244.2.2")).expect("a route");
        assert_eq!(found, FoundRoute { table: MAIN, index: Some(cni0.0) }, "the host's own packet");
        let from_pod = RouteQuery { to: ip("10.244.2.2"), forwarded: Some((ip("10.244.1.2"), cni0.1, cni0.0)) };
        let found = socket.lookup(&from_pod).expect("a route");
        assert_eq!(found, FoundRoute { table: 5200, index: Some(vpn0.0) }, "a pod's packet");
        let found = socket.lookup(&own("fd00:244::2")).expect("a route");
        assert_eq!(found, FoundRoute { table: 52, index: Some(vpn0.0) }, "IPv6");
        assert!(socket.lookup(&own("10.244.9.2")).is_err(), "a rule that refuses packets");
    })
    .expect("a new namespace");
}
