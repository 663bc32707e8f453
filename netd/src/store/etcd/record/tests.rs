use dataplane::types::{Mac, Vni};
use network::backend::vxlan::{TunnelId, Vtep};
use network::model::{BackendType, Encapsulation, EncapsulationSupport};
use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Option<Prefix> {
    text.parse().ok()
}

fn lease() -> Lease {
    Lease {
        node: "n1".parse().expect("name"),
        subnets: PerFamily { v4: prefix("10.5.52.0/24"), v6: None },
        public: PerFamily { v4: "192.168.64.3".parse().ok(), v6: None },
        backend: BackendType::Vxlan,
        data: PerFamily {
            v4: Some(BackendData::Vxlan(Vtep { vni: Vni::ONE, mac: Mac([0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44]) })),
            v6: None,
        },
        encapsulations: None,
    }
}

/// From flannel's Documentation/reservations.md.
const FLANNELS: &str = r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#;

#[test]
fn keys_are_flannels() {
    for (key, v4, v6) in [
        ("10.12.13.0-24", prefix("10.12.13.0/24"), None),
        ("10.12.13.0-24&fd00:12:13::-56", prefix("10.12.13.0/24"), prefix("fd00:12:13::/56")),
        ("10.1.5.0-24&fd00:1:2:3::-64", prefix("10.1.5.0/24"), prefix("fd00:1:2:3::/64")),
        ("0.0.0.0-0&fd00:1:2:3::-64", None, prefix("fd00:1:2:3::/64")),
    ] {
        let read = subnets(key).expect(key);
        assert_eq!(read, PerFamily { v4, v6 });
        assert_eq!(super::key(read), key, "it is written as it was read");
    }
}

#[test]
fn foreign_keys_hold_no_subnets() {
    let flannels = [
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
    ];
    let ours = ["", "-", "&", "0.0.0.0-0", "10.12.13.0-32", "10.12.13.0-+24", "fd00::-64", "10.12.13.0-24&fd00::-128"];
    for key in flannels.into_iter().chain(ours) {
        assert_eq!(subnets(key), None, "{key:?}");
    }
}

#[test]
fn a_value_begins_with_flannels_bytes_and_netds_fields_follow() {
    let text = render(&lease());
    assert_eq!(text, FLANNELS.replace("}}", r#"},"Node":"n1"}"#));
    let host_gw = Lease { backend: BackendType::HostGw, data: PerFamily::none(), ..lease() };
    assert_eq!(
        render(&host_gw),
        r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"host-gw","Node":"n1"}"#,
        "no BackendData, as flannel writes it"
    );
    let dual = Lease {
        public: PerFamily { v6: "fd00::3".parse().ok(), ..lease().public },
        data: PerFamily { v6: lease().data.v4, ..lease().data },
        ..lease()
    };
    assert_eq!(
        render(&dual),
        concat!(
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"#,
            r#""BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"Node":"n1"}"#
        )
    );
    let v6 = PerFamily { v4: None, v6: "fd00::3".parse().ok() };
    assert_eq!(render_reservation(v6), r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3"}"#);
}

#[test]
fn flannels_value_is_a_node_named_by_its_address() {
    let record = parse(lease().subnets, FLANNELS.as_bytes()).expect("flannel's");
    assert_eq!((record.node, record.public), (None, lease().public));
    assert_eq!(record.lease, Some(Lease { node: "192.168.64.3".parse().expect("name"), ..lease() }));
    let v6 = r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3","BackendType":"host-gw"}"#;
    let name = parse(lease().subnets, v6.as_bytes()).expect("over IPv6").lease.map(|lease| lease.node.to_string());
    assert_eq!(name.as_deref(), Some("fd00--3"));
}

#[test]
fn a_reservation_is_no_lease() {
    for text in [
        r#"{"PublicIP":"192.168.64.3"}"#,
        r#"{"PublicIP":"192.168.64.3","PublicIPv6":null}"#,
        r#"{ "publicIP": "192.168.64.3", "BackendType": "" }"#,
    ] {
        let record = parse(lease().subnets, text.as_bytes()).expect(text);
        assert_eq!((record.lease, record.public), (None, lease().public), "{text}");
    }
    let other = r#"{"PublicIP":"192.168.64.3","BackendType":"wireguard","BackendData":{"PublicKey":"x","Port":51820}}"#;
    let lease = parse(lease().subnets, other.as_bytes()).expect(other).lease.expect("a lease of another backend");
    let data = BackendData::Raw(r#"{"PublicKey":"x","Port":51820}"#.into());
    assert_eq!(lease.backend, BackendType::Other("wireguard".to_owned()));
    assert_eq!(lease.data.v4, Some(data), "its data is kept and not read");
    let written = r#""BackendType":"wireguard","BackendData":{"PublicKey":"x","Port":51820},"Node""#;
    assert!(render(&lease).contains(written), "and written as it was: {}", render(&lease));
}

#[test]
fn an_invalid_value_is_an_error() {
    let texts: [&[u8]; 8] = [
        b"",
        b"null",
        b"{}",
        b"\xff",
        br#"{"PublicIP":"0.0.0.0"}"#,
        br#"{"PublicIP":"fd00::1"}"#,
        br#"{"PublicIP":"192.168.64.3","BackendType":"vxlan","BackendData":{"VNI":1}}"#,
        br#"{"PublicIP":"192.168.64.3","BackendType":"vxlan","BackendData":{"VNI":"1","VtepMAC":"c6:d2:32:6f:8f:44"}}"#,
    ];
    for text in texts {
        parse(lease().subnets, text).expect_err(&String::from_utf8_lossy(text));
    }
}

proptest! {
    #[test]
    fn a_written_record_reads_back(
        octet in 1_u8..255, len in 8_u8..31, v6 in any::<bool>(), direct in any::<bool>(), tunnel in any::<bool>(),
    ) {
        let lease = lease();
        let id = TunnelId { vni: Vni::try_from(7).expect("VNI"), port: 8472 };
        let end = tunnel.then_some((Encapsulation::Vxlan(id), PerFamily { v4: Some(Mac([2; 6])), v6: None }));
        let direct = direct.then_some((Encapsulation::Direct, PerFamily::none()));
        let support = EncapsulationSupport {
            receives: end.into_iter().chain(direct).collect(),
            sends: tunnel.then_some(Encapsulation::Vxlan(id)).into_iter().collect(),
            ..EncapsulationSupport::default()
        };
        let subnets = PerFamily {
            v4: Prefix::new(Ipv4Addr::new(10, octet, 0, 0).into(), len),
            v6: v6.then(|| "fd00::/64".parse().expect("prefix")),
        };
        let lease = Lease { subnets, encapsulations: Some(support), ..lease };
        let read = super::subnets(&key(subnets));
        prop_assert_eq!(read, Some(subnets));
        let record = parse(subnets, render(&lease).as_bytes()).expect("own text");
        prop_assert_eq!(record.node.as_ref(), Some(&lease.node));
        prop_assert_eq!(record.lease, Some(lease));
    }

    #[test]
    fn any_bytes_can_be_parsed(key in ".*", value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::subnets(&key);
        let _ = parse(lease().subnets, &value);
    }
}
