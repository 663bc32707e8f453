//! Answers `netd status`: one JSON document a line, over the status socket.
//!
//! Who asks sends one line: `status` for one document, `watch` for one now and one after each change. Changes that come while a slow
//! reader takes one are told as one.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::board::Board;

/// What asks for a stream of documents.
pub(super) const WATCH: &str = "watch";
/// What asks for one.
pub(super) const ONCE: &str = "status";
/// Who asks at the same time; others wait.
const READERS: usize = 32;
/// How long a line may take to be sent, and a document to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// No request is longer.
const REQUEST_BYTES: u64 = 64;

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, board: Board) {
    let places = Arc::new(Semaphore::new(READERS));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    // Who goes away before the answer misses nothing.
                    let _ = answer(stream, &board).await;
                    drop(place);
                });
            }
            // Too many open files: there is nothing to do but wait.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(stream: UnixStream, board: &Board) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES));
    timeout(PATIENCE, reader.read_line(&mut request)).await??;
    let watch = request.trim() == WATCH;
    let mut changes = board.changes();
    let mut reader = reader.into_inner().into_inner();
    loop {
        changes.borrow_and_update();
        let document = board.document()? + "\n";
        timeout(PATIENCE, writer.write_all(document.as_bytes())).await??;
        if !watch {
            return Ok(());
        }
        // One who goes away must not keep a place until the next change.
        let mut rest = [0];
        tokio::select! {
            next = changes.changed() => if next.is_err() { return Ok(()) },
            gone = reader.read(&mut rest) => return gone.map(drop),
        }
    }
}
