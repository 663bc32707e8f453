use super::*;

const NODE: &str = r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","uid":"u-1","resourceVersion":"77",
  "labels":{"a":"b"},"managedFields":[{"manager":"x","fieldsV1":{"f:metadata":{}}}],
  "annotations":{"flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/backend-data":"{\"VNI\":1}"}},
  "spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00::/64"],"taints":[{"key":"k"}]},
  "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"NetworkUnavailable","status":"False"}],"images":[{"names":["x"]}]}}"#;

fn node(text: &str) -> Node {
    serde_json::from_str::<NodeObject>(text).expect(text).into()
}

#[test]
fn the_fields_of_a_node_that_netd_reads() {
    let expected = Node {
        name: "n1".to_owned(),
        uid: "u-1".to_owned(),
        version: Some(77),
        annotations: BTreeMap::from([
            ("flannel.alpha.coreos.com/backend-type".to_owned(), "vxlan".to_owned()),
            ("flannel.alpha.coreos.com/backend-data".to_owned(), r#"{"VNI":1}"#.to_owned()),
        ]),
        ranges: vec!["10.244.1.0/24".to_owned(), "fd00::/64".to_owned()],
        unavailable: Some("False".to_owned()),
    };
    assert_eq!(node(NODE), expected);
}

#[test]
fn a_node_may_lack_everything() {
    for text in [
        "{}",
        r#"{"metadata":null,"spec":null,"status":null}"#,
        r#"{"metadata":{"annotations":null},"spec":{"podCIDRs":null},"status":{"conditions":null}}"#,
    ] {
        assert_eq!(node(text), Node::default());
    }
    assert_eq!(node(r#"{"spec":{"podCIDR":"10.244.1.0/24"}}"#).ranges, ["10.244.1.0/24"]);
    assert_eq!(node(r#"{"spec":{"podCIDR":""}}"#).ranges, Vec::<String>::new());
}

#[test]
fn the_node_of_a_pod() {
    let pod: PodObject = serde_json::from_str(r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n1"}}"#).expect("a Pod");
    assert_eq!(pod.node().as_deref(), Some("n1"));
    let pod: PodObject = serde_json::from_str(r#"{"spec":{}}"#).expect("a Pod");
    assert_eq!(pod.node(), None, "it is not scheduled");
}
