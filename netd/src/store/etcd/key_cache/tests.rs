use super::*;

const PREFIX: &str = "/coreos.com/network/";

fn kv(key: &str, value: &str, revision: i64) -> KeyValue {
    KeyValue {
        key: format!("{PREFIX}{key}"),
        value: value.as_bytes().to_vec(),
        mod_revision: revision,
        ..KeyValue::default()
    }
}

fn node(subnet: &str, name: &str, revision: i64) -> KeyValue {
    let value = format!(r#"{{"PublicIP":"192.168.1.1","PublicIPv6":null,"BackendType":"host-gw","Node":"{name}"}}"#);
    kv(&format!("subnets/{subnet}-24"), &value, revision)
}

fn config(revision: i64) -> KeyValue {
    kv("config", "{}", revision)
}

/// Events in short: `+n1 10.1.1.0/24`, `-n1`, `[`, `]`, `conf`.
fn short(events: &[StoreEvent]) -> Vec<String> {
    let short = |event: &StoreEvent| match event {
        StoreEvent::Init => "[".to_owned(),
        StoreEvent::InitDone => "]".to_owned(),
        StoreEvent::Lease(lease) => format!("+{} {}", lease.node, lease.subnets.v4.expect("IPv4")),
        StoreEvent::Removed(node) => format!("-{node}"),
        StoreEvent::NetConf(_) => "conf".to_owned(),
        other => format!("{other:?}"),
    };
    events.iter().map(short).collect()
}

fn listed(kvs: &[KeyValue]) -> KeyCache {
    let mut cache = KeyCache::new(PREFIX.to_owned());
    cache.list(kvs, false, None);
    assert!(cache.faults.is_empty());
    cache
}

#[test]
fn a_list_gives_the_configuration_and_every_node() {
    let mut cache = KeyCache::new(PREFIX.to_owned());
    let update = cache.list(
        &[config(1), node("10.1.1.0", "n1", 2), kv("other", "x", 3), node("10.1.2.0", "n2", 4)],
        false,
        None,
    );
    assert_eq!(short(&update), ["conf", "[", "+n1 10.1.1.0/24", "+n2 10.1.2.0/24", "]"]);
    let again = cache.list(&[config(1), node("10.1.2.0", "n2", 4)], false, None);
    assert_eq!(short(&again), ["[", "+n2 10.1.2.0/24", "]"], "who is not in it is gone");
}

#[test]
fn a_list_without_a_configuration_is_ignored() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    assert_eq!(cache.list(&[], false, None), []);
    assert!(cache.net_conf.is_none());
    let update = cache.list(&[config(1)], true, None);
    assert_eq!(short(&update), ["conf", "[", "+n1 10.1.1.0/24", "]"], "n1 may come back");
    assert!(cache.net_conf.is_some() && !cache.missing.is_empty());
    assert_eq!(short(&cache.expire_missing()), ["-n1"]);
    assert!(cache.missing.is_empty() && cache.expire_missing().is_empty());
}

#[test]
fn a_missing_node_that_comes_back_stays() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 20), node("10.1.2.0", "n2", 21)]);
    cache.list(&[config(1)], true, None);
    assert_eq!(short(&cache.put(&node("10.1.1.0", "n1", 2))), Vec::<String>::new(), "as it was");
    let moved = cache.put(&node("10.1.3.0", "n2", 3));
    assert_eq!(short(&moved).last().map(String::as_str), Some("+n2 10.1.3.0/24"), "an old revision does not win");
    assert!(cache.expire_missing().is_empty());
}

#[test]
fn this_nodes_missing_key_is_reported_at_once() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 2), node("10.1.2.0", "n2", 3)]);
    let update = cache.list(&[config(1)], true, Some(&"n1".parse().expect("name")));
    assert_eq!(short(&update), ["[", "+n2 10.1.2.0/24", "]"]);
}

#[test]
fn changes_give_events_and_repetitions_do_not() {
    let mut cache = listed(&[config(1)]);
    assert_eq!(short(&cache.put(&node("10.1.1.0", "n1", 2))), ["+n1 10.1.1.0/24"]);
    assert!(cache.put(&node("10.1.1.0", "n1", 3)).is_empty());
    assert_eq!(short(&cache.delete(&node("10.1.1.0", "", 4).key)), ["-n1"]);
    assert!(cache.delete(&node("10.1.1.0", "", 5).key).is_empty());
    assert!(cache.put(&config(6)).is_empty());
    assert_eq!(short(&cache.put(&kv("config", "[]", 7))), ["conf"]);
}

#[test]
fn a_node_that_changes_its_subnet_is_never_removed() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    assert_eq!(short(&cache.put(&node("10.1.9.0", "n1", 3))), ["+n1 10.1.9.0/24"]);
    assert!(cache.delete(&node("10.1.1.0", "", 4).key).is_empty(), "the old key is no longer its lease");
    let both = listed(&[config(1), node("10.1.1.0", "n1", 9), node("10.1.2.0", "n1", 5)]);
    assert_eq!(both.lease(&"n1".parse().expect("name")).and_then(|lease| lease.subnets.v4), "10.1.1.0/24".parse().ok());
}

#[test]
fn a_key_that_changes_its_node_is_removed_first() {
    let flannels = kv("subnets/10.1.1.0-24", r#"{"PublicIP":"192.168.1.1","BackendType":"host-gw"}"#, 2);
    let mut cache = listed(&[config(1), flannels]);
    let update = cache.put(&node("10.1.1.0", "n1", 3));
    assert_eq!(short(&update), ["-192.168.1.1", "+n1 10.1.1.0/24"]);
}

#[test]
fn an_invalid_value_is_logged_once_and_the_last_valid_one_counts() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    let garbage = kv("subnets/10.1.1.0-24", "{", 3);
    assert!(cache.put(&garbage).is_empty());
    let faults = std::mem::take(&mut cache.faults);
    assert!(matches!(&faults[..], [(key, Some(_))] if key == "subnets/10.1.1.0-24"), "{faults:?}");
    assert!(cache.put(&garbage).is_empty() && cache.faults.is_empty(), "once");
    assert_eq!(short(&cache.list(&[config(1), garbage], false, None)), ["[", "+n1 10.1.1.0/24", "]"]);
    let foreign = cache.put(&kv("subnets/rack-7", "{}", 4));
    assert_eq!((foreign.len(), cache.faults.len()), (0, 1));
}

#[test]
fn all_keys_give_the_leases_that_events_give() {
    let value = r#"{"PublicIP":"192.168.1.77","BackendType":"host-gw","Node":"n1"}"#;
    let foreign = KeyValue { create_revision: 9, ..kv("subnets/10.1.77.0-24", value, 9) };
    let keys = [
        config(1),
        KeyValue { create_revision: 2, ..node("10.1.1.0", "n1", 2) },
        KeyValue { create_revision: 3, ..node("10.1.9.0", "n2", 3) },
        KeyValue { create_revision: 4, ..node("10.1.2.0", "n2", 4) },
        foreign,
        kv("subnets/10.1.3.0-24", "nonsense", 5),
    ];
    let leases = KeyCache::leases(PREFIX.to_owned(), &keys);
    let events: Vec<_> = leases.into_iter().map(StoreEvent::Lease).collect();
    assert_eq!(short(&events), ["+n1 10.1.1.0/24", "+n2 10.1.2.0/24"]);
    let mut cache = KeyCache::new(PREFIX.to_owned());
    let listed = cache.list(&keys, false, None);
    assert_eq!(short(&listed), ["conf", "[", "+n1 10.1.1.0/24", "+n2 10.1.2.0/24", "]"]);
}

#[test]
fn a_later_key_with_another_address_moves_no_node_before_the_first_is_gone() {
    let mut cache = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    let value = r#"{"PublicIP":"192.168.1.77","BackendType":"host-gw","Node":"n1"}"#;
    let foreign = KeyValue { create_revision: 3, ..kv("subnets/10.1.77.0-24", value, 3) };
    assert_eq!(short(&cache.put(&foreign)), [""; 0]);
    let faults = std::mem::take(&mut cache.faults);
    let [(key, Some(fault))] = &faults[..] else { panic!("one fault: {faults:?}") };
    assert!(key == "subnets/10.1.77.0-24" && fault.contains("n1") && fault.contains("10.1.1.0/24"), "{faults:?}");
    assert_eq!(short(&cache.delete(&format!("{PREFIX}subnets/10.1.1.0-24"))), ["+n1 10.1.77.0/24"]);
    assert_eq!(cache.faults, [("subnets/10.1.77.0-24".to_owned(), None)]);
}
