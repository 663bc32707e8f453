//! Hosts of the tests: `eth0` (index 2) with 192.0.2.10 and `2001:db8::10`, `eth1` (3) with 198.51.100.10, and
//! `dummy0` (4) with 1.10.100.1, 192.168.200.128, 172.16.30.18, 172.16.32.100.

use dataplane::fake::global_address;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn facts(text: &str) -> Address {
    global_address(0, ip(text), 24)
}

fn link(name: &str, index: u32, addresses: &[&str]) -> LinkFacts {
    LinkFacts {
        name: name.parse().expect("name"),
        alternative_names: Vec::new(),
        index,
        mtu: Mtu::try_from(1500).expect("MTU"),
        up: true,
        addresses: addresses.iter().map(|text| facts(text)).collect(),
    }
}

/// A default route without a gateway.
fn route(index: u32) -> DefaultRoute {
    DefaultRoute { index, gateway: None, source: None }
}

fn host() -> HostFacts {
    HostFacts {
        links: vec![
            link("eth0", 2, &["192.0.2.10", "2001:db8::10"]),
            link("eth1", 3, &["198.51.100.10"]),
            link("dummy0", 4, &["1.10.100.1", "192.168.200.128", "172.16.30.18", "172.16.32.100"]),
        ],
        default_routes: PerFamily { v4: Some(route(2)), v6: Some(route(2)) },
        lookup: None,
    }
}

fn options() -> InterfaceOptions {
    InterfaceOptions {
        ifaces: vec![],
        regexes: vec![],
        can_reach: None,
        public: PerFamily::none(),
        pods: vec![Family::V4],
        nat: true,
        in_use: PerFamily::none(),
    }
}

fn by_regex(regex: &str) -> InterfaceOptions {
    InterfaceOptions { regexes: vec![Regex::new(regex).expect("regex")], ..options() }
}

fn by_iface(iface: &str) -> InterfaceOptions {
    InterfaceOptions { ifaces: vec![iface.to_owned()], ..options() }
}

/// Interface, local and public IPv4 address, local IPv6 address.
fn chosen(host: &HostFacts, options: &InterfaceOptions) -> [String; 4] {
    let underlay = choose(host, options).expect("an interface");
    let text = |address: Option<IpAddr>| address.map(|it| it.to_string()).unwrap_or_default();
    [underlay.ifname.to_string(), text(underlay.addresses.v4), text(underlay.public.v4), text(underlay.addresses.v6)]
}

#[test]
fn i1_six_ways_to_an_interface() {
    let host = host();
    let same = |address: &str| ["dummy0", address, address, ""].map(str::to_owned);
    assert_eq!(chosen(&host, &by_regex(r"192\.168\.200\.\d+")), same("192.168.200.128"));
    assert_eq!(chosen(&host, &by_regex(r"dummy\d+")), same("1.10.100.1"));
    assert_eq!(chosen(&host, &by_iface("dummy0")), same("1.10.100.1"));
    assert_eq!(chosen(&host, &by_iface("172.16.30.18")), same("172.16.30.18"));
    let public = PerFamily { v4: Some(ip("172.16.31.200")), v6: None };
    let nat = InterfaceOptions { public, ..by_regex(r"dummy\d+") };
    assert_eq!(chosen(&host, &nat), ["dummy0", "1.10.100.1", "172.16.31.200", ""].map(str::to_owned));
    let lookup = Some(RouteLookup { index: 4, source: ip("172.16.32.100") });
    let reaching = InterfaceOptions { can_reach: Some(ip("172.16.32.254")), ..options() };
    assert_eq!(chosen(&HostFacts { lookup, ..host.clone() }, &reaching), same("172.16.32.100"));
    let error = choose(&host, &reaching).expect_err("no route");
    assert!(error.to_string().contains("172.16.32.254"), "{error}");
}

#[test]
fn an_interface_has_alternative_names_too() {
    let mut host = host();
    host.links[1].alternative_names = vec!["enp1s0".to_owned()];
    assert_eq!(chosen(&host, &by_iface("enp1s0"))[0], "eth1");
    assert_eq!(chosen(&host, &by_regex("^enp"))[0], "eth1");
}

#[test]
fn i2_an_ipv6_address_names_the_interface_of_both_families() {
    let dual = InterfaceOptions { pods: vec![Family::V4, Family::V6], ..by_iface("2001:db8::10") };
    assert_eq!(chosen(&host(), &dual), ["eth0", "192.0.2.10", "192.0.2.10", "2001:db8::10"].map(str::to_owned));
}

#[test]
fn i2_default_routes_that_disagree_are_an_error_for_dual_stack_alone() {
    let host = HostFacts { default_routes: PerFamily { v4: Some(route(3)), v6: Some(route(2)) }, ..host() };
    let dual = InterfaceOptions { pods: vec![Family::V4, Family::V6], ..options() };
    let error = choose(&host, &dual).expect_err("two interfaces").to_string();
    assert!(
        error.starts_with("v6 default route interface eth0 must be the same with v4 default route interface eth1"),
        "{error}"
    );
    assert_eq!(chosen(&host, &options())[0], "eth1", "IPv4 pods: the IPv4 route counts");
    assert_eq!(chosen(&host, &InterfaceOptions { pods: vec![Family::V6], ..options() })[0], "eth0");
}

#[test]
fn pods_of_one_family_run_over_the_other_one() {
    let host = HostFacts {
        links: vec![link("eth0", 2, &["fe80::1", "2001:db8::10"])],
        default_routes: PerFamily { v4: None, v6: Some(route(2)) },
        lookup: None,
    };
    assert_eq!(chosen(&host, &options()), ["eth0", "", "", "2001:db8::10"].map(str::to_owned));
}

#[test]
fn without_a_default_route_or_an_address_it_says_so() {
    let none = HostFacts { default_routes: PerFamily::none(), ..host() };
    assert_eq!(choose(&none, &options()), Err(InterfaceError::NoDefaultRoute));
    assert_eq!(choose(&HostFacts::default(), &options()), Err(InterfaceError::NoDefaultRoute));
    let mut bare = host();
    bare.links[0].addresses = vec![facts("fe80::1")];
    assert!(matches!(choose(&bare, &options()), Err(InterfaceError::NoAddress(_))), "link-local is of no use to peers");
    bare.links[0].up = false;
    assert!(matches!(choose(&bare, &options()), Err(InterfaceError::Down(_))));
}

#[test]
fn the_first_that_fits_counts_and_what_was_tried_is_told() {
    let mut host = host();
    host.links[1].up = false;
    let mut several = by_regex("dummy");
    several.ifaces = ["eth9", "eth1", "eth0"].map(str::to_owned).to_vec();
    assert_eq!(chosen(&host, &several)[0], "eth0");
    several.ifaces.truncate(2);
    assert_eq!(chosen(&host, &several)[0], "dummy0", "expressions come after names");
    several.regexes.clear();
    let error = choose(&host, &several).expect_err("none fits").to_string();
    for part in ["Failed to find any valid interface to use: ", "eth9: no interface has that name", "eth1 is down"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn lasting_global_addresses_come_first_and_deprecated_ones_never() {
    let mut host = host();
    let address = |text, global, temporary, deprecated| Address { global, temporary, deprecated, ..facts(text) };
    host.links[0].addresses = vec![
        address("169.254.1.1", false, false, false),
        address("192.0.2.9", true, false, true),
        address("192.0.2.10", true, false, false),
        address("192.0.2.11", true, false, false),
        address("fe80::1", false, false, false),
        address("2001:db8::1", true, true, false),
        address("2001:db8::2", true, false, false),
    ];
    assert_eq!(chosen(&host, &options()), ["eth0", "192.0.2.10", "192.0.2.10", "2001:db8::2"].map(str::to_owned));
}

#[test]
fn the_address_in_use_stays_and_one_that_may_float_is_the_last_choice() {
    let of = |address: &str, prefix_len: u8| Address { prefix_len, ..facts(address) };
    let of_dhcp = Address { permanent: false, ..of("2001:db8::11", 128) };
    let (own, floating, other) = (of("192.0.2.10", 24), of("192.0.2.100", 32), of("203.0.113.9", 16));
    let (own6, floating6) = (of("2001:db8::10", 64), of("2001:db8::100", 128));
    let tentative = Address { tentative: true, ..of("192.0.2.12", 24) };
    let duplicate = Address { duplicate: true, ..tentative };
    let second = of("192.0.2.61", 24);
    // The addresses in the kernel's order, the route's source, the address in use, and the one that is chosen.
    for (addresses, source, in_use, chosen) in [
        (vec![floating, own], None, None, own),
        (vec![floating, own], None, Some(own), own),
        (vec![floating, own], None, Some(floating), own),
        (vec![floating], None, Some(own), floating),
        (vec![own, second], None, None, own),
        (vec![own, second], Some(second), None, second),
        (vec![own, second], Some(second), Some(own), own),
        (vec![own, second], None, Some(second), second),
        (vec![other, own], None, None, own),
        (vec![other, own], None, Some(other), other),
        (vec![of("169.254.9.9", 16), own], None, None, own),
        (vec![duplicate, own], None, Some(duplicate), own),
        (vec![tentative, own], None, None, own),
        (vec![tentative], None, None, tentative),
        (vec![tentative, own], None, Some(tentative), tentative),
        (vec![floating, of("192.0.2.101", 32)], None, Some(of("192.0.2.101", 32)), of("192.0.2.101", 32)),
        (vec![floating6, own6], None, Some(own6), own6),
        (vec![floating6, own6], None, None, own6),
        (vec![of("2001:db8:b::1", 64), own6], None, Some(own6), own6),
        (vec![own6, of_dhcp], None, Some(of_dhcp), of_dhcp),
    ] {
        let source = source.map(|source: Address| source.address);
        let v4 = Some(DefaultRoute { index: 2, gateway: Some(ip("192.0.2.1")), source });
        let mut host = HostFacts { default_routes: PerFamily { v4, v6: Some(route(2)) }, ..host() };
        host.links[0].addresses = addresses.clone();
        let family = Family::of(chosen.address);
        let mut options = InterfaceOptions { pods: vec![family], ..options() };
        *options.in_use.slot(family) = in_use.map(|facts| facts.address);
        let got = choose(&host, &options).expect("an interface").addresses;
        assert_eq!(got.get(family), Some(&chosen.address), "of {addresses:?}, source {source:?}, in use {in_use:?}");
    }
}

#[test]
fn the_interface_in_use_stays_while_it_is_up_and_has_the_address() {
    let mut host = HostFacts { default_routes: PerFamily { v4: Some(route(3)), v6: None }, ..host() };
    let in_use = InterfaceOptions { in_use: PerFamily { v4: Some(ip("192.0.2.10")), v6: None }, ..options() };
    assert_eq!(chosen(&host, &options())[0], "eth1");
    assert_eq!(chosen(&host, &in_use)[0], "eth0");
    let named = InterfaceOptions { ifaces: vec!["dummy0".to_owned()], ..in_use.clone() };
    assert_eq!(chosen(&host, &named)[0], "dummy0", "what the operator asks for goes first");
    host.links[0].up = false;
    assert_eq!(chosen(&host, &in_use)[0], "eth1");
}

#[test]
fn v10_a_public_address_behind_nat_leaves_the_local_one_alone() {
    let nat = InterfaceOptions { public: PerFamily { v4: Some(ip("203.0.113.7")), v6: None }, ..options() };
    let underlay = choose(&host(), &nat).expect("the default route's interface");
    assert_eq!((underlay.addresses.v4, underlay.public.v4), (Some(ip("192.0.2.10")), Some(ip("203.0.113.7"))));
    assert_eq!(underlay.public.v6, underlay.addresses.v6, "the other family is as it was");
}

#[test]
fn a_public_address_of_the_host_names_its_interface() {
    let own = InterfaceOptions { public: PerFamily { v4: Some(ip("198.51.100.10")), v6: None }, ..options() };
    assert_eq!(chosen(&host(), &own), ["eth1", "198.51.100.10", "198.51.100.10", ""].map(str::to_owned));
    let second =
        InterfaceOptions { public: PerFamily { v4: Some(ip("172.16.30.18")), v6: None }, ..by_iface("dummy0") };
    assert_eq!(chosen(&host(), &second)[1], "172.16.30.18", "packets leave with the address that peers know");
}

#[test]
fn a_public_address_needs_a_local_one_of_its_family() {
    let lone = InterfaceOptions { public: PerFamily { v4: None, v6: Some(ip("2001:db8::99")) }, ..by_iface("eth1") };
    let error = choose(&host(), &lone).expect_err("eth1 has no IPv6").to_string();
    assert!(error.contains("--public-ipv6 is 2001:db8::99") && error.contains("eth1"), "{error}");
}

#[test]
fn g3_host_gw_refuses_nat_in_both_families() {
    for public in
        [PerFamily { v4: Some(ip("203.0.113.7")), v6: None }, PerFamily { v4: None, v6: Some(ip("2001:db8::99")) }]
    {
        let error =
            choose(&host(), &InterfaceOptions { public, nat: false, ..options() }).expect_err("NAT").to_string();
        assert!(error.starts_with(
            "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by host-gw backend"
        ), "{error}");
    }
    let own = PerFamily { v4: Some(ip("192.0.2.10")), v6: None };
    choose(&host(), &InterfaceOptions { public: own, nat: false, ..options() }).expect("its own address is no NAT");
}
