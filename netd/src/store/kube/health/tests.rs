use super::*;

/// What the daemon hears of these reports: a watch, and what ails it or that it is well.
async fn heard(reports: &[(&'static str, Option<&str>)]) -> Vec<StoreEvent> {
    let (events, mut receiver) = mpsc::channel(16);
    let health = Health::new(events);
    for (who, what) in reports {
        let told = match what {
            Some(what) => health.ails(who, (*what).to_owned()).await,
            None => health.is_well(who).await,
        };
        assert!(told.is_ok(), "somebody listens");
    }
    drop(health);
    let mut heard = Vec::new();
    while let Some(event) = receiver.recv().await {
        heard.push(event);
    }
    heard
}

fn trouble(what: &str) -> StoreEvent {
    StoreEvent::Unavailable(what.to_owned())
}

#[tokio::test]
async fn one_trouble_that_both_watches_see_is_told_once_and_over_once() {
    let reports = [("a", Some("gone")), ("b", Some("gone too")), ("a", Some("gone")), ("a", None), ("b", None)];
    assert_eq!(heard(&reports).await, [trouble("gone"), trouble("gone too"), StoreEvent::Available]);
    assert_eq!(heard(&[("a", None)]).await, [], "nothing was wrong");
}

#[tokio::test]
async fn what_is_told_follows_its_own_watch_alone() {
    let reports = [("a", Some("refused: 401")), ("b", Some("late")), ("a", Some("refused: 403")), ("b", None)];
    assert_eq!(heard(&reports).await, [trouble("refused: 401"), trouble("refused: 403")]);
}

#[tokio::test]
async fn numbers_that_run_are_no_news() {
    let late = |second: u32| format!("not valid yet: it is 17957{second:05}, too early by {second:04}");
    let (first, second) = (late(11111), late(11112));
    assert_eq!(heard(&[("a", Some(&first)), ("a", Some(&second))]).await, [trouble(&first)]);
}
