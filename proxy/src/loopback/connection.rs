//! One connection from loopback to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::Balancer;

/// How long one endpoint may take to answer, as with kube-proxy.
const EACH: Duration = Duration::from_secs(5);
/// How long all endpoints together may take.
const ALL: Duration = Duration::from_secs(30);
/// After how many seconds without a byte the endpoint is asked whether it is still there, at which distance again, and how often in vain.
const KEEP_ALIVE: (u32, u32, u32) = (60, 15, 4);

/// Passes the bytes of a connection on to an endpoint and back, until both sides have ended theirs. The connection does not depend on the
/// Service any more once it is made. What breaks on one side breaks on the other: a client sees a reset, not an end.
pub(super) async fn pass_on(mut client: TcpStream, balancer: &Mutex<Balancer>) {
    let Ok(Some(mut endpoint)) = timeout(ALL, connect(balancer)).await else {
        reset(&client);
        return;
    };
    // Small pieces are passed on at once, as the kernel would.
    let is_set = client.set_nodelay(true).and_then(|()| keep_alive(&endpoint));
    let passed = match is_set {
        Ok(()) => copy_bidirectional(&mut client, &mut endpoint).await.map(drop),
        Err(error) => Err(error),
    };
    if passed.is_err() {
        reset(&client);
        reset(&endpoint);
    }
}

/// Connects to the first endpoint that answers.
async fn connect(balancer: &Mutex<Balancer>) -> Option<TcpStream> {
    let lock = || balancer.lock().unwrap_or_else(PoisonError::into_inner);
    let order = lock().draw(Instant::now(), |below| fastrand::usize(..below));
    for (place, endpoint) in order.into_iter().enumerate() {
        match try_one(endpoint).await {
            Ok(stream) => {
                if place > 0 {
                    lock().fell_back(endpoint, Instant::now());
                }
                return Some(stream);
            }
            Err(error) => tracing::debug!(%endpoint, "cannot be reached: {error}"),
        }
    }
    None
}

async fn try_one(endpoint: SocketAddr) -> io::Result<TcpStream> {
    timeout(EACH, TcpStream::connect(endpoint)).await?
}

/// An endpoint that is gone without a word ends the connection. The client is on this node: the kernel says when it is gone.
fn keep_alive(endpoint: &TcpStream) -> io::Result<()> {
    endpoint.set_nodelay(true)?;
    let (idle, distance, count) = KEEP_ALIVE;
    setsockopt(endpoint, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(endpoint, sockopt::TcpKeepInterval, &distance)?;
    setsockopt(endpoint, sockopt::TcpKeepCount, &count)?;
    Ok(setsockopt(endpoint, sockopt::KeepAlive, &true)?)
}

/// The other side sees a reset when the stream is dropped.
fn reset(stream: &TcpStream) {
    // It may be reset already.
    let _ = stream.set_zero_linger();
}
