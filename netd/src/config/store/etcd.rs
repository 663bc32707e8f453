//! How etcd is reached.
//!
//! Pure. The store reads the certificates anew for each connection, since they are renewed.

use std::path::PathBuf;
use std::time::Duration;

use super::FlagError;
use crate::config::flags::EtcdFlags;

/// Flannel's endpoints.
const ENDPOINTS: [&str; 2] = ["http://127.0.0.1:4001", "http://127.0.0.1:2379"];
/// Flannel's prefix.
const PREFIX: &str = "/coreos.com/network";

/// The store in etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// The endpoints; each begins with `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// The prefix of all keys, with a slash at its end.
    pub prefix: String,
    /// The user and the password.
    pub login: Option<(String, String)>,
    /// The certificate authority that etcd's certificate is checked against; `None` for the host's.
    pub ca: Option<PathBuf>,
    /// The certificate that this node shows, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The lease is renewed so long before its end at the latest.
    pub renew_margin: Duration,
}

impl EtcdConfig {
    /// Checks the flags and fills in flannel's defaults.
    pub(super) fn new(flags: &EtcdFlags) -> Result<Self, FlagError> {
        let certificate = pair(("--etcd-certfile", &flags.etcd_certfile), ("--etcd-keyfile", &flags.etcd_keyfile))?;
        let login = pair(("--etcd-username", &flags.etcd_username), ("--etcd-password", &flags.etcd_password))?;
        let secure = flags.etcd_cafile.is_some() || certificate.is_some();
        let given = flags.etcd_endpoints.iter().map(String::as_str);
        let defaults = ENDPOINTS.into_iter().filter(|_| flags.etcd_endpoints.is_empty());
        let endpoints = given.chain(defaults).map(|text| endpoint(text, secure)).collect::<Result<_, _>>()?;
        let prefix = flags.etcd_prefix.as_deref().unwrap_or(PREFIX);
        Ok(Self {
            endpoints,
            prefix: format!("{}/", prefix.trim_end_matches('/')),
            login,
            ca: flags.etcd_cafile.clone(),
            certificate,
            renew_margin: Duration::from_secs(60 * flags.subnet_lease_renew_margin),
        })
    }
}

/// Both or none.
fn pair<T: Clone>(
    (one, first): (&'static str, &Option<T>),
    (other, second): (&'static str, &Option<T>),
) -> Result<Option<(T, T)>, FlagError> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first.clone(), second.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(FlagError::Half { given: one, missing: other }),
        (None, Some(_)) => Err(FlagError::Half { given: other, missing: one }),
    }
}

/// An endpoint as given, with its scheme.
fn endpoint(text: &str, secure: bool) -> Result<String, FlagError> {
    let text = text.trim().trim_end_matches('/');
    let wrong = |problem: &str| FlagError::Value {
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
