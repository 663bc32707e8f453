use dataplane::types::{Mac, Vni};
use proptest::prelude::*;

use super::*;
use crate::backend::vxlan::Vtep;

fn name() -> NodeName {
    "node-1".parse().expect("node name")
}

fn lease() -> Lease {
    Lease {
        node: name(),
        subnets: PerFamily { v4: "10.244.1.0/24".parse().ok(), v6: None },
        public: PerFamily { v4: "192.168.0.1".parse().ok(), v6: None },
        backend: BackendType::Vxlan,
        data: PerFamily {
            v4: Some(BackendData::Vxlan(Vtep { vni: Vni::ONE, mac: Mac([0x12, 0xc6, 0x65, 0x89, 0xb4, 0xe3]) })),
            v6: None,
        },
        encapsulations: None,
    }
}

const TEXT: &str = r#"{
  "Subnet": "10.244.1.0/24",
  "IPv6Subnet": null,
  "PublicIP": "192.168.0.1",
  "PublicIPv6": null,
  "BackendType": "vxlan",
  "BackendData": {
    "VNI": 1,
    "VtepMAC": "12:c6:65:89:b4:e3"
  },
  "BackendV6Data": null
}
"#;

#[test]
fn a_lease_is_written_for_people_and_reads_back() {
    assert_eq!(render(&lease()), TEXT);
    assert_eq!(parse(&name(), TEXT).expect("own text"), lease());
    let v6 = Lease {
        subnets: PerFamily { v4: None, v6: "fd00:1::/64".parse().ok() },
        public: PerFamily { v4: None, v6: "2001:db8::1".parse().ok() },
        backend: BackendType::HostGw,
        data: PerFamily::none(),
        ..lease()
    };
    assert_eq!(parse(&name(), &render(&v6)).expect("own text"), v6);
}

#[test]
fn people_may_write_it_in_any_case_with_keys_of_their_own() {
    let text = TEXT.to_lowercase().replacen('{', r#"{"comment": "rack 7","#, 1).replace("vxlan", "VXLAN");
    assert_eq!(parse(&name(), &text).expect("other case"), lease());
    let none =
        TEXT.replace("192.168.0.1", "0.0.0.0").replace(r#""PublicIPv6": null"#, r#""PublicIPv6": "2001:db8::1""#);
    assert_eq!(parse(&name(), &none).expect("0.0.0.0 is none").public.v4, None);
}

#[test]
fn what_is_no_lease_says_why() {
    let faults = [
        (TEXT[..60].to_owned(), "no complete JSON object"),
        (String::new(), "no complete JSON object"),
        (
            TEXT.replace("10.244.1.0/24", "fd00::/64"),
            "a field is wrong: Subnet is \"fd00::/64\", but must be an IPv4 range",
        ),
        (TEXT.replace("192.168.0.1", "node-1"), "PublicIP is \"node-1\""),
        (TEXT.replace("\"10.244.1.0/24\"", "null"), "Subnet or IPv6Subnet is missing"),
        (TEXT.replace("\"192.168.0.1\"", "null"), "PublicIP or PublicIPv6 is missing"),
        (TEXT.replace("BackendType", "Backend"), "BackendType is missing"),
        (TEXT.replace("VtepMAC", "MAC"), "VtepMAC is missing"),
        (TEXT.replace("\"VNI\": 1", "\"VNI\": 0"), "VNI is 0, but must be a whole number from 1 to 16777215"),
    ];
    for (text, expected) in faults {
        let error = parse(&name(), &text).expect_err(&text);
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        assert!(message.contains(expected), "{message}\n  lacks {expected}");
    }
}

#[test]
fn what_another_backend_publishes_is_written_as_it_was_read() {
    let data = r#"{"PublicKey": "c2VjcmV0", "Port":51820,"x":[1, {"y":null}]}"#;
    let entry = r#"{"Type": "wireguard", "PublicKey":"c2VjcmV0"}"#;
    let text = format!(
        r#"{{"Subnet":"10.244.1.0/24","PublicIP":"192.168.0.1","BackendType":"WireGuard","BackendData":{data},
            "Receives":[{{"Type":"host-gw"}},{entry}],"Sends":[{entry}]}}"#
    );
    let lease = parse(&name(), &text).expect("a lease of another backend");
    assert_eq!(lease.data.v4, Some(BackendData::Raw(data.into())), "nothing of it is read");
    let support = lease.encapsulations.as_ref().expect("both lists");
    assert!(support.receives.keys().eq(&[Encapsulation::Direct]) && support.sends.is_empty(), "{support:?}");
    let written = render(&lease);
    assert!(written.contains(data) && written.matches(entry).count() == 2, "{written}");
    assert_eq!(parse(&name(), &written).expect("own text"), lease);
    assert_eq!(
        texts_of_encapsulations(support),
        (format!(r#"[{{"Type":"host-gw"}},{entry}]"#), format!("[{entry}]")),
        "in annotations too"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(&name(), &text);
    }

    #[test]
    fn any_part_of_a_lease_is_read_or_refused(cut in 0..TEXT.len(), at in 0..TEXT.len(), byte in 32_u8..127) {
        parse(&name(), &TEXT[..cut.min(TEXT.len() - 2)]).expect_err("a part is no lease");
        let mut changed = TEXT.as_bytes().to_vec();
        changed[at] = byte;
        let _ = parse(&name(), &String::from_utf8_lossy(&changed));
    }
}
