//! Packets to loopback addresses, where node ports are on loopback.

use super::cases::World;

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
