use super::*;

fn route(detail: &str) -> Problem<&'static str> {
    Problem::new("conflict", "route 10.244.2.0/24", detail)
}

#[test]
fn a_sentence_is_subject_detail_and_remedy() {
    let problem = route("cannot be added");
    assert_eq!(problem.to_string(), "route 10.244.2.0/24 cannot be added");
    let problem = problem.with_remedy("ip route delete 10.244.2.0/24");
    assert_eq!(problem.to_string(), "route 10.244.2.0/24 cannot be added: ip route delete 10.244.2.0/24");
}

#[test]
fn kind_and_subject_make_a_problem_the_same() {
    assert_eq!(route("a"), route("b"));
    assert_ne!(route("a"), Problem { kind: "refused", ..route("a") });
    assert_ne!(route("a"), Problem { subject: "route 10.244.3.0/24".to_owned(), ..route("a") });
    assert!(route("a").says_the_same_as(&route("a")) && !route("a").says_the_same_as(&route("b")));
}

#[test]
fn changes_are_what_begins_what_ends_and_what_says_something_else() {
    let other = Problem::new("refused", "sysctl a", "cannot be set");
    let (none, first) = (Problems::new(), Problems::from([route("a"), other.clone()]));
    let begun = changes(&none, &first);
    assert_eq!((begun.new.len(), begun.over.len()), (2, 0));
    assert_eq!(changes(&first, &first), Changes { new: Vec::new(), over: Vec::new() });
    let second = Problems::from([route("b")]);
    let changed = changes(&first, &second);
    assert_eq!(changed.over, [&other]);
    assert_eq!(changed.new.iter().map(|problem| problem.detail.as_str()).collect::<Vec<_>>(), ["b"]);
}
