use super::*;
use crate::store::kube::object::Node;

fn read(text: &str, version: &mut String) -> Result<Option<Told<Node>>, CallError> {
    read_line(text.as_bytes(), version)
}

#[test]
fn a_line_tells_what_has_happened_and_where_to_go_on() {
    let mut version = "1".to_owned();
    let line = |kind: &str, version: u8| {
        format!(r#"{{"type":"{kind}","object":{{"metadata":{{"name":"n1","resourceVersion":"{version}"}}}}}}"#)
    };
    assert!(matches!(read(&line("ADDED", 2), &mut version), Ok(Some(Told::Is(node))) if node.name == "n1"));
    assert!(matches!(read(&line("MODIFIED", 3), &mut version), Ok(Some(Told::Is(_)))));
    assert!(matches!(read(&line("DELETED", 4), &mut version), Ok(Some(Told::Gone(_)))));
    assert!(matches!(read(&line("BOOKMARK", 9), &mut version), Ok(None)));
    assert_eq!(version, "9");
    let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"10","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    assert!(matches!(read(end, &mut version), Ok(Some(Told::InitDone))), "all there was has been told");
    assert_eq!(version, "10");
    assert!(matches!(read(&line("SOMETHING", 10), &mut version), Ok(None)), "a kind of a later version");
}

#[test]
fn what_went_wrong_is_no_object() {
    let mut version = "1".to_owned();
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}}"#;
    assert_eq!(read(gone, &mut version).expect_err("too old").code(), Some(410));
    for garbage in ["", "<html>", r#"{"type":"ADDED"}"#, "\u{fffd}"] {
        assert!(matches!(read(garbage, &mut version), Err(CallError::Garbage(_))), "{garbage}");
    }
    let odd = r#"{"type":"ADDED","object":{"metadata":{"annotations":7}}}"#;
    assert!(matches!(read(odd, &mut version), Ok(Some(Told::Unreadable(..)))), "only this object is left out");
    assert_eq!(version, "1");
}

#[test]
fn tokens_are_escaped() {
    assert_eq!(escaped("eyJ2+/=-_.~ü"), "eyJ2%2B%2F%3D-_.~%C3%BC");
}
