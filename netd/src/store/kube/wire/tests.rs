use proptest::prelude::*;

use super::*;

fn wrapped(raw: Vec<u8>) -> Vec<u8> {
    [MAGIC, &Unknown { raw }.encode_to_vec()].concat()
}

fn event(kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let object = Some(RawExtension { raw: wrapped(raw) });
    WatchEvent { kind: kind.to_owned(), object }.encode_to_vec()
}

fn node(annotations: &[(&str, &str)]) -> WireNode {
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let condition = |kind: &str, status: &str| NodeCondition { kind: kind.to_owned(), status: status.to_owned() };
    WireNode {
        metadata: Some(ObjectMeta {
            name: "n1".to_owned(),
            uid: "u".to_owned(),
            resource_version: "77".to_owned(),
            annotations,
        }),
        spec: Some(NodeSpec { range: "10.244.1.0/24".to_owned(), ranges: Vec::new() }),
        status: Some(NodeStatus {
            conditions: vec![condition("Ready", "True"), condition("NetworkUnavailable", "False")],
        }),
    }
}

#[test]
fn a_node_is_read_as_its_json_would_be() {
    let text =
        event("ADDED", node(&[("flannel.alpha.coreos.com/public-ip", "192.0.2.1"), ("other", "x")]).encode_to_vec());
    let event = Event::read(&text).expect("an event");
    let (node, ends) = event.node().expect("a Node");
    assert_eq!((&*event.kind, ends), ("ADDED", false));
    let json = r#"{"metadata":{"name":"n1","uid":"u","resourceVersion":"77","annotations":{"flannel.alpha.coreos.com/public-ip":"192.0.2.1","other":"x"}},
        "spec":{"podCIDR":"10.244.1.0/24"},"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"NetworkUnavailable","status":"False"}]}}"#;
    assert_eq!(node, super::super::object::Object::read(json).expect("the same as JSON"));
}

#[test]
fn the_end_of_a_list_and_a_refusal_are_seen() {
    let text = event("BOOKMARK", node(&[("k8s.io/initial-events-end", "true")]).encode_to_vec());
    assert!(Event::read(&text).expect("an event").node().expect("a Node").1);
    let details = Some(StatusDetails { retry_after_seconds: 3 });
    let status = Status { message: "too old".to_owned(), details, code: 410 };
    let said = Event::read(&event("ERROR", status.encode_to_vec())).expect("an event").answer();
    assert_eq!((said.code, &*said.message), (410, "too old"));
    assert_eq!(said.details.and_then(|details| details.retry_after_seconds), Some(3));
}

proptest! {
    #[test]
    fn nothing_makes_the_reading_panic(cut in 0..200_usize, junk in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut text = event("ADDED", node(&[("flannel.alpha.coreos.com/public-ip", "192.0.2.1")]).encode_to_vec());
        let at = cut.min(text.len());
        text.splice(at..(at + junk.len()).min(text.len()), junk);
        let _ = Event::read(&text).map(|event| (event.node().is_ok(), event.answer()));
    }
}
