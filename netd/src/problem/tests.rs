use super::*;

#[test]
fn the_kind_is_written_as_the_api_writes_it() {
    assert_eq!(Kind::PodCidrChanged.to_string(), "PodCIDRChanged");
    assert_eq!(Kind::InvalidConfiguration.to_string(), "InvalidConfiguration");
}

#[test]
fn problems_of_the_proxy_keep_their_names() {
    let kind = Kind::Service(proxy::problem::Kind::AddressConflict);
    assert_eq!(kind.to_string(), "AddressConflict");
    let text = serde_json::to_string(&kind).expect("a document");
    assert_eq!(text, r#""AddressConflict""#);
    assert_eq!(serde_json::from_str::<Kind>(&text).expect("the same kind"), kind);
    assert_eq!(serde_json::from_str::<Kind>(r#""NodeLeftOut""#).expect("a kind of netd's"), Kind::NodeLeftOut);
}
