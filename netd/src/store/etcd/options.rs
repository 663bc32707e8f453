//! How etcd is reached, from flags to a typed value; the certificates are read again for each connection, since they are renewed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::config::flags::EtcdFlags;

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
    /// One of two that belong together is missing.
    #[error("{given} needs {missing} too")]
    Half {
        /// The flag that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
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

/// How etcd is reached.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Each begins with `http://` or `https://`.
    pub(super) endpoints: Vec<String>,
    /// With a slash at its end.
    pub(super) prefix: String,
    pub(super) login: Option<(String, String)>,
    tls: Tls,
}

#[derive(Debug, Clone, Default)]
struct Tls {
    ca: Option<PathBuf>,
    /// The certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// Judges the flags. No file is read yet.
    pub(super) fn of(flags: &EtcdFlags) -> Result<Self, OptionsError> {
        let own = pair(("--etcd-certfile", &flags.etcd_certfile), ("--etcd-keyfile", &flags.etcd_keyfile))?;
        let login = pair(("--etcd-username", &flags.etcd_username), ("--etcd-password", &flags.etcd_password))?;
        let tls = Tls { ca: flags.etcd_cafile.clone(), own };
        let secure = tls.ca.is_some() || tls.own.is_some();
        let endpoints = flags.endpoints().map(|text| endpoint(text, secure)).collect::<Result<Vec<String>, _>>()?;
        let prefix = format!("{}/", flags.prefix().trim_end_matches('/'));
        Ok(Self { endpoints, prefix, login, tls })
    }

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
        config = match &self.tls.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(read("--etcd-cafile", path)?)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.tls.own {
            let (certificate, key) = (read("--etcd-certfile", certificate)?, read("--etcd-keyfile", key)?);
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let wrong = |error: tonic::transport::Error| OptionsError::Tls { url: url.to_owned(), source: error.into() };
        endpoint.tls_config(config).map_err(wrong)
    }
}

/// Both or none.
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

/// An endpoint as given, with its scheme.
fn endpoint(text: &str, secure: bool) -> Result<String, OptionsError> {
    let text = text.trim().trim_end_matches('/');
    let wrong = |problem: &str| OptionsError::Flag {
        flag: "--etcd-endpoints",
        value: text.to_owned(),
        problem: problem.to_owned(),
    };
    match text.split_once("://") {
        None if text.is_empty() => Err(wrong("an endpoint must be like http://10.0.0.1:2379")),
        None => Ok(format!("{}://{text}", if secure { "https" } else { "http" })),
        Some(("http", _)) if secure => Err(wrong(
            "with --etcd-cafile or --etcd-certfile it must begin with https://, else nothing would be encrypted",
        )),
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        Some(_) => Err(wrong("it must begin with http:// or https://")),
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|source| OptionsError::File { flag, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
