//! Requests over a unix socket, and their answers. HTTP/1.0, so that the answer ends where the stream does.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::deadline::seconds;
use crate::failure::{Context, Outcome};

/// Of an answer: the status, and what follows the head.
pub(super) type Answer = (u16, Vec<u8>);

/// Asks, and gives the whole answer.
pub(super) fn ask(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Outcome<Answer> {
    let mut stream = request(socket, method, path, kind, body)?;
    stream.set_read_timeout(Some(seconds(60))).context("bound the wait")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read from the API server")?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("an answer without a head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context(format!("an answer without a status: {head}"))?, answer[end + 4..].to_vec()))
}

/// Asks for something without an end, and hands on each line of it until `enough` or the time is over.
pub(super) fn listen(
    socket: &Path,
    path: &str,
    within: Duration,
    mut enough: impl FnMut(&str) -> bool,
) -> Outcome<bool> {
    let end = Instant::now() + within;
    let stream = request(socket, "GET", path, "application/json", b"")?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        reader.get_ref().set_read_timeout(Some(left)).context("bound the wait")?;
        match reader.read_line(&mut line) {
            Ok(0) => crate::fail!("the API server ended its answer to {path}"),
            Ok(_) if enough(&line) => return Ok(true),
            Ok(_) => line.clear(),
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => crate::fail!("read from the API server: {error}"),
        }
    }
}

fn request(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Outcome<UnixStream> {
    let mut stream = UnixStream::connect(socket).context("connect to kubectl proxy")?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).context("ask the API server")?;
    Ok(stream)
}
