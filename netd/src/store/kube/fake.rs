//! An API server that gives one answer to each request, in the order in which a test has thought of them: for what a real one does at
//! no test's wish.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::KubeStore;
use super::options::Options;
use crate::config::{Config, KubeConfig, StoreConfig};

/// Longer than anybody takes to ask.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// The method, the path and the query: `GET /api/v1/nodes/n1`.
    pub(super) line: String,
    /// What was sent with it; null where nothing was.
    pub(super) body: Value,
}

/// A refusal with this code.
pub(super) fn refusal(code: u16, message: &str) -> (u16, String) {
    (code, format!(r#"{{"kind":"Status","code":{code},"message":"{message}"}}"#))
}

/// The API server at an address.
fn config(url: &str) -> KubeConfig {
    match Config::of(&["--kube-subnet-mgr", &format!("--kube-api-url={url}")]).store {
        StoreConfig::Kube(config) => config,
        other => panic!("the API server is chosen, not {other:?}"),
    }
}

/// The options of an API server at an address.
pub(super) fn options(url: &str) -> Options {
    config(url).into()
}

/// A store in the API server at an address.
pub(super) fn store(url: &str, waits: bool) -> KubeStore {
    KubeStore::new(config(url), waits)
}

/// Begins to answer, each request on a connection of its own. Gives its address, and what it was asked once all answers are given.
pub(super) async fn serve(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (code, body) in answers {
            let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a request").expect("a connection");
            asked.push(request(&mut stream).await);
            let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}\n").as_bytes()).await.expect("an answer");
        }
        asked
    });
    (url, asked)
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
    let line = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")).expect("a request").to_owned();
    Request { line, body: serde_json::from_slice(&body).unwrap_or_default() }
}

/// A Node as the API server has it.
pub(super) fn node(version: u64, range: &str, annotations: &Value) -> Value {
    serde_json::json!({
        "metadata": { "name": "n1", "uid": "u1", "resourceVersion": version.to_string(), "annotations": annotations },
        "spec": { "podCIDR": range },
    })
}
