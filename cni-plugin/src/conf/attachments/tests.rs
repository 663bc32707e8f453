use serde_json::{Value, json};

use super::valid;
use crate::attachment::ValidAttachments;
use crate::cni_error::CniError;
use crate::conf::Fields;

fn read(document: &Value) -> Result<ValidAttachments, CniError> {
    valid(&Fields::of("", document).expect("an object"))
}

#[test]
fn both_spellings_are_read_and_match_exactly() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let valid = read(&json!({key: [{"containerID": "cid1", "ifname": "eth0"}]})).expect("a list");
        assert!(valid.keeps("cid1", "eth0"));
        assert!(valid.keeps("cid1", ""), "an old reservation belongs to the container as a whole");
        for (container, ifname) in [("cid", "eth0"), ("cid11", "eth0"), ("cid1", "eth1")] {
            assert!(!valid.keeps(container, ifname), "{container} {ifname} is not in the list");
        }
    }
}

#[test]
fn nothing_to_keep_must_be_said() {
    for empty in [json!([]), Value::Null] {
        let valid = read(&json!({"cni.dev/valid-attachments": empty})).expect("an empty list");
        assert!(!valid.keeps("cid1", "eth0"));
    }
    let error = read(&json!({})).expect_err("no list");
    assert!(error.message.starts_with("missing cni.dev/valid-attachments"), "{error}");
    assert!(read(&json!({"cni.dev/attachments": [{"containerID": "a"}]})).is_err(), "an item without ifname");
    assert!(read(&json!({"cni.dev/attachments": ["a"]})).is_err(), "an item that is no object");
}
