use proptest::prelude::*;

use super::*;

const NODE: &str = r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","uid":"u-1","resourceVersion":"77",
  "labels":{"a":"b"},"managedFields":[{"manager":"x","fieldsV1":{"f:metadata":{}}}],
  "annotations":{"flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/backend-data":"{\"VNI\":1}","other/thing":"{}","flannel.alpha.coreos.com/public-ip":7}},
  "spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00::/64"],"taints":[{"key":"k"}]},
  "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"NetworkUnavailable","status":"False"}],"images":[{"names":["x"]}]}}"#;

#[test]
fn of_a_node_is_kept_what_netd_reads() {
    let node = Node::read(NODE).expect("a Node");
    let expected = Node {
        name: "n1".to_owned(),
        uid: "u-1".to_owned(),
        version: "77".to_owned(),
        annotations: BTreeMap::from([
            ("flannel.alpha.coreos.com/backend-type".to_owned(), "vxlan".to_owned()),
            ("flannel.alpha.coreos.com/backend-data".to_owned(), r#"{"VNI":1}"#.to_owned()),
        ]),
        ranges: vec!["10.244.1.0/24".to_owned(), "fd00::/64".to_owned()],
        unavailable: Some("False".to_owned()),
    };
    assert_eq!(node, expected);
    assert_eq!(serde_json::from_str::<Whole>(NODE).expect("a Node").version(), Some("77"));
}

#[test]
fn a_node_may_lack_everything() {
    for text in [
        "{}",
        r#"{"metadata":null,"spec":null,"status":null}"#,
        r#"{"metadata":{"annotations":null},"spec":{"podCIDRs":null},"status":{"conditions":null}}"#,
    ] {
        assert_eq!(Node::read(text).expect(text), Node::default());
    }
    let old = Node::read(r#"{"spec":{"podCIDR":"10.244.1.0/24"}}"#).expect("a Node");
    assert_eq!(old.ranges, ["10.244.1.0/24"]);
    assert_eq!(Node::read(r#"{"spec":{"podCIDR":""}}"#).expect("a Node").ranges, Vec::<String>::new());
}

#[test]
fn the_other_objects() {
    let map =
        ConfigMap::read(r#"{"metadata":{"name":"c"},"data":{"cni-conf.json":"{}","net-conf.json":"{\"a\": 1}"}}"#);
    assert_eq!(map.expect("a ConfigMap").net_conf.as_deref(), Some(r#"{"a": 1}"#));
    assert_eq!(ConfigMap::read(r#"{"metadata":{}}"#).expect("a ConfigMap").net_conf, None);
    assert_eq!(Pod::read(r#"{"spec":{"nodeName":"n1"}}"#).expect("a Pod").node.as_deref(), Some("n1"));
    let page: Page =
        serde_json::from_str(r#"{"metadata":{"resourceVersion":"5","continue":"abc"},"items":[{"a":1},7]}"#)
            .expect("a page");
    assert_eq!((page.items.len(), page.metadata.next.as_deref()), (2, Some("abc")));
    let line: Line<&RawValue> = serde_json::from_str(r#"{"type":"ADDED","object":{"x":1}}"#).expect("a line");
    assert_eq!((&*line.kind, line.object.get()), ("ADDED", r#"{"x":1}"#));
}

proptest! {
    #[test]
    fn nothing_makes_the_reading_panic(cut in 0..NODE.len(), junk in "\\PC{0,8}") {
        let mut text: String = NODE.chars().take(cut).collect();
        text.push_str(&junk);
        text.extend(NODE.chars().skip(cut + 3));
        let _ = (Node::read(&text), ConfigMap::read(&text), Pod::read(&text));
    }
}
