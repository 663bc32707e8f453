//! What is heard: by events, which may be late, and by answers.

use super::*;

fn at(version: u64) -> Node {
    node(version, RANGE, &json!({}))
}

/// At which version the own Node is known.
fn known(own: &Own) -> Option<u64> {
    own.node()?.count()
}

#[test]
fn an_event_that_is_older_than_an_answer_is_no_news() {
    let own = Own::default();
    assert!(own.heard(Some(at(5))));
    assert!(!own.heard(Some(at(4))), "it was under way");
    assert_eq!(known(&own), Some(5));
    assert!(own.heard(Some(at(5))) && own.heard(Some(at(6))));
    assert!(own.heard(None), "it is gone");
    assert!(own.heard(Some(at(1))), "nothing else is known");
}

#[test]
fn another_node_of_the_same_name_is_news_at_any_version() {
    let own = Own::default();
    own.heard(Some(at(5)));
    assert!(own.heard(Some(Node { uid: "u2".to_owned(), ..at(4) })));
    assert_eq!(known(&own), Some(4));
}

#[test]
fn an_answer_counts_more_than_all_that_was_known_when_it_was_asked_for() {
    let own = Own::default();
    own.heard(Some(at(50)));
    let asked = own.asks();
    assert!(own.answered(asked, Some(at(7))), "etcd was restored");
    assert_eq!(known(&own), Some(7));
    let asked = own.asks();
    assert!(own.answered(asked, None), "the backup is older than the Node");
    assert_eq!(known(&own), None);
}

#[test]
fn an_answer_is_no_news_where_something_newer_was_heard_meanwhile() {
    let own = Own::default();
    own.heard(Some(at(5)));
    let asked = own.asks();
    own.heard(Some(at(7)));
    assert!(!own.answered(asked, Some(at(6))));
    assert!(!own.answered(asked, None), "it was made again");
    assert_eq!(known(&own), Some(7));
    assert!(own.answered(asked, Some(at(8))));
}

#[test]
fn a_node_that_tells_what_is_wanted_is_the_lease_itself() {
    let (own, options) = (Own::default(), fake::options("http://127.0.0.1:1"));
    let told = node(5, RANGE, &annotations());
    assert_eq!(own.as_wanted(&told, &options), None, "nothing is wanted yet");
    own.known().wanted = Some(lease());
    assert_eq!(own.as_wanted(&told, &options), Some(lease()));
    assert_eq!(own.as_wanted(&node(6, "10.244.9.0/24", &annotations()), &options), None, "the range is another");
    assert_eq!(own.as_wanted(&at(6), &options), None, "it says nothing");
}

#[test]
fn a_node_is_corrected_where_its_owner_wants_peers_to_see_another_address() {
    let (own, options) = (Own::default(), fake::options("http://127.0.0.1:1"));
    let mut overwritten = annotations();
    overwritten[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    let to_correct = |annotations: &Value| own.is_to_be_corrected(&node(5, RANGE, annotations), &options);
    assert!(!to_correct(&overwritten), "nothing is wanted yet");
    own.known().wanted = Some(lease());
    assert!(to_correct(&overwritten) && !to_correct(&annotations()));
    overwritten[format!("{PREFIX}backend-type")] = "vxlan".into();
    assert!(!to_correct(&overwritten), "more is wrong, which the daemon puts right");
    let mut nonsense = annotations();
    nonsense[format!("{PREFIX}public-ip-overwrite")] = "no address".into();
    assert!(!to_correct(&nonsense), "it is not taken");
    assert!(own.known().told.as_ref().is_some_and(|told| told.contains("no address")));
}
