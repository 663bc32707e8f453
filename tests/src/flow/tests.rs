//! What `ping` prints at its end.

use super::{Count, count};

#[test]
fn the_summary_is_read() {
    let text = "--- 10.0.0.1 ping statistics ---\n37 packets transmitted, 36 received, 2.7027% packet loss, time 9ms\n";
    assert_eq!(count(text), Some(Count { sent: 37, received: 36, missing: Vec::new() }));
    let errors = "5 packets transmitted, 0 received, +5 errors, 100% packet loss, time 4100ms\n";
    assert_eq!(count(errors), Some(Count { sent: 5, received: 0, missing: Vec::new() }));
    assert_eq!(count("ping: nothing"), None);
}
