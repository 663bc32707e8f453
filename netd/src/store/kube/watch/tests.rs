use tokio::task::JoinHandle;

use super::*;
use crate::store::kube::fake::{self, Request};
use crate::store::kube::object::Node;

fn read(text: &str, version: &mut String) -> Result<Option<Told<Node>>, CallError> {
    read_line(text.as_bytes(), version)
}

#[test]
fn a_line_tells_what_has_happened_and_where_to_go_on() {
    let mut version = "1".to_owned();
    let line = |kind: &str, version: u8| {
        format!(r#"{{"type":"{kind}","object":{{"metadata":{{"name":"n1","resourceVersion":"{version}"}}}}}}"#)
    };
    assert!(matches!(read(&line("ADDED", 2), &mut version), Ok(Some(Told::Is(node))) if node.name == "n1"));
    assert!(matches!(read(&line("MODIFIED", 3), &mut version), Ok(Some(Told::Is(_)))));
    assert!(matches!(read(&line("DELETED", 4), &mut version), Ok(Some(Told::Gone(_)))));
    assert!(matches!(read(&line("BOOKMARK", 9), &mut version), Ok(None)));
    assert_eq!(version, "9");
    let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"10","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    assert!(matches!(read(end, &mut version), Ok(Some(Told::InitDone))), "all there was has been told");
    assert_eq!(version, "10");
    assert!(matches!(read(&line("SOMETHING", 10), &mut version), Ok(None)), "a kind of a later version");
}

#[test]
fn what_went_wrong_is_no_object() {
    let mut version = "1".to_owned();
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}}"#;
    assert_eq!(read(gone, &mut version).expect_err("too old").code(), Some(410));
    for garbage in ["", "<html>", r#"{"type":"ADDED"}"#, "\u{fffd}"] {
        assert!(matches!(read(garbage, &mut version), Err(CallError::Garbage(_))), "{garbage}");
    }
    let odd = r#"{"type":"ADDED","object":{"metadata":{"annotations":7}}}"#;
    assert!(matches!(read(odd, &mut version), Ok(Some(Told::Unreadable(..)))), "only this object is left out");
    assert_eq!(version, "1");
}

#[test]
fn tokens_are_escaped() {
    assert_eq!(escaped("eyJ2+/=-_.~ü"), "eyJ2%2B%2F%3D-_.~%C3%BC");
}

const BEGUN: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"n1","resourceVersion":"2"}}}"#;
const ENDED: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"3","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
const PAGES: &str = r#"{"metadata":{"resourceVersion":"3"},"items":[]}"#;

/// What a server was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A watch that begins with a list.
    List,
    Page,
    /// The version that it is at.
    Now,
    Watch,
}

impl Asked {
    fn by(request: &Request) -> Self {
        match request.line.split_once('?') {
            Some((_, "limit=1")) => Self::Now,
            Some((_, query)) if query.contains("limit=") => Self::Page,
            Some((_, query)) if query.contains("sendInitialEvents=true") => Self::List,
            _ => Self::Watch,
        }
    }
}

/// Begins a watch of a server that gives one answer to each request and then closes the connection; it returns, in that order,
/// what it was asked for.
async fn watch_of(answers: Vec<(u16, String)>) -> (Watch<Node>, JoinHandle<Vec<Asked>>) {
    let (url, asked) = fake::serve(answers).await;
    let asked = tokio::spawn(async move { asked.await.expect("it has answered").iter().map(Asked::by).collect() });
    let api = Api::new(&fake::options(&url));
    let mut watch = Watch::new(Arc::new(api), "/api/v1/nodes".to_owned(), None, 0);
    watch.next_wait = Duration::ZERO;
    (watch, asked)
}

async fn until_whole(watch: &mut Watch<Node>) {
    while !matches!(watch.next().await, Ok(Told::InitDone)) {}
}

#[tokio::test]
async fn a_list_that_broke_with_the_server_is_begun_as_a_watch_again() {
    let broken = (200, BEGUN.to_owned());
    let whole = (200, format!("{BEGUN}\n{ENDED}"));
    let (mut watch, asked) = watch_of(vec![broken.clone(), broken.clone(), whole.clone(), broken, whole]).await;
    until_whole(&mut watch).await;
    watch.state = State::Unknown;
    until_whole(&mut watch).await;
    assert_eq!(asked.await.expect("it has answered"), [Asked::List; 5], "none was asked for in pages");
}

#[tokio::test]
async fn a_server_that_ends_each_list_is_asked_for_pages_for_that_list() {
    let mut answers = vec![(200, BEGUN.to_owned()); 3];
    answers.extend([(200, PAGES.to_owned()), (200, format!("{BEGUN}\n{ENDED}"))]);
    let (mut watch, asked) = watch_of(answers).await;
    until_whole(&mut watch).await;
    watch.state = State::Unknown;
    until_whole(&mut watch).await;
    let expected = [Asked::List, Asked::List, Asked::List, Asked::Page, Asked::List];
    assert_eq!(asked.await.expect("it has answered"), expected);
}

#[tokio::test]
async fn a_server_that_refuses_such_lists_is_asked_for_pages_from_then_on() {
    for code in [400, 422] {
        let refusal = fake::refusal(code, "sendInitialEvents is forbidden");
        let pages = (200, PAGES.to_owned());
        let (mut watch, asked) = watch_of(vec![refusal, pages.clone(), pages]).await;
        until_whole(&mut watch).await;
        watch.state = State::Unknown;
        until_whole(&mut watch).await;
        assert_eq!(asked.await.expect("it has answered"), [Asked::List, Asked::Page, Asked::Page], "{code}");
    }
}

/// An answer that says no more than that the server is at this version.
fn at(version: u8) -> (u16, String) {
    (200, format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#))
}

#[tokio::test]
async fn a_server_that_was_away_and_knows_less_than_before_is_listed_again() {
    let whole = (200, format!("{BEGUN}\n{ENDED}"));
    let away = fake::refusal(503, "it begins");
    let (mut watch, asked) = watch_of(vec![whole.clone(), away, at(2), whole]).await;
    until_whole(&mut watch).await;
    assert_eq!(watch.version(), Some("3"));
    // The list's connection ends with it, long before its time.
    let first = watch.next().await;
    assert!(matches!(&first, Err(error) if error.code() == Some(503)), "it says that it is away");
    assert!(matches!(watch.next().await, Ok(Told::Init)), "3 has not been yet");
    until_whole(&mut watch).await;
    assert_eq!(asked.await.expect("it has answered"), [Asked::List, Asked::Now, Asked::Now, Asked::List]);
}

#[tokio::test]
async fn a_server_that_was_away_and_knows_as_much_is_asked_for_what_is_new() {
    let whole = (200, format!("{BEGUN}\n{ENDED}"));
    for version in [3, 9] {
        let (mut watch, asked) = watch_of(vec![whole.clone(), at(version), (200, String::new())]).await;
        until_whole(&mut watch).await;
        assert!(matches!(watch.next().await, Ok(Told::Alive)), "{version}");
        assert_eq!(asked.await.expect("it has answered"), [Asked::List, Asked::Now, Asked::Watch], "{version}");
    }
}
