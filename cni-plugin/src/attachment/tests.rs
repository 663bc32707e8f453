use proptest::prelude::*;

use super::{Attachment, Id, fnv1a};

fn attachment(network: &str, container: &str, ifname: &str) -> Attachment {
    Attachment {
        network: network.parse().expect("a network name"),
        container: container.parse().expect("a container name"),
        ifname: ifname.parse().expect("an interface name"),
    }
}

#[test]
fn names_are_part_of_the_format_and_do_not_change() {
    let first = attachment("cbr0", "cid0", "eth0");
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published test vector of FNV-1a");
    assert_eq!(first.host_veth().as_str(), "veth4dd6c4ca220");
    assert_eq!(first.host_mac().to_string(), "c6:ca:22:0f:fa:43");
    assert_eq!(first.alias(), "cbr0 cid0 eth0");
}

#[test]
fn each_part_counts() {
    let all = [("a", "b", "c"), ("ab", "b", "c"), ("a", "bb", "c"), ("a", "b", "cc"), ("b", "a", "c")];
    let names: std::collections::BTreeSet<_> = all.map(|(n, c, i)| attachment(n, c, i).host_veth()).into();
    assert_eq!(names.len(), all.len(), "five attachments have five host veths");
}

#[test]
fn ids_that_could_leave_a_directory_are_refused() {
    for text in ["", "../../etc/x", "-a", ".a", "a b", "ab\n", "a/b", "é"] {
        assert!(text.parse::<Id>().is_err(), "{text:?} is no id");
    }
    for text in ["a", "0", "cni-1_2.3"] {
        assert_eq!(text.parse::<Id>().expect("an id").as_str(), text);
    }
}

#[test]
fn an_alias_that_had_to_be_cut_is_nobodys() {
    for length in [240, 250, 300] {
        let long = attachment("cbr0", &"x".repeat(length), "eth0");
        assert!(long.alias().len() < 256, "the kernel takes it");
        assert!([None, Some(long.clone())].contains(&Attachment::from_alias(&long.alias())));
    }
}

proptest! {
    #[test]
    fn an_alias_reads_back(net in "[a-z0-9][a-z0-9_.-]{0,20}", cid in "[A-Za-z0-9]{1,80}", name in "[a-z0-9.]{3,15}") {
        let made = attachment(&net, &cid, &name);
        prop_assert_eq!(Attachment::from_alias(&made.alias()), Some(made));
    }
}
