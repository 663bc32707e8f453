use super::*;

fn member(address: Option<&str>, protocol: Option<u8>, port: u16) -> Member {
    let address = address.map(|address| address.parse().expect("an address"));
    Member { address, protocol, port: Some(port) }
}

fn server(address: &str, protocol: u8) -> VirtualServer {
    VirtualServer { address: address.parse().expect("an address and a port"), protocol }
}

/// What kube-proxy serves by these addresses on its device, and these sets.
fn served(addresses: &[&str], sets: &[(&str, &[Member])]) -> Served {
    let mut served = Served::default();
    served.addresses.extend(addresses.iter().map(|address| address.parse::<IpAddr>().expect("an address")));
    for (name, members) in sets {
        if let Some((family, protocol)) = of_servers(name) {
            served.extend(family, protocol, members);
        }
    }
    served
}

#[test]
fn sets_are_known_by_their_whole_names() {
    let own = [
        "KUBE-CLUSTER-IP",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "KUBE-6-CLUSTER-IP",
        // Cut to what a name may have.
        "KUBE-6-LOAD-BALANCER-SOURCE-CID",
        "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS",
    ];
    let foreign =
        ["KUBE-SRC-7O4AFGIC5TAQ2NHX", "KUBE-DST-7O4AFGIC5TAQ2NHX", "KUBE-CLUSTER", "KUBE-CLUSTER-IPS", "KUBE-", "web"];
    assert_eq!(own.map(is_own), [true; 5]);
    assert_eq!(foreign.map(is_own), [false; 6]);
}

#[test]
fn a_virtual_server_is_kube_proxys_by_its_address_on_the_device() {
    let served = served(&["10.96.0.1", "fd00:96::1"], &[]);
    assert!(served.has(&server("10.96.0.1:443", protocol::TCP)));
    assert!(served.has(&server("[fd00:96::1]:53", protocol::UDP)));
    assert!(!served.has(&server("192.168.1.100:80", protocol::TCP)), "keepalived's");
}

#[test]
fn a_virtual_server_is_kube_proxys_where_its_sets_name_it() {
    let served = served(
        &[],
        &[
            ("KUBE-NODE-PORT-TCP", &[member(None, None, 30080)]),
            ("KUBE-6-NODE-PORT-UDP", &[member(None, None, 30053)]),
            ("KUBE-NODE-PORT-SCTP-HASH", &[member(Some("192.168.1.11"), Some(protocol::SCTP), 30132)]),
            ("KUBE-EXTERNAL-IP", &[member(Some("192.168.1.11"), Some(protocol::TCP), 80)]),
            // Endpoints.
            ("KUBE-LOOP-BACK", &[member(Some("10.244.1.2"), Some(protocol::TCP), 8080)]),
        ],
    );
    let own = [
        server("192.168.1.11:30080", protocol::TCP),
        server("127.0.0.1:30080", protocol::TCP),
        server("[2001:db8::1]:30053", protocol::UDP),
        server("192.168.1.11:30132", protocol::SCTP),
        server("192.168.1.11:80", protocol::TCP),
    ];
    let foreign = [
        server("192.168.1.11:30080", protocol::UDP),
        server("192.168.1.11:30053", protocol::UDP),
        server("192.168.1.12:30132", protocol::SCTP),
        server("192.168.1.11:81", protocol::TCP),
        server("10.244.1.2:8080", protocol::TCP),
    ];
    assert_eq!(own.map(|server| served.has(&server)), [true; 5]);
    assert_eq!(foreign.map(|server| served.has(&server)), [false; 5]);
}
