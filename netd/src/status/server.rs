//! Answers `netd status`: one JSON document a line, over the status socket.
//!
//! A client sends one line: `status` for one document, `watch` for one now and one after each change. Several changes while a slow client
//! reads make one document.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::publisher::StatusPublisher;
use listener::accept_all;

/// The request for a stream of documents.
pub(super) const WATCH: &str = "watch";
/// The request for one document.
pub(super) const ONCE: &str = "status";
/// Clients at a time; the oldest makes room for one more.
const CLIENTS: usize = 32;
/// How long a client may take to send its line, and to read a document.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The length limit of a request.
const REQUEST_BYTES: u64 = 64;

/// Answers until the future is dropped.
pub(super) async fn serve(listener: UnixListener, publisher: StatusPublisher) {
    let answer = |stream| {
        let publisher = publisher.clone();
        // A client that goes away needs no answer.
        async move { drop(answer(stream, &publisher).await) }
    };
    accept_all(|| listener.accept(), CLIENTS, answer).await;
}

async fn answer(stream: UnixStream, publisher: &StatusPublisher) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES));
    timeout(TIMEOUT, reader.read_line(&mut request)).await??;
    let watch = request.trim() == WATCH;
    let mut changes = publisher.changes();
    let mut reader = reader.into_inner().into_inner();
    loop {
        changes.borrow_and_update();
        let document = publisher.document()? + "\n";
        timeout(TIMEOUT, writer.write_all(document.as_bytes())).await??;
        if !watch {
            return Ok(());
        }
        // A client that goes away must not keep its place until the next change.
        let mut rest = [0];
        tokio::select! {
            next = changes.changed() => if next.is_err() { return Ok(()) },
            gone = reader.read(&mut rest) => return gone.map(drop),
        }
    }
}
