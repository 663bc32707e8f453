use super::*;

const PREFIX: &str = "/coreos.com/network/";

fn kv(key: &str, value: &str, revision: i64) -> KeyValue {
    KeyValue {
        key: format!("{PREFIX}{key}").into_bytes(),
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

fn listed(kvs: &[KeyValue]) -> View {
    let mut view = View::new(PREFIX.to_owned());
    assert!(view.list(kvs, false, None).faults.is_empty());
    view
}

#[test]
fn a_list_tells_the_configuration_and_every_node() {
    let mut view = View::new(PREFIX.to_owned());
    let told =
        view.list(&[config(1), node("10.1.1.0", "n1", 2), kv("other", "x", 3), node("10.1.2.0", "n2", 4)], false, None);
    assert_eq!(short(&told.events), ["conf", "[", "+n1 10.1.1.0/24", "+n2 10.1.2.0/24", "]"]);
    let again = view.list(&[config(1), node("10.1.2.0", "n2", 4)], false, None);
    assert_eq!(short(&again.events), ["[", "+n2 10.1.2.0/24", "]"], "who is not in it is gone");
}

#[test]
fn a_list_without_a_configuration_is_not_believed() {
    let mut view = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    assert_eq!(view.list(&[], false, None), Told::default());
    assert!(!view.is_whole());
    let told = view.list(&[config(1)], true, None);
    assert_eq!(short(&told.events), ["conf", "[", "+n1 10.1.1.0/24", "]"], "n1 may come back");
    assert!(view.is_whole() && view.lacks_keys());
    assert_eq!(short(&view.let_go()), ["-n1"]);
    assert!(!view.lacks_keys() && view.let_go().is_empty());
}

#[test]
fn a_missing_node_that_comes_back_stays() {
    let mut view = listed(&[config(1), node("10.1.1.0", "n1", 20), node("10.1.2.0", "n2", 21)]);
    view.list(&[config(1)], true, None);
    assert_eq!(short(&view.written(&node("10.1.1.0", "n1", 2)).events), Vec::<String>::new(), "as it was");
    let moved = view.written(&node("10.1.3.0", "n2", 3)).events;
    assert_eq!(short(&moved).last().map(String::as_str), Some("+n2 10.1.3.0/24"), "an old revision does not win");
    assert!(view.let_go().is_empty());
}

#[test]
fn this_node_hears_at_once_that_its_key_is_missing() {
    let mut view = listed(&[config(1), node("10.1.1.0", "n1", 2), node("10.1.2.0", "n2", 3)]);
    let told = view.list(&[config(1)], true, Some(&"n1".parse().expect("name")));
    assert_eq!(short(&told.events), ["[", "+n2 10.1.2.0/24", "]"]);
}

#[test]
fn changes_are_told_and_repetitions_are_not() {
    let mut view = listed(&[config(1)]);
    assert_eq!(short(&view.written(&node("10.1.1.0", "n1", 2)).events), ["+n1 10.1.1.0/24"]);
    assert!(view.written(&node("10.1.1.0", "n1", 3)).events.is_empty());
    assert_eq!(short(&view.deleted(&node("10.1.1.0", "", 4))), ["-n1"]);
    assert!(view.deleted(&node("10.1.1.0", "", 5)).is_empty());
    assert!(view.written(&config(6)).events.is_empty());
    assert_eq!(short(&view.written(&kv("config", "[]", 7)).events), ["conf"]);
}

#[test]
fn a_node_that_changes_its_subnet_never_goes() {
    let mut view = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    assert_eq!(short(&view.written(&node("10.1.9.0", "n1", 3)).events), ["+n1 10.1.9.0/24"]);
    assert!(view.deleted(&node("10.1.1.0", "", 4)).is_empty(), "the old key is no longer its lease");
    let both = listed(&[config(1), node("10.1.1.0", "n1", 9), node("10.1.2.0", "n1", 5)]);
    assert_eq!(both.lease(&"n1".parse().expect("name")).and_then(|lease| lease.subnets.v4), "10.1.1.0/24".parse().ok());
}

#[test]
fn a_key_that_changes_hands_is_nobodys_between() {
    let flannels = kv("subnets/10.1.1.0-24", r#"{"PublicIP":"192.168.1.1","BackendType":"host-gw"}"#, 2);
    let mut view = listed(&[config(1), flannels]);
    let told = view.written(&node("10.1.1.0", "n1", 3));
    assert_eq!(short(&told.events), ["-192.168.1.1", "+n1 10.1.1.0/24"]);
}

#[test]
fn garbage_is_told_once_and_what_was_there_stands() {
    let mut view = listed(&[config(1), node("10.1.1.0", "n1", 2)]);
    let garbage = kv("subnets/10.1.1.0-24", "{", 3);
    let told = view.written(&garbage);
    assert!(told.events.is_empty());
    assert!(told.faults[0].contains("/coreos.com/network/subnets/10.1.1.0-24"), "{:?}", told.faults);
    assert!(view.written(&garbage).faults.is_empty(), "once");
    assert_eq!(short(&view.list(&[config(1), garbage], false, None).events), ["[", "+n1 10.1.1.0/24", "]"]);
    let foreign = view.written(&kv("subnets/rack-7", "{}", 4));
    assert_eq!((foreign.events.len(), foreign.faults.len()), (0, 1));
}
