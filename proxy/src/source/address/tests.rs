use super::*;

#[test]
fn leading_zeros_are_decimal() {
    let read = |text| address(text).map(|address| address.to_string());
    for (text, expected) in [
        ("172.30.0.041", "172.30.0.41"),
        ("1.2.3.004", "1.2.3.4"),
        ("192.168.099.022", "192.168.99.22"),
        ("10.180.00.001", "10.180.0.1"),
        ("0000010.0.0.0000255", "10.0.0.255"),
        ("fd00:00010::0001", "fd00:10::1"),
        ("fd00::010.001.0.1", "fd00::a01:1"),
        ("::ffff:10.0.0.01", "10.0.0.1"),
        ("::", "::"),
    ] {
        assert_eq!(read(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_address() {
    for text in [
        "",
        "10.0.0",
        "10.0.0.0.1",
        "10.0.0.256",
        "10.0.0.-1",
        "10.0.0.+1",
        "10.0.0. 1",
        " 10.0.0.1",
        "0x10.0.0.1",
        "a",
        ":",
        ":::",
        "fd00::1%eth0",
        "fd00::12345",
        "1.2.3.4::",
        "10.0.0.1/8",
        "99999999999.0.0.1",
        "١.0.0.1",
    ] {
        assert_eq!(address(text), None, "{text:?}");
    }
}

#[test]
fn ranges_lose_their_host_bits() {
    let read = |text| range(text).map(|range| range.to_string());
    assert_eq!(read("203.0.113.000/025").as_deref(), Some("203.0.113.0/25"));
    assert_eq!(read("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
    assert_eq!(read("fd00::1/64").as_deref(), Some("fd00::/64"));
    for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "fd00::/129", "10.0.0.0/8/8", ""] {
        assert_eq!(range(text), None, "{text:?}");
    }
}
