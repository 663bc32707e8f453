//! Requests that are repeated while other things happen: none may fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// From one request to the next.
const PACE: Duration = Duration::from_millis(1);

/// One thing that is repeated until the test is over.
#[derive(Debug)]
pub struct Repeated {
    /// Dropped to end it.
    end: Sender<()>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Repeated {
    /// In a namespace.
    pub fn start(namespace: &Namespace, mut step: impl FnMut() -> Outcome + Send + 'static) -> Self {
        let (end, ended) = channel();
        let count = Arc::new(AtomicU64::new(0));
        let (namespace, counter) = (namespace.again(), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let repeat = move || {
                let mut faults = Vec::new();
                while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                    faults.extend(step().err().map(|failure| failure.to_string()));
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                faults
            };
            namespace.within(repeat).unwrap_or_else(|failure| vec![failure.to_string()])
        });
        Self { end, count, thread }
    }

    /// A word over a connection that is kept, to [`echo`].
    ///
    /// # Errors
    /// Where the wait for an answer cannot be bounded.
    pub fn over(namespace: &Namespace, mut kept: TcpStream, timeout: Duration) -> Outcome<Self> {
        kept.set_read_timeout(Some(timeout)).context("bound the wait")?;
        Ok(Self::start(namespace, move || {
            kept.write_all(b"?").context("write to the kept connection")?;
            kept.read_exact(&mut [0]).context("read from the kept connection")
        }))
    }

    /// How many requests are over.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Sends each byte back over the first connection to an address, until its client ends it.
///
/// # Errors
/// Where the address is taken.
pub fn echo(namespace: &Namespace, address: SocketAddr) -> Outcome {
    let listener = namespace.within(|| TcpListener::bind(address))?.context("listen for words")?;
    thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut word = [0];
        while stream.read(&mut word)? > 0 {
            stream.write_all(&word)?;
        }
        Ok(())
    });
    Ok(())
}

/// Waits until all requests of before are over and new ones have been made.
///
/// # Errors
/// Where one stands still.
pub fn go_on(all: &[Repeated]) -> Outcome {
    for repeated in all {
        let before = repeated.count();
        eventually(seconds(60), "the load goes on", || {
            crate::ensure!(repeated.count() > before + 20, "it stands");
            Ok(())
        })?;
    }
    Ok(())
}

/// Ends all of them.
///
/// # Errors
/// Where a request has failed.
pub fn unharmed(all: Vec<Repeated>) -> Outcome {
    go_on(&all)?;
    let (mut faults, mut count) = (Vec::new(), 0);
    for repeated in all {
        count += repeated.count();
        drop(repeated.end);
        faults.extend(repeated.thread.join().unwrap_or_else(|_| vec!["a thread of the load panicked".to_owned()]));
    }
    crate::ensure!(faults.is_empty(), "{} of {count} requests failed, first: {}", faults.len(), faults[0]);
    Ok(())
}
