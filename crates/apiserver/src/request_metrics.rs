//! What requests to the API server are counted as, under client-go's names.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ApiError;

/// Names and values.
type Labels<const N: usize> = [(&'static str, String); N];

/// client-go's: from 5 ms to a minute.
fn seconds() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
}

/// The requests of one program to one API server. A clone counts into the same.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    requests: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self { requests: Family::default(), durations: Family::new_with_constructor(seconds) }
    }
}

impl RequestMetrics {
    /// A request was answered, or was not.
    pub(crate) fn count(&self, method: &str, result: Result<u16, &ApiError>, took: Duration) {
        let code = match result {
            Ok(status) => Some(status),
            Err(error) => error.code(),
        };
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.requests.get_or_create(&[("code", code), ("method", method.to_owned())]).inc();
        self.durations.get_or_create(&[("verb", method.to_owned())]).observe(took.as_secs_f64());
    }

    /// Registers them. The registry adds the suffix `_total` of counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("rest_client_requests", "Requests to the API server", self.requests.clone());
        let help = "How long the API server took to answer; a watch, to begin";
        registry.register("rest_client_request_duration_seconds", help, self.durations.clone());
    }
}
