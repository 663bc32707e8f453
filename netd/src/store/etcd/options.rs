//! An endpoint of etcd with its certificates, which are read anew for each connection, since they are renewed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::config::EtcdConfig;

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// A connection with a request under way that has been silent for so long is asked, and must answer in [`PONG`].
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// Flags that cannot be meant so.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A value that does not fit.
    #[error("{flag} is {value}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file cannot be read.
    #[error("{flag} names {}, which cannot be read", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The files do not hold what they must.
    #[error(
        "TLS to {url} cannot be set up: the files of --etcd-cafile, --etcd-certfile and --etcd-keyfile must be PEM"
    )]
    Tls {
        /// The endpoint.
        url: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl EtcdConfig {
    /// An endpoint ready to be connected to.
    pub(super) fn endpoint(&self, url: &str) -> Result<Endpoint, OptionsError> {
        let bad_url = |error: &dyn Error| OptionsError::Flag {
            flag: "--etcd-endpoints",
            value: url.to_owned(),
            problem: format!("{error}; it must be like https://10.0.0.1:2379"),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| bad_url(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(PING).keep_alive_timeout(PONG);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let mut config = ClientTlsConfig::new().timeout(CONNECT);
        config = match &self.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(read("--etcd-cafile", path)?)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.certificate {
            let (certificate, key) = (read("--etcd-certfile", certificate)?, read("--etcd-keyfile", key)?);
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let wrong = |error: tonic::transport::Error| OptionsError::Tls { url: url.to_owned(), source: error.into() };
        endpoint.tls_config(config).map_err(wrong)
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|source| OptionsError::File { flag, path: path.to_owned(), source })
}
