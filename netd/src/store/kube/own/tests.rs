use super::*;

fn node(version: u64) -> Node {
    Node { name: "n1".to_owned(), uid: "u1".to_owned(), version: version.to_string(), ..Node::default() }
}

/// At which version the own Node is known.
fn known(own: &Own) -> Option<u64> {
    own.node()?.count()
}

#[test]
fn an_event_that_is_older_than_an_answer_is_no_news() {
    let own = Own::default();
    assert!(own.heard(Some(node(5))));
    assert!(!own.heard(Some(node(4))), "it was under way");
    assert_eq!(known(&own), Some(5));
    assert!(own.heard(Some(node(5))) && own.heard(Some(node(6))));
    assert!(own.heard(None), "it is gone");
    assert!(own.heard(Some(node(1))), "nothing else is known");
}

#[test]
fn another_node_of_the_same_name_is_news_at_any_version() {
    let own = Own::default();
    own.heard(Some(node(5)));
    assert!(own.heard(Some(Node { uid: "u2".to_owned(), ..node(4) })));
    assert_eq!(known(&own), Some(4));
}

#[test]
fn an_answer_counts_more_than_all_that_was_known_when_it_was_asked_for() {
    let own = Own::default();
    own.heard(Some(node(50)));
    let asked = own.asks();
    assert!(own.answered(asked, Some(node(7))), "etcd was restored");
    assert_eq!(known(&own), Some(7));
    let asked = own.asks();
    assert!(own.answered(asked, None), "the backup is older than the Node");
    assert_eq!(known(&own), None);
}

#[test]
fn an_answer_is_no_news_where_something_newer_was_heard_meanwhile() {
    let own = Own::default();
    own.heard(Some(node(5)));
    let asked = own.asks();
    own.heard(Some(node(7)));
    assert!(!own.answered(asked, Some(node(6))));
    assert!(!own.answered(asked, None), "it was made again");
    assert_eq!(known(&own), Some(7));
    assert!(own.answered(asked, Some(node(8))));
}
