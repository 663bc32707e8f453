use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR};
use nix::libc::EBADMSG;

use super::{Refusal, parse_answer};

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("a length");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// An error number, then what follows it.
fn coded(errno: i32, rest: &[&[u8]]) -> Vec<u8> {
    [&(-errno).to_ne_bytes()[..], &rest.concat()].concat()
}

/// `NLMSGERR_ATTR_MSG`.
fn sentence() -> [u8; 8] {
    let mut attribute = [0; 8];
    attribute[..2].copy_from_slice(&8_u16.to_ne_bytes());
    attribute[2..4].copy_from_slice(&1_u16.to_ne_bytes());
    attribute[4..7].copy_from_slice(b"why");
    attribute
}

#[test]
fn an_answer_is_an_ack_the_end_of_a_list_or_a_refusal() {
    let refused = |errno, reason: Option<&str>| Some(Err(Refusal { errno, reason: reason.map(str::to_owned) }));
    let (tlvs, capped) = (NLM_F_ACK_TLVS, NLM_F_ACK_TLVS | NLM_F_CAPPED);
    let whole = message(0, 0, &[7; 8]);
    let cases = [
        ("an ACK", message(NLMSG_ERROR, 0, &coded(0, &[&[0; 16]])), Some(Ok(()))),
        ("a refusal", message(NLMSG_ERROR, 0, &coded(17, &[&[0; 16]])), refused(17, None)),
        (
            "one with a sentence",
            message(NLMSG_ERROR, capped, &coded(17, &[&[0; 16], &sentence()])),
            refused(17, Some("why")),
        ),
        (
            "one with the request",
            message(NLMSG_ERROR, tlvs, &coded(17, &[&whole, &sentence()])),
            refused(17, Some("why")),
        ),
        ("without a number", message(NLMSG_ERROR, 0, &[0; 2]), refused(EBADMSG, None)),
        ("a list's end", message(NLMSG_DONE, 0, &coded(0, &[])), Some(Ok(()))),
        ("without a number, too", message(NLMSG_DONE, 0, &[]), Some(Ok(()))),
        ("a list that cannot go on", message(NLMSG_DONE, 0, &coded(90, &[])), refused(90, None)),
        ("with a sentence", message(NLMSG_DONE, tlvs, &coded(90, &[&sentence()])), refused(90, Some("why"))),
        ("an entry", message(24, 0, &coded(17, &[])), None),
        ("half a header", vec![0; 8], None),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(parse_answer(&bytes), expected, "{what}");
    }
}
