use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Call(&'static str);

fn unreadable(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::read("it", "put it there", source)
}

#[test]
fn the_current_reason_is_published_until_success() {
    let (status, published) = watch::channel(None);
    let mut retry = StartupRetry::new::<Call>(true, FIRST, &status);
    retry.report(&unreadable("first"));
    assert_eq!(published.borrow().as_deref(), Some("cannot read it: put it there: first"));
    retry.report(&unreadable("second"));
    assert_eq!(published.borrow().as_deref(), Some("cannot read it: put it there: second"));
    retry.succeeded();
    assert_eq!(*published.borrow(), None);
}

#[test]
fn failed_calls_are_one_reason_whatever_their_text() {
    let (status, _published) = watch::channel(None);
    let mut retry = StartupRetry::new::<Call>(true, FIRST, &status);
    retry.report(&unreadable(Call("refused")));
    let logged = retry.logged.clone();
    retry.report(&unreadable(Call("timed out")));
    assert_eq!(retry.logged, logged);
    retry.report(&unreadable("not JSON"));
    assert_ne!(retry.logged, logged, "another reason");
}

#[test]
fn success_without_a_report_leaves_the_report_of_another_operation() {
    let (status, published) = watch::channel(None);
    let mut outer = StartupRetry::new::<Call>(true, FIRST, &status);
    outer.report(&unreadable("a range"));
    let mut inner = StartupRetry::new::<Call>(true, FIRST, &status);
    inner.succeeded();
    assert!(published.borrow().is_some(), "the range is still missing");
    inner.report(&unreadable("the server"));
    inner.succeeded();
    outer.report(&unreadable("a range"));
    assert!(published.borrow().is_some(), "the range is still missing");
}

#[test]
fn delays_double_up_to_the_longest() {
    let (status, _published) = watch::channel(None);
    let mut retry = StartupRetry::new::<Call>(true, 5 * FIRST, &status);
    let delays: [Duration; 5] = std::array::from_fn(|_| retry.take_delay());
    assert_eq!(delays, [1, 2, 4, 5, 5].map(Duration::from_secs));
}
