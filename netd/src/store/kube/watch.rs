//! Objects of one sort as they are and as they change: a list in pages, then a watch, and again from a list where the watch is too
//! far behind. What goes wrong is told, and tried again ever more rarely.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::api::{Api, CallError, Lines, PAGE};
use super::object::{self, Answer, Line, Object, Page};

/// How many objects a page has.
const AT_ONCE: usize = 500;
/// The first and the longest wait before the API server is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long the API server keeps a watch open: as long as other clients ask for. Then it is begun anew, where it ended.
const WATCH: u64 = 480;

/// What is told.
#[derive(Debug)]
pub(super) enum Told<T> {
    /// All there is.
    List(Vec<T>),
    /// One is new or has changed.
    Is(T),
    /// One is gone.
    Gone(T),
    /// One cannot be read: its text and why.
    Unreadable(String, serde_json::Error),
    /// What happens is told from now on.
    Alive,
}

/// Objects that are followed.
pub(super) struct Watch<T> {
    api: Arc<Api>,
    path: String,
    /// Which of them.
    selector: Option<String>,
    state: State,
    /// How long to wait before the next request.
    wait: Option<Duration>,
    /// How long the next wait is.
    next_wait: Duration,
    /// Waits are as much longer, in percent: not every node comes back in the same moment.
    spread: u32,
    /// What could not be read of the last list.
    unreadable: Vec<(String, serde_json::Error)>,
    sort: PhantomData<fn() -> T>,
}

enum State {
    Unknown,
    Known { version: String },
    Watched { version: String, lines: Lines, begun: Instant },
}

impl<T: Object> Watch<T> {
    /// Those at a path that a field selector lets through. `spread` is any number of the node's own.
    pub(super) fn new(api: Arc<Api>, path: String, selector: Option<String>, spread: u64) -> Self {
        let spread = u32::try_from(spread % 50).unwrap_or_default();
        let (state, unreadable) = (State::Unknown, Vec::new());
        Self { api, path, selector, state, wait: None, next_wait: WAIT.0, spread, unreadable, sort: PhantomData }
    }

    /// Waits for something to tell. After an error the next call tries again, in its time.
    pub(super) async fn next(&mut self) -> Result<Told<T>, CallError> {
        loop {
            if let Some((text, error)) = self.unreadable.pop() {
                return Ok(Told::Unreadable(text, error));
            }
            if let Some(wait) = self.wait {
                time::sleep(wait).await;
                self.wait = None;
            }
            match &mut self.state {
                State::Unknown => {
                    let listed = self.list().await;
                    let (version, objects) = self.heed(listed)?;
                    self.state = State::Known { version };
                    return Ok(Told::List(objects));
                }
                State::Known { version } => {
                    let version = version.clone();
                    let seconds = WATCH + u64::from(self.spread) * 2;
                    let query =
                        format!("watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
                    let lines = self.api.lines(&self.query(&query)).await;
                    if lines.as_ref().is_err_and(|error| error.code() == Some(410)) {
                        self.state = State::Unknown;
                        continue;
                    }
                    let lines = self.heed(lines)?;
                    self.state = State::Watched { version, lines, begun: Instant::now() };
                    return Ok(Told::Alive);
                }
                State::Watched { version, lines, begun } => {
                    // It ends the watch itself. One that says nothing for longer is not there any more.
                    let silence = Duration::from_secs(WATCH + 100 + 15);
                    let line = time::timeout(silence, lines.next()).await;
                    let Ok(Ok(Some(line))) = line else {
                        if let Ok(Err(error)) = &line {
                            tracing::debug!("a watch of the API server ended: {}", crate::reconcile::chain(error));
                        }
                        // Only where it cannot be begun anew something is wrong. One that ends at once must not do so all the time.
                        let (version, is_young) = (std::mem::take(version), begun.elapsed() < WAIT.1);
                        self.state = State::Known { version };
                        self.wait = is_young.then(|| self.longer());
                        continue;
                    };
                    let read = read_line(&line, version);
                    if read.is_ok() {
                        self.next_wait = WAIT.0;
                    }
                    match read {
                        Ok(Some(told)) => return Ok(told),
                        Ok(None) => {}
                        Err(error) => {
                            // Too old, or a fault of the API server's own: a list has all of it.
                            self.state = State::Unknown;
                            if error.code() != Some(410) {
                                return self.heed(Err(error));
                            }
                        }
                    }
                }
            }
        }
    }

    /// What was listed is not believed: it is listed again later.
    pub(super) fn distrust(&mut self) {
        self.state = State::Unknown;
        self.wait = Some(self.longer());
    }

    /// Takes what a request brought. One that failed is tried again later.
    fn heed<R>(&mut self, result: Result<R, CallError>) -> Result<R, CallError> {
        if let Err(error) = &result {
            let wait = self.longer();
            self.wait = Some(error.after().map_or(wait, |after| after.clamp(wait, Duration::from_secs(300))));
        }
        result
    }

    fn longer(&mut self) -> Duration {
        let wait = self.next_wait;
        self.next_wait = (wait * 2).min(WAIT.1);
        wait + wait * self.spread / 100
    }

    fn query(&self, query: &str) -> String {
        let selector = self.selector.as_ref().map(|selector| format!("&fieldSelector={selector}")).unwrap_or_default();
        format!("{}?{query}{selector}", self.path)
    }

    async fn list(&mut self) -> Result<(String, Vec<T>), CallError> {
        let (mut objects, mut next) = (Vec::new(), String::new());
        self.unreadable.clear();
        loop {
            let page = self.api.get(&self.query(&format!("limit={AT_ONCE}{next}")), Some(PAGE)).await?;
            let page: Page = serde_json::from_slice(&page).map_err(|error| CallError::Garbage(error.into()))?;
            for item in page.items {
                match T::read(item.get()) {
                    Ok(object) => objects.push(object),
                    Err(error) => self.unreadable.push((beginning(item.get()), error)),
                }
            }
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(token) => next = format!("&continue={}", escaped(&token)),
                None => return Ok((page.metadata.resource_version.into_owned(), objects)),
            }
        }
    }
}

/// Reads a line of a watch. `version` is the one to go on from.
fn read_line<T: Object>(line: &[u8], version: &mut String) -> Result<Option<Told<T>>, CallError> {
    let line: Line = serde_json::from_slice(line).map_err(|error| CallError::Garbage(error.into()))?;
    let text = line.object.get();
    if line.kind == "ERROR" {
        let said: Answer = serde_json::from_str(text).unwrap_or_default();
        let after = said.details.and_then(|details| details.retry_after_seconds).map(Duration::from_secs);
        return Err(CallError::Refused { code: said.code, message: said.message, after });
    }
    if let Some(newer) = object::version(text) {
        *version = newer;
    }
    let told = |told: fn(T) -> Told<T>| match T::read(text) {
        Ok(object) => told(object),
        Err(error) => Told::Unreadable(beginning(text), error),
    };
    Ok(match &*line.kind {
        "ADDED" | "MODIFIED" => Some(told(Told::Is)),
        "DELETED" => Some(told(Told::Gone)),
        _ => None,
    })
}

fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A token of the API server's, as a query can have it.
fn escaped(token: &str) -> String {
    let mut text = String::new();
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
