use super::*;
use crate::daemon::publisher::ReadError;

fn subnet(text: &str) -> PerFamily<Prefix> {
    PerFamily { v4: text.parse().ok(), v6: None }
}

#[test]
fn a_problem_is_reported_when_it_begins_and_when_it_ends() {
    let first = other_subnets(subnet("10.244.9.0/24"), subnet("10.244.1.0/24"));
    let mut condition = LeaseCondition::default();
    assert_eq!(condition.set_own(None), []);
    assert_eq!(condition.set_own(Some(first.clone())), [Notice::Problem(first.clone())]);
    assert_eq!(condition.set_own(Some(first.clone())), [], "it is no news");
    let second = taken(subnet("10.244.1.0/24"));
    assert_eq!(
        condition.set_own(Some(second.clone())),
        [Notice::Resolved(first.clone()), Notice::Problem(second.clone())]
    );
    assert_eq!(condition.set_own(None), [Notice::Resolved(second)]);
    assert_eq!(condition.set_own(Some(first.clone())), [Notice::Problem(first)], "it has come again");
}

#[test]
fn the_nodes_own_lease_and_the_peers_leases_are_reported_apart() {
    let (taken, unread) = (taken(subnet("10.244.1.0/24")), not_read(&ReadError::Late));
    let mut condition = LeaseCondition::default();
    condition.set_own(Some(taken.clone()));
    assert_eq!(condition.set_unread(None), [], "a read has succeeded");
    assert_eq!(condition.set_unread(Some(unread.clone())), [Notice::Problem(unread.clone())]);
    assert_eq!(condition.problems, Problems::from([taken.clone(), unread.clone()]));
    assert_eq!(condition.set_own(None), [Notice::Resolved(taken)]);
    assert_eq!(condition.set_unread(None), [Notice::Resolved(unread)]);
}

#[test]
fn each_problem_says_what_it_is_about_and_what_to_do() {
    let (stored, used) = (subnet("10.244.9.0/24"), subnet("10.244.1.0/24"));
    let refused = || StoreError::write("Node n1", "apply the role", "403");
    let none = StoreError::Allocate { node: "n1".parse().expect("a name"), source: "it has another podCIDR".into() };
    for (problem, kind, words) in [
        (other_subnets(stored, used), Kind::PodCidrChanged, vec!["10.244.9.0/24", "10.244.1.0/24", "drain"]),
        (taken(used), Kind::LeaseLost, vec!["another node", "10.244.1.0/24", "drain"]),
        (not_restored(&refused()), Kind::LeaseLost, vec!["cannot be put back", "apply the role", "403"]),
        (not_restored(&none), Kind::PodCidrChanged, vec!["cannot be put back", "another podCIDR"]),
        (not_published(&refused()), Kind::LeaseNotPublished, vec!["cannot be published", "apply the role", "403"]),
        (not_read(&ReadError::Late), Kind::PeersNotRead, vec!["cannot be read", "has not answered"]),
    ] {
        assert_eq!(problem.kind, kind, "{problem}");
        for word in words {
            assert!(problem.to_string().contains(word), "{word} is not in {problem}");
        }
    }
}
