use serde_json::{Value, json};

use super::{CniResult, Dns, Interface, Ip, Route};
use crate::conf::{Fields, prev_result};
use crate::version::Version;

/// A dual-stack pod: `10.244.1.2/24` and `fd00::2/64` behind `.1` and `::1`.
fn pod() -> CniResult {
    let link = |name: &str, sandbox: Option<&str>| Interface {
        name: name.to_owned(),
        mac: Some("0a:58:0a:f4:01:02".to_owned()),
        mtu: Some(1450),
        sandbox: sandbox.map(str::to_owned),
        ..Interface::default()
    };
    let ip = |address: &str, gateway: &str| Ip {
        address: address.parse().expect("an address"),
        gateway: Some(gateway.parse().expect("an address")),
        interface: Some(2),
    };
    let route = |dst: &str, gw: Option<&str>| {
        Route::via(dst.parse().expect("a prefix"), gw.map(|gw| gw.parse().expect("an address")))
    };
    CniResult {
        interfaces: vec![link("cni0", None), link("veth0", None), link("eth0", Some("/run/netns/a"))],
        ips: vec![ip("10.244.1.2/24", "10.244.1.1"), ip("fd00::2/64", "fd00::1")],
        routes: vec![
            route("10.244.0.0/16", None),
            route("0.0.0.0/0", Some("10.244.1.1")),
            route("::/0", Some("fd00::1")),
        ],
        dns: Dns::default(),
    }
}

fn written(version: Version) -> Value {
    pod().to_json(version).expect("a result with addresses")
}

#[test]
fn the_oldest_form_has_one_object_for_each_family() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(
            written(version),
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip": "10.244.1.2/24", "gateway": "10.244.1.1", "routes": [
                    {"dst": "10.244.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.244.1.1"},
                ]},
                "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
                "dns": {},
            })
        );
    }
    assert!(CniResult::default().to_json(Version::V0_2_0).is_err(), "it has no form without an address");
}

/// The form since 0.3.0 with what changed later.
fn listed(version: &str, ip_version: bool, mtu: bool, dns: bool) -> Value {
    let link = |name: &str| {
        let mut link = json!({"name": name, "mac": "0a:58:0a:f4:01:02"});
        if mtu {
            link["mtu"] = json!(1450);
        }
        link
    };
    let ip = |number: &str, address: &str, gateway: &str| {
        let mut ip = json!({"address": address, "gateway": gateway, "interface": 2});
        if ip_version {
            ip["version"] = json!(number);
        }
        ip
    };
    let mut pod_end = link("eth0");
    pod_end["sandbox"] = json!("/run/netns/a");
    let mut result = json!({
        "cniVersion": version,
        "interfaces": [link("cni0"), link("veth0"), pod_end],
        "ips": [ip("4", "10.244.1.2/24", "10.244.1.1"), ip("6", "fd00::2/64", "fd00::1")],
        "routes": [
            {"dst": "10.244.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00::1"},
        ],
    });
    if dns {
        result["dns"] = json!({});
    }
    result
}

#[test]
fn later_forms_are_lists() {
    assert_eq!(written(Version::V0_3_0), listed("0.3.0", true, false, true));
    assert_eq!(written(Version::V0_3_1), listed("0.3.1", true, false, true));
    assert_eq!(written(Version::V0_4_0), listed("0.4.0", true, false, true));
    assert_eq!(written(Version::V1_0_0), listed("1.0.0", false, false, false));
    assert_eq!(written(Version::V1_1_0), listed("1.1.0", false, true, false));
}

fn read_back(version: Version, prev: &Value) -> Result<Option<CniResult>, String> {
    let conf = json!({"prevResult": prev});
    let fields = Fields::of("", &conf).expect("an object");
    prev_result::read(&fields, version).map_err(|error| error.to_string())
}

#[test]
fn every_form_reads_back_to_what_it_can_hold() {
    for version in Version::ALL {
        let read = read_back(version, &written(version)).expect("our own result").expect("a result");
        assert_eq!(read.to_json(version).expect("addresses"), written(version), "{version}");
    }
    assert_eq!(read_back(Version::V1_1_0, &Value::Null), Ok(None));
}

#[test]
fn fields_of_other_plugins_pass_through() {
    let foreign = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "vf0", "socketPath": "/run/vhost", "pciID": "0000:01:02.3", "mtu": 9000}],
        "routes": [{"dst": "10.0.0.0/8", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": 253}],
        "dns": {"nameservers": ["10.96.0.10"], "domain": "a", "search": ["b"], "options": ["ndots:5"]},
    });
    let read = read_back(Version::V1_1_0, &foreign).expect("a result").expect("a result");
    assert_eq!(read.to_json(Version::V1_1_0).expect("a form"), foreign);
}

#[test]
fn another_versions_result_is_refused() {
    let error = read_back(Version::V1_0_0, &written(Version::V0_4_0)).expect_err("another form");
    assert!(error.starts_with("could not parse prevResult: result type supports [1.0.0]"), "{error}");
    let mut silent = written(Version::V0_4_0);
    silent.as_object_mut().expect("an object").remove("cniVersion");
    assert!(read_back(Version::V0_4_0, &silent).is_ok(), "without a version it has the configuration's");
}

#[test]
fn a_result_follows_an_earlier_one() {
    let earlier = CniResult {
        interfaces: vec![Interface { name: "lo".to_owned(), ..Interface::default() }],
        ..CniResult::default()
    };
    let both = pod().after(earlier);
    assert_eq!(both.interfaces.len(), 4);
    assert_eq!(both.ips[0].interface, Some(3), "the place of the interface moves along");
    assert_eq!(both.interface_in("/run/netns/a", "eth0").map(|(place, _)| place), Some(3));
    assert_eq!(both.interface_in("/run/netns/b", "eth0"), None);
}
