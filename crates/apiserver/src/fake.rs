//! An API server for tests that gives one answer to each request, in the order that the test says: for failures that no real one
//! shows on demand.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than any client takes to ask.
const LIMIT: Duration = Duration::from_secs(30);

/// A request that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method, the path and the query, where there is one: `GET /api/v1/nodes/n1`.
    pub line: String,
    /// The body; null where there is none.
    pub body: Value,
}

/// A refusal with this code.
pub fn refusal(code: u16, message: &str) -> (u16, String) {
    (code, format!(r#"{{"kind":"Status","code":{code},"message":"{message}"}}"#))
}

/// Starts to answer, each request on a connection of its own. Returns its URL, and the requests once all answers are given.
///
/// # Panics
/// The task panics where a request does not come.
pub async fn serve(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for (code, body) in answers {
            let (mut stream, _) = timeout(LIMIT, listener.accept()).await.expect("a request").expect("a connection");
            requests.push(request(&mut stream).await);
            answer(&mut stream, code, &body).await;
        }
        requests
    });
    (url, requests)
}

/// Starts to answer for as long as the runtime lives, as `respond` says, each request on a connection of its own. Returns its URL.
///
/// # Panics
/// The task panics where a request is not one of HTTP.
pub async fn serve_with(mut respond: impl FnMut(&Request) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (code, body) = respond(&request(&mut stream).await);
            answer(&mut stream, code, &body).await;
        }
    });
    url
}

async fn answer(stream: &mut TcpStream, code: u16, body: &str) {
    let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}\n").as_bytes()).await.expect("an answer");
}

async fn request(stream: &mut TcpStream) -> Request {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    stream.read_exact(&mut body).await.expect("a body");
    let line = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")).expect("a request");
    // kube-rs writes the mark of a query that is empty.
    let line = line.strip_suffix('?').unwrap_or(line).to_owned();
    Request { line, body: serde_json::from_slice(&body).unwrap_or_default() }
}
