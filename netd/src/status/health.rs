//! `/healthz`, `/readyz` and `/metrics` over HTTP. Flannel's paths and words, as far as it has them.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::accept::accept_all;
use super::publisher::StatusPublisher;

/// Connections at a time; the oldest makes room for one more.
const CONNECTIONS: usize = 64;
/// How long a connection may last: each has one request.
const TIMEOUT: Duration = Duration::from_secs(10);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers until the future is dropped.
pub(super) async fn serve(listener: TcpListener, publisher: StatusPublisher) {
    let answer = |stream| {
        let publisher = publisher.clone();
        async move {
            let service = service_fn(|request| {
                let response = respond(&request, &publisher);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
            // A client that goes away or does not speak HTTP gets no answer.
            let _ = timeout(TIMEOUT, connection).await;
        }
    };
    accept_all(|| listener.accept(), CONNECTIONS, answer).await;
}

fn respond(request: &Request<Incoming>, publisher: &StatusPublisher) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/healthz" => answer(StatusCode::OK, TEXT, "netd is running"),
        "/readyz" if publisher.status().daemon.ready => answer(StatusCode::OK, TEXT, "netd is ready"),
        "/readyz" => {
            let status = publisher.status();
            let waits = status.waits_for().map(|store| format!(", waiting: {}", store.what)).unwrap_or_default();
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("netd is not ready yet{waits}"))
        }
        "/metrics" => answer(StatusCode::OK, OPEN_METRICS, publisher.metrics()),
        _ => answer(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz and /metrics\n"),
    }
}

fn answer(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
