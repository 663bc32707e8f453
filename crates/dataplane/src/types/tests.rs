use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().expect(text)
}

#[test]
fn interface_names_are_what_the_kernel_takes() {
    for good in ["eth0", "flannel-v6.4096", "a", "123456789012345"] {
        assert_eq!(good.parse::<IfName>().expect(good).as_str(), good);
    }
    for bad in ["", "1234567890123456", ".", "..", "a/b", "a:b", "a b", "a\u{a0}b", "a\n"] {
        bad.parse::<IfName>().expect_err(bad);
    }
}

#[test]
fn numbers_keep_to_their_range() {
    assert_eq!(Vni::try_from(16_777_215).expect("largest VNI").get(), 16_777_215);
    for bad in [0, -1, 16_777_216] {
        assert!(Vni::try_from(bad).expect_err("out of range").to_string().contains("1 to 16777215"));
    }
    assert!(Mtu::try_from(67).is_err() && Mtu::try_from(65536).is_err());
    assert_eq!(Mtu::try_from(1500).and_then(|mtu| mtu.minus(70)).expect("fits").get(), 1430);
}

#[test]
fn mac_addresses_read_back_as_written() {
    let mac: Mac = "0A:58:0a:f4:01:02".parse().expect("upper case is fine");
    assert_eq!(mac.to_string(), "0a:58:0a:f4:01:02");
    for bad in ["", "0a:58:0a:f4:01", "0a:58:0a:f4:01:02:03", "0a:58:0a:f4:1:2", "+a:58:0a:f4:01:02"] {
        bad.parse::<Mac>().expect_err(bad);
    }
    let local = Mac::local([0xff; 6]);
    assert_eq!(local.0[0] & 3, 2, "locally administered, unicast");
    assert!(Mac([0; 6]).is_unusable() && Mac([1, 0, 0, 0, 0, 0]).is_unusable() && !local.is_unusable());
}

#[test]
fn prefixes_clear_host_bits_and_count() {
    assert_eq!(prefix("10.244.1.77/24").to_string(), "10.244.1.0/24");
    assert_eq!(prefix("10.244.1.0/24").nth(1).map(|a| a.to_string()).as_deref(), Some("10.244.1.1"));
    assert_eq!(prefix("10.244.1.0/24").nth(256), None);
    assert_eq!(prefix("::/0").last(), u128::MAX);
    assert!(prefix("10.0.0.0/8").covers(prefix("10.244.0.0/16")));
    assert!(prefix("10.244.0.0/16").overlaps(prefix("10.0.0.0/8")));
    assert!(!prefix("0.0.0.0/0").contains("::1".parse().expect("address")));
    for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8", "10.0.0.0/8/8", "::/129"] {
        bad.parse::<Prefix>().expect_err(bad);
    }
}

#[test]
fn words_are_plain_text_and_numbers_in_files() {
    let name: IfName = "eth0".parse().expect("name");
    assert_eq!(name.to_string(), "eth0");
    assert_eq!(format!("{name:>6}"), "  eth0");
}

#[test]
fn a_link_local_address_follows_from_a_hardware_address() {
    assert_eq!(Mac([0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x01]).link_local().to_string(), "fe80::858:aff:fef4:101");
}
