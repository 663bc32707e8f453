use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn v4() -> SubnetEnv {
    SubnetEnv {
        networks: PerFamily { v4: Some(prefix("10.244.0.0/16")), v6: None },
        subnets: PerFamily { v4: Some(prefix("10.244.1.0/24")), v6: None },
        mtu: Mtu::try_from(1450).expect("MTU"),
        ip_masq: true,
    }
}

const V4: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

#[test]
fn s1_ipv4_byte_for_byte() {
    assert_eq!(v4().render(), V4);
}

#[test]
fn s2_dual_stack_and_ipv6_alone() {
    let v6 = (Some(prefix("fd00:10:244::/56")), Some(prefix("fd00:10:244:1::/64")));
    let mut env = v4();
    (env.networks.v6, env.subnets.v6) = v6;
    let dual = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/56\n\
                FLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    assert_eq!(env.render(), dual);
    (env.networks.v4, env.subnets.v4, env.ip_masq) = (None, None, false);
    let alone = "FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
    assert_eq!(env.render(), alone);
}

#[test]
fn s3_missing_folders_are_made_and_everybody_can_read() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("run/flannel/subnet.env");
    write(&path, &v4()).expect("write");
    write(&path, &v4()).expect("write over it");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(path.parent().expect("folder"))), (0o644, 0o755));
    assert_eq!(fs::read_to_string(&path).expect("read"), V4);
    assert_eq!(fs::read_dir(path.parent().expect("folder")).expect("list").count(), 1, "nothing else stays behind");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("subnet.env");
    fs::create_dir(&path).expect("a folder in its place");
    let error = write(&path, &v4()).expect_err("a folder cannot be replaced");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(fs::read_dir(room.path()).expect("list").count(), 1, "nothing half-done stays");
}

#[test]
fn the_previous_subnets_are_read_and_nonsense_is_none() {
    let previous = previous_subnets(V4);
    assert_eq!((previous.v4, previous.v6), (Some(prefix("10.244.1.0/24")), None));
    for nonsense in [
        "",
        "FLANNEL_SUBNET",
        "FLANNEL_SUBNET=",
        "FLANNEL_SUBNET=10.3.4/24",
        "FLANNEL_SUBNET=fd00::/64",
        "XFLANNEL_SUBNET=10.3.4.1/24",
    ] {
        assert!(previous_subnets(nonsense).is_empty(), "{nonsense}");
    }
    let half = "FLANNEL_SUBNET=10.2.3.1/24\nFLANNEL_IPV6_SUBNET=fd00::1/6x\n";
    assert_eq!(previous_subnets(half).v4, Some(prefix("10.2.3.0/24")), "one wrong line leaves the other");
}

proptest! {
    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let _ = previous_subnets(&text);
    }
}
