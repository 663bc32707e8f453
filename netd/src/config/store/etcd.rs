//! How etcd is reached.
//!
//! Pure. The store reads the certificates anew for each connection, since they are renewed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::StoreFlagError;

/// Flannel's endpoints.
const ENDPOINTS: [&str; 2] = ["http://127.0.0.1:4001", "http://127.0.0.1:2379"];
/// Flannel's prefix.
const PREFIX: &str = "/coreos.com/network";

/// The flags of the store in etcd. Any flag that begins with `--etcd-` chooses it.
#[derive(Debug, Clone, Args)]
pub struct EtcdFlags {
    /// Endpoints of etcd, with commas between; any flag that begins with --etcd- chooses etcd as the store
    /// [default: http://127.0.0.1:4001,http://127.0.0.1:2379].
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub etcd_endpoints: Vec<String>,

    /// Prefix of the keys in etcd [default: /coreos.com/network].
    #[arg(long, value_name = "KEY")]
    pub etcd_prefix: Option<String>,

    /// Key of the certificate that this node shows to etcd.
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,

    /// Certificate that this node shows to etcd, if it asks for one.
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,

    /// Certificate authority that etcd's certificate is checked against [default: the host's].
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,

    /// User of etcd.
    #[arg(long, value_name = "NAME")]
    pub etcd_username: Option<String>,

    /// The user's password.
    #[arg(long, value_name = "PASSWORD")]
    pub etcd_password: Option<String>,

    /// Minutes before its end at which the lease in etcd, of a day, is renewed at the latest; it is renewed thrice a day anyway.
    #[arg(long, default_value_t = 60, value_parser = margin, value_name = "MINUTES")]
    pub subnet_lease_renew_margin: u64,
}

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

impl EtcdFlags {
    /// True if etcd is the store.
    pub fn is_chosen(&self) -> bool {
        let files = [&self.etcd_keyfile, &self.etcd_certfile, &self.etcd_cafile];
        let texts = [&self.etcd_prefix, &self.etcd_username, &self.etcd_password];
        !self.etcd_endpoints.is_empty()
            || files.iter().any(|file| file.is_some())
            || texts.iter().any(|text| text.is_some())
    }

    /// Checks the flags and fills in flannel's defaults.
    pub(super) fn config(&self) -> Result<EtcdConfig, StoreFlagError> {
        let certificate = pair(("--etcd-certfile", &self.etcd_certfile), ("--etcd-keyfile", &self.etcd_keyfile))?;
        let login = pair(("--etcd-username", &self.etcd_username), ("--etcd-password", &self.etcd_password))?;
        let secure = self.etcd_cafile.is_some() || certificate.is_some();
        let given = self.etcd_endpoints.iter().map(String::as_str);
        let defaults = ENDPOINTS.into_iter().filter(|_| self.etcd_endpoints.is_empty());
        let endpoints = given.chain(defaults).map(|text| endpoint(text, secure)).collect::<Result<_, _>>()?;
        let prefix = self.etcd_prefix.as_deref().unwrap_or(PREFIX);
        Ok(EtcdConfig {
            endpoints,
            prefix: format!("{}/", prefix.trim_end_matches('/')),
            login,
            ca: self.etcd_cafile.clone(),
            certificate,
            renew_margin: Duration::from_secs(60 * self.subnet_lease_renew_margin),
        })
    }
}

/// Both or none.
fn pair<T: Clone>(first: (&str, &Option<T>), second: (&str, &Option<T>)) -> Result<Option<(T, T)>, StoreFlagError> {
    let half = |given, missing| Err(StoreFlagError(format!("{given} needs {missing} too")));
    match (first, second) {
        ((_, Some(first)), (_, Some(second))) => Ok(Some((first.clone(), second.clone()))),
        ((_, None), (_, None)) => Ok(None),
        ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => half(given, missing),
    }
}

/// An endpoint as given, with its scheme.
fn endpoint(text: &str, secure: bool) -> Result<String, StoreFlagError> {
    let text = text.trim().trim_end_matches('/');
    let problem = match text.split_once("://") {
        None if text.is_empty() => "an endpoint must be like http://10.0.0.1:2379",
        None => return Ok(format!("{}://{text}", if secure { "https" } else { "http" })),
        Some(("http", _)) if secure => {
            "with --etcd-cafile or --etcd-certfile it must begin with https://, else nothing would be encrypted"
        }
        Some(("http" | "https", _)) => return Ok(text.to_owned()),
        Some(_) => "it must begin with http:// or https://",
    };
    Err(StoreFlagError::value("--etcd-endpoints", text, problem))
}

fn margin(text: &str) -> Result<u64, String> {
    let minutes = text.parse().ok().filter(|minutes| (1..1440).contains(minutes));
    minutes.ok_or_else(|| "it must be a whole number of minutes from 1 to 1439: a lease in etcd lasts a day".to_owned())
}
