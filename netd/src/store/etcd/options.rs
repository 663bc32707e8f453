//! How etcd is reached: the flags as typed values. The certificate files are read again for each connection, since they are renewed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::record::{CONFIG, SUBNETS};
use crate::config::flags::EtcdFlags;

/// The deadline for TCP, and the one for TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection with open requests is pinged after this time without data, and closed where it does not answer within [`PONG`].
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// An invalid flag, or an invalid file that a flag names.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// An invalid value.
    #[error("{flag} is {value}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be valid.
        problem: String,
    },
    /// One of two flags that need each other is missing.
    #[error("{given} needs {missing} too")]
    Half {
        /// The flag that is given.
        given: &'static str,
        /// The flag that is missing.
        missing: &'static str,
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

/// How etcd is reached.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Each begins with `http://` or `https://`.
    pub(super) endpoints: Vec<String>,
    /// Ends with a slash.
    pub(super) prefix: String,
    pub(super) login: Option<(String, String)>,
    tls: Tls,
}

#[derive(Debug, Clone, Default)]
struct Tls {
    ca: Option<PathBuf>,
    /// The client certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// Checks the flags. Reads no file.
    pub(super) fn new(flags: &EtcdFlags) -> Result<Self, OptionsError> {
        let own = pair(("--etcd-certfile", &flags.etcd_certfile), ("--etcd-keyfile", &flags.etcd_keyfile))?;
        let login = pair(("--etcd-username", &flags.etcd_username), ("--etcd-password", &flags.etcd_password))?;
        let tls = Tls { ca: flags.etcd_cafile.clone(), own };
        let secure = tls.ca.is_some() || tls.own.is_some();
        let endpoints = flags.endpoints().map(|text| endpoint(text, secure)).collect::<Result<Vec<String>, _>>()?;
        let prefix = format!("{}/", flags.prefix().trim_end_matches('/'));
        Ok(Self { endpoints, prefix, login, tls })
    }

    /// The key of the network configuration.
    pub(super) fn config_key(&self) -> String {
        format!("{}{CONFIG}", self.prefix)
    }

    /// What the keys of all nodes begin with.
    pub(super) fn subnets_prefix(&self) -> String {
        format!("{}{SUBNETS}", self.prefix)
    }

    /// An endpoint to connect to. Reads the certificate files.
    pub(super) fn endpoint(&self, url: &str) -> Result<Endpoint, OptionsError> {
        let invalid_url = |error: &dyn Error| OptionsError::Flag {
            flag: "--etcd-endpoints",
            value: url.to_owned(),
            problem: format!("{error}; it must be like https://10.0.0.1:2379"),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| invalid_url(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(PING).keep_alive_timeout(PONG);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let mut config = ClientTlsConfig::new().timeout(CONNECT);
        config = match &self.tls.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(read("--etcd-cafile", path)?)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.tls.own {
            let (certificate, key) = (read("--etcd-certfile", certificate)?, read("--etcd-keyfile", key)?);
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let invalid = |error: tonic::transport::Error| OptionsError::Tls { url: url.to_owned(), source: error.into() };
        endpoint.tls_config(config).map_err(invalid)
    }
}

/// Both values or none.
fn pair<T: Clone>(
    (one, first): (&'static str, &Option<T>),
    (other, second): (&'static str, &Option<T>),
) -> Result<Option<(T, T)>, OptionsError> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first.clone(), second.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(OptionsError::Half { given: one, missing: other }),
        (None, Some(_)) => Err(OptionsError::Half { given: other, missing: one }),
    }
}

/// The URL of an endpoint; adds a missing scheme.
fn endpoint(text: &str, secure: bool) -> Result<String, OptionsError> {
    let text = text.trim().trim_end_matches('/');
    let invalid = |problem: &str| OptionsError::Flag {
        flag: "--etcd-endpoints",
        value: text.to_owned(),
        problem: problem.to_owned(),
    };
    match text.split_once("://") {
        None if text.is_empty() => Err(invalid("an endpoint must be like http://10.0.0.1:2379")),
        None => Ok(format!("{}://{text}", if secure { "https" } else { "http" })),
        Some(("http", _)) if secure => Err(invalid(
            "with --etcd-cafile or --etcd-certfile it must begin with https://, else nothing would be encrypted",
        )),
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        Some(_) => Err(invalid("it must begin with http:// or https://")),
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|source| OptionsError::File { flag, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
