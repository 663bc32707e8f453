//! `/healthz`, `/readyz` and `/metrics` over HTTP. Flannel's paths and words, as far as it has them.

use listener::http::{self, Answer, OPEN_METRICS, StatusCode, TEXT, answer};
use tokio::net::TcpListener;

use super::publisher::StatusPublisher;

/// Answers until the future is dropped.
pub(super) async fn serve(listener: TcpListener, publisher: StatusPublisher) {
    http::serve(listener, move |path| respond(path, &publisher)).await;
}

fn respond(path: &str, publisher: &StatusPublisher) -> Answer {
    match path {
        "/healthz" => answer(StatusCode::OK, TEXT, "netd is running"),
        "/readyz" if publisher.status().is_ready() => answer(StatusCode::OK, TEXT, "netd is ready"),
        "/readyz" => {
            let status = publisher.status();
            let waits = status.waits_for().map(|store| format!(", waiting: {}", store.what)).unwrap_or_default();
            let services = if status.daemon.ready { ", Services are not programmed" } else { "" };
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("netd is not ready yet{waits}{services}"))
        }
        "/metrics" => answer(StatusCode::OK, OPEN_METRICS, publisher.metrics()),
        _ => answer(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz and /metrics\n"),
    }
}
