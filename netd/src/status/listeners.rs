//! The daemon's listeners: the status socket and the health port. They are opened before anything else is changed.
//!
//! If the port cannot be opened, netd ends, since somebody relies on the port. If another netd answers on the socket, netd ends too, since
//! two daemons for one subnet file undo each other's work. If the socket cannot be made for another reason, netd warns and goes on.

use std::io;
use std::net::SocketAddr;

use network::chain;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::publisher::StatusPublisher;
use super::socket::{Claim, ClaimError};
use super::{health, server};
use crate::config::Config;

/// Why netd does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port cannot be opened.
    #[error(
        "cannot answer on {address} (--healthz-ip {ip}, --healthz-port {port}): choose another port, or 0 for none",
        ip = address.ip(), port = address.port()
    )]
    Port {
        /// The configured address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Another netd is there.
    #[error(transparent)]
    Socket(ClaimError),
}

/// The open listeners. Dropping them closes them and removes the socket's file.
#[derive(Debug)]
pub struct Listeners {
    // Dropped first: see Claim.
    _claim: Option<Claim>,
    _servers: JoinSet<()>,
}

/// Opens the listeners. To be called within a tokio runtime.
pub async fn open(config: &Config, publisher: &StatusPublisher) -> Result<Listeners, ListenError> {
    let mut servers = JoinSet::new();
    if let Some(address) = config.status.health() {
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError::Port { address, source })?;
        servers.spawn(health::serve(listener, publisher.clone()));
    }
    let claim = match Claim::take(&config.status_socket()).await {
        Ok((claim, listener)) => {
            servers.spawn(server::serve(listener, publisher.clone()));
            Some(claim)
        }
        Err(error @ ClaimError::Alive { .. }) => return Err(ListenError::Socket(error)),
        Err(error) => {
            tracing::warn!("{}", chain(&error));
            None
        }
    };
    Ok(Listeners { _claim: claim, _servers: servers })
}
