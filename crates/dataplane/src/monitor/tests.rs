//! What each subscriber receives of the running kernel's notifications, and what wakes nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use super::*;
use crate::link::{self, Device, Kind};
use crate::netlink::RouteSocket;
use crate::netns::scratch;
use crate::nft::{
    Action, Chain, ChainType, Data, DataType, Element, Elements, Hook, Key, Operation, Rule, Set, SetFlags, Subject,
    Table, TableFamily, TableFilter, TableId, Type, Value, Verdict,
};
use crate::route::{Route, RouteKind};
use crate::types::{self, IfName, Mac, RouteProtocol};
use crate::{address, neighbour, nft};

mod rtnetlink;

fn name(text: &str) -> IfName {
    text.parse().expect("an interface name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(address: &str) -> Key {
    Key::from(Value::Address(ip(address)))
}

fn in_namespace(body: impl FnOnce() + Send) {
    scratch(body).expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A monitor with one subscriber.
fn monitor(filter: Filter) -> (Monitor, Subscription) {
    let mut monitor = Monitor::open().expect("a monitor");
    let subscription = monitor.subscribe(filter);
    (monitor, subscription)
}

/// True where a datagram has arrived since.
fn wakes(monitor: &mut Monitor) -> bool {
    monitor.receive(usize::MAX).expect("a working monitor")
}

fn bridge(socket: &mut RouteSocket, device: &str) -> u32 {
    socket.request(link::add_bridge(&name(device), Mac::local([2, 0, 0, 0, 0, 1]), None)).expect("a bridge");
    socket.index(&name(device)).expect("an answer").expect("the bridge")
}

/// netd's table: a set of addresses, a map and a chain.
fn own() -> Table {
    let verdicts = Set::map([Type::Address(types::Family::V4)], DataType::Verdict);
    Table::new(TableFamily::Inet, "netd")
        .with_set("nodes", Set::of([Type::Address(types::Family::V4)]).with_keys([key("192.0.2.1"), key("192.0.2.2")]))
        .with_set("verdicts", verdicts)
        .with_chain("postrouting", Chain::base(ChainType::Nat, Hook::Postrouting, 100))
}

/// The chain that iptables keeps.
fn filter_table() -> Table {
    Table::new(TableFamily::Ip, "filter").with_chain("FORWARD", Chain::base(ChainType::Filter, Hook::Forward, 0))
}

fn own_filter() -> Filter {
    let iptables = TableFilter::of_chains(["FORWARD"]);
    let tables = [
        (own().id, TableFilter::of(&own())),
        (TableId::new(TableFamily::Ip, "filter"), iptables.clone()),
        (TableId::new(TableFamily::Ip6, "filter"), iptables),
    ];
    Filter { tables: Tables::Only(tables.into()), ..Filter::default() }
}

fn tables(events: &[Event]) -> Vec<(&TableId, &Subject, Action)> {
    let mut changes = Vec::new();
    for event in events {
        if let Event::Table(change) = event {
            changes.push((&change.table, &change.subject, change.action));
        }
    }
    changes
}

/// Adds and deletes many elements of a table, in as many datagrams as the kernel needs.
fn storm(socket: &mut nft::Socket, table: &str, family: TableFamily, count: u32) {
    let id = TableId::new(family, table);
    let set = Set::of([Type::Address(types::Family::V4)]);
    let keys = (0..count).map(|n| Key::from(Value::Address(IpAddr::V4((0x0a00_0000 + n).into()))));
    let elements = keys.map(|key| (key, Element::default())).collect();
    let elements = Elements { table: id.clone(), set: "s".into(), flags: SetFlags::default(), elements };
    for operation in [
        Operation::ReplaceTable(Table::new(family, table).with_set("s", set)),
        Operation::AddElements(elements.clone()),
        Operation::DeleteElements(elements),
        Operation::DeleteTable(id),
    ] {
        socket.apply(&[operation]).expect("a storm");
    }
}

#[test]
fn a_storm_in_other_tables_wakes_nobody() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        let (mut monitor, subscription) = monitor(own_filter());
        // Names and families that differ from a wanted table as little as can be.
        for (table, family) in [
            ("storm", TableFamily::Ip),
            ("netd", TableFamily::Ip),
            ("netd2", TableFamily::Inet),
            ("net", TableFamily::Inet),
            ("nete", TableFamily::Inet),
            ("filter", TableFamily::Inet),
            ("filteR", TableFamily::Ip),
        ] {
            storm(&mut socket, table, family, 2000);
            assert!(!wakes(&mut monitor), "{family} {table} wakes the subscriber of other tables");
        }
        storm(&mut socket, "netd", TableFamily::Inet, 2);
        assert!(wakes(&mut monitor), "a change of the own table does");
        assert!(!tables(&monitor.take(subscription)).is_empty(), "and is received");
    });
}

#[test]
fn a_deleted_element_is_received_with_its_key() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        socket.apply(&[Operation::ReplaceTable(own())]).expect("a table");
        let (mut monitor, subscription) = monitor(own_filter());
        let elements = |keys: &[(Key, Element)]| Some(keys.iter().cloned().collect::<BTreeMap<_, _>>());
        let cases = [
            (
                "delete element inet netd nodes { 192.0.2.1 }",
                "nodes",
                Action::Deleted,
                elements(&[(key("192.0.2.1"), Element::default())]),
            ),
            (
                "add element inet netd verdicts { 192.0.2.9 : drop }",
                "verdicts",
                Action::New,
                elements(&[(key("192.0.2.9"), Data::Verdict(Verdict::Drop).into())]),
            ),
            (
                "add element inet netd nodes { 192.0.2.7, 192.0.2.8 }",
                "nodes",
                Action::New,
                elements(&[(key("192.0.2.7"), Element::default()), (key("192.0.2.8"), Element::default())]),
            ),
        ];
        for (command, set, action, elements) in cases {
            shell(&format!("nft '{command}'"));
            let events = monitor.drain(subscription).expect("a working monitor");
            let subject = Subject::Elements { set: set.to_owned(), elements };
            assert_eq!(tables(&events), [(&own().id, &subject, action)], "{command}");
        }
    });
}

#[test]
fn a_concatenated_key_is_received_with_its_data_and_a_dynamic_set_is_not() {
    in_namespace(|| {
        let v4 = Type::Address(types::Family::V4);
        let data = DataType::Values(vec![v4, Type::Service]);
        let dynamic = SetFlags::DYNAMIC | SetFlags::TIMEOUT;
        let table = own()
            .with_set("backends", Set::map([v4, Type::Protocol, Type::Service, Type::Integer], data))
            .with_set("clients", Set::of([v4]).with_flags(dynamic).with_size(100));
        let mut socket = nft::Socket::open().expect("a socket");
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a table");
        let wanted = Tables::Only([(table.id.clone(), TableFilter::of(&table).without_own(socket.port()))].into());
        let (mut monitor, subscription) = monitor(Filter { tables: wanted, ..Filter::default() });
        let parts = [Value::Address(ip("192.0.2.9")), Value::Protocol(17), Value::Service(53), Value::Integer(1)];
        let data = Data::Values(vec![Value::Address(ip("10.0.0.1")), Value::Service(5353)]);
        let held = Element { comment: Some("kube-system/dns".to_owned()), ..data.into() };
        let elements = BTreeMap::from([(parts.into_iter().collect::<Key>(), held)]);
        let of = "backends { 192.0.2.9 . udp . 53 . 1 comment \"kube-system/dns\" : 10.0.0.1 . 5353 }";
        for (verb, action) in [("add", Action::New), ("delete", Action::Deleted)] {
            shell(&format!("nft '{verb} element inet netd clients {{ 192.0.2.1 }}; {verb} element inet netd {of}'"));
            let events = monitor.drain(subscription).expect("a working monitor");
            let subject = Subject::Elements { set: "backends".to_owned(), elements: Some(elements.clone()) };
            assert_eq!(tables(&events), [(&table.id, &subject, action)], "{verb}");
        }
        let set = table.sets["backends"].clone();
        let records = nft::Records::from_elements(&set, &elements).expect("an element of the map");
        let list = nft::RecordList { table: table.id.clone(), set: "backends".to_owned(), records };
        socket.apply(&[Operation::AddRecords(list.clone()), Operation::DeleteRecords(list)]).expect("own changes");
        let events = monitor.drain(subscription).expect("a working monitor");
        assert_eq!(tables(&events), [], "what the subscriber does itself is no news");
    });
}

#[test]
fn ends_of_ranges_ask_for_the_set_to_be_read() {
    in_namespace(|| {
        let ranges = Set::of([Type::Address(types::Family::V4)]).with_flags(SetFlags::INTERVAL);
        let table = Table::new(TableFamily::Inet, "netd").with_set("ranges", ranges);
        nft::Socket::open().expect("a socket").apply(&[Operation::ReplaceTable(table.clone())]).expect("a table");
        let tables_of = [(table.id.clone(), TableFilter::of(&table))];
        let (mut monitor, subscription) =
            monitor(Filter { tables: Tables::Only(tables_of.into()), ..Filter::default() });
        shell("nft add element inet netd ranges { 10.0.0.0/8 }");
        let events = monitor.drain(subscription).expect("a working monitor");
        let subject = Subject::Elements { set: "ranges".to_owned(), elements: None };
        assert_eq!(tables(&events), [(&table.id, &subject, Action::New)], "both ends are one event");
    });
}

#[test]
fn a_flushed_ruleset_is_received_among_many_other_tables() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        // The first and the last of a long list; and so many in one datagram as there is room for.
        let others =
            |letter| (0..100).map(move |n| Operation::AddTable(TableId::new(TableFamily::Ip, format!("{letter}{n}"))));
        let mut all: Vec<_> = others('a').collect();
        all.push(Operation::ReplaceTable(own()));
        all.extend(others('o'));
        all.push(Operation::ReplaceTable(filter_table()));
        all.extend(others('z'));
        socket.apply(&all).expect("tables");
        let (mut monitor, subscription) = monitor(own_filter());
        shell("nft flush ruleset");
        let events = monitor.drain(subscription).expect("a working monitor");
        for id in [own().id, filter_table().id] {
            let gone = (&id, &Subject::Table, Action::Deleted);
            assert!(tables(&events).contains(&gone), "the end of table {id} is received: {events:?}");
        }
        assert!(tables(&events).iter().all(|(id, ..)| **id == own().id || **id == filter_table().id), "{events:?}");
    });
}

#[test]
fn of_a_table_with_named_chains_nothing_else_is_received() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        let table = filter_table()
            .with_chain("KUBE-SERVICES", Chain::regular())
            .with_set("s", Set::of([Type::Address(types::Family::V4)]));
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a table");
        let (mut monitor, subscription) = monitor(own_filter());
        let rule = Rule::new([Verdict::Accept.into()]);
        let add =
            |chain: &str| Operation::AddRule { table: table.id.clone(), chain: chain.to_owned(), rule: rule.clone() };
        socket.apply(&[add("KUBE-SERVICES")]).expect("a rule");
        shell("nft add element ip filter s { 192.0.2.1 }");
        assert_eq!(monitor.drain(subscription).expect("a working monitor"), [], "another chain, and a set");
        socket.apply(&[add("FORWARD")]).expect("a rule");
        let events = monitor.drain(subscription).expect("a working monitor");
        assert_eq!(tables(&events), [(&table.id, &Subject::Rule("FORWARD".to_owned()), Action::New)]);
    });
}

#[test]
fn own_changes_wake_nobody_but_another_subscriber() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        let filter = TableFilter::of(&own());
        let of = |filter| Filter { tables: Tables::Only([(own().id, filter)].into()), ..Filter::default() };
        let (mut monitor, owner) = monitor(of(filter.clone().without_own(socket.port())));
        socket.apply(&[Operation::ReplaceTable(own())]).expect("a table");
        assert!(!wakes(&mut monitor), "the owner's changes are known to it");
        let other = monitor.subscribe(of(filter));
        socket.apply(&[Operation::DeleteTable(own().id)]).expect("no table");
        assert_eq!(monitor.drain(owner).expect("a working monitor"), [], "the owner");
        assert!(!monitor.take(other).is_empty(), "another subscriber receives them");
        shell("nft add table inet netd");
        for (who, subscription) in [("the owner", owner), ("another subscriber", other)] {
            let events = monitor.drain(subscription).expect("a working monitor");
            assert_eq!(tables(&events), [(&own().id, &Subject::Table, Action::New)], "{who}: a change of nft's");
        }
    });
}

#[test]
fn a_replaced_table_is_received_by_who_wants_all() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        let (mut monitor, subscription) = monitor(Filter::all());
        assert!(!wakes(&mut monitor), "nothing has happened");
        socket.apply(&[Operation::ReplaceTable(own())]).expect("the table");
        let events = monitor.drain(subscription).expect("a working monitor");
        let generation = socket.generation().expect("a generation");
        assert_eq!(events.last(), Some(&Event::Committed { generation }), "the generation is that of the ruleset now");
        let changes = tables(&events);
        for subject in [
            Subject::Table,
            Subject::Chain("postrouting".to_owned()),
            Subject::Set("nodes".to_owned()),
            Subject::Elements { set: "nodes".to_owned(), elements: None },
        ] {
            assert!(changes.contains(&(&own().id, &subject, Action::New)), "{subject:?} in {changes:?}");
        }
        let origin = |event: &Event| if let Event::Table(change) = event { Some(change.origin) } else { None };
        assert!(events.iter().filter_map(origin).all(|origin| origin == socket.port()), "{events:?}");
    });
}

#[test]
fn lost_notifications_are_an_event_and_not_the_end() {
    in_namespace(|| {
        let mut socket = nft::Socket::open().expect("a socket");
        let (mut monitor, subscription) = monitor(Filter::all());
        monitor.nftables.inner.set_rx_buf_sz(4096).expect("a small buffer");
        storm(&mut socket, "t", TableFamily::Ip, 20_000);
        let events = monitor.drain(subscription).expect("a working monitor");
        assert!(events.contains(&Event::Overrun), "the loss is an event: {} events", events.len());
        socket.apply(&[Operation::AddTable(own().id)]).expect("the table");
        let events = monitor.drain(subscription).expect("a working monitor");
        assert_eq!(events.len(), 2, "the monitor goes on: {events:?}");
    });
}
