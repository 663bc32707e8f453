//! Answers over HTTP that are made at once, such as those of health checks.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::accept_all;

pub use hyper::{StatusCode, header};

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// Connections at a time; the oldest makes room for one more.
const CONNECTIONS: usize = 64;
/// How long a connection may last: each has one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Metrics for Prometheus.
pub const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers requests by their path until the future is dropped.
pub async fn serve(listener: TcpListener, respond: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static) {
    let connection = |stream| {
        let respond = respond.clone();
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                let is_read = [Method::GET, Method::HEAD].contains(request.method());
                let response = if is_read { respond(request.uri().path()) } else { refusal() };
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
            // A client that goes away or does not speak HTTP gets no answer.
            let _ = timeout(TIMEOUT, connection).await;
        }
    };
    accept_all(|| listener.accept(), CONNECTIONS, connection).await;
}

/// An answer with a body.
pub fn answer(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn refusal() -> Answer {
    let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refusal
}
