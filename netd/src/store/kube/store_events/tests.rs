use super::*;

/// What a person reads of these reports: a task, and its error or none.
fn read(reports: &[(&'static str, Option<&str>)]) -> Vec<StoreEvent> {
    let mut errors = TaskErrors::default();
    let report = |(task, text): &(&'static str, Option<&str>)| match text {
        Some(text) => errors.report_error(task, text),
        None => errors.report_ok(task),
    };
    reports.iter().filter_map(report).collect()
}

fn failing(text: &str) -> StoreEvent {
    StoreEvent::Unavailable(text.to_owned())
}

#[test]
fn one_error_that_both_tasks_see_is_reported_once_and_over_once() {
    let reports = [("a", Some("gone")), ("b", Some("gone too")), ("a", Some("gone")), ("a", None), ("b", None)];
    assert_eq!(read(&reports), [failing("gone"), failing("gone too"), StoreEvent::Available]);
    assert_eq!(read(&[("a", None)]), [], "there was no error");
}

#[test]
fn a_reported_error_changes_with_its_own_task_alone() {
    let reports = [("a", Some("refused: 401")), ("b", Some("late")), ("a", Some("refused: 403")), ("b", None)];
    assert_eq!(read(&reports), [failing("refused: 401"), failing("refused: 403")]);
}

#[test]
fn a_text_that_differs_in_long_numbers_alone_is_the_same_failing() {
    let late = |second: u32| format!("not valid yet: it is 17957{second:05}, too early by {second:04}");
    let (first, second) = (late(11111), late(11112));
    assert_eq!(read(&[("a", Some(&first)), ("a", Some(&second))]), [failing(&first)]);
}
