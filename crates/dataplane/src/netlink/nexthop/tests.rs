use super::*;

fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + BODY_BYTES];
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).expect("a short attribute");
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
    }
    bytes
}

#[test]
fn an_object_is_a_next_hop_or_a_group() {
    let (oif, member) = (2_u32.to_ne_bytes(), [&7_u32.to_ne_bytes()[..], &[0; 4]].concat());
    let hop = |gateway: RouteAddress| vec![RouteAttribute::Oif(2), RouteAttribute::Gateway(gateway)];
    let v4 = parse(&message(&[(NHA_ID, &[5, 0, 0, 0]), (NHA_OIF, &oif), (NHA_GATEWAY, &[192, 0, 2, 1])]));
    assert_eq!(v4, Nexthop { hop: hop(RouteAddress::Inet([192, 0, 2, 1].into())), member: None });
    let v6 = parse(&message(&[(NHA_OIF, &oif), (NHA_GATEWAY, &[0xfd; 16])]));
    assert_eq!(v6.hop, hop(RouteAddress::Inet6([0xfd; 16].into())));
    assert_eq!(parse(&message(&[(NHA_GROUP, &member)])).member, Some(7));
}

#[test]
fn whatever_comes_is_read_without_a_panic() {
    let whole = message(&[(NHA_OIF, &[2, 0, 0, 0]), (NHA_GATEWAY, &[1]), (NHA_GROUP, &[])]);
    for length in 0..whole.len() {
        parse(&whole[..length]);
    }
}
