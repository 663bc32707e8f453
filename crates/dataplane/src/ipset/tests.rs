//! On the real kernel: sets that `ipset` makes.

use std::process::Command;

use super::*;
use crate::netns::scratch;

fn sh(lines: &str) {
    let done = Command::new("sh").args(["-ec", lines]).output().expect("a shell");
    assert!(done.status.success(), "`{lines}` succeeds, but: {}", String::from_utf8_lossy(&done.stderr));
}

/// Runs `body` in a new namespace with the sets that these lines of `ipset` make.
fn with<T: Send>(lines: &str, body: impl FnOnce(&mut IpSets) -> T + Send) -> T {
    let run = || {
        sh(lines);
        body(&mut IpSets::open().expect("a socket").expect("sets: the kernel has been asked for them"))
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

const SETS: &str = "ipset create ports bitmap:port range 0-65535; ipset add ports 30080; ipset add ports 30443
    ipset create servers hash:ip,port; ipset add servers 10.96.0.1,tcp:443; ipset add servers 10.96.0.10,udp:53
    ipset create servers6 hash:ip,port family inet6; ipset add servers6 fd00::1,sctp:80
    ipset create nothing hash:ip";

#[test]
fn members_are_read_of_each_kind() {
    with(SETS, |sets| {
        let mut names = sets.names().expect("names");
        names.sort();
        assert_eq!(names, ["nothing", "ports", "servers", "servers6"]);
        let mut members = |name| {
            let mut members = sets.members(name).expect("members");
            members.sort();
            members
        };
        let port = |port| Member { address: None, protocol: None, port: Some(port) };
        assert_eq!(members("ports"), [port(30080), port(30443)]);
        let server = |address: &str, protocol, port| Member {
            address: Some(address.parse().expect("an address")),
            protocol: Some(protocol),
            port: Some(port),
        };
        assert_eq!(members("servers"), [server("10.96.0.1", 6, 443), server("10.96.0.10", 17, 53)]);
        assert_eq!(members("servers6"), [server("fd00::1", 132, 80)]);
        assert_eq!(members("nothing"), []);
        assert_eq!(members("other"), []);
    });
}

#[test]
fn a_set_is_removed_unless_a_rule_uses_it() {
    let rule = "\niptables-legacy -A INPUT -m set --match-set servers dst,dst -j ACCEPT";
    with(&format!("{SETS}{rule}"), |sets| {
        sets.destroy("ports").expect("a set that no rule uses");
        sets.destroy("ports").expect("a set that is gone is no error");
        let refused = sets.destroy("servers").expect_err("a rule uses it").to_string();
        assert_eq!(refused, "a rule of iptables or another set uses the set servers: remove that first");
        let mut names = sets.names().expect("names");
        names.sort();
        assert_eq!(names, ["nothing", "servers", "servers6"]);
        sh("iptables-legacy -F INPUT");
        sets.destroy("servers").expect("the rule is gone");
    });
}
