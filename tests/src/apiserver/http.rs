//! One request over a unix socket, and its answer. HTTP/1.0, so that the answer ends where the stream does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::deadline::seconds;
use crate::failure::{Outcome, Told};

/// Of an answer: the status, and what follows the head.
pub(super) type Answer = (u16, Vec<u8>);

pub(super) fn ask(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Outcome<Answer> {
    let mut stream = UnixStream::connect(socket).told("connect to kubectl proxy")?;
    stream.set_read_timeout(Some(seconds(60))).told("bound the wait")?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).told("ask the API server")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).told("hear the API server")?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").told("an answer without a head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.told(format!("an answer without a status: {head}"))?, answer[end + 4..].to_vec()))
}
