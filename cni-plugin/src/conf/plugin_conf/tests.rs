use dataplane::types::{IfName, Mtu};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{PluginConf, TeardownConf, subnet_file};
use crate::cni_error::{CniError, Code};
use crate::conf::subnet_env::{self, SubnetEnv};
use crate::conf::{Document, parse_stdin};

const ENV: &[u8] =
    b"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/56\n\
    FLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

fn env() -> SubnetEnv {
    subnet_env::parse(ENV).expect("a subnet.env")
}

/// A configuration with more fields than a name.
fn document(more: &Value) -> Document {
    let mut conf = json!({"cniVersion": "1.0.0", "name": "cbr0", "type": "netd"});
    for (key, value) in more.as_object().into_iter().flatten() {
        conf[key] = value.clone();
    }
    parse_stdin(conf.to_string().as_bytes()).expect("a document")
}

fn read(more: &Value) -> Result<PluginConf, CniError> {
    let document = document(more);
    let env = subnet_file(&document)?.map(|_| env());
    PluginConf::read(&document, "", env.as_ref())
}

fn fault(more: &Value) -> CniError {
    read(more).map(drop).expect_err(&more.to_string())
}

#[test]
fn a_bare_entry_takes_everything_from_subnet_env() {
    let conf = read(&json!({})).expect("a bare entry");
    assert_eq!(conf.bridge.name.as_str(), "cni0");
    assert_eq!(conf.bridge.mtu.map(Mtu::get), Some(1450));
    assert!(conf.bridge.hairpin && conf.bridge.is_gateway && conf.is_default_gateway);
    assert!(!conf.bridge.promiscuous && !conf.bridge.force_address && !conf.bridge.port_isolation);
    let ranges: Vec<_> = conf.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges[0], "10.244.1.1-10.244.1.254");
    assert!(ranges[1].starts_with("fd00:10:244:1::1-"), "{ranges:?}");
    let gateways: Vec<_> = conf.ranges.iter().map(|set| set.ranges()[0].gateway.to_string()).collect();
    assert_eq!(gateways, ["10.244.1.1", "fd00:10:244:1::1"]);
    let routes: Vec<_> = conf.routes.iter().map(|route| route.dst.to_string()).collect();
    assert_eq!(routes, ["10.244.0.0/16", "fd00:10:244::/56"]);
    assert_eq!(conf.data_dir.to_str(), Some("/var/lib/cni/networks"));
    let file = subnet_file(&document(&json!({}))).expect("no wrong types").map(|path| path.display().to_string());
    assert_eq!(file.as_deref(), Some("/run/flannel/subnet.env"));
}

#[test]
fn an_entry_with_ranges_needs_no_file() {
    let ipam = json!({"subnet": "10.9.0.0/24", "rangeEnd": "10.9.0.9", "ranges": [[{"subnet": "fd00::/64"}]]});
    for (more, count) in [
        (json!({"ipam": ipam}), 2),
        (json!({"ipam": ipam, "runtimeConfig": {"ipRanges": [[{"subnet": "10.8.0.0/24"}]]}}), 3),
        (json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.8.0.0/24"}]]}}), 1),
    ] {
        assert_eq!(subnet_file(&document(&more)).expect("no wrong types"), None, "{more}");
        assert_eq!(read(&more).expect("ranges").ranges.len(), count, "{more}");
    }
    let conf = read(&json!({"IPAM": {"SUBNET": "10.9.0.0/24"}, "ISGATEWAY": false})).expect("keys in any case");
    assert!(!conf.bridge.is_gateway && !conf.is_default_gateway && conf.bridge.mtu.is_none());
}

#[test]
fn what_is_not_done_is_refused_with_key_and_value() {
    for (more, text) in [
        (json!({"ipMasq": true}), "ipMasq is true"),
        (json!({"vlan": 100}), "vlan is 100"),
        (json!({"vlanTrunk": [{"id": 1}]}), "vlanTrunk is [{\"id\":1}]"),
        (json!({"macspoofchk": true}), "macspoofchk is true"),
        (json!({"runtimeConfig": {"portMappings": [{"HostPort": 1}]}}), "runtimeConfig.portMappings is"),
        (json!({"ipam": {"type": "dhcp"}}), "ipam.type is \"dhcp\""),
        (json!({"ipam": {"routes": [{"dst": "10.0.0.0/8", "mtu": 9000}]}}), "ipam.routes[0].mtu is 9000"),
    ] {
        let error = fault(&more);
        assert_eq!(error.code, Code::UnsupportedField, "{more}: {error}");
        assert!(error.message.starts_with(text), "{more}: {error}");
    }
    let nothing = json!({"ipMasq": false, "vlan": 0, "vlanTrunk": [], "runtimeConfig": {"portMappings": null}});
    assert!(read(&nothing).is_ok(), "what asks for nothing passes");
}

#[test]
fn values_that_cannot_be_name_their_field() {
    for (more, code, text) in [
        (json!({"mtu": "1400"}), Code::Decode, "mtu must be a whole number, but it is \"1400\""),
        (json!({"mtu": 9_000_000}), Code::InvalidConfiguration, "mtu is 9000000"),
        (json!({"bridge": "a234567890123456"}), Code::InvalidConfiguration, "bridge is \"a234567890123456\""),
        (json!({"hairpinMode": true, "promiscMode": true}), Code::InvalidConfiguration, "cannot set hairpin mode"),
        (json!({"ipam": []}), Code::Decode, "ipam must be an object"),
        (json!({"ipam": {"ranges": [[{}]]}}), Code::InvalidConfiguration, "ipam.ranges[0][0].subnet is missing"),
        (json!({"ipam": {"ranges": [[]]}}), Code::InvalidConfiguration, "invalid range set 0: empty"),
        (json!({"ipam": {"subnet": "10.9.0.0"}}), Code::InvalidConfiguration, "ipam.subnet is \"10.9.0.0\""),
        (json!({"ipam": {"routes": [{"dst": "x"}]}}), Code::InvalidConfiguration, "ipam.routes[0].dst is \"x\""),
        (json!({"runtimeConfig": {"mac": "zz"}}), Code::InvalidConfiguration, "runtimeConfig.mac is \"zz\""),
    ] {
        let error = fault(&more);
        assert_eq!(error.code, code, "{more}: {error}");
        assert!(error.message.contains(text), "{more}: {error}");
    }
    let two =
        json!({"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.8.0.0/24"}], [{"subnet": "10.9.0.0/24"}]]}});
    assert!(fault(&two).message.contains("CNI version 0.2.0 does not support more than 1 address per family"));
}

#[test]
fn promiscuous_mode_turns_the_default_of_hairpin_off() {
    let conf = read(&json!({"promiscMode": true})).expect("one of both");
    assert!(conf.bridge.promiscuous && !conf.bridge.hairpin);
}

#[test]
fn places_are_read_from_anything() {
    let places = |more: &Value| TeardownConf::read(&document(more).fields());
    let wrong = places(&json!({"ipam": "x", "bridge": 7, "mtu": "x"}));
    assert_eq!(
        (wrong.data_dir.to_str(), wrong.bridge.as_ref().map(IfName::as_str)),
        (Some(super::DATA_DIR), Some("cni0"))
    );
    let given = places(&json!({"ipam": {"dataDir": "/x"}, "bridge": "a234567890123456"}));
    assert_eq!((given.data_dir.to_str(), given.bridge), (Some("/x"), None));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:]{0,12}".prop_map(Value::from),
        Just(json!("10.9.0.0/24")),
        Just(json!("fd00::/64")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("subnet"),
            Just("ranges"),
            Just("routes"),
            Just("dst"),
            Just("gw"),
            Just("ips"),
            Just("mac"),
            Just("cni"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        key in prop_oneof![
            Just("ipam"), Just("mtu"), Just("bridge"), Just("runtimeConfig"), Just("args"), Just("prevResult"),
            Just("dns"), Just("vlan"), Just("isGateway"), Just("subnetFile"),
        ],
        value in any_value(),
        args in "[A-Za-z=;0-9.:/]{0,30}",
    ) {
        let document = document(&json!({key: value}));
        let _ = subnet_file(&document);
        let _ = PluginConf::read(&document, &args, Some(&env()));
        let _ = TeardownConf::read(&document.fields());
    }
}
