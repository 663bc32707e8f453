//! How the listeners take connections.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Accepts connections until the future is dropped, and answers at most so many at a time. The oldest makes room for one more: slow
/// clients keep nobody else waiting.
pub async fn accept_all<S, A, Accepted, Answered>(
    accept: impl Fn() -> Accepted,
    most: usize,
    answer: impl Fn(S) -> Answered,
) where
    Accepted: Future<Output = io::Result<(S, A)>>,
    Answered: Future<Output = ()> + Send + 'static,
{
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = accept().await else {
            // Too many open files: there is nothing to do but wait.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() == most {
            connections.pop_front().inspect(AbortHandle::abort);
        }
        connections.push_back(tokio::spawn(answer(stream)).abort_handle());
    }
}
