//! How the listeners take connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Accepts connections until the future is dropped, and answers so many at a time; others wait.
pub(super) async fn accept_all<S, A, Accepted, Answered>(
    accept: impl Fn() -> Accepted,
    most: usize,
    answer: impl Fn(S) -> Answered,
) where
    Accepted: Future<Output = io::Result<(S, A)>>,
    Answered: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = accept().await else {
            // Too many open files: there is nothing to do but wait.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer(stream);
        tokio::spawn(async move {
            answer.await;
            drop(place);
        });
    }
}
