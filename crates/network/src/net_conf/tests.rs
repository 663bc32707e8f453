use dataplane::types::Family;
use proptest::prelude::*;

use super::*;
use crate::backend::{BackendType, vxlan};
use dataplane::types::{Mtu, Vni};

fn parse(text: &str) -> NetConf {
    NetConf::parse(text).expect(text).0
}

fn range(text: &str, family: Family) -> [String; 3] {
    let conf = parse(text);
    let range = conf.networks.get(family).expect("range");
    [range.subnet_len.to_string(), range.min.to_string(), range.max.to_string()]
}

fn refusal(text: &str) -> String {
    NetConf::parse(text).expect_err(text).to_string()
}

#[test]
fn c1_keys_in_any_case() {
    assert_eq!(range(r#"{ "network": "10.3.0.0/16" }"#, Family::V4), ["24", "10.3.1.0/24", "10.3.255.0/24"]);
}

#[test]
fn c2_ipv6_alone() {
    let text = r#"{ "enableIPv6": true, "ipv6Network": "fc00::/48", "enableIPv4": false }"#;
    assert_eq!(range(text, Family::V6), ["64", "fc00:0:0:1::/64", "fc00:0:0:ffff::/64"]);
    assert!(parse(text).networks.v4.is_none());
}

#[test]
fn c3_bounds_and_length_as_given() {
    let text = r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28}"#;
    assert_eq!(range(text, Family::V4), ["28", "10.3.5.0/28", "10.3.8.0/28"]);
}

#[test]
fn a_subnets_length_follows_from_the_networks() {
    for (network, len) in [("10.0.0.0/8", "24"), ("10.3.0.0/22", "24"), ("10.3.0.0/23", "25"), ("10.3.0.0/28", "30")] {
        assert_eq!(range(&format!(r#"{{"Network":"{network}","SubnetLen":0}}"#), Family::V4)[0], len, "{network}");
    }
    for (network, len) in
        [("fd00::/48", "64"), ("fd00::/62", "64"), ("fd00::/63", "65"), ("fd00::/124", "126"), ("::/0", "64")]
    {
        let text = format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"{network}"}}"#);
        assert_eq!(range(&text, Family::V6)[0], len, "{network}");
    }
}

#[test]
fn c4_each_fault_has_flannels_words_and_names_field_value_and_range() {
    let v4 = |rest: &str| format!(r#"{{"Network":"10.3.0.0/16",{rest}}}"#);
    let v6 = |rest: &str| format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,{rest}}}"#);
    let cases = [
        (
            v4(r#""SubnetLen":31"#),
            "SubnetLen must be less than /31: SubnetLen is 31, but must be a whole number from 18 to 30 in Network 10.3.0.0/16",
        ),
        (
            v4(r#""SubnetLen":17"#),
            "network must be able to accommodate at least four subnets: SubnetLen is 17, but must be a whole number from 18 to 30 in Network 10.3.0.0/16",
        ),
        (v4(r#""SubnetLen":-1"#), "network must be able to accommodate at least four subnets: SubnetLen is -1"),
        (
            r#"{"Network":"10.3.0.0/29"}"#.to_owned(),
            "network is too small. Minimum useful network prefix is /28: Network is 10.3.0.0/29",
        ),
        (
            v4(r#""SubnetMin":"10.9.0.0""#),
            "SubnetMin is not in the range of the Network: SubnetMin is 10.9.0.0, but must be the first address of a /24 inside 10.3.0.0/16",
        ),
        (v4(r#""SubnetMin":"10.3.5.1""#), "SubnetMin is not on a SubnetLen boundary: 10.3.5.1: SubnetMin is 10.3.5.1"),
        (v4(r#""SubnetMax":"10.9.0.0""#), "SubnetMax is not in the range of the Network"),
        (v4(r#""SubnetMax":"10.3.5.1""#), "SubnetMax is not on a SubnetLen boundary: 10.3.5.1"),
        (v4(r#""SubnetMin":"10.3.5.0","SubnetMax":"10.3.4.0""#), "SubnetMin comes after SubnetMax"),
        (v4(r#""SubnetMin":"fd00::""#), r#"SubnetMin is "fd00::", but must be an IPv4 address"#),
        (v4(r#""EnableIPv4":false"#), "none defined stack"),
        (r"{}".to_owned(), "please define a correct Network parameter in the flannel config: Network is missing"),
        (r#"{"Network":""}"#.to_owned(), "please define a correct Network parameter in the flannel config"),
        (
            r#"{"Network":"fd00::/48"}"#.to_owned(),
            r#"invalid IPv4 CIDR format: Network is "fd00::/48", but must be an IPv4 range"#,
        ),
        (r#"{"Network":"10.3.0.0"}"#.to_owned(), "invalid IPv4 CIDR format"),
        (v6(r#""IPv6SubnetLen":64"#), "please define a correct IPv6Network parameter in the flannel config"),
        (
            v6(r#""IPv6Network":"fc00::/48","IPv6SubnetLen":127"#),
            "SubnetLen must be less than /127: IPv6SubnetLen is 127, but must be a whole number from 50 to 126",
        ),
        (v6(r#""IPv6Network":"fc00::/125""#), "IPv6Network is too small. Minimum useful network prefix is /124"),
        (
            v6(r#""IPv6Network":"fc00::/48","IPv6SubnetMin":"fd00::""#),
            "IPv6SubnetMin is not in the range of the IPv6Network",
        ),
        (
            v6(r#""IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00::1""#),
            "IPv6SubnetMin is not on a SubnetLen boundary: fc00::1",
        ),
        (v4(r#""SubnetLen":"24""#), r#"error parsing subnet config: SubnetLen is "24", but must be a whole number"#),
        (v4(r#""EnableNFTables":"yes""#), r#"EnableNFTables is "yes", but must be true or false"#),
    ];
    for (text, expected) in cases {
        let message = refusal(&text);
        assert!(message.contains(expected), "{text}\n  is refused with {message}\n  not with      {expected}");
    }
}

#[test]
fn text_that_is_no_object_says_where() {
    for text in [
        "",
        "[]",
        "{",
        r#"{"Network": "10.3.0.0/16",}"#,
        r#"{"Network":"10.3.0.0/16","network":"10.4.0.0/16"}"#,
        "null",
    ] {
        assert!(refusal(text).starts_with("error parsing subnet config"), "{text}");
    }
}

#[test]
fn c5_no_backend_is_vxlan_with_its_defaults() {
    let Backend::Vxlan(options) = parse(r#"{"Network":"10.3.0.0/16"}"#).backend else { panic!("vxlan expected") };
    let vni = Vni::try_from(1).expect("VNI");
    let usual = vxlan::Options { vni, port: None, mtu: None, gbp: false, learning: false, direct_routing: false };
    assert_eq!(options, usual);
}

#[test]
fn c6_backend_types() {
    let with = |backend: &str| format!(r#"{{"Network":"10.3.0.0/16","Backend":{backend}}}"#);
    assert_eq!(parse(&with(r#"{"type":"VXLAN"}"#)).backend.kind(), BackendType::Vxlan);
    assert_eq!(parse(&with(r#"{"Type":"Host-gw"}"#)).backend, Backend::HostGw);
    assert!(refusal(&with(r#"{"Type":"bogus"}"#)).starts_with("unknown backend type: bogus"));
    assert!(refusal(&with("{}")).starts_with("unknown backend type: "));
    assert!(refusal(&with(r#"{"Type":"WireGuard"}"#)).contains("wireguard is not available"));
    assert!(refusal(&with(r#""vxlan""#)).contains(r#"Backend is "vxlan", but must be an object"#));
    assert!(refusal(&with(r#"{"Type":5}"#)).contains("Backend.Type is 5"));
}

#[test]
fn c7_vxlan_options_and_their_ranges() {
    let with = |options: &str| format!(r#"{{"Network":"10.3.0.0/16","Backend":{{"Type":"vxlan",{options}}}}}"#);
    let text = with(r#""VNI":4096,"port":4789,"MTU":1400,"GBP":true,"learning":true,"DirectRouting":true"#);
    let Backend::Vxlan(options) = parse(&text).backend else { panic!("vxlan expected") };
    assert_eq!((options.vni.get(), options.port, options.mtu.map(Mtu::get)), (4096, Some(4789), Some(1400)));
    assert!(options.gbp && options.learning && options.direct_routing);
    for (options, expected) in [
        (r#""VNI":16777216"#, "Backend.VNI is 16777216, but must be a whole number from 1 to 16777215"),
        (r#""VNI":0"#, "Backend.VNI is 0"),
        (r#""VNI":"x""#, r#"Backend.VNI is "x", but must be a whole number from 1 to 16777215"#),
        (r#""Port":70000"#, "Backend.Port is 70000, but must be a whole number from 1 to 65535"),
        (r#""MTU":40"#, "Backend.MTU is 40, but must be a whole number from 68 to 65535"),
        (r#""MTU":1500.5"#, "Backend.MTU is 1500.5"),
        (r#""GBP":1"#, "Backend.GBP is 1, but must be true or false"),
    ] {
        assert!(refusal(&with(options)).contains(expected), "{options}: {}", refusal(&with(options)));
    }
    let v6 =
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan","MTU":1279}}"#;
    assert!(refusal(v6).contains("Backend.MTU is 1279, but must be a whole number from 1280 to 65535"));
    let Backend::Vxlan(options) = parse(&with(r#""Port":0,"MTU":0"#)).backend else { panic!("vxlan expected") };
    assert_eq!((options.port, options.mtu), (None, None), "0 leaves the choice to netd");
}

#[test]
fn unknown_keys_are_told_and_harmless() {
    let (_, unknown) =
        NetConf::parse(r#"{"Network":"10.3.0.0/16","Colour":1,"Backend":{"Type":"vxlan","MacPrefix":"0E-2A"}}"#)
            .expect("unknown keys do no harm");
    assert_eq!(unknown, ["Colour", "Backend.MacPrefix"]);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = NetConf::parse(&text);
    }

    #[test]
    fn any_field_is_read_or_refused(
        network in "(10\\.[0-9]{1,3}\\.0\\.0|fd00::|x)/[0-9]{1,3}",
        len in any::<i16>(),
        min in "(10\\.[0-9]{1,3}\\.[0-9]{1,3}\\.0|fd00:[0-9]:)",
        key in "(SubnetMin|IPv6SubnetMax|SubnetMax|IPv6SubnetMin)",
        v6 in any::<bool>(),
    ) {
        let text = format!(
            r#"{{"Network":"{network}","IPv6Network":"{network}","EnableIPv4":{},"EnableIPv6":{v6},"SubnetLen":{len},"{key}":"{min}","IPv6SubnetLen":{len}}}"#, !v6
        );
        if let Ok((conf, _)) = NetConf::parse(&text) {
            for (_, range) in conf.networks.iter() {
                prop_assert!(range.network.covers(range.min) && range.network.covers(range.max) && range.min <= range.max);
            }
        }
    }
}
