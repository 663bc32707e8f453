use super::*;

fn subnet(text: &str) -> PerFamily<Prefix> {
    PerFamily { v4: text.parse().ok(), v6: None }
}

#[test]
fn a_fault_is_reported_when_it_begins_and_when_it_ends() {
    let first = Fault::other_subnets(subnet("10.244.9.0/24"), subnet("10.244.1.0/24"));
    let warning = |fault: &Fault| Notice::Warning { reason: fault.reason, text: fault.text.clone() };
    let mut condition = LeaseCondition::default();
    assert_eq!(condition.set(None), []);
    assert_eq!(condition.set(Some(first.clone())), [warning(&first)]);
    assert_eq!(condition.set(Some(first.clone())), [], "it is no news");
    let second = Fault::taken(subnet("10.244.1.0/24"));
    assert_eq!(condition.set(Some(second.clone())), [Notice::Resolved(first.text.clone()), warning(&second)]);
    assert_eq!(condition.set(None), [Notice::Resolved(second.text)]);
    assert_eq!(condition.set(Some(first.clone())), [warning(&first)], "it has come again");
}

#[test]
fn each_fault_says_what_it_is_about_and_what_to_do() {
    let (stored, used) = (subnet("10.244.9.0/24"), subnet("10.244.1.0/24"));
    let refused = || StoreError::Write { object: "Node n1".to_owned(), advice: "apply the role", source: "403".into() };
    let none = StoreError::Allocate { node: "n1".parse().expect("a name"), source: "it has another podCIDR".into() };
    for (fault, reason, words) in [
        (Fault::other_subnets(stored, used), "PodCIDRChanged", vec!["10.244.9.0/24", "10.244.1.0/24", "drain"]),
        (Fault::taken(used), "LeaseLost", vec!["another node", "10.244.1.0/24", "drain"]),
        (Fault::not_restored(&refused()), "LeaseLost", vec!["cannot be put back", "apply the role", "403"]),
        (Fault::not_restored(&none), "PodCIDRChanged", vec!["cannot be put back", "another podCIDR"]),
        (Fault::not_published(&refused()), "LeaseNotPublished", vec!["cannot be published", "apply the role", "403"]),
        (Fault::not_read(&ReadError::Late), "PeersNotRead", vec!["cannot be read", "has not answered"]),
    ] {
        assert_eq!(fault.reason, reason, "{}", fault.text);
        for word in words {
            assert!(fault.text.contains(word), "{word} is not in {}", fault.text);
        }
    }
}
