//! What `ping` prints, and what was lost by it.

use super::{Count, count};

fn said(replies: &[u32], sent: u32) -> String {
    let lines =
        replies.iter().map(|number| format!("[1.2] 64 bytes from 10.0.0.1: icmp_seq={number} ttl=62 time=0.1 ms\n"));
    let received = replies.len();
    lines.collect::<String>() + &format!("{sent} packets transmitted, {received} received, x% packet loss, time 9ms\n")
}

#[test]
fn only_the_last_request_may_have_no_reply() {
    let lost = |text: &str| count(text).map(|count| (count.sent, count.received, count.lost));
    assert_eq!(lost(&said(&[1, 2, 3], 3)), Some((3, 3, 0)));
    assert_eq!(lost(&said(&[1, 2], 3)), Some((3, 2, 0)), "the last may be under way");
    assert_eq!(lost(&said(&[1, 3], 3)), Some((3, 2, 1)), "one in the middle is lost");
}

#[test]
fn no_reply_at_all_is_all_lost() {
    let errors = "5 packets transmitted, 0 received, +5 errors, 100% packet loss, time 4100ms\n";
    assert_eq!(count(errors), Some(Count { sent: 5, received: 0, lost: 4, missing: Vec::new() }));
    assert_eq!(count("ping: nothing"), None);
}
