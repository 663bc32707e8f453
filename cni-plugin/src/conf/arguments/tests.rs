use serde_json::{Value, json};

use super::Requested;
use crate::cni_error::CniError;
use crate::conf::Fields;

fn read(args: &str, conf: &Value) -> Result<Requested, CniError> {
    Requested::read(args, &Fields::of("", conf).expect("an object"))
}

fn texts(requested: &Requested) -> (Option<String>, Vec<String>) {
    (requested.mac.map(|mac| mac.to_string()), requested.ips.iter().map(ToString::to_string).collect())
}

#[test]
fn the_newest_source_that_speaks_counts() {
    let args = "IP=10.9.0.5;MAC=0a:00:00:00:00:01;IgnoreUnknown=1;K8S_POD_NAME=a";
    let all = json!({
        "args": {"cni": {"ips": ["10.9.0.6/24"], "mac": "0a:00:00:00:00:02"}},
        "runtimeConfig": {"IPs": ["10.9.0.7", "fd00::7/64"], "mac": "0a:00:00:00:00:03"},
    });
    let read = |conf: &Value| texts(&read(args, conf).expect("three sources"));
    let mac = |n: u8| Some(format!("0a:00:00:00:00:0{n}"));
    assert_eq!(read(&all), (mac(3), vec!["10.9.0.7".to_owned(), "fd00::7".to_owned()]));
    assert_eq!(read(&json!({"args": all["args"]})), (mac(2), vec!["10.9.0.6".to_owned()]));
    assert_eq!(read(&json!({"runtimeConfig": {"ips": []}})), (mac(1), vec!["10.9.0.5".to_owned()]));
}

#[test]
fn malformed_arguments_are_errors() {
    let fault = |args: &str| read(args, &json!({})).expect_err(args).to_string();
    assert_eq!(fault("FOO"), "ARGS: invalid pair \"FOO\"");
    assert_eq!(fault("A=B=C"), "ARGS: invalid pair \"A=B=C\"");
    assert_eq!(fault("IgnoreUnknown=1;"), "ARGS: invalid pair \"\"");
    assert!(fault("FOO=1").starts_with("ARGS: unknown args [\"FOO=1\"]"));
    assert!(fault("ip=10.0.0.1").starts_with("ARGS: unknown args"), "keys have their case here");
    assert!(fault("MAC=zz").contains("address zz: invalid MAC address"));
    assert!(fault("IP=10.0.0.1/33").contains("IP is \"10.0.0.1/33\""));
    assert!(read("FOO=1;IgnoreUnknown=true", &json!({})).is_ok(), "IgnoreUnknown counts wherever it is");
}

#[test]
fn addresses_that_no_host_can_have_are_refused() {
    for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "zz"] {
        let error = read("", &json!({"runtimeConfig": {"mac": mac}})).expect_err(mac).to_string();
        assert!(error.starts_with("runtimeConfig.mac is") && error.contains("invalid MAC address"), "{error}");
    }
    let error = read("", &json!({"args": {"cni": {"ips": ["10.9.0.1", "x"]}}})).expect_err("x").to_string();
    assert!(error.starts_with("args.cni.ips[1] is \"x\""), "{error}");
}
