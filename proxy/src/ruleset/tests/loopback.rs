//! Packets to loopback addresses, where node ports are on loopback.

use std::net::Ipv6Addr;

use dataplane::types::{Family, PerFamily};

use super::super::{NodePorts, Settings};
use super::cases::World;
use crate::config::{Config, Flags};
use crate::model::{Event, Node, Object};
use crate::services::Services;

#[test]
fn nobody_outside_comes_to_a_listener_on_loopback() {
    let mut world = World::new();
    world.apply_file("f4.yaml");
    let of = |world: &World| {
        let cases = [
            ("X", "127.0.0.1:3001/tcp"),
            ("X", "127.0.0.2:22/tcp"),
            ("X6", "[::1]:3001/tcp"),
            ("P", "127.0.0.1:9/udp"),
        ];
        cases.map(|(source, destination)| world.trace(source, destination))
    };
    assert_eq!(of(&world), ["closed", "closed", "closed", "untouched"], "the kernel's own business");
    world.set("loopback", &["true"]);
    assert_eq!(of(&world), ["drop", "drop", "drop", "drop"]);
    assert_eq!(world.trace("N", "127.0.0.2:22/tcp"), "closed", "the node itself may use its loopback addresses");
}

#[test]
fn rules_about_loopback_are_there_where_node_ports_are_on_it() {
    let mut world = World::new();
    let is_there = |world: &World| {
        let texts = world.rulesets.each_ref().map(|ruleset| ruleset.table().to_string());
        ["rejected-on-loopback", "guard-loopback"].map(|word| texts.each_ref().map(|text| text.contains(word)))
    };
    assert_eq!(is_there(&world), [[false; 2]; 2]);
    world.set("loopback", &["true"]);
    assert_eq!(is_there(&world), [[true; 2]; 2]);
}

/// For each family: whether node ports are on loopback, and which other addresses have them.
fn settings(addresses: &str) -> [(bool, NodePorts); 2] {
    let arguments = ["netd-proxy", "--nodeport-addresses", addresses].map(std::ffi::OsString::from);
    let flags = Flags::read(arguments).expect("flags");
    let config = Config::read(&flags, None).expect("a configuration").config;
    let mut services = Services::new("n1");
    let addresses = PerFamily { v4: Some([192, 0, 2, 1].into()), v6: Some(Ipv6Addr::from(1 << 120).into()) };
    let node = Node { name: "n1".into(), addresses, ..Node::default() };
    services.apply(Event::Set(Object::Node(node), Vec::new()));
    Family::BOTH.map(|family| {
        let settings = Settings::of(&config, family, &services);
        (settings.has_loopback, settings.node_ports)
    })
}

#[test]
fn node_ports_are_on_loopback_where_it_is_named() {
    let within =
        |ranges: &[&str]| NodePorts::Within(ranges.iter().map(|range| range.parse().expect("a range")).collect());
    let primary = || [within(&["192.0.2.1/32"]), within(&["100::/128"])];
    let [primary4, primary6] = primary();
    let both = |has_loopback| primary().map(|primary| (has_loopback, primary));
    assert_eq!(settings("primary"), both(false));
    assert_eq!(settings("primary,localhost"), both(true));
    assert_eq!(settings("localhost"), [(true, within(&[])), (true, within(&[]))], "no other address is named");
    assert_eq!(settings("primary,127.0.0.0/8"), [(true, primary4.clone()), (false, primary6.clone())]);
    assert_eq!(settings("primary,::1/128"), [(false, primary4), (true, primary6)]);
    assert_eq!(settings("127.0.0.1/32"), [(true, within(&[])), (false, NodePorts::All)]);
    assert_eq!(settings("192.0.2.0/24,localhost"), [(true, within(&["192.0.2.0/24"])), (true, within(&[]))]);
    // As with kube-proxy, what holds loopback addresses among others does not name them.
    assert_eq!(settings("all"), [(false, NodePorts::All), (false, NodePorts::All)]);
    assert_eq!(settings("all,localhost"), [(true, NodePorts::All), (true, NodePorts::All)]);
    assert_eq!(settings("0.0.0.0/0"), [(false, within(&["0.0.0.0/0"])), (false, NodePorts::All)]);
}
