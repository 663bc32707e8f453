use super::*;

#[test]
fn keys_count_in_any_case_and_only_once() {
    let mut object: Object = serde_json::from_str(r#"{"SUBNET": "a", "other": null, "Left": 1}"#).expect("object");
    assert_eq!(object.take::<String>("Subnet", "text").expect("text"), Some("a".to_owned()));
    assert_eq!(object.take::<String>("Other", "text").expect("null is missing"), None);
    assert_eq!(object.into_keys().collect::<Vec<_>>(), ["Left"], "what nobody took");
    for twice in [r#"{"a": 1, "A": 2}"#, r#"{"a": 1, "a": 1}"#] {
        let error = serde_json::from_str::<Object>(twice).err().expect("two keys for one field").to_string();
        assert!(error.contains("only one of them can count"), "{error}");
    }
}

#[test]
fn a_fault_names_field_value_and_what_is_right() {
    let long = format!(r#"{{"vni": ["{}"]}}"#, "ä".repeat(100));
    let mut object: Object = serde_json::from_str(&long).expect("object");
    let error = object.take::<i64>("VNI", "a whole number").expect_err("a list").to_string();
    assert!(error.starts_with("VNI is [\"ä") && error.ends_with("..., but must be a whole number"), "{error}");
}
