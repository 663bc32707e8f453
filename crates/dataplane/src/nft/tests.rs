//! The model against itself, against the kernel, and against `nft`. Each test has a network namespace of its own.

use std::time::Duration;

use super::*;
use crate::netns::scratch;
use crate::types::{self, Prefix};

mod kernel;
pub(super) mod random;
mod reader;
mod services;
mod with_nft;

const V4: types::Family = types::Family::V4;
const V6: types::Family = types::Family::V6;

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> Value {
    Value::Address(text.parse().expect("an address"))
}

/// Runs `body` with a socket in a new namespace.
pub(super) fn with_socket<T: Send>(body: impl FnOnce(&mut Socket) -> T + Send) -> T {
    let run = || body(&mut Socket::open().expect("a netfilter socket"));
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

/// What netd has in the kernel, and one of everything beside it.
///
/// Cluster `10.244.0.0/16` and `fd00:10::/56`, this node's pods `10.244.1.0/24` and `fd00:10:0:1::/64`.
fn sample() -> Table {
    use Expression::{Address, ConnectionState, DestinationType, InputName, Mark, OutputName, Port, Protocol};
    use Side::{Destination, Source};
    let masquerade = Statement::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() });
    let mut postrouting = Chain::base(ChainType::Nat, Hook::Postrouting, 100).with_rules([Rule::new([
        Statement::eq(Mark.masked(0x4000), Value::Mark(0x4000)),
        Verdict::Return.into(),
    ])
    .with_comment("marked for masquerading by another")]);
    for (family, cluster, pods) in [(V4, "10.244.0.0/16", "10.244.1.0/24"), (V6, "fd00:10::/56", "fd00:10:0:1::/64")] {
        postrouting.rules.extend([
            Rule::new([
                Statement::family(family),
                Statement::eq(Address(family, Source), prefix(pods)),
                Statement::eq(Address(family, Destination), prefix(cluster)),
                Verdict::Return.into(),
            ]),
            Rule::new([
                Statement::family(family),
                Statement::eq(Address(family, Source), prefix(cluster)),
                Statement::ne(Address(family, Destination), family.multicast()),
                Statement::Counter,
                masquerade.clone(),
            ]),
        ]);
    }
    let forward = Chain::base(ChainType::Filter, Hook::Forward, 0).with_rules([
        Rule::new([
            Statement::family(V4),
            Statement::is_in([Address(V4, Source)], "cluster"),
            Statement::Counter,
            Verdict::Accept.into(),
        ]),
        Rule::new([
            Statement::family(V6),
            Statement::is_not_in([Address(V6, Destination), Protocol, Port(Destination)], "services6"),
            Verdict::Jump("later".into()).into(),
        ]),
        Rule::new([Statement::connection_in(state::ESTABLISHED | state::RELATED), Verdict::Accept.into()]),
        Rule::new([Statement::eq(ConnectionState, Value::ConnectionState(state::NEW)), Verdict::Continue.into()]),
    ]);
    let later = Chain::regular().with_rules([
        Rule::new([
            Statement::eq(DestinationType, Value::AddressType(AddressType::Local)),
            Statement::eq(Protocol, Value::Protocol(protocol::TCP)),
            Statement::ne(Port(Source), Value::Service(80)),
            Statement::SetMark(Mark.or(0x4000)),
        ]),
        Rule::new([
            Statement::eq(InputName, Value::IfName("cni0".parse().expect("a name"))),
            Statement::ne(OutputName, Operand::NamesLike("flannel".parse().expect("a name"))),
            Statement::SetMark(Expression::Value(Value::Mark(7))),
            Verdict::Drop.into(),
        ]),
        Rule::new([Statement::is_in([InputName, Mark], "links"), Verdict::Goto("last".into()).into()]),
        Rule::new([
            Statement::family(V4),
            Statement::eq(Address(V4, Destination), Prefix::host("10.244.1.1".parse().expect("an address"))),
            Statement::ne(Address(V4, Source), prefix("0.0.0.0/0")),
            Statement::SetMark(Expression::Bits { of: Box::new(Mark), mask: 0xff00, xor: 0x12_00ff }),
        ]),
    ]);
    sets(Table::new(TableFamily::Inet, "netd").with_comment("one of everything"))
        .with_chain("forward", forward)
        .with_chain("last", Chain::regular())
        .with_chain("later", later)
        .with_chain("postrouting", postrouting)
}

fn sets(table: Table) -> Table {
    let services6 = [Type::Address(V6), Type::Protocol, Type::Service];
    let ranges: Key = [
        Interval::from(prefix("fd00:10::/56")),
        Interval::from(Value::Protocol(protocol::UDP)),
        Interval { first: Value::Service(30000), last: Value::Service(32767) },
    ]
    .into_iter()
    .collect();
    let mut verdicts = Set::map([Type::Address(V4), Type::Protocol, Type::Service], DataType::Verdict);
    verdicts.size = Some(65536);
    let service =
        |address: Value| -> Key { [address, Value::Protocol(protocol::TCP), Value::Service(80)].into_iter().collect() };
    verdicts.elements.insert(service(address("10.96.0.10")), Data::Verdict(Verdict::Goto("later".into())).into());
    verdicts.elements.insert(service(address("10.96.0.11")), Data::Verdict(Verdict::Drop).into());
    let endpoint = DataType::Values(vec![Type::Address(V4), Type::Service]);
    let mut endpoints = Set::map([Type::Address(V4), Type::Mark], endpoint);
    let data = Data::Values(vec![address("10.244.1.2"), Value::Service(8080)]);
    endpoints.elements.insert([address("10.96.0.10"), Value::Mark(0)].into_iter().collect(), data.into());
    let mut clients = Set::map([Type::Address(V4)], DataType::Values(vec![Type::Mark]));
    clients = clients.with_flags(SetFlags::TIMEOUT | SetFlags::DYNAMIC);
    (clients.timeout, clients.size) = (Some(Duration::from_hours(3)), Some(1000));
    let data = Data::Values(vec![Value::Mark(2)]);
    let held = Element { timeout: Some(Duration::from_mins(10)), ..data.into() };
    clients.elements.insert(address("10.244.1.9").into(), held);
    let links: Key = [Value::IfName("eth0".parse().expect("a name")), Value::Mark(1)].into_iter().collect();
    table
        .with_set("clients", clients)
        .with_set("cluster", cluster_set())
        .with_set("endpoints", endpoints)
        .with_set("links", Set::of([Type::IfName, Type::Mark]).with_keys([links]))
        .with_set("services", verdicts)
        .with_set("services6", Set::of(services6).with_flags(SetFlags::INTERVAL).with_keys([ranges]))
}

fn cluster_set() -> Set {
    // Neighbours, a range that is no prefix, and one that reaches the highest address.
    Set::of([Type::Address(V4)])
        .with_flags(SetFlags::INTERVAL)
        .with_keys([prefix("10.244.0.0/24"), prefix("10.244.1.0/24"), prefix("255.255.255.0/24")])
        .with_keys([Interval { first: address("192.0.2.3"), last: address("192.0.2.9") }])
}
