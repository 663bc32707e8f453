use serde_json::json;

use super::{CniError, Code};
use crate::version::Version;

#[test]
fn object_has_the_version_that_was_asked_for() {
    let error = CniError::new(Code::InvalidNetns, "same").with_details("more");
    assert_eq!(
        error.to_json(Version::V0_4_0),
        json!({"cniVersion": "0.4.0", "code": 8, "msg": "same", "details": "more"})
    );
}

#[derive(Debug, thiserror::Error)]
#[error("cannot count")]
struct Outer(#[source] std::num::ParseIntError);

#[test]
fn causes_follow_after_colons() {
    let cause = "nine".parse::<u8>().expect_err("a word is no number");
    let error = CniError::of(Code::Decode, &Outer(cause));
    assert_eq!(error.message, "cannot count: invalid digit found in string");
}

#[test]
fn an_error_worth_repeating_does_not_say_not_found() {
    let error = CniError::new(Code::Io, "cannot read /x: No such file or directory (os error 2)").worth_repeating();
    assert_eq!(error.message, "cannot read /x: missing (os error 2)");
}
