use super::*;

fn refused(code: u16) -> ApiError {
    ApiError::Refused { code, message: format!("message {code}"), retry_after: None }
}

fn unreachable(cause: &str) -> ApiError {
    ApiError::Transport(cause.into())
}

/// Subject and detail of each problem of the event, up to the cause.
fn reported(event: Option<Event>) -> Option<Vec<String>> {
    let Event::Faults(subject, problems) = event? else { panic!("another event") };
    assert_eq!(&*subject, "the API server", "one subject for all, so that the next event takes its place");
    Some(problems.iter().map(|problem| format!("{} {}", problem.subject, problem.detail)).collect())
}

const AWAY: &str = "the API server cannot be followed, and what was last known stays in force: the API server cannot be reached: refused";

#[test]
fn an_api_server_that_is_away_is_told_once_whatever_each_watch_finds() {
    let mut failures = Failures::default();
    assert_eq!(reported(failures.begin(Collection::Slices, &unreachable("refused"))), Some(vec![AWAY.to_owned()]));
    for error in
        [unreachable("timed out"), ApiError::Late(std::time::Duration::from_secs(15)), refused(503), refused(429)]
    {
        assert_eq!(reported(failures.begin(Collection::Slices, &error)), None, "{error}");
    }
    // A watch that fails later takes over the words.
    assert_eq!(reported(failures.begin(Collection::Services, &refused(502))), Some(vec![AWAY.to_owned()]));
    assert_eq!(reported(failures.end(Collection::Slices)), Some(vec![AWAY.to_owned()]));
    assert_eq!(reported(failures.end(Collection::Slices)), None, "it did not fail");
    assert_eq!(reported(failures.end(Collection::Services)), Some(Vec::new()));
}

#[test]
fn a_right_that_is_missing_is_told_for_its_kind_beside_the_rest() {
    let mut failures = Failures::default();
    let forbidden = |name: &str| {
        format!(
            "{name} cannot be followed, and what was last known stays in force: the API server says 403: message 403"
        )
    };
    let nodes = forbidden("this node's Node");
    assert_eq!(reported(failures.begin(Collection::Nodes, &refused(403))), Some(vec![nodes.clone()]));
    let services = forbidden("the list of Services");
    assert_eq!(
        reported(failures.begin(Collection::Services, &refused(403))),
        Some(vec![services, nodes.clone()]),
        "each right by itself"
    );
    assert_eq!(
        reported(failures.begin(Collection::Services, &unreachable("refused"))),
        Some(vec![AWAY.to_owned(), nodes]),
        "another failure of the same watch"
    );
}

#[test]
fn a_failure_that_asks_for_something_else_is_told_anew() {
    let mut failures = Failures::default();
    assert_eq!(reported(failures.begin(Collection::Services, &unreachable("refused"))), Some(vec![AWAY.to_owned()]));
    let reported =
        reported(failures.begin(Collection::Services, &unreachable("invalid peer certificate"))).expect("news");
    assert!(reported[0].ends_with("invalid peer certificate"), "{reported:?}");
}

#[test]
fn refusals_of_an_api_server_that_starts_are_its_outage() {
    let mut failures = Failures::default();
    failures.begin(Collection::Services, &unreachable("refused"));
    for _ in 0..REFUSALS_OF_A_START {
        assert_eq!(reported(failures.begin(Collection::Services, &refused(403))), None);
    }
    let lasting = reported(failures.begin(Collection::Services, &refused(403))).expect("news");
    assert!(lasting[0].starts_with("the list of Services cannot be followed"), "{lasting:?}");
}
