//! What is written is what is read.

use nix::libc::{EEXIST, ENOENT};

use super::super::encode::Batch;
use super::*;
use crate::netlink_message::Refusal;

pub(super) fn read(socket: &mut Socket, table: &Table) -> Option<Table> {
    socket.read_table(table.id.family, &table.id.name).expect("a readable table")
}

#[test]
fn a_table_is_read_back_as_it_was_written() {
    let table = sample();
    let read = with_socket(|socket| {
        assert_eq!(read(socket, &table), None, "a new namespace has no table");
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a table that the kernel takes");
        read(socket, &table)
    });
    assert_eq!(read, Some(table), "the kernel holds what was written");
}

#[test]
fn a_table_is_replaced_whole() {
    let old = sample();
    let new = Table::new(TableFamily::Inet, "netd").with_set("cluster", cluster_set());
    let other = Table::new(TableFamily::Ip, "netd");
    with_socket(|socket| {
        let other_table = Operation::AddTable(other.id.clone());
        socket.apply(&[other_table, Operation::ReplaceTable(old)]).expect("both tables");
        socket.apply(&[Operation::ReplaceTable(new.clone())]).expect("the new table");
        assert_eq!(read(socket, &new), Some(new), "nothing of the old table is left");
        assert_eq!(read(socket, &other), Some(other), "the table of another family stays");
    });
}

#[test]
fn a_refused_change_is_named_and_nothing_is_made() {
    let id = TableId::new(TableFamily::Ip, "t");
    let jump = Rule::new([Verdict::Jump("nowhere".into()).into()]);
    let changes = [
        Operation::AddTable(id.clone()),
        Operation::ReplaceTable(Table::new(TableFamily::Ip, "t").with_chain("c", Chain::regular())),
        Operation::AddRule { table: id.clone(), chain: "c".into(), rule: jump },
        Operation::DeleteChain { table: id.clone(), name: "none".into() },
    ];
    with_socket(|socket| {
        let refused = socket.apply(&changes).expect_err("a jump to nowhere");
        assert!(
            matches!(&refused, Error::Refused { operation: Some(2), what, refusal: Refusal { errno: ENOENT, .. } }
                if what == "new rule of chain c"),
            "the first of two refused changes is named: {refused:?}"
        );
        assert!(refused.is_missing(), "a missing chain is told from other refusals");
        assert_eq!(socket.read_table(id.family, &id.name).expect("an answer"), None, "nothing was made");
        socket.apply(&changes[..2]).expect("the rest, by the same socket");
    });
}

#[test]
fn a_refusal_within_a_table_names_the_object() {
    let lookup = Rule::new([Statement::is_in([Expression::Mark], "no-set")]);
    let table =
        Table::new(TableFamily::Ip, "t").with_chain("c", Chain::regular().with_rules([Rule::default(), lookup]));
    let refused = with_socket(|socket| socket.apply(&[Operation::ReplaceTable(table)])).expect_err("a missing set");
    assert_eq!(
        refused.to_string(),
        "the kernel refused rule 2 of chain c: No such file or directory (os error 2)",
        "the message says which rule"
    );
}

#[test]
fn what_cannot_be_written_is_not_sent() {
    let id = TableId::new(TableFamily::Inet, "t");
    let rule = |statement: Statement| Operation::AddRule {
        table: id.clone(),
        chain: "c".into(),
        rule: Rule::new([statement]),
    };
    let saddr = Expression::Address(V6, Side::Source);
    let table = || Table::new(TableFamily::Inet, "t");
    let hook = Chain::base(ChainType::Filter, Hook::Egress, 0);
    let range = Key::from(prefix("10.0.0.0/8"));
    let wrong = [
        rule(Statement::eq(saddr.clone(), prefix("fd00::/64"))),
        rule(Statement::eq(Expression::Mark, Value::Service(1))),
        rule(Statement::Compare { left: saddr, op: Comparison::Eq, right: Operand::Value(address("fd00::1")) }),
        rule(Statement::is_in([], "s")),
        rule(Statement::SetMark(Expression::Protocol)),
        rule(Statement::Opaque { name: "xt".into(), data: Vec::new() }),
        Operation::ReplaceTable(table().with_chain("c", hook)),
        Operation::ReplaceTable(table().with_set("s", Set::of([]))),
        Operation::ReplaceTable(table().with_set("s", Set::of([Type::Mark]).with_flags(SetFlags::INTERVAL))),
        Operation::AddElements(Elements {
            table: id.clone(),
            set: "s".into(),
            flags: SetFlags::default(),
            elements: [(range, Element::default())].into(),
        }),
        Operation::AddRule {
            table: id.clone(),
            chain: "c".into(),
            rule: Rule::default().with_comment("x".repeat(128)),
        },
    ];
    for change in wrong {
        let refused = Batch::of(&[Operation::AddTable(id.clone()), change.clone()], 1).expect_err("a refusal");
        assert_eq!(refused.operation, 1, "the change is named: {change}");
    }
}

#[test]
fn elements_come_and_go_without_the_rest() {
    let mut table = sample();
    let one = |key: Key| Elements {
        table: TableId::new(TableFamily::Inet, "netd"),
        set: "cluster".into(),
        flags: SetFlags::INTERVAL,
        elements: [(key, Element::default())].into(),
    };
    let (new, old) = (prefix("172.16.0.0/12"), prefix("10.244.1.0/24"));
    with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the table");
        let changes = [Operation::AddElements(one(new.into())), Operation::DeleteElements(one(old.into()))];
        socket.apply(&changes).expect("both changes");
        socket.apply(&changes[..1]).expect("the same element again is no error");
        let missing = socket.apply(&changes[1..]).expect_err("what is gone cannot be deleted");
        assert!(missing.is_missing(), "the kernel says that it is not there: {missing:?}");
        let elements = &mut table.sets.get_mut("cluster").expect("the set").elements;
        elements.insert(new.into(), Element::default());
        elements.remove(&Key::from(old));
        assert_eq!(read(socket, &table), Some(table), "one came, one went, the others stay");
    });
}

#[test]
fn another_verdict_for_a_key_is_refused() {
    let table = sample();
    let (key, _) = table.sets["services"].elements.first_key_value().expect("an element");
    let change = Operation::AddElements(Elements {
        table: table.id.clone(),
        set: "services".into(),
        flags: SetFlags::default(),
        elements: [(key.clone(), Data::Verdict(Verdict::Accept).into())].into(),
    });
    let refused = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the table");
        socket.apply(&[change]).expect_err("a key that is there with another verdict")
    });
    assert_eq!(refused.errno(), Some(EEXIST), "delete the old element in the same batch");
}

#[test]
fn rules_in_a_chain_of_somebody_elses_come_and_go_by_handle() {
    let id = TableId::new(TableFamily::Ip, "filter");
    let mut chain = Chain::base(ChainType::Filter, Hook::Forward, 0);
    chain.base.as_mut().expect("a base chain").policy = Policy::Drop;
    let foreign = Rule::new([Statement::Counter, Verdict::Drop.into()]);
    let ours = Rule::new([
        Statement::eq(Expression::Address(V4, Side::Source), prefix("10.244.0.0/16")),
        Verdict::Accept.into(),
    ])
    .with_comment("netd forward");
    with_socket(|socket| {
        let chain = chain.with_rules([foreign.clone()]);
        let made = Table::new(TableFamily::Ip, "filter").with_chain("FORWARD", chain.clone());
        socket.apply(&[Operation::ReplaceTable(made)]).expect("a foreign table");
        let facts =
            BaseChainFacts { table: id.clone(), chain: "FORWARD".into(), base: chain.base.expect("a base chain") };
        assert_eq!(socket.base_chains().expect("base chains"), [facts], "the policy drop is seen");
        let insert = Operation::InsertRule { table: id.clone(), chain: "FORWARD".into(), rule: ours.clone() };
        socket.apply(&[insert]).expect("a rule of ours");
        let placed = socket.read_rules(TableFamily::Ip, "filter", "FORWARD").expect("rules");
        let rules: Vec<_> = placed.iter().map(|placed| placed.rule.clone()).collect();
        assert_eq!(rules, [ours, foreign.clone()], "ours comes first");
        let delete = Operation::DeleteRule { table: id.clone(), chain: "FORWARD".into(), handle: placed[0].handle };
        socket.apply(&[delete]).expect("a handle that exists");
        let left = socket.read_rules(TableFamily::Ip, "filter", "FORWARD").expect("rules");
        assert_eq!(left.len(), 1, "the foreign rule stays: {left:?}");
        assert_eq!(socket.read_rules(TableFamily::Ip, "none", "none").expect("no rules"), [], "no chain, no rules");
    });
}

#[test]
fn chains_and_tables_are_deleted() {
    let id = TableId::new(TableFamily::Ip6, "t");
    let bare = Table::new(TableFamily::Ip6, "t");
    let chain = Chain::regular().with_rules([Rule::new([Statement::Counter])]);
    with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(bare.clone().with_chain("c", chain))]).expect("a chain");
        socket.apply(&[Operation::DeleteChain { table: id.clone(), name: "c".to_owned() }]).expect("a delete");
        assert_eq!(read(socket, &bare), Some(bare), "the table stays, bare");
        socket.apply(&[Operation::DeleteTable(id.clone())]).expect("a delete");
        assert_eq!(socket.read_table(id.family, &id.name).expect("an answer"), None, "the table is gone");
    });
}

#[test]
fn a_dormant_table_is_another_one() {
    let awake = sample();
    let dormant = Table { dormant: true, ..awake.clone() };
    with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(dormant.clone())]).expect("the table");
        let read = read(socket, &awake).expect("a table");
        assert_ne!(read, awake, "a table that does nothing is not taken for a good one");
        assert_eq!(read, dormant, "and it is said why");
    });
}

#[test]
fn twenty_thousand_elements_go_and_come_in_one_batch() {
    let keys = (0..20_000u32).map(|n| Value::Address(types::address(V4, u128::from(0x0a00_0000 + 3 * n))));
    let mut set = Set::of([Type::Address(V4)]).with_flags(SetFlags::INTERVAL).with_keys(keys);
    set.size = Some(65536);
    let table = Table::new(TableFamily::Inet, "large").with_set("all", set);
    let read = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a large table");
        read(socket, &table)
    });
    assert!(read == Some(table), "each element is there");
}

#[test]
fn each_transaction_is_a_generation() {
    with_socket(|socket| {
        let before = socket.generation().expect("a generation");
        socket.apply(&[]).expect("nothing to do");
        assert_eq!(socket.generation().expect("a generation"), before, "nothing was sent");
        socket.apply(&[Operation::AddTable(TableId::new(TableFamily::Ip, "t"))]).expect("a table");
        assert_eq!(socket.generation().expect("a generation"), before + 1, "one transaction");
    });
}

#[test]
fn a_table_is_read_while_another_socket_writes() {
    let table = sample();
    let rounds = 300;
    scratch(|| {
        let mut reader = Socket::open().expect("a socket");
        let mut other_socket = Socket::open().expect("a socket");
        reader.apply(&[Operation::ReplaceTable(table.clone())]).expect("the table");
        let other = TableId::new(TableFamily::Ip, "other");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..rounds {
                    let changes = [Operation::AddTable(other.clone()), Operation::DeleteTable(other.clone())];
                    for change in changes {
                        other_socket.apply(&[change]).expect("a change");
                    }
                }
            });
            for _ in 0..20 {
                match reader.read_table(TableFamily::Inet, "netd") {
                    Ok(read) => assert_eq!(read.as_ref(), Some(&table), "no reading is half of one state"),
                    Err(Error::NeverConsistent(_)) => {}
                    Err(error) => panic!("only a ruleset that never rests may keep us from reading: {error:?}"),
                }
            }
        });
    })
    .expect("a new namespace");
}

#[test]
fn a_map_may_say_what_all_other_keys_hold() {
    let held = |verdict| Element::from(Data::Verdict(verdict));
    let mut map = Set::map([Type::Address(V6)], DataType::Verdict).with_flags(SetFlags::INTERVAL);
    map.elements.insert(prefix("fd00::/8").into(), held(Verdict::Accept));
    map.elements.insert(Key(Vec::new()), held(Verdict::Drop));
    let table = Table::new(TableFamily::Ip6, "t").with_set("m", map);
    with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the map");
        assert_eq!(read(socket, &table), Some(table), "both elements are there");
    });
}

#[test]
fn chains_of_devices_name_them() {
    let chain = |devices: &[&str]| {
        let mut chain = Chain::base(ChainType::Filter, Hook::Ingress, 3);
        chain.base.as_mut().expect("a base chain").devices = devices.iter().map(ToString::to_string).collect();
        chain
    };
    let table = Table::new(TableFamily::Netdev, "t").with_chain("one", chain(&["lo"]));
    let inet = Table::new(TableFamily::Inet, "t").with_chain("one", chain(&["lo"]));
    with_socket(|socket| {
        for table in [table, inet] {
            socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("a chain of lo's");
            assert_eq!(read(socket, &table), Some(table), "the device is read back");
        }
        assert_eq!(socket.base_chains().expect("base chains").len(), 2, "chains of all families are listed");
    });
}
