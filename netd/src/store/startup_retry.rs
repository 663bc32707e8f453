//! Retries while a daemon starts and its store is unreachable or incomplete. Each reason is logged once; the current one is published
//! as the startup status.

use std::error::Error;
use std::time::Duration;

use network::chain;
use tokio::sync::watch;
use tokio::time;

use super::StoreError;

/// The first delay before a store that is not available is tried again.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// The retry state of one operation.
pub(super) struct StartupRetry {
    /// False for a command, which fails instead of retrying.
    pub(super) enabled: bool,
    logged: Option<String>,
    next_delay: Duration,
    longest_delay: Duration,
    /// Where the current reason is published.
    status: watch::Sender<Option<String>>,
    /// Recognises the error type of a failed call. Its text may differ from one try to the next, so it is not part of the reason.
    is_call_error: fn(&(dyn Error + 'static)) -> bool,
}

impl StartupRetry {
    /// Delays grow up to `longest_delay`. `E` is the error type of a failed connection or request.
    pub(super) fn new<E: Error + 'static>(
        enabled: bool,
        longest_delay: Duration,
        status: &watch::Sender<Option<String>>,
    ) -> Self {
        let is_call_error = <dyn Error>::is::<E>;
        Self { enabled, logged: None, next_delay: FIRST, longest_delay, status: status.clone(), is_call_error }
    }

    /// Publishes an error, and logs it unless the same reason was logged last.
    pub(super) fn report(&mut self, error: &StoreError) {
        let text = chain(error);
        let reason = if error.source().is_some_and(self.is_call_error) { error.to_string() } else { text.clone() };
        if self.logged.as_ref() != Some(&reason) {
            tracing::warn!("waiting: {text}");
            self.logged = Some(reason);
        }
        self.status.send_if_modified(|published| published.replace(text.clone()).as_ref() != Some(&text));
    }

    /// Reports an error, and sleeps until the next try is due.
    pub(super) async fn report_and_sleep(&mut self, error: &StoreError) {
        self.report(error);
        time::sleep(self.take_delay()).await;
    }

    fn take_delay(&mut self) -> Duration {
        let doubled = (self.next_delay * 2).min(self.longest_delay);
        std::mem::replace(&mut self.next_delay, doubled)
    }

    /// The operation has succeeded: clears the published reason, if this operation has reported one.
    pub(super) fn succeeded(&mut self) {
        if self.logged.take().is_some() {
            tracing::info!("the store is available now");
            self.status.send_replace(None);
        }
    }
}

#[cfg(test)]
mod tests;
