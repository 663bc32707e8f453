//! A table that balances Services: the one that the proxy writes, with one of each statement, for both families.
//!
//! Service addresses `10.96.0.0/16` and `fd00:96::/112`, pods `10.244.0.0/16` and `fd00:10::/56`.

use super::*;
use crate::conntrack;
use Expression::{Address, Mark, OutputName, Port, Protocol};
use Side::{Destination, Source};

mod layout;

pub(super) use layout::services;
use layout::*;

#[test]
fn it_is_read_back_as_it_was_written() {
    let table = services();
    let (read, skeleton) = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a table that the kernel takes");
        let skeleton = socket.read_table_without_elements(table.id.family, &table.id.name);
        (kernel::read(socket, &table), skeleton.expect("a readable table"))
    });
    with_nft::similar(&read.expect("a table"), &table);
    assert_eq!(skeleton, Some(table.narrowed(&std::collections::BTreeSet::new())), "all but the elements");
}

#[test]
fn nft_lists_it_and_loads_what_it_lists() {
    let table = services();
    let [listed, again] = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the table");
        let list = || with_nft::nft(&["list", "ruleset"], "");
        let listed = list();
        with_nft::paste(&listed.replacen("table", "delete table inet netd-proxy\ntable", 1));
        [listed, list()]
    });
    assert_eq!(listed, include_str!("services-listed.nft"), "an operator reads this");
    assert_eq!(again, listed, "nft loads what it has listed");
}

#[test]
fn what_we_print_of_it_is_the_value() {
    let table = services();
    assert_eq!(table.to_string() + "\n", include_str!("services-printed.nft"), "an operator reads and pastes this");
    let read = with_socket(|socket| {
        with_nft::paste(&table.to_string());
        kernel::read(socket, &table).expect("a table")
    });
    with_nft::similar(&read, &table);
}

#[test]
fn what_a_dynamic_set_holds_and_what_is_counted_is_no_difference() {
    let table = services();
    let used = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the table");
        with_nft::paste("add element inet netd-proxy clients-v4 { 10.244.1.9 timeout 1h : 80 }");
        kernel::read(socket, &table).expect("a table")
    });
    let client = &used.sets["clients-v4"].elements[&Key::from(address("10.244.1.9"))];
    let expires = client.usage.expires.expect("what is left of its time");
    assert!(expires > Duration::from_mins(30) && expires <= Duration::from_hours(1), "{expires:?}");
    let (_, counted) = used.sets["masquerade-v4"].elements.first_key_value().expect("an element");
    assert_eq!(counted.usage.counter, Some(Counter::default()), "a counter is read");
    assert_ne!(used, table, "the table holds one element more");
    assert!(used.is_like(&table) && table.is_like(&used), "but a rule could have put it there");
    assert_eq!(used.element_changes(&table), Some(Transaction::default()), "and nothing has to change");
    let mut other = table.clone();
    other.sets.get_mut("single-v4").expect("the map").elements.clear();
    assert!(!used.is_like(&other), "an element of another map is a difference");
    let mut other = table;
    other.sets.get_mut("clients-v4").expect("the map").size = None;
    assert!(!used.is_like(&other), "and so is a dynamic set of another size");
}

#[test]
fn sets_and_chains_come_and_go_one_by_one() {
    let id = TableId::new(TableFamily::Inet, "t");
    let key = Key::from(address("10.0.0.1"));
    let held = |port| Element::from(Data::Values(vec![Value::Service(port)]));
    let mut ports = Set::map([Type::Address(V4)], DataType::Values(vec![Type::Service]));
    ports.elements.insert(key.clone(), held(80));
    let looks_up = Rule::new([Statement::is_in([Protocol], "protocols"), Verdict::Drop.into()]);
    let chain = Chain::regular().with_rules([looks_up]);
    let table = || id.clone();
    let elements = |port| Elements {
        table: table(),
        set: "ports".into(),
        flags: SetFlags::default(),
        elements: [(key.clone(), held(port))].into(),
    };
    let [delete, add] = Operation::replace_elements(elements(81));
    let steps = [
        vec![
            Operation::AddTable(table()),
            Operation::AddSet { table: table(), name: "ports".into(), set: ports.clone() },
            Operation::AddSet { table: table(), name: "protocols".into(), set: Set::of([Type::Protocol]) },
            Operation::AddChain { table: table(), name: "c".into(), chain: chain.clone() },
        ],
        vec![delete, add],
        vec![
            Operation::FlushChain { table: table(), name: "c".into() },
            Operation::DeleteSet { table: table(), name: "protocols".into() },
        ],
    ];
    let mut changed = ports.clone();
    changed.elements.insert(key.clone(), held(81));
    let bare = Table::new(TableFamily::Inet, "t");
    let first = bare.clone().with_set("protocols", Set::of([Type::Protocol])).with_chain("c", chain);
    let expected = [
        first.clone().with_set("ports", ports),
        first.with_set("ports", changed.clone()),
        bare.with_set("ports", changed).with_chain("c", Chain::regular()),
    ];
    for paste_them in [false, true] {
        with_socket(|socket| {
            for (step, expected) in steps.iter().zip(&expected) {
                if paste_them {
                    for operation in step {
                        with_nft::paste(&operation.to_string());
                    }
                } else {
                    socket.apply(step).expect("one transaction");
                }
                assert_eq!(kernel::read(socket, expected).as_ref(), Some(expected), "pasted: {paste_them}");
            }
        });
    }
}

#[test]
fn what_nft_would_not_load_again_is_not_sent() {
    let rule = |statements: Vec<Statement>| {
        let chain = Chain::regular().with_rules([Rule::new(statements)]);
        Operation::ReplaceTable(Table::new(TableFamily::Inet, "t").with_chain("c", chain))
    };
    let to = |to| Statement::Nat { side: Destination, to, flags: NatFlags::default() };
    let v6: std::net::IpAddr = "fd00::1".parse().expect("an address");
    let nameless = Set::of([Type::Integer, Type::IfName]);
    let elements = [(Key::from(Value::Mark(1)), Verdict::Accept)].into();
    let wrong = [
        rule(vec![to(NatTarget::Port(80))]),
        rule(vec![to(NatTarget::Address(v6, Some(80)))]),
        rule(vec![Statement::family(V4), to(NatTarget::Address(v6, None))]),
        rule(vec![Statement::dnat(V4, service(V4), "m")]),
        rule(vec![Statement::dnat(V4, [], "m")]),
        rule(vec![Statement::Reject(Reject::PortUnreachable(V4))]),
        rule(vec![Statement::family(V4), Statement::Reject(Reject::AnyPortUnreachable)]),
        rule(vec![Statement::Reject(Reject::TcpReset)]),
        rule(vec![Statement::eq(Expression::random(3), Value::Integer(1))]),
        rule(vec![Statement::is_in([Expression::random(0)], "s")]),
        rule(vec![Statement::is_in([Expression::MarkFrom(MapLookup::new([Mark], "m"))], "s")]),
        rule(vec![Statement::VerdictFrom { key: vec![Protocol], map: VerdictMap::Anonymous(elements) }]),
        rule(vec![Statement::update("s", [Expression::Value(Value::Mark(1))], Duration::from_secs(1))]),
        Operation::ReplaceTable(Table::new(TableFamily::Inet, "t").with_set("s", nameless)),
    ];
    for change in wrong {
        let outcome = encode::Batch::of(std::slice::from_ref(&change), 1);
        assert!(outcome.is_err(), "this must be refused: {change}");
    }
}

/// A table that translates what the namespace itself sends to port 53 of an address, by a map with a random slot.
fn translating(family: types::Family, service_address: &str, slots: u32, end: (&str, u16)) -> Table {
    let one = Type::Address(family);
    let data = DataType::Values(vec![one, Type::Service]);
    let mut backends = Set::map([one, Type::Protocol, Type::Service, Type::Integer], data);
    for slot in 0..slots {
        let udp = Value::Protocol(protocol::UDP);
        let key = values([address(service_address), udp, Value::Service(53), Value::Integer(slot)]);
        backends.elements.insert(key, Data::Values(vec![address(end.0), Value::Service(end.1)]).into());
    }
    let random = with(service(family), Expression::random(slots));
    let rule = Rule::new([Statement::family(family), Statement::dnat(family, random, "backends")]);
    let chain = Chain::base(ChainType::Nat, Hook::Output, -100).with_rules([rule]);
    Table::new(TableFamily::Inet, "t").with_set("backends", backends).with_chain("output", chain)
}

#[test]
fn packets_go_where_the_map_says() {
    for (family, to, end) in [(V4, "127.0.0.2", "127.0.0.1"), (V6, "::1", "::1")] {
        with_socket(|socket| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip: install iproute2").success(), "the loopback device is up");
            let endpoint = std::net::UdpSocket::bind((end, 0)).expect("a free port");
            let port = endpoint.local_addr().expect("an address").port();
            socket.apply(&[Operation::ReplaceTable(translating(family, to, 3, (end, port)))]).expect("a table");
            let client = std::net::UdpSocket::bind((end, 0)).expect("a free port");
            client.send_to(b"for the service", (to, 53)).expect("a datagram");
            let mut buffer = [0; 32];
            let (length, from) = endpoint.recv_from(&mut buffer).expect("the datagram");
            assert_eq!(&buffer[..length], b"for the service", "the endpoint receives what went to the service");
            assert_eq!(Some(from), client.local_addr().ok(), "from the client");
            let selector = conntrack::Selector::Destination {
                to: std::net::SocketAddr::new(to.parse().expect("an address"), 53),
                protocol: protocol::UDP,
            };
            let mut conntrack = conntrack::Conntrack::open().expect("a socket");
            let flows = conntrack.dump(&selector).expect("flows");
            let [flow] = flows.as_slice() else { panic!("one flow to the service: {flows:?}") };
            assert_eq!(Some(flow.reply.source), endpoint.local_addr().ok(), "the flow names the endpoint");
            assert!(flow.status & status::DNAT != 0, "it is translated: {flow:?}");
            conntrack.delete(&selector).expect("a deletion");
            assert_eq!(conntrack.dump(&selector).expect("flows"), [], "the next datagram is translated anew");
        });
    }
}
