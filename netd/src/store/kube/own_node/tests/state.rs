//! The state after events, which may be late, and after answers.

use super::*;

fn at(version: u64) -> Node {
    node(version, RANGE, &json!({}))
}

/// The version of the known Node.
fn known(own: &OwnNode) -> Option<u64> {
    own.node()?.version
}

#[tokio::test]
async fn an_event_that_is_older_than_an_answer_is_ignored() {
    let own = nowhere();
    assert!(own.take_event(Some(at(5))));
    assert!(!own.take_event(Some(at(4))), "it was under way");
    assert_eq!(known(&own), Some(5));
    assert!(own.take_event(Some(at(5))) && own.take_event(Some(at(6))));
    assert!(own.take_event(None), "it is gone");
    assert!(own.take_event(Some(at(1))), "nothing else is known");
}

#[tokio::test]
async fn another_node_of_the_same_name_is_taken_at_any_version() {
    let own = nowhere();
    own.take_event(Some(at(5)));
    assert!(own.take_event(Some(Node { uid: "u2".to_owned(), ..at(4) })));
    assert_eq!(known(&own), Some(4));
}

#[tokio::test]
async fn an_answer_replaces_the_node_that_was_known_at_the_request() {
    let own = nowhere();
    own.take_event(Some(at(50)));
    let mark = own.mark();
    assert!(own.take_answer(mark, Some(at(7))), "etcd was restored");
    assert_eq!(known(&own), Some(7));
    let mark = own.mark();
    assert!(own.take_answer(mark, None), "the backup is older than the Node");
    assert_eq!(known(&own), None);
}

#[tokio::test]
async fn an_answer_is_ignored_where_a_newer_event_has_come_since() {
    let own = nowhere();
    own.take_event(Some(at(5)));
    let mark = own.mark();
    own.take_event(Some(at(7)));
    assert!(!own.take_answer(mark, Some(at(6))));
    assert!(!own.take_answer(mark, None), "it was made again");
    assert_eq!(known(&own), Some(7));
    assert!(own.take_answer(mark, Some(at(8))));
}

#[tokio::test]
async fn a_node_with_the_wanted_annotations_has_the_wanted_lease() {
    let own = nowhere();
    let written = node(5, RANGE, &annotations());
    assert_eq!(own.published(&written), None, "nothing is wanted yet");
    own.state().wanted = Some(lease());
    assert_eq!(own.published(&written), Some(lease()));
    assert_eq!(own.published(&node(6, "10.244.9.0/24", &annotations())), None, "the range is another");
    assert_eq!(own.published(&at(6)), None, "it says nothing");
}

#[tokio::test]
async fn a_node_is_corrected_where_its_owner_wants_peers_to_see_another_address() {
    let own = nowhere();
    let mut overwritten = annotations();
    overwritten[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    let to_correct = |annotations: &Value| own.needs_correction(&node(5, RANGE, annotations));
    assert!(!to_correct(&overwritten), "nothing is wanted yet");
    own.state().wanted = Some(lease());
    assert!(to_correct(&overwritten) && !to_correct(&annotations()));
    assert_eq!(own.published(&node(5, RANGE, &overwritten)), Some(lease()), "the daemon has nothing to do");
    let mut of_another = annotations();
    of_another[format!("{PREFIX}public-ip")] = "203.0.113.9".into();
    assert!(!to_correct(&of_another), "another machine has this node's name");
    assert_eq!(own.published(&node(5, RANGE, &of_another)), None, "the daemon decides");
    overwritten[format!("{PREFIX}backend-type")] = "vxlan".into();
    assert!(!to_correct(&overwritten), "more is wrong, which the daemon puts right");
    let mut nonsense = annotations();
    nonsense[format!("{PREFIX}public-ip-overwrite")] = "no address".into();
    assert!(!to_correct(&nonsense), "it is not taken");
    assert!(own.state().logged.as_ref().is_some_and(|text| text.contains("no address")));
}

#[tokio::test]
async fn an_address_that_the_owner_overwrites_is_never_taken_for_another_machines() {
    let own = nowhere();
    let mut annotations = annotations();
    annotations[format!("{PREFIX}public-ip")] = "203.0.113.7".into();
    annotations[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.7".into();
    let seen = Lease { public: PerFamily { v4: "203.0.113.7".parse().ok(), v6: None }, ..lease() };
    let read = |annotations: &Value, known: Option<&Lease>| {
        own.without_overwrites(&node(5, RANGE, annotations), seen.clone(), known).public
    };
    assert_eq!(read(&annotations, None), seen.public, "the node's address is not known");
    assert_eq!(read(&annotations, Some(&lease())), lease().public, "it is known from the cache file");
    own.state().wanted = Some(Lease { backend: BackendType::Vxlan, ..lease() });
    assert_eq!(read(&annotations, None), lease().public, "another lease is wanted already");
    annotations[format!("{PREFIX}public-ip-overwrite")] = "203.0.113.8".into();
    assert_eq!(read(&annotations, None), seen.public, "another machine has written it");
    own.state().overwritten = seen.public;
    assert_eq!(read(&annotations, None), lease().public, "the owner has just changed it");
}
