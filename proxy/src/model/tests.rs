use super::*;

#[test]
fn a_port_is_displayed_as_kube_proxy_prints_it() {
    let key = |port| PortKey { name: PortName::new("ns1", "svc1", port, Protocol::Udp), family: Family::V4 };
    assert_eq!(key("dns").name.to_string(), "ns1/svc1:dns");
    assert_eq!(key("").name.to_string(), "ns1/svc1", "a port without a name");
    assert_eq!(key("dns").to_string(), "ns1/svc1:dns (UDP IPv4)");
}

/// 30,000 endpoints and 10,000 Services are in memory at once.
#[test]
fn values_are_small() {
    assert!(size_of::<Endpoint>() <= 56, "{}", size_of::<Endpoint>());
    assert!(size_of::<Slice>() <= 88, "{}", size_of::<Slice>());
    assert!(size_of::<ServicePort>() <= 232, "{}", size_of::<ServicePort>());
}
