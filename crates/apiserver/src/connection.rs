//! The connection to the API server and its credentials.
//!
//! kube-rs reads kubeconfigs and the files of a `ServiceAccount`, and it reads a token again as it is renewed. Authorities, certificates
//! and kubeconfigs are read again whenever the API server does not accept the credentials or cannot be reached.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource};
use tokio::sync::Mutex;
use tokio::time;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::{ApiError, RequestMetrics};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a page of a list may take.
pub(crate) const PAGE: Duration = Duration::from_mins(1);
/// TCP keepalive of a silent connection: time before the first probe, time between probes, number of probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Where the API server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// The URL, in place of that in the kubeconfig or the environment.
    pub url: Option<String>,
    /// The kubeconfig. Without one and without a URL, the `ServiceAccount` of the pod is used.
    pub kubeconfig: Option<PathBuf>,
}

/// An API server. A clone shares the connection.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) connection: Arc<Connection>,
    pub(crate) client: Client,
}

impl ApiServer {
    /// The API server at an address. `user_agent` names the program, like `netd/0.1.0`. Nothing is sent yet. Must be called within a
    /// tokio runtime.
    pub fn new(address: Address, user_agent: &'static str) -> Self {
        let connection =
            Arc::new(Connection { address, user_agent, service: Mutex::default(), metrics: RequestMetrics::default() });
        let sender = Arc::clone(&connection);
        let client = client(move |request| {
            let sender = Arc::clone(&sender);
            async move { sender.send(request).await }
        });
        Self { connection, client }
    }

    /// Requests about objects of a kind that has no namespace.
    pub fn cluster<K: Resource<DynamicType = (), Scope = ClusterResourceScope>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Requests about the objects of a kind in one namespace.
    pub fn namespaced<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What is counted of the requests.
    pub fn metrics(&self) -> &RequestMetrics {
        &self.connection.metrics
    }

    /// Whether the API server has objects of a kind, in the version that the program reads. Every account may ask. For kinds that old API
    /// servers do not have: an account without the right to read the objects is refused before anybody looks for the kind.
    ///
    /// # Errors
    /// Where the API server does not say.
    pub async fn has_kind<K: Resource<DynamicType = ()>>(&self) -> Result<bool, ApiError> {
        match self.client.list_api_group_resources(&K::api_version(&())).await.map_err(ApiError::from) {
            Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == K::plural(&()))),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The body of an answer: a whole one, or the stream of a watch.
pub(crate) type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// A client of kube-rs whose requests go through `send`.
pub(crate) fn client<S, F>(send: S) -> Client
where
    S: Fn(Request<Body>) -> F + Send + 'static,
    F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
{
    Client::new(tower::service_fn(send), "default")
}

/// The connection: made at the first request, and made anew from the files after a failure that newer credentials may heal.
pub(crate) struct Connection {
    address: Address,
    user_agent: &'static str,
    service: Mutex<Option<Service>>,
    metrics: RequestMetrics,
}

type Service = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

impl Connection {
    async fn service(&self) -> Result<Service, ApiError> {
        let mut service = self.service.lock().await;
        if let Some(service) = &*service {
            return Ok(service.clone());
        }
        let new = self.connect().await.map_err(ApiError::Config)?;
        Ok(service.insert(new).clone())
    }

    async fn connect(&self) -> Result<Service, BoxError> {
        let url = self.address.url.as_ref().map(|url| url.parse()).transpose()?;
        let mut config = match (&self.address.kubeconfig, &url) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            (None, Some(url)) => Config::new(Uri::clone(url)),
            (None, None) => Config::incluster()?,
        };
        if let Some(url) = url {
            config.cluster_url = url;
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        http.set_keepalive(Some(KEEPALIVE.0));
        http.set_keepalive_interval(Some(KEEPALIVE.1));
        http.set_keepalive_retries(Some(KEEPALIVE.2));
        let https = config.rustls_https_connector_with_connector(http)?;
        let service = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(https);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .map_err(BoxError::from)
            .service(service);
        Ok(BoxCloneSyncService::new(service))
    }

    /// Sends a request. An answer is read to its end, unless it is a watch.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Answer, ApiError> {
        // kube-rs marks each request with the call that made it.
        let call = request.extensions().get::<&'static str>().copied();
        let within = if call == Some("list") { PAGE } else { ANSWER };
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(self.user_agent));
        let method = request.method().clone();
        let service = self.service().await?;
        let began = time::Instant::now();
        let answer = async {
            let answer = service.oneshot(request).await.map_err(ApiError::Transport)?;
            if call == Some("watch") && answer.status().is_success() {
                return Ok(answer.map(Either::Right));
            }
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| ApiError::Transport(error.into()))?.to_bytes();
            if head.status.is_success() {
                return Ok(Response::from_parts(head, Either::Left(body.into())));
            }
            let delay = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Err(ApiError::of_answer(head.status.as_u16(), delay, &body))
        };
        let answer = time::timeout(within, answer).await.unwrap_or(Err(ApiError::Late(within)));
        self.metrics.count(method.as_str(), answer.as_ref().map(|answer| answer.status().as_u16()), began.elapsed());
        if answer.as_ref().is_err_and(ApiError::is_of_credentials) {
            *self.service.lock().await = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests;
