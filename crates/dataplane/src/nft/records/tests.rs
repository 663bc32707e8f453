//! What is held by bytes is what typed elements hold, and costs little.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::super::record_changes::{Difference, ELEMENTS_PER_TRANSACTION, RecordChange, transactions};
use super::super::tests::{random, with_socket};
use super::super::{Chain, Operation, RecordList, Table, TableFamily, TableId, protocol};
use super::*;
use crate::types;

/// A map of endpoints with the longest keys and data that the proxy has: IPv6.
fn endpoints() -> Set {
    let address = Type::Address(types::Family::V6);
    let data = DataType::Values(vec![address, Type::Service]);
    Set::map([address, Type::Protocol, Type::Service, Type::Integer], data).with_size(1 << 19)
}

/// Endpoint `slot` of service `n`.
fn key(n: u32, slot: u32) -> [Value; 4] {
    let service = IpAddr::V6(Ipv6Addr::from((0xfd_u128 << 120) | u128::from(n)));
    [Value::Address(service), Value::Protocol(protocol::TCP), Value::Service(80), Value::Integer(slot)]
}

fn data(n: u32, port: u16) -> Data {
    let pod = IpAddr::V6(Ipv6Addr::from((0xfc_u128 << 120) | u128::from(n)));
    Data::Values(vec![Value::Address(pod), Value::Service(port)])
}

fn comment(n: u32) -> String {
    format!("namespace-{}/service-{n}:http", n % 100)
}

/// Five endpoints for each service, in an order of services that is not that of the keys.
fn many(services: u32) -> Records {
    let mut records = Records::of(&endpoints()).expect("a set without ranges");
    for n in (0..services).map(|n| n.wrapping_mul(2_654_435_761)) {
        for slot in 0..5 {
            records.insert(&key(n, slot), Some(&data(n + slot, 8080)), Some(&comment(n))).expect("an endpoint");
        }
    }
    records
}

#[test]
fn an_element_of_a_large_map_costs_at_most_64_bytes() {
    let records = many(50_000);
    assert_eq!(records.len(), 250_000, "each endpoint is there");
    let each = records.allocated() / records.len();
    assert!(each <= 64, "key, data, a share of the comment, and the room of the pages: {each} bytes an element");
    assert!(size_of::<Records>() <= 256, "what is held once: {}", size_of::<Records>());
}

#[test]
fn it_stays_small_under_changes() {
    let mut records = many(2000);
    let before = records.allocated();
    for round in 0..300u16 {
        for n in (0..2000u32).filter(|n| n % 40 == u32::from(round) % 40).map(|n| n.wrapping_mul(2_654_435_761)) {
            for slot in 0..5 {
                assert!(records.remove(&key(n, slot)), "the endpoint was there");
            }
            let text = format!("{}-{round}", comment(n));
            for slot in 0..5 {
                records.insert(&key(n, slot), Some(&data(n, round)), Some(&text)).expect("an endpoint");
            }
        }
    }
    assert_eq!(records.len(), 10_000, "as many as before");
    let after = records.allocated();
    assert!(after < before * 3 / 2, "comments and pages that nobody uses are let go: {before} became {after}");
    let (_, element) = records.get(&key(0, 0)).expect("an endpoint").to_element();
    assert_eq!(element.comment.as_deref(), Some("namespace-0/service-0:http-280"), "the last comment is kept");
}

#[test]
fn a_large_map_is_written_and_read_and_compared() {
    let wanted = many(6_000);
    let id = TableId::new(TableFamily::Inet, "large");
    let table = Table::new(TableFamily::Inet, "large").with_set("m", endpoints());
    let empty = wanted.empty();
    let change = |difference| RecordChange { table: id.clone(), set: "m".into(), difference };
    let changes = transactions(&[change(wanted.difference(&empty))], ELEMENTS_PER_TRANSACTION);
    let of_two = [wanted.get(&key(0, 0)), wanted.get(&key(0, 1))].map(|one| one.expect("an endpoint").to_element());
    let (found, again) = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table)]).expect("a map");
        assert_eq!(socket.read_records(&id, "none", &endpoints()).expect("an answer"), None, "there is no such map");
        for change in &changes {
            socket.apply(&change.operations).expect("elements");
        }
        let found = socket.read_records(&id, "m", &endpoints()).expect("a readable map").expect("the map");
        // One goes, one changes, one comes.
        let mut other = Records::of(&endpoints()).expect("a set without ranges");
        let [(gone, _), (other_data, _)] = &of_two;
        other.insert_element(gone, &of_two[0].1).expect("an endpoint");
        other.insert_element(other_data, &of_two[1].1).expect("an endpoint");
        socket
            .apply(&[Operation::DeleteRecords(RecordList {
                table: id.clone(),
                set: "m".into(),
                records: other.clone(),
            })])
            .expect("two less");
        let mut foreign = wanted.empty();
        foreign.insert(&key(1, 77), Some(&data(1, 1)), None).expect("an endpoint");
        foreign.insert(&key(0, 1), Some(&data(1, 1)), None).expect("an endpoint");
        socket
            .apply(&[Operation::AddRecords(RecordList { table: id.clone(), set: "m".into(), records: foreign })])
            .expect("two more");
        let spoilt = socket.read_records(&id, "m", &endpoints()).expect("a readable map").expect("the map");
        let difference = wanted.difference(&spoilt);
        let keys = |records: &Records| records.iter().map(|one| one.key_values()).collect::<Vec<_>>();
        assert_eq!(keys(&difference.missing), [key(0, 0)], "what is gone");
        assert_eq!(keys(&difference.different), [key(0, 1)], "what is another");
        assert_eq!(keys(&difference.foreign), [key(1, 77)], "what nobody wants");
        for change in transactions(&[change(difference)], ELEMENTS_PER_TRANSACTION) {
            socket.apply(&change.operations).expect("the repair");
        }
        (found, socket.read_records(&id, "m", &endpoints()).expect("a readable map").expect("the map"))
    });
    assert!(found == wanted, "the kernel holds each of the 30,000 endpoints");
    assert!(wanted.difference(&again).is_empty(), "and does so again after the repair");
}

#[test]
fn transactions_are_bounded_and_a_replaced_element_stays() {
    let id = TableId::new(TableFamily::Inet, "t");
    let wanted = many(20);
    let mut found = wanted.empty();
    for slot in 0..5 {
        found.insert(&key(0, slot), Some(&data(9, 9)), None).expect("an endpoint");
        found.insert(&key(7, 20 + slot), Some(&data(9, 9)), None).expect("an endpoint");
    }
    let changes = ["first", "second"].map(|set| RecordChange {
        table: id.clone(),
        set: set.into(),
        difference: wanted.difference(&found),
    });
    let transactions = transactions(&changes, 8);
    let mut seen = Vec::new();
    for transaction in &transactions {
        let mut count = 0;
        let mut deleted: Option<&Records> = None;
        for operation in &transaction.operations {
            let (sign, list) = match operation {
                Operation::AddRecords(list) => ('+', list),
                Operation::DeleteRecords(list) => ('-', list),
                other => panic!("elements only: {other}"),
            };
            count += list.records.len();
            let replaces = deleted.take().is_some_and(|deleted| sign == '+' && *deleted == list.records);
            if sign == '-' {
                deleted = Some(&list.records);
            }
            seen.push((if replaces { '=' } else { sign }, list.set.as_str()));
        }
        assert!(count <= 8, "no transaction is larger: {count}");
    }
    seen.dedup();
    let expected = [
        ('+', "first"),
        ('+', "second"),
        ('-', "first"),
        ('=', "first"),
        ('-', "first"),
        ('=', "first"),
        ('-', "second"),
        ('=', "second"),
        ('-', "second"),
        ('=', "second"),
        ('-', "second"),
        ('-', "first"),
    ];
    let mut expected: Vec<_> = expected.into();
    expected.dedup();
    assert_eq!(seen, expected, "additions, replacements, then removals from the last set on");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut records = Records::of(&endpoints()).expect("a set without ranges");
    let of = |key: &[Value]| key.iter().cloned().collect::<Key>();
    let timed = Element { timeout: Some(std::time::Duration::from_secs(1)), ..data(1, 1).into() };
    assert_eq!(records.insert(&key(1, 1)[..3], Some(&data(1, 1)), None), Err(Unfit::Key));
    assert_eq!(records.insert(&key(1, 1), None, None), Err(Unfit::Data));
    assert_eq!(records.insert(&key(1, 1), Some(&Data::Verdict(Verdict::Drop)), None), Err(Unfit::Data));
    assert_eq!(records.insert(&key(1, 1), Some(&data(1, 1)), Some(&"x".repeat(128))), Err(Unfit::Comment));
    assert_eq!(records.insert_element(&of(&key(1, 1)), &timed), Err(Unfit::Range));
    assert!(records.is_empty(), "nothing came in: {records:?}");
    assert!(Records::of(&endpoints().with_flags(SetFlags::INTERVAL)).is_none(), "ranges have no place");
}

#[test]
fn verdicts_are_kept_once_each() {
    let set = Set::map([Type::Service], DataType::Verdict);
    let verdict = |n: u16| Data::Verdict(Verdict::Goto(format!("chain-{}", n % 3)));
    let mut wanted = Records::of(&set).expect("a set without ranges");
    for n in 0..1000 {
        wanted.insert(&[Value::Service(n)], Some(&verdict(n)), None).expect("an element");
    }
    assert!(wanted.allocated() < 1000 * 14, "a verdict costs its place: {}", wanted.allocated());
    let chains = (0..3).map(|n| (format!("chain-{n}"), Chain::regular())).collect();
    let mut table = Table { chains, ..Table::new(TableFamily::Ip, "t") }.with_set("m", set.clone());
    table.sets.get_mut("m").expect("the map").elements = wanted.iter().map(|one| one.to_element()).collect();
    let found = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table.clone())]).expect("the map");
        socket.read_records(&table.id, "m", &set).expect("a readable map").expect("the map")
    });
    assert_eq!(found, wanted, "whatever the order in which the verdicts came");
}

proptest! {
    /// Against the typed form: any elements, in any order, with removals and replacements in between.
    #[test]
    fn records_are_what_typed_elements_are(one in random::plain_set(), order in any::<u64>()) {
        let mut records = Records::from_elements(&one, &one.elements).expect("elements of a plain set");
        let mut typed: BTreeMap<Key, Element> = one.elements.clone();
        prop_assert_eq!(records.len(), typed.len());
        // Others of the same types: data of another element, no comment.
        let held: Vec<_> = one.elements.values().cloned().collect();
        for (n, (key, _)) in one.elements.iter().enumerate() {
            let values: Vec<_> = key.0.iter().map(|part| part.first.clone()).collect();
            match (order >> (2 * n)) & 3 {
                0 => prop_assert_eq!(records.remove(&values), typed.remove(key).is_some()),
                1 => {
                    let other = Element { comment: None, ..held[0].clone() };
                    records.insert_element(key, &other).expect("an element of the set");
                    typed.insert(key.clone(), other);
                }
                _ => prop_assert!(records.get(&values).is_some()),
            }
        }
        let held: BTreeMap<_, _> = records.iter().map(|one| one.to_element()).collect();
        prop_assert_eq!(&held, &typed, "the same elements");
        prop_assert_eq!(&Records::from_elements(&one, &typed).expect("elements"), &records, "built in another way");
        let before = Records::from_elements(&one, &one.elements).expect("elements");
        let Difference { missing, foreign, different } = records.difference(&before);
        let mut repaired = before;
        for one in foreign.iter() {
            prop_assert!(repaired.remove_bytes(one.key()), "what is foreign was there");
        }
        missing.iter().chain(different.iter()).for_each(|one| repaired.copy(one));
        prop_assert_eq!(repaired, records, "what differs makes the one out of the other");
    }
}
