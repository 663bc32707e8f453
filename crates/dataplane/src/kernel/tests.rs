//! Ops on the running kernel. What is applied is what is read; and what an op prints does the same in a shell, so that a
//! printed plan can be pasted. Each test has network namespaces of its own, with an eth0 of 192.168.1.1 and `fd00:1::1`.

use std::net::IpAddr;
use std::process::Command;

use super::*;
use crate::link::{Kind, LinkChange, Tunnel, Vxlan};
use crate::netns::scratch;
use crate::nft::{
    BaseChainFacts, Chain, ChainType, Expression, Hook, NatFlags, Rule, Set, Side, Statement, Table, TableId, Type,
    Verdict,
};
use crate::op::{DeviceAddress, DeviceRoute};
use crate::route::RouteKind;
use crate::types::{Mac, Mtu, RouteProtocol, Vni};

const MACS: [Mac; 3] = [Mac([10, 0, 0, 0, 0, 1]), Mac([10, 0, 0, 0, 0, 2]), Mac([10, 0, 0, 0, 0, 3])];

fn name(text: &str) -> IfName {
    text.parse().expect("an interface name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mtu(bytes: i64) -> Mtu {
    Mtu::try_from(bytes).expect("an MTU")
}

fn sh(line: &str) -> Result<(), String> {
    let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// Runs `body` in a new namespace with eth0 and wire, the other end of its cable.
fn on_a_node<T: Send>(body: impl FnOnce(&mut Linux) -> T + Send) -> T {
    scratch(|| {
        let node = "ip link set lo up; ip link add eth0 up type veth peer name wire; ip link set wire up; \
            ip address add 192.168.1.1/24 dev eth0; ip address add fd00:1::1/64 dev eth0 nodad; \
            ip link set eth0 address 0a:00:00:00:01:01; ip link set wire address 0a:00:00:00:01:02";
        assert_eq!(sh(node), Ok(()), "a node is made");
        body(&mut Linux::open().expect("netlink sockets"))
    })
    .expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

fn eth0(kernel: &mut Linux) -> u32 {
    kernel.socket().link(&name("eth0")).expect("an answer").expect("eth0").index
}

/// The op that makes a VXLAN device; the index of eth0 is 3 in each of our namespaces, as it is the second link made.
fn add_vxlan(device: &str, vni: i64, local: &str) -> Op {
    let vni = Vni::try_from(vni).expect("a VNI");
    let (port, learning, gbp, foreign) = (8472, false, false, false);
    let vxlan = Vxlan { vni, local: Some(ip(local)), underlay: Some(3), port, learning, gbp, foreign };
    Op::AddTunnel {
        name: name(device),
        tunnel: Tunnel::Vxlan(vxlan),
        underlay: name("eth0"),
        mac: Some(MACS[0]),
        mtu: mtu(1400),
    }
}

fn address(device: &str, address: &str, prefix_len: u8) -> DeviceAddress {
    DeviceAddress { device: name(device), address: ip(address), prefix_len }
}

fn route(device: &str, destination: &str, gateway: Option<&str>, onlink: bool) -> DeviceRoute {
    let destination = destination.parse::<crate::types::Prefix>().expect("an address range");
    let metric = Route::default_metric(destination.family());
    let (gateway, protocol) = (gateway.map(ip), RouteProtocol(110));
    DeviceRoute { destination, gateway, device: name(device), onlink, protocol, metric, kind: RouteKind::Unicast }
}

fn neighbour(device: &str, address: &str, mac: Mac) -> Op {
    Op::PutNeighbour { device: name(device), address: ip(address), mac }
}

fn fdb(device: &str, mac: Mac, destination: &str) -> Op {
    Op::PutFdb { device: name(device), mac, destination: ip(destination) }
}

fn sysctl(key: &str, value: &str) -> Op {
    Op::SetSysctl { key: key.to_owned(), value: value.to_owned() }
}

fn table_id() -> TableId {
    TableId::new(nft::TableFamily::Inet, "mine")
}

/// A table with a set, a comment with an apostrophe, and what netd's rules are made of.
fn table() -> Table {
    let masquerade = Statement::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() });
    let network = "10.244.0.0/16".parse::<crate::types::Prefix>().expect("a range");
    let rules = [
        Rule::new([
            Statement::family(Family::V4),
            Statement::is_in([Expression::Address(Family::V4, Side::Source)], "nodes"),
            Verdict::Return.into(),
        ]),
        Rule::new([
            Statement::family(Family::V4),
            Statement::eq(Expression::Address(Family::V4, Side::Source), network),
            masquerade,
        ])
        .with_comment("the client's address; $HOME `stays`"),
    ];
    Table::new(nft::TableFamily::Inet, "mine")
        .with_comment("one's own")
        .with_set("nodes", Set::of([Type::Address(Family::V4)]).with_keys([nft::Value::Address(ip("192.168.1.2"))]))
        .with_chain("forward", Chain::base(ChainType::Filter, Hook::Forward, 0))
        .with_chain("postrouting", Chain::base(ChainType::Nat, Hook::Postrouting, 100).with_rules(rules))
}

fn set(device: &str, change: LinkChange) -> Op {
    Op::SetLink { name: name(device), change }
}

/// Every kind of op, what adds before what removes, with something left at the end.
fn every_op() -> Vec<Op> {
    let accept = Rule::new([Statement::Counter, Verdict::Accept.into()]).with_comment("mine: accept");
    let learning = match add_vxlan("flannel.2", 2, "192.168.1.1") {
        Op::AddTunnel { name, tunnel: Tunnel::Vxlan(mut vxlan), underlay, mac, mtu } => {
            (vxlan.learning, vxlan.gbp, vxlan.port) = (true, true, 4789);
            Op::AddTunnel { name, tunnel: Tunnel::Vxlan(vxlan), underlay, mac, mtu }
        }
        other => other,
    };
    let quiet = LinkChange { alias: Some("it's mine; $HOME".to_owned()), ..LinkChange::default() };
    let loud = LinkChange {
        up: Some(true),
        mtu: Some(mtu(1380)),
        mac: Some(MACS[1]),
        promiscuous: None,
        alias: Some("netd".to_owned()),
    };
    let (v4, v6) = (route("flannel.1", "10.244.2.0/24", Some("10.244.2.0"), true), "fd00:10:0:2::");
    let v6 = route("flannel-v6.1", &format!("{v6}/64"), Some(v6), true);
    let (device, v6_device) = (name("flannel.1"), name("flannel-v6.1"));
    let add = nft::Operation::AddRule { table: table_id(), chain: "forward".to_owned(), rule: accept };
    vec![
        add_vxlan("flannel.1", 1, "192.168.1.1"),
        add_vxlan("flannel-v6.1", 1, "fd00:1::1"),
        learning,
        add_vxlan("flannel.3", 3, "192.168.1.1"),
        set("flannel.1", LinkChange { alias: Some("netd".to_owned()), ..LinkChange::default() }),
        set("flannel-v6.1", loud),
        set("flannel.2", quiet),
        set("flannel.3", LinkChange { up: Some(false), ..LinkChange::default() }),
        Op::DeleteLink(name("flannel.3")),
        sysctl("net/ipv4/ip_forward", "1"),
        sysctl("net/ipv6/conf/flannel-v6.1/accept_ra", "0"),
        Op::AddAddress(address("flannel.1", "10.244.1.0", 32)),
        Op::AddAddress(address("flannel.1", "10.244.9.1", 24)),
        Op::AddAddress(address("flannel-v6.1", "fd00:10:0:1::", 128)),
        Op::AddAddress(address("flannel-v6.1", "fd00:10:0:9::", 128)),
        neighbour("flannel.1", "10.244.2.0", MACS[1]),
        neighbour("flannel.1", "10.244.2.0", MACS[2]),
        neighbour("flannel.1", "10.244.3.0", MACS[1]),
        neighbour("flannel-v6.1", "fd00:10:0:2::", MACS[1]),
        fdb("flannel.1", MACS[1], "192.168.1.2"),
        fdb("flannel.1", MACS[1], "192.168.1.3"),
        fdb("flannel.1", MACS[2], "192.168.1.3"),
        fdb("flannel-v6.1", MACS[1], "fd00:1::2"),
        Op::AddRoute(v4.clone()),
        Op::AddRoute(v6),
        Op::AddRoute(route("eth0", "10.244.3.0/24", Some("192.168.1.3"), false)),
        Op::AddRoute(route("eth0", "10.244.4.0/24", Some("fd00:1::4"), false)),
        Op::AddRoute(route("eth0", "10.244.5.0/24", None, false)),
        Op::AddRoute(DeviceRoute { metric: 7, ..route("eth0", "10.244.3.0/24", Some("192.168.1.4"), false) }),
        Op::AddRoute(route("eth0", "fd00:10:0:3::/64", Some("fd00:1::3"), false)),
        Op::AddRoute(DeviceRoute { metric: 7, ..route("eth0", "fd00:10:0:4::/64", None, false) }),
        Op::ReplaceRoute(route("eth0", "10.244.3.0/24", Some("192.168.1.5"), false)),
        Op::ReplaceRoute(route("eth0", "fd00:10:0:3::/64", Some("fd00:1::5"), false)),
        Op::ReplaceRoute(route("eth0", "10.244.6.0/24", Some("192.168.1.6"), false)),
        Op::Nft(nft::Operation::ReplaceTable(table()).into()),
        Op::Nft(nft::Operation::ReplaceTable(table()).into()),
        Op::Nft([add.clone(), add].into_iter().collect()),
        Op::DeleteRoute(route("eth0", "10.244.5.0/24", None, false)),
        Op::DeleteRoute(route("eth0", "10.244.4.0/24", Some("fd00:1::4"), false)),
        Op::DeleteRoute(DeviceRoute { metric: 7, ..route("eth0", "fd00:10:0:4::/64", None, false) }),
        Op::DeleteRoute(v4),
        Op::DeleteFdb { device: device.clone(), mac: MACS[2], destination: ip("192.168.1.3") },
        Op::DeleteFdb { device: v6_device.clone(), mac: MACS[1], destination: ip("fd00:1::2") },
        Op::DeleteNeighbour { device, address: ip("10.244.3.0") },
        Op::DeleteNeighbour { device: v6_device, address: ip("fd00:10:0:2::") },
        Op::DeleteAddress(address("flannel.1", "10.244.9.1", 24)),
        Op::DeleteAddress(address("flannel-v6.1", "fd00:10:0:9::", 128)),
    ]
}

/// What the kernel holds, in the order of its keys.
#[derive(Debug, PartialEq, Eq)]
struct State {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    fdb: Vec<Fdb>,
    table: Option<nft::Table>,
    base_chains: Vec<BaseChainFacts>,
    forwarding: Result<String, String>,
}

fn state(kernel: &mut Linux) -> State {
    let links = kernel.links().expect("links");
    // The kernel gives itself link-local addresses and routes, at a time of its own.
    let mut addresses: Vec<_> = kernel.addresses().expect("addresses").into_iter().filter(|a| a.global).collect();
    addresses.sort();
    let confined = |route: &Route| route.protocol == RouteProtocol(2);
    let routes = Family::BOTH.map(|family| kernel.routes(family).expect("routes"));
    let mut routes: Vec<_> = routes.into_iter().flatten().filter(|route| !confined(route)).collect();
    routes.sort();
    let (mut neighbours, mut fdb) = (Vec::new(), Vec::new());
    for link in links.iter().filter(|link| link.tunnel().is_some()) {
        for family in Family::BOTH {
            neighbours.extend(kernel.neighbours(link.index, family).expect("neighbours"));
        }
        fdb.extend(kernel.fdb(link.index).expect("forwarding entries"));
    }
    neighbours.retain(|entry| entry.permanent);
    neighbours.sort();
    fdb.sort();
    State {
        links,
        addresses,
        routes,
        neighbours,
        fdb,
        table: kernel.table(&table_id()).expect("a readable table"),
        base_chains: kernel.base_chains().expect("chains"),
        forwarding: kernel.sysctl("net/ipv4/ip_forward").map_err(|error| error.to_string()),
    }
}

fn carry_out(kernel: &mut Linux, ops: &[Op]) {
    for (op, outcome) in ops.iter().zip(kernel.apply(ops)) {
        assert!(outcome.is_ok(), "`{op}` is carried out, but: {outcome:?}");
    }
}

#[test]
fn every_op_does_what_it_prints() {
    let ops = every_op();
    let applied = on_a_node(|kernel| {
        assert_eq!(eth0(kernel), 3, "eth0 is the link that the ops speak of");
        carry_out(kernel, &ops);
        state(kernel)
    });
    let typed = on_a_node(|kernel| {
        for op in &ops {
            assert_eq!(sh(&op.to_string()), Ok(()), "a shell carries out `{op}`");
        }
        state(kernel)
    });
    let pasted = on_a_node(|kernel| {
        let lines: Vec<_> = ops.iter().map(ToString::to_string).collect();
        assert_eq!(sh(&lines.join("\n")), Ok(()), "a shell carries out the whole");
        state(kernel)
    });
    for (other, how) in [(&typed, "line by line"), (&pasted, "as a whole")] {
        assert_eq!(applied.links, other.links, "links are the same when the ops are typed {how}");
        assert_eq!(applied.neighbours, other.neighbours, "neighbours are the same when the ops are typed {how}");
        assert_eq!(applied.fdb, other.fdb, "forwarding entries are the same when the ops are typed {how}");
        assert_eq!(applied.routes, other.routes, "routes are the same when the ops are typed {how}");
        assert_eq!(applied.table, other.table, "the table is the same when the ops are typed {how}");
        assert_eq!(applied, *other, "all is the same when the ops are typed {how}");
    }
}

#[test]
fn what_is_applied_is_what_is_read() {
    let state = on_a_node(|kernel| {
        carry_out(kernel, &every_op());
        state(kernel)
    });
    let link = |of: &str| state.links.iter().find(|link| link.name == name(of)).expect("the link");
    let Op::AddTunnel { tunnel, .. } = add_vxlan("flannel.1", 1, "192.168.1.1") else { unreachable!("an AddTunnel") };
    let first = link("flannel.1");
    assert_eq!(first.kind, Kind::Tunnel(tunnel), "the device is as it was asked for");
    assert_eq!((first.mtu, first.mac, first.up), (1400, Some(MACS[0]), true), "its MTU, address and state too");
    assert_eq!(first.alias.as_deref(), Some("netd"), "and its alias");
    let second = link("flannel-v6.1");
    assert_eq!((second.mtu, second.mac), (1380, Some(MACS[1])), "a changed device is changed");
    let Kind::Tunnel(Tunnel::Vxlan(third)) = &link("flannel.2").kind else { panic!("flannel.2 is a VXLAN device") };
    assert_eq!((third.learning, third.gbp, third.port), (true, true, 4789), "options are kept");
    assert_eq!(link("flannel.2").alias.as_deref(), Some("it's mine; $HOME"), "an alias is any text");
    assert!(!state.links.iter().any(|link| link.name == name("flannel.3")), "a removed device is gone");
    assert_eq!(state.forwarding.as_deref(), Ok("1"), "the sysctl is set");
    let (v4, v6, eth0) = (first.index, second.index, 3);
    let on_tunnels: Vec<_> = state.addresses.iter().filter(|a| a.index != eth0).map(|a| (a.index, a.address)).collect();
    let mut expected = vec![(v4, ip("10.244.1.0")), (v6, ip("fd00:10:0:1::"))];
    expected.sort();
    assert_eq!(on_tunnels, expected, "addresses are those that were not removed");
    let mut expected = vec![
        route("eth0", "10.244.3.0/24", Some("192.168.1.5"), false).with_index(eth0),
        DeviceRoute { metric: 7, ..route("eth0", "10.244.3.0/24", Some("192.168.1.4"), false) }.with_index(eth0),
        route("eth0", "10.244.6.0/24", Some("192.168.1.6"), false).with_index(eth0),
        route("eth0", "fd00:10:0:3::/64", Some("fd00:1::5"), false).with_index(eth0),
        route("flannel-v6.1", "fd00:10:0:2::/64", Some("fd00:10:0:2::"), true).with_index(v6),
    ];
    expected.sort();
    assert_eq!(state.routes, expected, "routes are those that were not removed, in their last form");
    let neighbour = Neighbour { index: v4, address: ip("10.244.2.0"), mac: Some(MACS[2]), permanent: true };
    assert_eq!(state.neighbours, [neighbour], "a neighbour entry is the last one put");
    let entry = Fdb { index: v4, mac: MACS[1], destination: ip("192.168.1.3"), permanent: true };
    assert_eq!(state.fdb, [entry], "a hardware address has the last tunnel end only");
    let mut expected = table();
    let accept = Rule::new([Statement::Counter, Verdict::Accept.into()]).with_comment("mine: accept");
    expected.chains.get_mut("forward").expect("the chain").rules = vec![accept.clone(), accept];
    assert_eq!(state.table, Some(expected), "the table is as it was written");
}

#[test]
fn tables_and_rules_are_removed_as_printed() {
    on_a_node(|kernel| {
        carry_out(kernel, &every_op());
        let rules = kernel.rules(&table_id(), "forward").expect("rules");
        let remove = |handle| {
            Op::Nft(nft::Operation::DeleteRule { table: table_id(), chain: "forward".to_owned(), handle }.into())
        };
        carry_out(kernel, &[remove(rules[0].handle)]);
        assert_eq!(kernel.rules(&table_id(), "forward").expect("rules"), rules[1..], "the other rule stays");
        assert_eq!(sh(&remove(rules[1].handle).to_string()), Ok(()), "a shell removes a rule");
        assert_eq!(kernel.rules(&table_id(), "forward").expect("rules"), [], "no rule is left");
        let remove = Op::Nft(nft::Operation::DeleteTable(table_id()).into());
        carry_out(kernel, std::slice::from_ref(&remove));
        assert_eq!(kernel.table(&table_id()).expect("an answer"), None, "the table is gone");
        carry_out(kernel, &[Op::Nft(nft::Operation::ReplaceTable(table()).into())]);
        assert_eq!(sh(&remove.to_string()), Ok(()), "a shell removes a table");
        assert_eq!(kernel.table(&table_id()).expect("an answer"), None, "the table is gone again");
    });
}

#[test]
fn one_refused_op_stops_no_other() {
    let ops = [
        Op::AddAddress(address("nowhere", "10.244.1.0", 32)),
        add_vxlan("flannel.1", 1, "192.168.1.1"),
        add_vxlan("flannel.9", 1, "192.168.1.1"),
        Op::AddAddress(address("flannel.9", "10.244.9.0", 32)),
        Op::AddAddress(address("flannel.1", "10.244.1.0", 32)),
        Op::AddAddress(address("flannel.1", "10.244.1.0", 32)),
        sysctl("net/ipv4/no_such_key", "1"),
        Op::AddRoute(route("eth0", "10.244.2.0/24", Some("203.0.113.1"), false)),
        Op::Nft(nft::Operation::DeleteTable(table_id()).into()),
        Op::Nft(nft::Operation::ReplaceTable(table()).into()),
        Op::DeleteRoute(route("eth0", "10.244.3.0/24", Some("192.168.1.3"), false)),
        Op::AddRoute(route("flannel.1", "10.244.2.0/24", Some("10.244.2.0"), true)),
    ];
    on_a_node(|kernel| {
        let outcomes = kernel.apply(&ops);
        let done: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        let expected = [false, true, false, false, true, false, false, false, false, true, false, true];
        assert_eq!(done, expected, "each op has an outcome of its own: {outcomes:?}");
        assert!(outcomes[0].as_ref().is_err_and(KernelError::is_missing), "a missing device is reported as missing");
        assert!(outcomes[2].as_ref().is_err_and(KernelError::is_exists), "a taken VNI is reported as taken");
        assert!(outcomes[10].as_ref().is_err_and(KernelError::is_missing), "a missing route is reported as missing");
        let state = state(kernel);
        assert_eq!(state.table, Some(table()), "what comes after a refused op is there");
        assert_eq!(state.routes.len(), 1, "the last op was carried out");
    });
}

#[test]
fn a_device_that_is_made_anew_is_found_by_later_ops() {
    on_a_node(|kernel| {
        let here = Op::AddAddress(address("flannel.1", "10.244.1.0", 32));
        let remade = [
            add_vxlan("flannel.1", 1, "192.168.1.1"),
            here.clone(),
            Op::DeleteLink(name("flannel.1")),
            add_vxlan("flannel.1", 2, "192.168.1.1"),
            here,
            fdb("flannel.1", MACS[1], "192.168.1.2"),
            Op::DeleteLink(name("flannel.1")),
        ];
        carry_out(kernel, &remade);
        let outcome = kernel.apply(&[fdb("flannel.1", MACS[1], "192.168.1.2")]).remove(0);
        assert!(outcome.is_err_and(|error| error.is_missing()), "a removed device is missing");
    });
}
