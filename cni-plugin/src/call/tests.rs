use std::collections::BTreeMap;

use super::{Call, read};
use crate::cni_error::{CniError, Code};

const FULL: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "cid0"),
    ("CNI_NETNS", "/run/netns/a"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn read_with(changes: &[(&str, &str)]) -> Result<Option<Call>, CniError> {
    let mut variables: BTreeMap<_, _> = FULL.into();
    variables.extend(changes.iter().copied());
    read(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn fault(changes: &[(&str, &str)]) -> String {
    let error = read_with(changes).expect_err("the environment is wrong");
    assert_eq!(error.code, Code::InvalidEnvironment, "{error}");
    error.message
}

#[test]
fn a_full_environment_is_a_call() {
    let Ok(Some(Call::Add(target))) = read_with(&[]) else { panic!("ADD was asked for") };
    assert_eq!((target.container.as_str(), target.ifname.as_str()), ("cid0", "eth0"));
    assert_eq!(read(|_| None), Ok(None));
}

#[test]
fn missing_variables_are_told_together_and_in_order() {
    for (name, _) in &FULL[1..] {
        assert_eq!(fault(&[(name, "")]), format!("required env variables [{name}] missing"));
    }
    assert_eq!(
        fault(&[("CNI_IFNAME", ""), ("CNI_CONTAINERID", "")]),
        "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing"
    );
}

#[test]
fn each_verb_needs_only_its_own() {
    assert!(read_with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).is_ok(), "DEL works when the namespace is gone");
    let bare = |command: &'static str| read(move |name| (name == "CNI_COMMAND").then(|| command.to_owned()));
    assert_eq!(bare("STATUS"), Ok(Some(Call::Status)));
    assert_eq!(bare("VERSION"), Ok(Some(Call::Version)));
    assert!(bare("GC").is_err(), "GC needs CNI_PATH");
}

#[test]
fn wrong_values_name_their_variable() {
    for command in ["FOO", "add", "ADD "] {
        assert_eq!(fault(&[("CNI_COMMAND", command)]), format!("unknown CNI_COMMAND: {command}"));
    }
    for container in ["../../etc/x", "-a", "a b", "ab\n"] {
        let message = fault(&[("CNI_CONTAINERID", container)]);
        assert!(message.starts_with("invalid characters in containerID: CNI_CONTAINERID"), "{message}");
    }
    for ifname in [".", "..", "a/b", "a:b", "a b", "a\u{a0}b", "a234567890123456"] {
        let message = fault(&[("CNI_IFNAME", ifname)]);
        assert!(message.starts_with("interface name") && message.contains("CNI_IFNAME"), "{message}");
    }
    assert!(fault(&[("CNI_IFNAME", "a234567890123456")]).contains("too long"));
    assert!(read_with(&[("CNI_IFNAME", "a23456789012345")]).is_ok(), "15 bytes are an interface name");
}

#[test]
fn a_wrong_value_comes_before_a_missing_one() {
    let message = fault(&[("CNI_CONTAINERID", "-"), ("CNI_IFNAME", "")]);
    assert!(message.starts_with("invalid characters in containerID"), "{message}");
}
