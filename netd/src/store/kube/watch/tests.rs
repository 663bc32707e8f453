use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::flags::Cli;
use crate::store::kube::object::Node;
use crate::store::kube::options::Options;

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

/// Begins a watch of a server that gives one answer to each request and then closes the connection; it returns, in that order,
/// which requests were for the beginning of a watch.
async fn watch_of(answers: Vec<(u16, String)>) -> (Watch<Node>, JoinHandle<Vec<bool>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (code, body) in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            asked.push(String::from_utf8_lossy(&request).contains("sendInitialEvents=true"));
            let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}\n").as_bytes()).await.expect("an answer");
        }
        asked
    });
    let arguments = ["netd", "--kube-subnet-mgr", &format!("--kube-api-url={url}")].map(std::ffi::OsString::from);
    let flags = Cli::read(arguments, |_| None).expect("good flags").flags;
    let api = Api::new(&Options::of(&flags).expect("options"));
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
    assert_eq!(asked.await.expect("it has answered"), [true; 5], "none was asked for in pages");
}

#[tokio::test]
async fn a_server_that_ends_each_list_is_asked_for_pages_for_that_list() {
    let mut answers = vec![(200, BEGUN.to_owned()); 3];
    answers.extend([(200, PAGES.to_owned()), (200, format!("{BEGUN}\n{ENDED}"))]);
    let (mut watch, asked) = watch_of(answers).await;
    until_whole(&mut watch).await;
    watch.state = State::Unknown;
    until_whole(&mut watch).await;
    assert_eq!(asked.await.expect("it has answered"), [true, true, true, false, true]);
}

#[tokio::test]
async fn a_server_that_refuses_such_lists_is_asked_for_pages_from_then_on() {
    for code in [400, 422] {
        let refusal = r#"{"kind":"Status","code":422,"message":"sendInitialEvents is forbidden"}"#.to_owned();
        let pages = (200, PAGES.to_owned());
        let (mut watch, asked) = watch_of(vec![(code, refusal), pages.clone(), pages]).await;
        until_whole(&mut watch).await;
        watch.state = State::Unknown;
        until_whole(&mut watch).await;
        assert_eq!(asked.await.expect("it has answered"), [true, false, false], "{code}");
    }
}
