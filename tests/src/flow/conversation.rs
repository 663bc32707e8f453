//! One TCP connection that goes on while other things happen, with words both ways all the time.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::again;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// Far more than a retransmission takes.
const TIMEOUT: Duration = seconds(20);
/// From one block to the next, so that the machine does not spend itself on talk.
const PACE: Duration = Duration::from_millis(10);
/// As much as fits into a few segments, so that their size matters too.
const BYTES: usize = 4000;

/// A connection between two pods: each block that the client writes comes back before the next.
#[derive(Debug)]
pub struct Conversation {
    /// Dropped to end it.
    end: Sender<()>,
    blocks: Arc<AtomicU64>,
    client: JoinHandle<std::io::Result<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Conversation {
    /// Connects from one namespace to an address of the other.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn start(client: &Namespace, server: &Namespace, address: IpAddr) -> Outcome<Self> {
        let listener = server.within(|| TcpListener::bind(SocketAddr::new(address, 0)))?.context("listen in a pod")?;
        let port = listener.local_addr().context("read the port")?.port();
        let server = thread::spawn(move || echo(&listener));
        let to = SocketAddr::new(address, port);
        let mut stream =
            client.within(|| TcpStream::connect_timeout(&to, TIMEOUT))?.context(format!("connect to {to}"))?;
        stream.set_read_timeout(Some(TIMEOUT)).context("bound the wait")?;
        let (end, ended) = channel();
        let blocks = Arc::new(AtomicU64::new(0));
        let client = thread::spawn({
            let blocks = Arc::clone(&blocks);
            move || {
                let (words, mut received) = ([0x5a; BYTES], [0; BYTES]);
                while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                    stream.write_all(&words)?;
                    stream.read_exact(&mut received)?;
                    blocks.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        });
        Ok(Self { end, blocks, client, server })
    }

    /// Waits for another block to come back, so that what happened before is behind it.
    ///
    /// # Errors
    /// Where none does.
    pub fn goes_on(&self) -> Outcome {
        let before = self.blocks.load(Ordering::Relaxed);
        eventually(TIMEOUT, "a connection goes on", || {
            crate::ensure!(self.blocks.load(Ordering::Relaxed) > before, "no block has come back since");
            Ok(())
        })
    }

    /// Ends it, and fails where it broke.
    ///
    /// # Errors
    /// With what broke it.
    pub fn unbroken(self) -> Outcome {
        let going = self.goes_on();
        drop(self.end);
        let client = self.client.join().ok().context("the client's thread broke")?;
        let server = self.server.join().ok().context("the server's thread broke")?;
        // The ends know more than that nothing came back.
        server.context("the server's end of a connection")?;
        client.context("the client's end of a connection")?;
        going
    }
}

fn echo(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut received = [0; BYTES];
    loop {
        match again(|| stream.read(&mut received))? {
            0 => return Ok(()),
            length => stream.write_all(&received[..length])?,
        }
    }
}
