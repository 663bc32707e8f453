use super::check;
use crate::cni_error::Code;

#[test]
fn under_its_own_name_the_type_decides() {
    for (argv0, kind) in
        [("/opt/cni/bin/netd", Some("netd")), ("netd-cni", Some("netd")), ("netd", None), ("netd", Some(""))]
    {
        assert_eq!(check(argv0, kind), Ok(()), "{argv0} {kind:?}");
    }
    for (argv0, kind) in [("netd", Some("bridge")), ("/opt/cni/bin/portmap", Some("netd")), ("", None)] {
        let error = check(argv0, kind).expect_err("a personality that is not there");
        assert_eq!(error.code, Code::UnsupportedField, "{argv0} {kind:?}");
    }
}
