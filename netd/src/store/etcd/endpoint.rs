//! An endpoint of etcd with its certificates. The files are read again for each connection, since certificates are renewed.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::record::{CONFIG, SUBNETS};
use crate::access_error::Cause;
use crate::config::EtcdConfig;
use crate::whole_file;

/// The largest file of certificates: a system's bundle has some hundred kB.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The deadline for TCP, and the one for TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection with open requests is pinged after this time without data, and closed where no answer comes within [`PONG`].
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// An invalid endpoint, or an invalid file that a flag names.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct EndpointError {
    problem: String,
    source: Cause,
}

impl EndpointError {
    fn new(problem: String, source: impl Into<Cause>) -> Self {
        Self { problem, source: source.into() }
    }
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
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| {
            EndpointError::new(format!("--etcd-endpoints is {url}: it must be like https://10.0.0.1:2379"), error)
        })?;
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
        endpoint.tls_config(tls).map_err(|error| {
            let files = "the files of --etcd-cafile, --etcd-certfile and --etcd-keyfile must be PEM";
            EndpointError::new(format!("TLS to {url} cannot be set up: {files}"), error)
        })
    }
}

fn read(flag: &str, path: &Path) -> Result<String, EndpointError> {
    let unreadable = || format!("{flag} names {}, which cannot be read", path.display());
    whole_file::read_up_to(path, LARGEST).map_err(|error| EndpointError::new(unreadable(), error))
}
