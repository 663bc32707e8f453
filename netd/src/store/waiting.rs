//! Waiting at the start of a daemon for a store that is not there or lacks something: told once for each reason, shown while it lasts.

use std::error::Error;
use std::time::Duration;

use network::chain;
use tokio::sync::watch;
use tokio::time;

use super::StoreError;

/// The first wait for a store that is not there.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// A wait.
pub(super) struct Waiting {
    /// False for a command: it does not wait.
    pub(super) waits: bool,
    told: Option<String>,
    next: Duration,
    longest: Duration,
    /// Where it is shown.
    standing: watch::Sender<Option<String>>,
    /// Knows what is wrong with a connection or a request, which may differ from one time to the next: nobody needs to read that.
    is_of_call: fn(&(dyn Error + 'static)) -> bool,
}

impl Waiting {
    /// That asks again after longer and longer waits. `E` is how a connection or a request fails.
    pub(super) fn new<E: Error + 'static>(
        waits: bool,
        longest: Duration,
        standing: &watch::Sender<Option<String>>,
    ) -> Self {
        let is_of_call = <dyn Error>::is::<E>;
        Self { waits, told: None, next: FIRST, longest, standing: standing.clone(), is_of_call }
    }

    /// Says what is waited for.
    pub(super) fn say(&mut self, what: &StoreError) {
        let text = chain(what);
        let reason = if what.source().is_some_and(self.is_of_call) { what.to_string() } else { text.clone() };
        if self.told.as_ref() != Some(&reason) {
            tracing::warn!("waiting: {text}");
            self.told = Some(reason);
        }
        let text = Some(text);
        self.standing.send_if_modified(|shown| {
            let is_new = *shown != text;
            *shown = text;
            is_new
        });
    }

    /// Says it, and waits.
    pub(super) async fn wait(&mut self, what: &StoreError) {
        self.say(what);
        time::sleep(self.longer()).await;
    }

    fn longer(&mut self) -> Duration {
        let next = (self.next * 2).min(self.longest);
        std::mem::replace(&mut self.next, next)
    }

    /// It is there.
    pub(super) fn over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("what was waited for is there now");
            self.standing.send_replace(None);
        }
    }
}

#[cfg(test)]
mod tests;
