//! An endpoint of etcd with its certificates. The files are read again for each connection, since certificates are renewed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::record::{CONFIG, SUBNETS};
use crate::config::EtcdConfig;

/// The deadline for TCP, and the one for TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection with open requests is pinged after this time without data, and closed where no answer comes within [`PONG`].
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// An invalid endpoint, or an invalid file that a flag names.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// An invalid URL.
    #[error("--etcd-endpoints is {url}: it must be like https://10.0.0.1:2379")]
    Url {
        /// The URL.
        url: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file cannot be read.
    #[error("{flag} names {}, which cannot be read", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not valid PEM.
    #[error(
        "TLS to {url} cannot be set up: the files of --etcd-cafile, --etcd-certfile and --etcd-keyfile must be PEM"
    )]
    Tls {
        /// The endpoint.
        url: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl EtcdConfig {
    /// The key of the network configuration.
    pub(super) fn config_key(&self) -> String {
        format!("{}{CONFIG}", self.prefix)
    }

    /// What the keys of all nodes begin with.
    pub(super) fn subnets_prefix(&self) -> String {
        format!("{}{SUBNETS}", self.prefix)
    }

    /// An endpoint to connect to. Reads the certificate files.
    pub(super) fn endpoint(&self, url: &str) -> Result<Endpoint, EndpointError> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| EndpointError::Url { url: url.to_owned(), source: error.into() })?;
        let endpoint = endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(PING).keep_alive_timeout(PONG);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new().timeout(CONNECT);
        tls = match &self.ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read("--etcd-cafile", path)?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.certificate {
            let (certificate, key) = (read("--etcd-certfile", certificate)?, read("--etcd-keyfile", key)?);
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint.tls_config(tls).map_err(|error| EndpointError::Tls { url: url.to_owned(), source: error.into() })
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, EndpointError> {
    fs::read(path).map_err(|source| EndpointError::File { flag, path: path.to_owned(), source })
}
