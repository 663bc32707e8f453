//! Requests to the API server, and what its answers mean. No object is known here.
//!
//! kube-rs brings the addresses, the certificates and the tokens, which it reads again as they are renewed; a kubeconfig is read
//! again whenever the API server does not accept what was in it.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::Mutex;
use tokio::time;
use tower::{BoxError, ServiceBuilder};

use super::object::Answer;
use super::options::Options;
use super::wire;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a page of a list may take.
pub(super) const PAGE: Duration = Duration::from_mins(1);
/// A silent connection is asked after so long, every so often, and so many times.
const ALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// What rustls says of a certificate whose time has not come or is over.
const OUT_OF_DATE: [&str; 2] = ["certificate expired", "certificate not valid yet"];
/// No object of the API is longer: etcd takes none of more than 1.5 MB.
const LINE: usize = 16 << 20;
/// So much memory for lines is kept while there are none.
const KEPT: usize = 64 << 10;

/// Why a request has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It is not known how to reach the API server.
    #[error("it is not known how to reach the API server")]
    Config(#[source] BoxError),
    /// It cannot be reached.
    #[error("the API server cannot be reached")]
    Transport(#[source] BoxError),
    /// It does not answer.
    #[error("the API server has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// It says no.
    #[error("the API server says {code}: {message}")]
    Refused {
        /// HTTP's code.
        code: u16,
        /// What it says.
        message: String,
        /// When to come again.
        after: Option<Duration>,
    },
    /// It says something that is none of its answers.
    #[error("the API server's answer makes no sense")]
    Garbage(#[source] BoxError),
}

impl CallError {
    /// What a person can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Config(_) => "give --kubeconfig-file, or run netd in a pod with a ServiceAccount",
            Self::Transport(error) if OUT_OF_DATE.iter().any(|words| chain_has(error.as_ref(), words)) => {
                "its certificate is not valid at what this node takes for the time: compare the outputs of date -u here and on the control plane, and where they differ set this node's clock (timedatectl set-ntp true); where they do not, renew the API server's certificate (kubeadm certs renew apiserver)"
            }
            Self::Transport(error) if chain_has(error.as_ref(), "certificate") => {
                "its certificate is not accepted: give netd the certificate authority that the API server's certificate is of now, in the file that the kubeconfig names or the ServiceAccount's ca.crt; it is read again by itself"
            }
            Self::Transport(_) | Self::Late(_) => {
                "see that it is up, and that --kube-api-url, the kubeconfig or KUBERNETES_SERVICE_HOST has its address"
            }
            Self::Refused { code: 401, .. } => {
                "see that the ServiceAccount is still there, that its token is mounted and renewed, and that this node's clock is right"
            }
            Self::Refused { code: 403, .. } => {
                "netd's ServiceAccount lacks this right: apply the ClusterRole, the Role and their bindings of manifests/netd.yml"
            }
            Self::Refused { code: 404, .. } => "there is no such object",
            Self::Refused { code: 429, .. } => "it has too much to do, and is asked again later",
            Self::Refused { code: 410, .. } => "what was last known is too old, and is read anew",
            Self::Refused { code: 500.., .. } => "look at its log, and whether its etcd is well",
            Self::Refused { .. } => "look at its log",
            Self::Garbage(_) => {
                "something else may answer in its place: check --kube-api-url, and what is between it and this node"
            }
        }
    }

    /// The code of a refusal.
    pub(super) fn code(&self) -> Option<u16> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// When the API server wants to be asked again.
    pub(super) fn after(&self) -> Option<Duration> {
        if let Self::Refused { after, .. } = self { *after } else { None }
    }

    /// True where the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, 409 | 429 | 500..),
            Self::Transport(_) | Self::Late(_) | Self::Garbage(_) => true,
            Self::Config(_) => false,
        }
    }

    /// True where what was read of files may be out of date.
    fn is_of_credentials(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Transport(_)) || self.code() == Some(401)
    }
}

/// What is inside kube-rs's errors: their texts repeat it.
fn bare(error: kube::Error) -> BoxError {
    match error {
        kube::Error::Service(inside) => inside,
        kube::Error::HyperError(inside) => inside.into(),
        other => other.into(),
    }
}

fn chain_has(error: &(dyn Error + 'static), word: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(word) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The API server.
#[derive(Debug)]
pub(super) struct Api {
    url: Option<String>,
    kubeconfig: Option<std::path::PathBuf>,
    client: Mutex<Option<Connected>>,
}

/// kube-rs's client, which shows nothing of itself.
#[derive(Clone)]
struct Connected(Client);

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connected")
    }
}

impl Api {
    /// The one that the options name. Nothing is sent yet.
    pub(super) fn new(options: &Options) -> Self {
        Self { url: options.url.clone(), kubeconfig: options.kubeconfig.clone(), client: Mutex::default() }
    }

    async fn client(&self) -> Result<Client, CallError> {
        let mut client = self.client.lock().await;
        if let Some(Connected(client)) = &*client {
            return Ok(client.clone());
        }
        let new = self.connect().await.map_err(CallError::Config)?;
        Ok(client.insert(Connected(new)).0.clone())
    }

    async fn connect(&self) -> Result<Client, BoxError> {
        let url = self.url.as_ref().map(|url| url.parse()).transpose()?;
        let mut config = match (&self.kubeconfig, &url) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            (None, Some(url)) => Config::new(hyper::Uri::clone(url)),
            (None, None) => Config::incluster()?,
        };
        if let Some(url) = url {
            config.cluster_url = url;
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        http.set_keepalive(Some(ALIVE.0));
        http.set_keepalive_interval(Some(ALIVE.1));
        http.set_keepalive_retries(Some(ALIVE.2));
        let https = config.rustls_https_connector_with_connector(http)?;
        let service = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(https);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .map_err(BoxError::from)
            .service(service);
        Ok(Client::new(service, config.default_namespace))
    }

    async fn send(&self, request: Request<Vec<u8>>, within: Duration) -> Result<Response<Body>, CallError> {
        let (mut parts, body) = request.into_parts();
        let agent = HeaderValue::from_static(concat!("netd/", env!("CARGO_PKG_VERSION")));
        parts.headers.insert(USER_AGENT, agent);
        parts.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let client = self.client().await?;
        let sent = time::timeout(within, client.send(Request::from_parts(parts, body.into()))).await;
        let answer = match sent {
            Ok(Ok(answer)) => refusal(answer, within).await,
            Ok(Err(error)) => Err(CallError::Transport(bare(error))),
            Err(_) => Err(CallError::Late(within)),
        };
        if answer.as_ref().is_err_and(CallError::is_of_credentials) {
            *self.client.lock().await = None;
        }
        answer
    }

    async fn call(&self, request: Request<Vec<u8>>, within: Duration) -> Result<Vec<u8>, CallError> {
        let answer = self.send(request, within).await?;
        read(answer.into_body(), within).await
    }

    /// Reads what is at a path.
    pub(super) async fn get(&self, path: &str, within: Option<Duration>) -> Result<Vec<u8>, CallError> {
        self.call(request(Method::GET, path, None, Vec::new())?, within.unwrap_or(ANSWER)).await
    }

    /// Changes it by a strategic merge.
    pub(super) async fn patch(&self, path: &str, change: &serde_json::Value) -> Result<Vec<u8>, CallError> {
        let kind = "application/strategic-merge-patch+json";
        self.call(request(Method::PATCH, path, Some(kind), change.to_string().into_bytes())?, ANSWER).await
    }

    /// Makes an object.
    pub(super) async fn create(&self, path: &str, object: &serde_json::Value) -> Result<Vec<u8>, CallError> {
        self.call(request(Method::POST, path, Some("application/json"), object.to_string().into_bytes())?, ANSWER).await
    }

    /// Begins a watch; one that is `by_wire` brings protobuf where the API server has it.
    pub(super) async fn lines(&self, path: &str, by_wire: bool) -> Result<Lines, CallError> {
        let mut request = request(Method::GET, path, None, Vec::new())?;
        if by_wire {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(wire::ACCEPT));
        }
        let answer = self.send(request, ANSWER).await?;
        let by_wire = is_by_wire(&answer);
        Ok(Lines { body: answer.into_body(), by_wire, held: Vec::new(), start: 0, seen: 0 })
    }
}

fn is_by_wire(answer: &Response<Body>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(wire::KIND))
}

fn request(
    method: Method,
    path: &str,
    kind: Option<&'static str>,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, CallError> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(kind) = kind {
        builder = builder.header(CONTENT_TYPE, kind);
    }
    builder.body(body).map_err(|error| CallError::Config(error.into()))
}

/// Reads all of it into one piece: a page of a list is large, and there must not be two of it.
async fn read(mut body: Body, within: Duration) -> Result<Vec<u8>, CallError> {
    let whole = async {
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::Transport(error.into()))?;
            text.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        }
        Ok(text)
    };
    time::timeout(within, whole).await.unwrap_or(Err(CallError::Late(within)))
}

/// An answer that is none of success becomes an error, with what it says.
async fn refusal(answer: Response<Body>, within: Duration) -> Result<Response<Body>, CallError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let code = answer.status().as_u16();
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let by_wire = is_by_wire(&answer);
    let text = read(answer.into_body(), within).await.unwrap_or_default();
    let said = if by_wire { wire::answer(&text) } else { serde_json::from_slice::<Answer>(&text).ok() };
    let said = said.unwrap_or_default();
    let after = header.or(said.details.and_then(|details| details.retry_after_seconds));
    let message = if said.message.is_empty() { String::from_utf8_lossy(&text).into_owned() } else { said.message };
    // What roles the API server has looked through says nothing to those who have to give one.
    let message = if code == 403 { message.split(": RBAC: [").next().unwrap_or_default().to_owned() } else { message };
    Err(CallError::Refused { code, message: one_line(&message), after: after.map(Duration::from_secs) })
}

/// What somebody else says, as a message can show it.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// The lines of an answer that does not end: texts, or what is between lengths.
pub(super) struct Lines {
    body: Body,
    by_wire: bool,
    held: Vec<u8>,
    /// Where the next line begins in it.
    start: usize,
    /// Up to where no end of that line is in it.
    seen: usize,
}

impl Lines {
    /// Whether they are protobuf.
    pub(super) fn by_wire(&self) -> bool {
        self.by_wire
    }

    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, CallError> {
        loop {
            if let Some((line, next)) = self.split()? {
                (self.start, self.seen) = (next, next);
                return Ok(Some(&self.held[line]));
            }
            self.held.drain(..self.start);
            (self.start, self.seen) = (0, self.held.len());
            if self.held.is_empty() {
                // What a long line took is not kept for the short ones.
                self.held.shrink_to(KEPT);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.held.extend(frame.data_ref().map(AsRef::as_ref).unwrap_or_default()),
                Some(Err(error)) => return Err(CallError::Transport(error.into())),
                None => return Ok(None),
            }
        }
    }

    /// Where the next line is, if it is whole, and where the one behind it begins.
    fn split(&self) -> Result<Option<(Range<usize>, usize)>, CallError> {
        let endless = || CallError::Garbage("it has a line that never ends".into());
        let held = &self.held[self.start..];
        if !self.by_wire {
            let end = self.held[self.seen..].iter().position(|byte| *byte == b'\n').map(|end| self.seen + end);
            return match end {
                None if held.len() > LINE => Err(endless()),
                end => Ok(end.map(|end| (self.start..end, end + 1))),
            };
        }
        let Some((length, rest)) = held.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > LINE {
            return Err(endless());
        }
        let begin = self.start + size_of::<u32>();
        Ok((rest.len() >= length).then_some((begin..begin + length, begin + length)))
    }
}
