//! Where the daemon can be asked: the status socket and the health port. Opened before anything else is touched.
//!
//! A port that is not to be had ends netd, since somebody relies on it. So does a socket that another live netd answers on, since two
//! daemons for one subnet file undo each other's work. A socket that cannot be made for another reason is told and done without.

use std::net::SocketAddr;

use network::chain;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::board::Board;
use super::socket::{Claim, ClaimError};
use super::{health, server};
use crate::config::StatusConfig;

/// Why netd does not start.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The port is not to be had.
    #[error(
        "cannot answer on {address} (--healthz-ip {ip}, --healthz-port {port}): choose another port, or 0 for none",
        ip = address.ip(), port = address.port()
    )]
    Port {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another netd is there.
    #[error(transparent)]
    Socket(ClaimError),
}

/// The open doors. They close, and the socket's file goes, when this is dropped.
#[derive(Debug)]
pub struct Doors {
    // Goes first: see Claim.
    _claim: Option<Claim>,
    _servers: JoinSet<()>,
}

/// Opens them. To be called within a tokio runtime.
pub async fn open(config: &StatusConfig, board: &Board) -> Result<Doors, DoorError> {
    let mut servers = JoinSet::new();
    if let Some(address) = config.health {
        let listener = TcpListener::bind(address).await.map_err(|source| DoorError::Port { address, source })?;
        servers.spawn(health::serve(listener, board.clone()));
    }
    let claim = match Claim::take(&config.socket) {
        Ok((claim, listener)) => {
            servers.spawn(server::serve(listener, board.clone()));
            Some(claim)
        }
        Err(error @ ClaimError::Alive { .. }) => return Err(DoorError::Socket(error)),
        Err(error) => {
            tracing::warn!("{}", chain(&error));
            None
        }
    };
    Ok(Doors { _claim: claim, _servers: servers })
}
