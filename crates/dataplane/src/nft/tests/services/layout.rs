//! The table as a value.

use super::*;

/// The key of a service: address, protocol and port.
pub(super) fn service(family: types::Family) -> Vec<Expression> {
    vec![Address(family, Destination), Protocol, Port(Destination)]
}

pub(super) fn with(mut key: Vec<Expression>, more: Expression) -> Vec<Expression> {
    key.push(more);
    key
}

/// What differs between the families.
pub(super) struct Plan {
    family: types::Family,
    /// The end of names.
    suffix: &'static str,
    /// An address with this end.
    service: fn(u8) -> Value,
    pod: fn(u8) -> Value,
    service_range: &'static str,
    pods: &'static str,
}

pub(super) const PLANS: [Plan; 2] = [
    Plan {
        family: V4,
        suffix: "v4",
        service: |n| address(&format!("10.96.0.{n}")),
        pod: |n| address(&format!("10.244.1.{n}")),
        service_range: "10.96.0.0/16",
        pods: "10.244.0.0/16",
    },
    Plan {
        family: V6,
        suffix: "v6",
        service: |n| address(&format!("fd00:96::{n}")),
        pod: |n| address(&format!("fd00:10::{n}")),
        service_range: "fd00:96::/112",
        pods: "fd00:10::/56",
    },
];

pub(super) fn values(parts: impl IntoIterator<Item = Value>) -> Key {
    parts.into_iter().collect()
}

pub(super) fn tcp(address: Value, port: u16) -> [Value; 3] {
    [address, Value::Protocol(protocol::TCP), Value::Service(port)]
}

pub(super) fn endpoint(plan: &Plan, n: u8) -> Element {
    let comment = Some("shop/cart:http".to_owned());
    Element { comment, ..Data::Values(vec![(plan.pod)(n), Value::Service(8080)]).into() }
}

pub(super) fn commented() -> Element {
    Element { comment: Some("shop/cart:http".to_owned()), ..Element::default() }
}

pub(super) fn add_sets(mut table: Table, plan: &Plan) -> Table {
    let one = Type::Address(plan.family);
    let key = vec![one, Type::Protocol, Type::Service];
    let data = DataType::Values(vec![one, Type::Service]);
    let interval = SetFlags::INTERVAL;
    let mut put = |name: &str, set: Set| table = table.clone().with_set(format!("{name}-{}", plan.suffix), set);
    let mut elements = Set::of([one]);
    elements.elements.insert((plan.service)(1).into(), commented());
    put("cluster-ips", elements);
    put("service-cidrs", Set::of([one]).with_flags(interval).with_keys([prefix(plan.service_range)]));
    put("node-ips", Set::of([one]).with_keys([(plan.pod)(200)]));
    put("masquerade", Set { counter: true, ..Set::of(key.clone()) }.with_keys([values(tcp((plan.service)(9), 443))]));
    put("node-masquerade", Set::of([Type::Protocol, Type::Service]));
    put("endpoints-3", Set::of(key.clone()).with_keys([values(tcp((plan.service)(3), 80))]));
    let mut single = Set::map(key.clone(), data.clone()).with_size(1000);
    single.elements.insert(values(tcp((plan.service)(1), 80)), endpoint(plan, 1));
    put("single", single);
    let mut backends = Set::map([&key[..], &[Type::Integer]].concat(), data.clone());
    for n in 0..3 {
        let key = tcp((plan.service)(3), 80).into_iter().chain([Value::Integer(n)]);
        backends.elements.insert(values(key), endpoint(plan, 2 + u8::try_from(n).expect("a small number")));
    }
    put("backends", backends);
    for name in ["reject", "drop", "firewalled"] {
        put(name, Set::of(key.clone()));
    }
    let source = |range: &str, port| -> Key {
        let key = tcp((plan.service)(7), port).map(Interval::from);
        key.into_iter().chain([Interval::from(prefix(range))]).collect()
    };
    let mut allowed = Set::of([&key[..], &[one]].concat()).with_flags(interval);
    allowed.elements.insert(source(plan.pods, 80), commented());
    put("allowed", allowed);
    put("hairpin", Set::of([one, one]).with_keys([values([(plan.pod)(1), (plan.pod)(1)])]));
    let timeouts = SetFlags::DYNAMIC | SetFlags::TIMEOUT;
    put("stuck-0-10800s", Set::of([&[one], &key[..]].concat()).with_flags(timeouts).with_size(65536));
    put("clients", Set::map([one], DataType::Values(vec![Type::Service])).with_flags(timeouts).with_size(65536));
    put("slot-0", Set::map(key.clone(), data));
    let mut verdicts = Set::map([Type::Service], DataType::Verdict);
    let goto = Data::Verdict(Verdict::Goto(name(plan, "slot-0-10800s")));
    verdicts
        .elements
        .insert(Value::Service(30080).into(), Element { comment: Some("shop/cart".into()), ..goto.into() });
    put("verdicts", verdicts);
    put("addresses", Set::map([one], DataType::Values(vec![one])));
    put("marks", Set::map([one, Type::Service], DataType::Values(vec![Type::Mark])));
    table
}

pub(super) fn name(plan: &Plan, name: &str) -> String {
    format!("{name}-{}", plan.suffix)
}

pub(super) fn service_chains(table: Table, plan: &Plan) -> Table {
    let family = plan.family;
    let here = Statement::family(family);
    let named = |text: &str| name(plan, text);
    let (saddr, daddr) = (Address(family, Source), Address(family, Destination));
    let client = [std::slice::from_ref(&saddr), &service(family)].concat();
    let slot = named("slot-0-10800s");
    let either = [0, 1].map(|n| (Key::from(Value::Integer(n)), Verdict::Goto(slot.clone())));
    let random = vec![Expression::random(2)];
    let affinity = Chain::regular().with_rules([
        Rule::new([
            here.clone(),
            Statement::is_in(client.clone(), named("stuck-0-10800s")),
            Verdict::Goto(slot.clone()).into(),
        ]),
        Rule::new([Statement::VerdictFrom { key: random, map: VerdictMap::Anonymous(either.into()) }]),
    ]);
    let three_hours = Duration::from_hours(3);
    let change = |action, set: &str, key: &[Expression], data| Statement::Dynamic {
        action,
        set: named(set),
        key: key.to_vec(),
        data,
        timeout: None,
    };
    let add = change(DynamicAction::Add, "clients", std::slice::from_ref(&saddr), vec![Port(Destination)]);
    let delete = change(DynamicAction::Delete, "stuck-0-10800s", &client, vec![]);
    let taken = Chain::regular().with_rules([
        Rule::new([here.clone(), Statement::update(named("stuck-0-10800s"), client, three_hours)]),
        Rule::new([here.clone(), add]),
        Rule::new([here.clone(), delete]),
        Rule::new([here.clone(), Statement::dnat(family, service(family), named("slot-0"))]),
    ]);
    let marked = Statement::SetMark(Mark.or(0x4000));
    let services = Chain::regular().with_rules([
        Rule::new([
            here.clone(),
            Statement::ne(saddr.clone(), prefix(plan.pods)),
            Statement::is_in([daddr.clone()], named("cluster-ips")),
            marked,
        ]),
        Rule::new([here.clone(), Statement::dnat(family, service(family), named("single"))]),
        Rule::new([
            here.clone(),
            Statement::is_in(service(family), named("endpoints-3")),
            Statement::dnat(family, with(service(family), Expression::random(3)), named("backends")),
        ]),
        Rule::new([Statement::vmap([Port(Destination)], named("verdicts"))]),
        Rule::new([
            here.clone(),
            Statement::Nat {
                side: Destination,
                to: NatTarget::Map {
                    family,
                    with_port: false,
                    lookup: MapLookup::new([daddr.clone()], named("addresses")),
                },
                flags: NatFlags { persistent: true, ..NatFlags::default() },
            },
        ]),
        Rule::new([
            here,
            Statement::SetMark(Expression::MarkFrom(MapLookup::new([daddr, Port(Destination)], named("marks")))),
        ]),
    ]);
    table
        .with_chain(named("affinity-3-10800s"), affinity)
        .with_chain(slot, taken)
        .with_chain(named("services"), services)
}

pub(super) fn refusals(plan: &Plan) -> Vec<Rule> {
    let family = plan.family;
    let here = Statement::family(family);
    let new = Statement::connection_in(state::NEW);
    let looked_up = |set: &str| Statement::is_in(service(family), name(plan, set));
    vec![
        Rule::new([
            here.clone(),
            new.clone(),
            looked_up("firewalled"),
            Statement::is_not_in(with(service(family), Address(family, Source)), name(plan, "allowed")),
            Verdict::Drop.into(),
        ]),
        Rule::new([
            here.clone(),
            new.clone(),
            looked_up("reject"),
            Statement::Counter,
            Statement::Reject(Reject::PortUnreachable(family)),
        ]),
        Rule::new([
            here.clone(),
            Statement::eq(Protocol, Value::Protocol(protocol::TCP)),
            new,
            Statement::is_in([Address(family, Destination)], name(plan, "cluster-ips")),
            Statement::Reject(Reject::TcpReset),
        ]),
        Rule::new([
            here,
            Statement::is_in([Address(family, Destination)], name(plan, "service-cidrs")),
            Verdict::Drop.into(),
        ]),
    ]
}

/// The whole table.
pub(in super::super) fn services() -> Table {
    let jumps = || PLANS.iter().map(|plan| Rule::new([Verdict::Jump(name(plan, "services")).into()]));
    let local = Value::AddressType(AddressType::Local);
    let output = Rule::new([
        Statement::eq(Expression::DestinationType, local.clone()),
        Statement::eq(Expression::SourceType, local),
        Statement::eq(OutputName, Value::IfName("lo".parse().expect("a name"))),
        Verdict::Jump("services-v4".into()).into(),
    ]);
    let masquerade = Statement::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() });
    let to_one = |to, side, flags| {
        Rule::new([Statement::eq(Protocol, Value::Protocol(protocol::UDP)), Statement::Nat { side, to, flags }])
    };
    let ip = |text: &str| text.parse().expect("an address");
    let plain = NatFlags::default();
    let fixed = Chain::base(ChainType::Nat, Hook::Prerouting, -90).with_rules([
        Rule::new([Statement::Nat { side: Destination, to: NatTarget::Address(ip("192.0.2.1"), None), flags: plain }]),
        to_one(NatTarget::Address(ip("192.0.2.1"), Some(53)), Destination, plain),
        to_one(NatTarget::Address(ip("fd00::1"), Some(53)), Destination, NatFlags { random: true, ..plain }),
        to_one(NatTarget::Port(5353), Destination, plain),
    ]);
    let mut postrouting = Chain::base(ChainType::Nat, Hook::Postrouting, 100).with_rules([
        Rule::new([
            Statement::ne(Mark.masked(0x4000), Value::Mark(0)),
            Statement::SetMark(Mark.xor(0x4000)),
            masquerade.clone(),
        ]),
        Rule::new([
            Statement::eq(Mark, Value::Mark(5)),
            Statement::SetMark(Expression::Random { modulus: 3, offset: 4 }),
        ]),
        to_one(NatTarget::Address(ip("192.0.2.7"), Some(4000)), Source, plain),
    ]);
    let mut refuse = Chain::base(ChainType::Filter, Hook::Forward, 0);
    let mut table = Table::new(TableFamily::Inet, "netd-proxy");
    for plan in &PLANS {
        table = service_chains(add_sets(table, plan), plan);
        refuse = refuse.with_rules(refusals(plan));
        let ends = [Address(plan.family, Source), Address(plan.family, Destination)];
        postrouting = postrouting.with_rules([Rule::new([
            Statement::family(plan.family),
            Statement::connection_has(status::DNAT),
            Statement::is_in(ends, name(plan, "hairpin")),
            masquerade.clone(),
        ])]);
    }
    refuse = refuse.with_rules([Rule::new([Statement::Reject(Reject::AnyPortUnreachable)])]);
    table
        .with_chain("fixed", fixed)
        .with_chain("output", Chain::base(ChainType::Nat, Hook::Output, -100).with_rules([output]))
        .with_chain("postrouting", postrouting)
        .with_chain("prerouting", Chain::base(ChainType::Nat, Hook::Prerouting, -100).with_rules(jumps()))
        .with_chain("refuse", refuse)
}
