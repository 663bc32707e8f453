//! Node `n1`: pods `10.244.1.0/24` and `fd00:10:244:1::/64`, reached at `192.168.0.1` and `2001:db8::1`.

use dataplane::types::{Mac, Vni};
use network::backend::vxlan::{TunnelId, Vtep};
use network::model::{Encapsulation, EncapsulationSupport};
use proptest::prelude::*;

use super::super::keys::{NODE_PUBLIC, OVERWRITE};
use super::*;

const P: &str = "flannel.alpha.coreos.com/";

fn keys() -> AnnotationPrefix {
    "flannel.alpha.coreos.com".parse().expect("a prefix")
}

fn node(annotations: &[(&str, &str)], ranges: &[&str]) -> Node {
    Node {
        name: "n1".to_owned(),
        annotations: annotations.iter().map(|(key, value)| (format!("{P}{key}"), (*value).to_owned())).collect(),
        ranges: ranges.iter().map(ToString::to_string).collect(),
        ..Node::default()
    }
}

/// As flanneld 0.28 writes them.
const FLANNELS: [(&str, &str); 4] = [
    ("backend-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
    ("backend-type", "vxlan"),
    ("kube-subnet-manager", "true"),
    ("public-ip", "192.168.0.1"),
];

fn vtep(mac: u8) -> BackendData {
    BackendData::Vxlan(Vtep { vni: Vni::ONE, mac: Mac([0x12, 0xc6, 0x65, 0x89, 0xb4, mac]) })
}

fn leased() -> Lease {
    Lease {
        node: "n1".parse().expect("name"),
        subnets: PerFamily { v4: "10.244.1.0/24".parse().ok(), v6: None },
        public: PerFamily { v4: "192.168.0.1".parse().ok(), v6: None },
        backend: BackendType::Vxlan,
        data: PerFamily { v4: Some(vtep(0xe3)), v6: None },
        encapsulations: None,
    }
}

fn dual() -> Lease {
    Lease {
        subnets: PerFamily { v4: "10.244.1.0/24".parse().ok(), v6: "fd00:10:244:1::/64".parse().ok() },
        public: PerFamily { v4: "192.168.0.1".parse().ok(), v6: "2001:db8::1".parse().ok() },
        data: PerFamily { v4: Some(vtep(0xe3)), v6: Some(vtep(0xe4)) },
        ..leased()
    }
}

fn texts(lease: &Lease) -> Vec<(String, String)> {
    let annotations = of_lease(lease, PerFamily::none(), &keys());
    annotations.into_iter().map(|(key, value)| (key.replace(P, ""), value)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn flannels_annotations_byte_for_byte_in_both_directions() {
    assert_eq!(texts(&leased()), pairs(&FLANNELS));
    assert_eq!(lease(&node(&FLANNELS, &["10.244.1.0/24"]), &keys()).expect("flannel's"), Some(leased()));
    let both = [
        ("backend-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
        ("backend-type", "vxlan"),
        ("backend-v6-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e4"}"#),
        ("kube-subnet-manager", "true"),
        ("public-ip", "192.168.0.1"),
        ("public-ipv6", "2001:db8::1"),
    ];
    assert_eq!(texts(&dual()), pairs(&both));
    let ranges = ["fd00:10:244:1::/64", "10.244.1.0/24"];
    assert_eq!(lease(&node(&both, &ranges), &keys()).expect("IPv6 may stand first"), Some(dual()));
    let plain = Lease { backend: BackendType::HostGw, data: PerFamily::none(), ..dual() };
    let nulls = [
        ("backend-data", "null"),
        ("backend-type", "host-gw"),
        ("backend-v6-data", "null"),
        ("kube-subnet-manager", "true"),
        ("public-ip", "192.168.0.1"),
        ("public-ipv6", "2001:db8::1"),
    ];
    assert_eq!(texts(&plain), pairs(&nulls));
    assert_eq!(lease(&node(&nulls, &ranges), &keys()).expect("host-gw"), Some(plain));
}

#[test]
fn what_a_node_receives_and_sends_by_stands_beside_flannels() {
    let tunnel = Encapsulation::Vxlan(TunnelId { vni: Vni::ONE, port: 8472 });
    let mut support = EncapsulationSupport::default();
    support.receives.insert(Encapsulation::Direct, PerFamily::none());
    support.receives.insert(tunnel, PerFamily { v4: vtep(0xe3).mac(), v6: None });
    support.sends.insert(tunnel);
    let told = Lease { encapsulations: Some(support), ..leased() };
    let all = texts(&told);
    let ours: Vec<_> = all.iter().filter(|(key, _)| key.starts_with("netd-")).cloned().collect();
    let expected = [
        ("netd-receives", r#"[{"Type":"host-gw"},{"Type":"vxlan","VNI":1,"Port":8472,"VtepMAC":"12:c6:65:89:b4:e3"}]"#),
        ("netd-sends", r#"[{"Type":"vxlan","VNI":1,"Port":8472}]"#),
    ];
    assert_eq!(ours, pairs(&expected));
    let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(lease(&node(&all, &["10.244.1.0/24"]), &keys()).expect("ours"), Some(told));
}

#[test]
fn a_node_that_takes_no_part_has_no_lease() {
    assert_eq!(lease(&node(&[], &["10.244.1.0/24"]), &keys()).expect("no annotations"), None);
    assert_eq!(lease(&node(&FLANNELS[..2], &["10.244.1.0/24"]), &keys()).expect("not managed"), None);
    let mut off = FLANNELS;
    off[2].1 = "false";
    assert_eq!(lease(&node(&off, &["10.244.1.0/24"]), &keys()).expect("not managed"), None);
}

#[test]
fn a_node_that_makes_no_sense_says_what_is_wrong() {
    for (place, value, word) in [
        (0, "{", "backend-data"),
        (0, r#"{"VNI":0,"VtepMAC":"12:c6:65:89:b4:e3"}"#, "backend-data"),
        (0, r#"["x"]"#, "backend-data"),
        (1, "", "backend-type is missing"),
        (3, "", "public-ip is missing"),
        (3, "2001:db8::1", "an IPv4 address"),
        (3, "example.org", "example.org"),
    ] {
        let mut wrong = FLANNELS;
        wrong[place].1 = value;
        let fault = lease(&node(&wrong, &["10.244.1.0/24"]), &keys()).expect_err(value).to_string();
        assert!(fault.contains(word), "{fault}");
    }
    let both = [&FLANNELS[..], &[("netd-receives", "[{}]"), ("netd-sends", "[]")]].concat();
    let fault = lease(&node(&both, &["10.244.1.0/24"]), &keys()).expect_err("no type").to_string();
    assert!(fault.contains("netd-receives"), "{fault}");
}

fn conf(text: &str) -> NetConf {
    NetConf::parse(text).expect("net-conf").0
}

const BOTH: &str = r#"{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48"}"#;

#[test]
fn the_ranges_are_the_nodes_own() {
    let both = conf(BOTH);
    let v6_first = node(&[], &["fd00:10:244:1::/64", "10.244.1.0/24"]);
    assert_eq!(ranges_in(&v6_first, &both).expect("IPv6 first"), dual().subnets);
    let one = conf(r#"{"Network": "10.244.0.0/16"}"#);
    assert_eq!(ranges_in(&v6_first, &one).expect("IPv6 is not asked for"), leased().subnets);
    // Neither is cut by the API server's clients: another length is no fault.
    let long = node(&[], &["10.244.1.64/26"]);
    assert!(ranges_in(&long, &one).is_ok());
}

#[test]
fn ranges_that_cannot_be_used_say_what_to_do() {
    let (both, one) = (conf(BOTH), conf(r#"{"Network": "10.244.0.0/16"}"#));
    for (ranges, conf, words) in [
        (&[][..], &one, ["pod cidr not assigned", "--allocate-node-cidrs"]),
        (&["10.244.1.0/24", "10.244.2.0/24"], &one, ["IPv4/IPv6 only or dualstack", "10.244.2.0/24"]),
        (&["10.244.1.0/24", "fd00::/64", "fd01::/64"], &both, ["IPv4/IPv6 only or dualstack", "fd01::/64"]),
        (&["10.245.1.0/24"], &one, ["subnet 10.244.0.0/16 specified", "10.245.1.0/24"]),
        (&["10.0.0.0/8"], &one, ["doesn't contain", "--cluster-cidr"]),
        (&["10.244.1.0/24"], &both, ["no IPv6 podCIDR", "--cluster-cidr"]),
        (&["10.244.1"], &one, ["10.244.1", "no range"]),
        (&["0.0.0.0/0"], &one, ["0.0.0.0/0", "no range"]),
    ] {
        let fault = ranges_in(&node(&[], ranges), conf).expect_err("ranges").to_string();
        assert!(words.iter().all(|word| fault.contains(word)), "{fault}");
    }
}

#[test]
fn an_owner_says_what_peers_see() {
    let owned = node(&[("public-ip-overwrite", "172.18.0.2"), ("node-public-ip", "203.0.113.1")], &[]);
    let overwrites = addresses(&owned, &keys(), OVERWRITE).expect("an address");
    let seen = of_lease(&dual(), overwrites, &keys());
    assert_eq!(seen.get(&format!("{P}public-ip")).map(String::as_str), Some("172.18.0.2"));
    assert_eq!(seen.get(&format!("{P}public-ipv6")).map(String::as_str), Some("2001:db8::1"));
    assert_eq!(addresses(&owned, &keys(), NODE_PUBLIC).expect("an address").v4, "203.0.113.1".parse().ok());
    assert!(addresses(&node(&[("public-ip-overwrite", "x")], &[]), &keys(), OVERWRITE).is_err());
}

#[test]
fn only_what_differs_is_written_and_what_is_stale_goes() {
    let wanted = of_lease(&leased(), PerFamily::none(), &keys());
    assert_eq!(changes(&node(&FLANNELS, &[]), &wanted, &keys()), BTreeMap::new());
    assert_eq!(changes(&node(&[], &[]), &wanted, &keys()).len(), FLANNELS.len());
    let mut other = FLANNELS.to_vec();
    other[3].1 = "192.168.0.9";
    other.extend([("backend-v6-data", "null"), ("netd-sends", "[]"), ("public-ip-overwrite", "192.168.0.1")]);
    let changed = changes(&node(&other, &[]), &wanted, &keys());
    let expected = BTreeMap::from([
        (format!("{P}backend-v6-data"), None),
        (format!("{P}netd-sends"), None),
        (format!("{P}public-ip"), Some("192.168.0.1".to_owned())),
    ]);
    assert_eq!(changed, expected, "what belongs to the node's owner stays");
    let cleared = changes(&node(&other, &[]), &BTreeMap::new(), &keys());
    assert!(cleared.len() == 6 && cleared.values().all(Option::is_none), "{cleared:?}");
}

proptest! {
    #[test]
    fn whatever_strangers_write_is_a_lease_or_a_fault(
        values in proptest::collection::vec("\\PC{0,12}|[0-9a-f:./]{0,20}|\\{\"VNI\":[0-9]{1,9}\\}|\\[\\{\"Type\":\"vxlan\"\\}\\]", 12),
        ranges in proptest::collection::vec("[0-9a-f:./]{0,20}|10\\.[0-9]{1,3}\\.0\\.0/[0-9]{1,2}", 0..4),
    ) {
        let names = ["backend-data", "backend-type", "public-ip", "public-ipv6", "backend-v6-data", "netd-receives", "netd-sends",
            "public-ip-overwrite", "public-ipv6-overwrite", "node-public-ip", "node-public-ipv6"];
        let mut strange = node(&[("kube-subnet-manager", "true")], &[]);
        strange.annotations.extend(names.iter().zip(&values).map(|(name, value)| (format!("{P}{name}"), value.clone())));
        strange.ranges = ranges;
        let _ = (addresses(&strange, &keys(), NODE_PUBLIC), addresses(&strange, &keys(), OVERWRITE), ranges_in(&strange, &conf(BOTH)));
        if let Ok(Some(read)) = lease(&strange, &keys()) {
            // What is believed reads the same after it was written.
            let mut again = strange.clone();
            again.annotations = of_lease(&read, PerFamily::none(), &keys());
            prop_assert_eq!(lease(&again, &keys()).expect("written by netd"), Some(read));
        }
    }
}
