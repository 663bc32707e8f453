use proptest::prelude::*;

use super::{MAX_STDIN, parse_stdin, version_of};
use crate::cni_error::{CniError, Code};
use crate::version::Version;

fn fault(stdin: &str) -> CniError {
    parse_stdin(stdin.as_bytes()).map(drop).expect_err(stdin)
}

#[test]
fn a_document_has_a_name_a_version_and_maybe_a_type() {
    let document = parse_stdin(br#"{"NAME": "a", "CniVersion": "0.4.0", "type": "netd", "x-unknown": {}}"#);
    let document = document.expect("keys in any case, unknown ones too");
    assert_eq!((document.network.as_str(), document.version), ("a", Version::V0_4_0));
    assert_eq!(document.kind.as_deref(), Some("netd"));
    assert_eq!(parse_stdin(br#"{"name": "a"}"#).expect("a document").version, Version::V0_1_0);
    assert_eq!(parse_stdin(br#"{"name": "a", "cniVersion": null}"#).expect("a document").version, Version::V0_1_0);
}

#[test]
fn what_is_no_document_is_told_by_its_code() {
    for stdin in ["", "{", "[]", "7", "\u{feff}", r#"{"name": 7}"#, r#"{"name": "a", "cniVersion": 1}"#] {
        assert_eq!(fault(stdin).code, Code::Decode, "{stdin:?}");
    }
    for stdin in ["null", "{}", r#"{"name": ""}"#, r#"{"name": "../x"}"#, r#"{"name": ".index"}"#] {
        assert_eq!(fault(stdin).code, Code::InvalidConfiguration, "{stdin:?}");
    }
    let error = fault(r#"{"name": "a", "cniVersion": "9.9.9"}"#);
    assert_eq!((error.code, error.message.as_str()), (Code::IncompatibleVersion, "incompatible CNI versions"));
    assert!(error.details.starts_with("config is \"9.9.9\", plugin supports [\"0.1.0\""), "{}", error.details);
    let error = parse_stdin(&vec![b' '; MAX_STDIN + 1]).expect_err("too long");
    assert_eq!(error.message, "error unmarshall network config: more than 16777216 bytes");
}

#[test]
fn an_error_is_told_in_the_version_of_whatever_came() {
    assert_eq!(version_of(br#"{"cniversion": "0.3.1"}"#), Some(Version::V0_3_1));
    for other in ["", "[]", r#"{"cniVersion": "9"}"#, r#"{"cniVersion": []}"#] {
        assert_eq!(version_of(other.as_bytes()), None, "{other:?}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(stdin in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_stdin(&stdin);
    }
}
