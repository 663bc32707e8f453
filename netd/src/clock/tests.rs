use super::*;

#[test]
fn now_prints_as_rfc_3339_in_whole_seconds() {
    let text = now().to_string();
    assert!(text.len() == "2026-01-31T12:00:00Z".len() && text.ends_with('Z'), "{text}");
}

#[test]
fn ages_are_in_the_unit_that_a_person_would_take() {
    let start: Timestamp = "2026-02-28T23:59:00Z".parse().expect("a time");
    let at = |seconds| Timestamp::from_second(start.as_second() + seconds).expect("a time");
    for (seconds, expected) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d"), (-5, "0s")] {
        assert_eq!(age(start, at(seconds)), expected);
    }
}
