//! Any table of the model, written and read; any bytes, read.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Source, Side::Destination])
}

fn op() -> impl Strategy<Value = Comparison> {
    select(vec![Comparison::Eq, Comparison::Ne])
}

fn name() -> impl Strategy<Value = types::IfName> {
    "[a-z][a-z0-9.-]{0,14}".prop_map(|name| name.parse().expect("a name"))
}

fn ip(family: types::Family) -> impl Strategy<Value = std::net::IpAddr> {
    any::<u128>().prop_map(move |number| types::address(family, number))
}

fn any_prefix(family: types::Family) -> impl Strategy<Value = Prefix> {
    (ip(family), 0..=family.bits()).prop_map(|(address, len)| Prefix::new(address, len).expect("a prefix"))
}

fn value(kind: Type) -> BoxedStrategy<Value> {
    match kind {
        Type::Address(family) => ip(family).prop_map(Value::Address).boxed(),
        Type::Protocol => any::<u8>().prop_map(Value::Protocol).boxed(),
        Type::Service => any::<u16>().prop_map(Value::Service).boxed(),
        Type::Mark => any::<u32>().prop_map(Value::Mark).boxed(),
        Type::Priority => any::<u32>().prop_map(Value::Priority).boxed(),
        Type::IfName => name().prop_map(Value::IfName).boxed(),
        Type::NetworkProtocol => select(vec![V4, V6]).prop_map(Value::NetworkProtocol).boxed(),
        Type::AddressType => select(AddressType::ALL.to_vec()).prop_map(Value::AddressType).boxed(),
        Type::ConnectionState => any::<u32>().prop_map(Value::ConnectionState).boxed(),
        Type::ConnectionStatus => any::<u32>().prop_map(Value::ConnectionStatus).boxed(),
        Type::Integer => any::<u32>().prop_map(Value::Integer).boxed(),
        Type::Other { bytes, .. } => vec(any::<u8>(), bytes as usize).prop_map(Value::Bytes).boxed(),
    }
}

fn mark() -> impl Strategy<Value = Expression> {
    let bits = |of: Expression| {
        (any::<u32>(), any::<u32>()).prop_map(move |(mask, xor)| Expression::Bits {
            of: Box::new(of.clone()),
            mask,
            xor,
        })
    };
    prop_oneof![Just(Expression::Mark), bits(Expression::Mark)]
}

fn compared() -> impl Strategy<Value = Statement> {
    let plain = prop_oneof![
        Just(Expression::Protocol),
        mark(),
        Just(Expression::InputName),
        Just(Expression::OutputName),
        side().prop_map(Expression::Port),
        Just(Expression::SourceType),
        Just(Expression::DestinationType),
        Just(Expression::ConnectionState),
        any::<u32>().prop_map(|mask| Expression::ConnectionState.masked(mask)),
        any::<u32>().prop_map(|mask| Expression::ConnectionStatus.masked(mask)),
    ];
    let operand = |left: &Expression| value(left.kind()).prop_map(Operand::Value);
    let values = (plain, op()).prop_flat_map(move |(left, op)| {
        (operand(&left)).prop_map(move |right| Statement::Compare { left: left.clone(), op, right })
    });
    let short = name().prop_filter("room for more", |name| name.as_str().len() < 15);
    let start = (op(), short).prop_map(|(op, name)| Statement::Compare {
        left: Expression::InputName,
        op,
        right: Operand::NamesLike(name),
    });
    prop_oneof![4 => values, 1 => start]
}

/// Statements that need to be together: an address only after its family.
fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let addresses = select(vec![V4, V6]).prop_flat_map(|family| {
        vec((side(), op(), any_prefix(family)), 1..3).prop_map(move |comparisons| {
            let compared = comparisons.into_iter().map(|(side, op, right)| Statement::Compare {
                left: Expression::Address(family, side),
                op,
                right: right.into(),
            });
            std::iter::once(Statement::family(family)).chain(compared).collect::<Vec<_>>()
        })
    });
    let rest = vec(
        prop_oneof![
            4 => compared(),
            1 => Just(Statement::Counter),
            1 => mark().prop_map(Statement::SetMark),
            1 => any::<u32>().prop_map(|mark| Statement::SetMark(Expression::Value(Value::Mark(mark)))),
            1 => op().prop_map(|op| Statement::Lookup { key: looked_up(), op, set: "looked-up".into() }),
            1 => number().prop_map(Statement::SetMark),
            1 => any::<u32>().prop_map(|number| Statement::SetPriority(Expression::Value(Value::Priority(number)))),
            1 => Just(Statement::SetPriority(Expression::MarkFrom(MapLookup::new(looked_up(), "priorities")))),
            1 => Just(Statement::SetMark(Expression::MarkFrom(MapLookup::new(looked_up(), "marks")))),
            1 => Just(Statement::vmap(looked_up(), "decided")),
            1 => btree_map(keys(vec![Type::Service, Type::Integer]), verdict(), 1..4).prop_map(|elements| {
                let key = vec![Expression::Port(Side::Destination), Expression::random(9)];
                Statement::VerdictFrom { key, map: VerdictMap::Anonymous(elements) }
            }),
            1 => dynamic(),
        ],
        0..4,
    );
    (prop_oneof![Just(Vec::new()), addresses], rest).prop_map(|(mut first, rest)| {
        first.extend(rest);
        first
    })
}

fn looked_up() -> Vec<Expression> {
    vec![Expression::Port(Side::Source), Expression::Mark, Expression::Protocol]
}

/// A random number of which each fits into 32 bits.
fn number() -> impl Strategy<Value = Expression> {
    (1..=u32::MAX, any::<u32>())
        .prop_map(|(modulus, offset)| Expression::Random { modulus, offset: offset.min(u32::MAX - modulus) })
}

fn dynamic() -> impl Strategy<Value = Statement> {
    let seconds = proptest::option::of(1..10_000u64);
    let action = select(vec![DynamicAction::Add, DynamicAction::Update, DynamicAction::Delete]);
    (action, seconds, any::<bool>()).prop_map(|(action, seconds, is_map)| {
        let is_map = is_map && action != DynamicAction::Delete;
        Statement::Dynamic {
            action,
            set: if is_map { "filled-map" } else { "filled" }.into(),
            key: looked_up(),
            data: if is_map { vec![Expression::Protocol, Expression::random(7)] } else { vec![] },
            timeout: seconds.filter(|_| action != DynamicAction::Delete).map(Duration::from_secs),
        }
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    select(vec![
        Verdict::Accept,
        Verdict::Drop,
        Verdict::Return,
        Verdict::Continue,
        Verdict::Jump("target".into()),
        Verdict::Goto("target".into()),
    ])
}

fn flags() -> impl Strategy<Value = NatFlags> {
    any::<(bool, bool, bool)>().prop_map(|(random, fully_random, persistent)| NatFlags {
        random,
        fully_random,
        persistent,
    })
}

/// A translation, behind a comparison of the transport protocol where the translation needs one.
fn translation() -> impl Strategy<Value = Vec<Statement>> {
    let family = || select(vec![V4, V6]);
    let constant = family().prop_flat_map(|family| (ip(family), proptest::option::of(any::<u16>())));
    let to = prop_oneof![
        constant.prop_map(|(address, port)| NatTarget::Address(address, port)),
        any::<u16>().prop_map(NatTarget::Port),
        family().prop_map(|family| {
            let map = if family == V4 { "endpoints4" } else { "endpoints6" };
            NatTarget::Map { family, with_port: true, lookup: MapLookup::new(looked_up(), map) }
        }),
    ];
    (to, flags()).prop_map(|(to, flags)| {
        let is_tcp = Statement::eq(Expression::Protocol, Value::Protocol(protocol::TCP));
        vec![is_tcp, Statement::Nat { side: Side::Source, to, flags }]
    })
}

/// Without a statement about addresses, any translation is sound.
fn rule() -> impl Strategy<Value = Rule> {
    let masquerade = flags().prop_map(|flags| vec![Statement::Masquerade(flags)]);
    let end = prop_oneof![Just(Vec::new()), verdict().prop_map(|verdict| vec![verdict.into()]), masquerade];
    let plain = (statements(), end).prop_map(|(statements, end)| [statements, end].concat());
    let any = prop_oneof![4 => plain, 1 => translation()];
    (any, proptest::option::of("[ -~]{0,127}")).prop_map(|(statements, comment)| Rule { statements, comment })
}

fn kinds() -> impl Strategy<Value = Vec<Type>> {
    let kind = select(vec![
        Type::Address(V4),
        Type::Address(V6),
        Type::Protocol,
        Type::Service,
        Type::Mark,
        Type::Priority,
        Type::IfName,
        Type::ConnectionState,
    ]);
    vec(kind, 1..4).prop_filter("a key has room for 64 bytes", |kinds| wire::joined_bytes(kinds) <= 64)
}

fn values(kinds: Vec<Type>) -> impl Strategy<Value = Vec<Value>> {
    kinds.into_iter().map(value).collect::<Vec<_>>()
}

fn keys(kinds: Vec<Type>) -> impl Strategy<Value = Key> {
    values(kinds).prop_map(|values| values.into_iter().collect())
}

fn comment() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[ !#-~]{0,127}")
}

pub(in crate::nft) fn plain_set() -> impl Strategy<Value = Set> {
    let numbered = (Just(vec![Type::Address(V6), Type::Service, Type::Integer]), Just(Some(vec![Type::Address(V6)])));
    let kinds = prop_oneof![8 => (kinds(), proptest::option::of(kinds())), 1 => numbered];
    (kinds, any::<bool>()).prop_flat_map(|((key, held), counter)| {
        let data = match &held {
            None => Just(None).boxed(),
            Some(kinds) => values(kinds.clone()).prop_map(|values| Some(Data::Values(values))).boxed(),
        };
        let element = (data, comment()).prop_map(|(data, comment)| Element { data, comment, ..Element::default() });
        btree_map(keys(key.clone()), element, 0..12).prop_map(move |elements| Set {
            data: held.clone().map(DataType::Values),
            counter,
            elements,
            ..Set::of(key.clone())
        })
    })
}

/// Ranges that do not overlap, some of them neighbours.
fn interval_set() -> impl Strategy<Value = Set> {
    (select(vec![V4, V6]), vec(any::<u128>(), 0..8), any::<bool>()).prop_map(|(family, cuts, to_the_end)| {
        let highest = family.default_route().last();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut & highest).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let end = |number| Value::Address(types::address(family, number));
        let ranges = cuts.windows(2).map(|pair| Interval { first: end(pair[0]), last: end(pair[1] - 1) });
        let last = cuts.last().filter(|_| to_the_end).map(|cut| Interval { first: end(*cut), last: end(highest) });
        Set::of([Type::Address(family)]).with_flags(SetFlags::INTERVAL).with_keys(ranges.chain(last))
    })
}

pub(super) fn table() -> impl Strategy<Value = Table> {
    let sets = btree_map("[a-z]{1,8}-[0-9]", prop_oneof![plain_set(), interval_set()], 0..4);
    (sets, vec(rule(), 0..6), proptest::option::of("[ -~]{0,127}")).prop_map(|(sets, rules, comment)| {
        let chain = Chain::base(ChainType::Nat, Hook::Postrouting, -7).with_rules(rules);
        let table = Table { comment, sets, ..Table::new(TableFamily::Inet, "any") };
        let key = [Type::Service, Type::Mark, Type::Protocol];
        let endpoints = |family| DataType::Values(vec![Type::Address(family), Type::Service]);
        let filled = SetFlags::DYNAMIC | SetFlags::TIMEOUT;
        let numbered = DataType::Values(vec![Type::Protocol, Type::Integer]);
        table
            .with_set("looked-up", Set::of(key))
            .with_set("marks", Set::map(key, DataType::Values(vec![Type::Mark])))
            .with_set("priorities", Set::map(key, DataType::Values(vec![Type::Priority])))
            .with_set("decided", Set::map(key, DataType::Verdict))
            .with_set("endpoints4", Set::map(key, endpoints(V4)))
            .with_set("endpoints6", Set::map(key, endpoints(V6)))
            .with_set("filled", Set::of(key).with_flags(filled).with_size(99))
            .with_set("filled-map", Set::map(key, numbered).with_flags(filled).with_size(99))
            .with_chain("base", chain)
            .with_chain("target", Chain::regular())
    })
}

fn read_again(socket: &mut Socket) -> Option<Table> {
    socket.read_table(TableFamily::Inet, "any").expect("a readable table")
}

#[test]
fn any_table_is_read_back_as_it_was_written() {
    with_socket(|socket| {
        let socket = std::cell::RefCell::new(socket);
        let cases = Config { cases: 300, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(cases).run(&table(), |table| {
            let written = socket.borrow_mut().apply(&[Operation::ReplaceTable(table.clone())]);
            prop_assert!(written.is_ok(), "the kernel takes it: {written:?}\n{table}");
            let read = read_again(&mut socket.borrow_mut());
            prop_assert_eq!(read, Some(table), "the kernel holds what was written");
            Ok(())
        });
        outcome.expect("any table to be the same again");
    });
}
