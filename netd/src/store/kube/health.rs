//! What keeps the store from being followed, told once although several watches may see it, and over when none does any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::store::StoreEvent;

/// Nobody listens any more.
pub(super) struct Unheard;

/// The way to the daemon. A clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Health {
    events: mpsc::Sender<StoreEvent>,
    troubles: Arc<Mutex<Troubles>>,
}

#[derive(Debug, Default)]
struct Troubles {
    /// By what sees it.
    seen: BTreeMap<&'static str, String>,
    /// The one that was told.
    told: Option<&'static str>,
}

impl Health {
    pub(super) fn new(events: mpsc::Sender<StoreEvent>) -> Self {
        Self { events, troubles: Arc::default() }
    }

    /// Ends when nobody listens any more.
    pub(super) async fn unheard(&self) {
        self.events.closed().await;
    }

    /// Tells of events, with no pause between as far as there is room.
    pub(super) async fn send(&self, events: Vec<StoreEvent>) -> Result<(), Unheard> {
        let mut events = events.into_iter();
        loop {
            let many = events.len().min(self.events.max_capacity());
            if many == 0 {
                return Ok(());
            }
            let permits = self.events.reserve_many(many).await.map_err(|_| Unheard)?;
            permits.zip(&mut events).for_each(|(permit, event)| permit.send(event));
        }
    }

    /// One of the watches is in trouble.
    pub(super) async fn ails(&self, who: &'static str, what: String) -> Result<(), Unheard> {
        let event = {
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let before = troubles.seen.insert(who, what.clone());
            let is_new = match troubles.told {
                None => true,
                Some(told) => told == who && before.is_none_or(|before| gist(&before) != gist(&what)),
            };
            is_new.then(|| {
                troubles.told = Some(who);
                StoreEvent::Unavailable(what)
            })
        };
        self.send(event.into_iter().collect()).await
    }

    /// It is well again.
    pub(super) async fn is_well(&self, who: &'static str) -> Result<(), Unheard> {
        let event = {
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let was = troubles.seen.remove(who);
            let left = troubles.seen.iter().next().map(|(who, what)| (*who, what.clone()));
            match (was, left) {
                (None, _) => None,
                (Some(_), None) => {
                    troubles.told = None;
                    Some(StoreEvent::Available)
                }
                (Some(_), Some((other, what))) => (troubles.told == Some(who)).then(|| {
                    troubles.told = Some(other);
                    StoreEvent::Unavailable(what)
                }),
            }
        };
        self.send(event.into_iter().collect()).await
    }
}

/// A text without its long numbers: a certificate's trouble tells how late it is, another one each time, which is no news.
fn gist(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_long_number = |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    words.filter(|word| !is_long_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
