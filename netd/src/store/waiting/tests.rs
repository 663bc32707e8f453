use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Call(&'static str);

fn lacks(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Read { object: "it".to_owned(), advice: "put it there", source: source.into() }
}

#[test]
fn what_is_waited_for_is_shown_until_it_is_there() {
    let (standing, shown) = watch::channel(None);
    let mut waiting = Waiting::new::<Call>(true, FIRST, &standing);
    waiting.say(&lacks("first"));
    assert_eq!(shown.borrow().as_deref(), Some("cannot read it: put it there: first"));
    waiting.say(&lacks("second"));
    assert_eq!(shown.borrow().as_deref(), Some("cannot read it: put it there: second"));
    waiting.over();
    assert_eq!(*shown.borrow(), None);
}

#[test]
fn how_a_call_fails_each_time_is_one_reason() {
    let (standing, _shown) = watch::channel(None);
    let mut waiting = Waiting::new::<Call>(true, FIRST, &standing);
    waiting.say(&lacks(Call("refused")));
    let told = waiting.told.clone();
    waiting.say(&lacks(Call("timed out")));
    assert_eq!(waiting.told, told);
    waiting.say(&lacks("not JSON"));
    assert_ne!(waiting.told, told, "that is another one");
}

#[test]
fn one_that_has_waited_for_nothing_hides_nothing_of_another() {
    let (standing, shown) = watch::channel(None);
    let mut outer = Waiting::new::<Call>(true, FIRST, &standing);
    outer.say(&lacks("a range"));
    let mut inner = Waiting::new::<Call>(true, FIRST, &standing);
    inner.over();
    assert!(shown.borrow().is_some(), "the range is not there");
    inner.say(&lacks("the server"));
    inner.over();
    outer.say(&lacks("a range"));
    assert!(shown.borrow().is_some(), "it is waited for still");
}

#[test]
fn the_waits_get_longer_up_to_the_longest() {
    let (standing, _shown) = watch::channel(None);
    let mut waiting = Waiting::new::<Call>(true, 5 * FIRST, &standing);
    let waits = [waiting.longer(), waiting.longer(), waiting.longer(), waiting.longer(), waiting.longer()];
    assert_eq!(waits, [1, 2, 4, 5, 5].map(Duration::from_secs));
}
