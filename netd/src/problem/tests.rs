use super::*;

#[test]
fn the_kind_is_written_as_the_api_writes_it() {
    assert_eq!(Kind::PodCidrChanged.to_string(), "PodCIDRChanged");
    assert_eq!(Kind::InvalidConfiguration.to_string(), "InvalidConfiguration");
}
